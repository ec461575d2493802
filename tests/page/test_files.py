"""The files of the page, without a browser."""

from __future__ import annotations

import hashlib
import re

from tests.kit.server import ROOT


def test_the_vendored_modules_are_those_of_the_note() -> None:
    vendor = ROOT / "web" / "vendor"
    rows = re.findall(r"^\| `(\S+)` .* `([0-9a-f]{64})` \|$", (vendor / "VERSIONS.md").read_text(), re.MULTILINE)
    assert dict(rows) == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in vendor.glob("*.js")}


def test_every_module_is_loaded_ahead_and_none_is_inline() -> None:
    web = ROOT / "web"
    page = (web / "index.html").read_text()
    ahead = set(re.findall(r'<link rel="modulepreload" href="/web/(\S+)">', page))
    modules = {str(path.relative_to(web)) for path in web.rglob("*.js")}
    assert ahead == modules - {"early.js", "main.js"}
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
