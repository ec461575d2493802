"""Real documents that no one here wrote: PDFs of a Debian documentation package, fetched when a test wants them.

The package `debian-policy` (GPL and the FHS's own free licence) has the Filesystem Hierarchy Standard 3.0, 50 pages without an
outline, made by Apache FOP, and the Debian Policy Manual, 193 pages with an outline, made by XeTeX.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.kit.required import left_out

PACKAGE = "debian-policy"
CACHE = Path(tempfile.gettempdir()) / f"brainstem-tests-{os.getuid()}"

PAGES = 50
QUESTION = "What must happen to the files in /run when the system boots?"
ANSWER_SNIPPET = "must be cleared (removed or truncated as appropriate) at the beginning of the boot process"
ANSWER_PAGE = 21

LONG_PAGES = 193


def debian_pdf() -> Path:
    """Return the Filesystem Hierarchy Standard as a PDF; skips the test, with the reason, where it cannot be had."""
    return fetched("fhs-3.0.pdf", "usr/share/doc/debian-policy/fhs/fhs-3.0.pdf.gz")


def long_debian_pdf() -> Path:
    """Return the Debian Policy Manual as a PDF; skips like `debian_pdf`."""
    return fetched("policy.pdf", "usr/share/doc/debian-policy/policy.pdf.gz")


def fetched(name: str, member: str) -> Path:
    path = CACHE / name
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            unpack(Path(folder))
            CACHE.mkdir(mode=0o700, exist_ok=True)
            part = CACHE / f"{name}.{os.getpid()}"
            with gzip.open(Path(folder) / member) as packed, part.open("wb") as file:
                shutil.copyfileobj(packed, file)
            # Another test run may do the same at this moment; either file is whole.
            part.replace(path)
    return path


def unpack(folder: Path) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            left_out("debian", f"needs a PDF of the Debian package {PACKAGE}, and {tool} is not installed")
    try:
        # As root, apt changes to a user that could not write here.
        command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", PACKAGE]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=100)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        words = (error.stderr or b"no answer").decode(errors="replace").strip()
        left_out("debian", f"needs a PDF of the Debian package {PACKAGE}, and apt-get cannot fetch it: {words}")
    [archive] = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True, capture_output=True, timeout=100)
