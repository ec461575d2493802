"""`brainstem users`: all of a user given out, and removed, from a terminal."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from service.backends import registry
from service.config import Settings
from service.scope import of_job
from service.services import assemble
from tests.kit.terminal import Terminal, environment


@pytest.fixture
def terminal(served: Settings, tmp_path: Path) -> Terminal:
    return Terminal(tmp_path, environment(served))


def test_a_user_is_exported_and_erased(served: Settings, terminal: Terminal, tmp_path: Path) -> None:
    path = terminal.write("notes.md", "The zebra secret is canary-of-ada.")
    for user in ("ada", "bob"):
        assert terminal.run("documents", "add", "alpha", path, "--user", user).exit_code == 0
    exported = terminal.json("users", "export", "alpha", "ada", "--to", str(tmp_path / "out"), "--json")
    [file] = exported["files"]
    with zipfile.ZipFile(file) as whole:
        [original] = [name for name in whole.namelist() if "/original/" in name]
        assert b"canary-of-ada" in whole.read(original)
    refused = terminal.run("users", "erase", "alpha", "ada", stdin="bob\n")
    assert (refused.exit_code, "Nothing was removed" in refused.stderr) == (1, True)
    assert terminal.run("users", "erase", "alpha", "ada", "--json").exit_code == 1
    assert len(terminal.json("documents", "list", "alpha", "--user", "ada", "--json")["documents"]) == 1
    receipt = terminal.json("users", "erase", "alpha", "ada", "--yes", "--json")
    assert (receipt["status"], receipt["left"]["records"], receipt["removed"]["documents"]) == ("COMPLETED", 0, 1)
    backends = assemble(served, registry.build(served)).backends
    assert backends.documents.everything(of_job("alpha", "ada")) == []
    assert len(terminal.json("documents", "list", "alpha", "--user", "bob", "--json")["documents"]) == 1
    assert terminal.json("documents", "reindex", "alpha", "--all", "--json") == {"documents": 1, "unreadable": 0}
    assert "0 documents read anew" in terminal.run("documents", "reindex", "alpha").stdout
    said = terminal.run("users", "erase", "alpha", "nobody", stdin="nobody\n")
    assert (said.exit_code, "0 things left" in said.stdout) == (0, True)
