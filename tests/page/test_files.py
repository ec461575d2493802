"""The files of the page, without a browser."""

from __future__ import annotations

import hashlib
import re

from tests.kit.required import left_out
from tests.kit.server import ROOT

SDK = ROOT / "node_modules" / "firebase"


def test_the_vendored_modules_are_those_of_the_note() -> None:
    vendor = ROOT / "web" / "vendor"
    rows = re.findall(r"^\| `(\S+)` .* `([0-9a-f]{64})` \|$", (vendor / "VERSIONS.md").read_text(), re.MULTILINE)
    assert dict(rows) == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in vendor.glob("*.js")}


def test_the_firebase_modules_are_those_of_the_package_but_for_their_addresses() -> None:
    if not SDK.exists():
        left_out("emulators", "firebase is not installed: it takes Node.js and `npm ci`")
    modules = sorted((ROOT / "web" / "vendor").glob("firebase-*.js"))
    assert len(modules) == 4
    for module in modules:
        source = (SDK / module.name).read_text(encoding="utf-8")
        taken = re.sub(r"https://www\.gstatic\.com/firebasejs/[0-9.]+/", "./", source)
        taken = re.sub(r"^//# sourceMappingURL=.*\n?", "", taken, flags=re.MULTILINE)
        assert module.read_text(encoding="utf-8") == taken, f"{module.name}: run `make vendor`"
        assert "gstatic.com/firebasejs" not in taken


def test_every_module_but_those_of_firebase_is_loaded_ahead_and_none_is_inline() -> None:
    web = ROOT / "web"
    page = (web / "index.html").read_text()
    ahead = set(re.findall(r'<link rel="modulepreload" href="/web/(\S+)">', page))
    modules = {str(path.relative_to(web)) for path in web.rglob("*.js")}
    later = {module for module in modules if module.startswith(("firebase/", "reports/", "vendor/firebase-"))}
    assert ahead == modules - {"early.js", "main.js"} - later
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
