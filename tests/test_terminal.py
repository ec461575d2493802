"""The commands on a real terminal: a pseudo-terminal of this test's, typed into as a person would."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.config import Settings
from tests.kit.terminal import Typist, environment
from tests.kit.upstream import Gate, Upstream

FACT = "# Kettle\n\nThe kettle of the moon base boils water at sixty-one degrees.\n"


@pytest.fixture
def environ(served: Settings) -> dict[str, str]:
    return environment(served)


def test_a_talk_survives_a_stopped_answer_and_ends_with_ctrl_d(environ: dict[str, str], upstream: Upstream) -> None:
    upstream.enqueue("The first half", gate := Gate(), " and the second")
    upstream.enqueue("Again, whole.")
    typist = Typist(environ, "chat", "alpha")
    typist.until("> ")
    typist.type("Tell me\n")
    typist.until("The first half")
    typist.type("\x03")
    typist.until("Stopped; what came is kept.")
    gate.open()
    typist.until("> ")
    typist.type("And again\n")
    typist.until("Again, whole.")
    typist.until("> ")
    typist.type("\x04")
    code, said = typist.end()
    assert code == 0
    assert "Traceback" not in said
    assert upstream.asked()[-1].json["messages"][-1]["content"] == "And again"


def test_files_that_are_added_show_their_progress(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "kettle [red].md").write_text(FACT)
    (tmp_path / "empty.txt").write_text("")
    typist = Typist(environ, "documents", "add", "alpha", str(tmp_path / "*.md"), str(tmp_path / "empty.txt"))
    code, said = typist.end()
    assert code == 1
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    assert "All files" in plain
    assert f"{tmp_path / 'kettle [red].md'}: added, 1 passage" in "".join(plain.splitlines())
    assert "This file is empty." in "".join(plain.splitlines())
    assert "sign in as `local`" in plain
    assert plain.rstrip().endswith("1 of 2 files failed.")
