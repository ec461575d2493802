"""The bench measures what it says: every figure is there, in a run that is too short to say how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import report
from tests.kit.server import ROOT

PARTS = ("upstream", "flask", "brainstem", "brainstem-firestore", "engines", "growth")
RESULTS = sorted((ROOT / "bench" / "results").glob("*.json"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The results of a quick run without the peers, which would have to be installed."""
    results = tmp_path_factory.mktemp("bench") / "results.json"
    command = [sys.executable, "-m", "bench", "--quick", "--only", *PARTS, "--results", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(results.read_text())


@pytest.mark.timeout(660)
def test_every_system_answers_whole_and_streamed_without_errors(found: Any) -> None:
    assert [*found["systems"]] == ["upstream", "flask", "brainstem", "brainstem-firestore"]
    measured = [figures for part in ("systems", "engines") for figures in found[part].values()]
    for figures in measured:
        for name in [name for name in figures if name.startswith(("plain", "streamed"))]:
            assert figures[name]["per_s"] > 0
            assert figures[name]["errors"] == {}


def test_tokens_come_at_the_pace_at_which_they_are_sent(found: Any) -> None:
    for figures in found["systems"].values():
        for one in figures["streams"]:
            assert one["errors"] == {}
            # 20 tokens/s in each stream, less what a stream that begins anew takes for its first one.
            assert 10 * one["streams"] < one["tokens_per_s"] <= 25 * one["streams"]
            assert 0 < one["p50_ms"] <= one["p99_ms"]


def test_what_is_in_between_costs_time_cpu_and_memory(found: Any) -> None:
    for name, figures in found["systems"].items():
        if name == "upstream":
            continue
        assert figures["added_plain_ms"] > 0
        assert 0 < figures["start_s"] <= figures["ready_s"]
        assert figures["idle_mb"] > 10
        assert all(one["cpu_us_per_token"] > 0 and one["memory_mb"] > 10 for one in figures["streams"])


def test_brainstem_is_measured_with_retrieval_too(found: Any) -> None:
    for name in ("brainstem", "brainstem-firestore"):
        assert found["systems"][name]["plain_with_retrieval"]["per_s"] > 0
        assert found["systems"][name]["streamed_with_retrieval"]["per_s"] > 0


def test_growth_is_measured_at_every_size(found: Any) -> None:
    assert [*found["growth"]] == ["chat_turns", "chunks_of_others", "chunks_of_ones_own", "users"]
    for measured in found["growth"].values():
        assert [one["of"] for one in measured] == [10, 100]
        assert all(one["p50_ms"] > 0 and one["cpu_ms"] > 0 for one in measured)


def test_results_say_on_what_they_were_measured(found: Any) -> None:
    assert found["about"].keys() == {"date", "machine", "python", "versions", "peers", "retrieval"}
    assert all(found["about"].values())


def test_the_tables_show_every_system_at_every_number_of_streams(found: Any) -> None:
    told = report.tables(found)["systems"] + report.tables(found)["streams"]
    assert "|  | upstream | flask | brainstem | brainstem-firestore |" in told
    shown = [line.split(" | ") for line in told.splitlines() if line.startswith(("| 5 |", "| 20 |"))]
    assert len(shown) == 2
    assert all(cell.strip(" |") for line in shown for cell in line)


def test_ratios_are_what_is_measured_divided_by_what_litellm_needs(found: Any) -> None:
    """The figures of LiteLLM are made up here: twice those of Brainstem."""
    ours = found["systems"]["brainstem"]
    streams = [one | {"cpu_us_per_token": 2 * one["cpu_us_per_token"]} for one in ours["streams"]]
    lite = {name: {"per_s": 2 * ours[name]["per_s"]} for name in ("plain", "streamed")} | {"streams": streams}
    told = report.targets({"litellm": lite, "brainstem": ours})
    assert "| plain turns/s, × LiteLLM | 5 | 10 | 0.50 |" in told
    assert "| streamed turns/s, × LiteLLM | 15 | 40 | 0.50 |" in told
    assert "| CPU per paced token, × below LiteLLM | 6 | 12 | 2.00 |" in told


@pytest.mark.parametrize("results", RESULTS[-1:], ids=lambda path: path.name)
def test_the_docs_hold_the_tables_of_the_newest_results(results: Path) -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert report.fill(page, json.loads(results.read_text(encoding="utf-8"))) == page
