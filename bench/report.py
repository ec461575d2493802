"""`python -m bench.report <results.json> <page>`: puts the tables of what was measured into a page."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.measure import Figures

LIMIT_MS = 50.0
"""A stream whose tokens come later than this, one in a hundred, is not counted as served."""

Cell = Callable[[Figures], object]


def tables(found: Figures) -> dict[str, str]:
    """Return each table that the results have figures for, by name."""
    made = {"about": about(found["about"])}
    if found["systems"]:
        made |= {"systems": systems(found["systems"]), "streams": streams(found["systems"])}
    if found["systems"].keys() >= {"litellm", "brainstem"}:
        made["targets"] = targets(found["systems"])
    if found["engines"]:
        made["engines"] = engines(found["engines"])
    if found["growth"]:
        made["growth"] = f"{growth(found['growth'])}\n\n![CPU of a turn beside what is stored](performance/growth.png)"
    return made


def fill(page: str, found: Figures) -> str:
    """Return a page whose tables, each between `<!-- name -->` and `<!-- end -->`, are those of the results."""
    made = tables(found)

    def filled(place: re.Match[str]) -> str:
        return f"<!-- {place[1]} -->\n{made[place[1]]}\n<!-- end -->" if place[1] in made else place[0]

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", filled, page, flags=re.DOTALL)


def about(found: Figures) -> str:
    return table(["", ""], [*found.items()])


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown; what was not measured is left empty."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(shown(cell) for cell in line) + " |" for line in lines)


def shown(cell: object) -> str:
    match cell:
        case None:
            return ""
        case float() if abs(cell) < 10:
            return f"{cell:.2f}"
        case float() if abs(cell) < 100:
            return f"{cell:.1f}"
        case float():
            return f"{cell:.0f}"
    return str(cell)


def at(figures: Figures, count: int) -> Figures:
    """Return what was measured with so many streams, nothing if that was not tried."""
    return next((one for one in figures["streams"] if one["streams"] == count), {})


def served(figures: Figures) -> int:
    """Return the most streams that were measured with p99 within the limit and no errors."""
    fine = [one["streams"] for one in figures["streams"] if one["p99_ms"] < LIMIT_MS and not one["errors"]]
    return max(fine, default=0)


def without_errors(figures: Figures) -> int:
    return max((one["streams"] for one in figures["streams"] if not one["errors"]), default=0)


def cpu_per_token(figures: Figures) -> float | None:
    cpu: float | None = figures["streams"][0]["cpu_us_per_token"]
    return cpu


def systems(found: Figures) -> str:
    head = ["", *found]
    rows: list[tuple[str, Cell]] = [
        ("plain answers/s", lambda f: f["plain"]["per_s"]),
        ("32-token streamed answers/s", lambda f: f["streamed"]["per_s"]),
        ("plain, with retrieval", lambda f: f.get("plain_with_retrieval", {}).get("per_s")),
        ("streamed, with retrieval", lambda f: f.get("streamed_with_retrieval", {}).get("per_s")),
        ("µs of CPU per paced token", cpu_per_token),
        ("streams with p99 < 50 ms, no errors", served),
        ("streams without errors", without_errors),
        ("added, plain, ms", lambda f: f.get("added_plain_ms")),
        ("added to the first token, ms", lambda f: f.get("added_first_ms")),
        ("cold start to the first 200, s", lambda f: f.get("start_s")),
        ("cold start to ready, s", lambda f: f.get("ready_s")),
        ("the first answer after that, s", lambda f: f.get("first_answer_s")),
        ("memory idle, MB", lambda f: f.get("idle_mb")),
        ("memory with 1,000 streams, MB", lambda f: at(f, 1000).get("memory_mb") or None),
    ]
    return table(head, [[name, *(cell(figures) for figures in found.values())] for name, cell in rows])


def targets(found: Figures) -> str:
    """Set each Brainstem beside LiteLLM, and beside what was aimed at."""
    lite = found["litellm"]
    ours = [figures for name, figures in found.items() if name.startswith("brainstem")]
    names = [name for name in found if name.startswith("brainstem")]

    def times(part: str, base: str) -> Cell:
        return lambda f: f[part]["per_s"] / lite[base]["per_s"]

    rows: list[tuple[str, str, str, Cell]] = [
        ("plain turns/s, × LiteLLM", "5", "10", times("plain", "plain")),
        ("streamed turns/s, × LiteLLM", "15", "40", times("streamed", "streamed")),
        ("plain with retrieval, × LiteLLM", "2", "4", times("plain_with_retrieval", "plain")),
        ("streamed with retrieval, × LiteLLM", "5", "12", times("streamed_with_retrieval", "streamed")),
        (
            "CPU per paced token, × below LiteLLM",
            "6",
            "12",
            lambda f: (cpu_per_token(lite) or 0) / (cpu_per_token(f) or 1),
        ),
        ("streams with p99 < 50 ms, no errors", "500", "1,000", served),
        ("streams without errors", "", "2,000", without_errors),
        ("added p50 plain, ms", "5", "2", lambda f: f["added_plain_ms"]),
        ("added p50 to the first token, ms", "5", "2", lambda f: f["added_first_ms"]),
        ("cold start to the first 200, s", "1.0", "0.5", lambda f: f["start_s"]),
        ("cold start to ready, s", "2.0", "1.0", lambda f: f["ready_s"]),
        ("memory idle, MB", "120", "75", lambda f: f["idle_mb"]),
        ("memory with 1,000 streams, MB", "180", "110", lambda f: at(f, 1000).get("memory_mb")),
    ]
    head = ["", "at least", "aim", *names]
    return table(head, [[name, least, aim, *(cell(figures) for figures in ours)] for name, least, aim, cell in rows])


def streams(found: Figures) -> str:
    """Token delays of each system by streams: p50 / p99 in ms, and the errors that there were."""
    counts = sorted({one["streams"] for figures in found.values() for one in figures["streams"]})

    def cell(figures: Figures, count: int) -> str | None:
        one = at(figures, count)
        if not one:
            return None
        errors = sum(one["errors"].values())
        return f"{shown(one['p50_ms'])} / {shown(one['p99_ms'])}" + (f", {errors} errors" if errors else "")

    rows = [[f"{count:,}", *(cell(figures, count) for figures in found.values())] for count in counts]
    return table(["streams", *found], rows)


def engines(found: Figures) -> str:
    rows: list[tuple[str, Cell]] = [
        ("plain answers/s", lambda f: f["plain"]["per_s"]),
        ("plain answers per CPU-second", lambda f: f["plain"]["per_cpu_s"]),
        ("32-token streamed answers/s", lambda f: f["streamed"]["per_s"]),
        ("streamed answers per CPU-second", lambda f: f["streamed"]["per_cpu_s"]),
        ("µs of CPU per paced token", cpu_per_token),
        ("streams with p99 < 50 ms, no errors", served),
    ]
    return table(["", *found], [[name, *(cell(figures) for figures in found.values())] for name, cell in rows])


def growth(found: Figures) -> str:
    """The median time and the CPU of a whole turn, in ms, by what is stored."""
    counts = sorted({one["of"] for measured in found.values() for one in measured})

    def cell(measured: Sequence[Figures], count: int) -> str | None:
        one = next((one for one in measured if one["of"] == count), None)
        return f"{shown(one['p50_ms'])} / {shown(one['cpu_ms'])}" if one else None

    head = ["stored", *(name.replace("_", " ") for name in found)]
    return table(head, [[f"{count:,}", *(cell(measured, count) for measured in found.values())] for count in counts])


if __name__ == "__main__":
    results, page = map(Path, sys.argv[1:])
    page.write_text(
        fill(page.read_text(encoding="utf-8"), json.loads(results.read_text(encoding="utf-8"))), encoding="utf-8"
    )
