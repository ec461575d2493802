"""`make emulators` says what is missing on a machine, before anything starts."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.emulators import ENVIRON, FIREBASE
from tests.kit.required import left_out
from tests.kit.server import ROOT


def run(path: str, folder: Path = ROOT) -> str:
    """Run the command with these programs at hand, and return what it says in refusal."""
    command = [sys.executable, "-m", "service.cli.emulators"]
    environ = {"PATH": path, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1, ended
    assert "Traceback" not in ended.stderr
    return ended.stderr


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of programs that say their version as Node.js and Java say it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder, "node", "v22.11.0")
    program(folder, "java", 'openjdk version "21.0.4" 2024-07-16')
    return folder


def program(folder: Path, name: str, says: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    (folder / name).chmod(0o755)


def test_what_is_missing_is_named_with_where_to_get_it(tools: Path, tmp_path: Path) -> None:
    assert "npm ci" in run(str(tools), tmp_path)
    program(tools, "java", 'openjdk version "17.0.9" 2023-10-17')
    assert "need Java 21 or newer; this is 17" in run(str(tools))
    (tools / "java").unlink()
    assert "need Java 21 or newer, and there is none here" in run(str(tools))
    program(tools, "node", "v18.1.0")
    assert "need Node.js 20 or newer; this is 18" in run(str(tools))
    (tools / "node").unlink()
    assert "need Node.js 20 or newer, and there is none here" in run(str(tools))


def test_a_port_in_use_is_named_with_who_needs_it(tools: Path, tmp_path: Path) -> None:
    if not FIREBASE.exists():
        left_out("emulators", "firebase-tools is not installed: it takes Node.js and `npm ci`")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
        (tmp_path / "firebase.json").write_text(f'{{"emulators": {{"auth": {{"port": {port}}}}}}}')
        assert f"Port {port}, of the auth emulator, is in use" in run(f"{tools}:{ENVIRON['PATH']}", tmp_path)
