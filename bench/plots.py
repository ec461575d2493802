"""`python -m bench.plots <results.json> <folder>`: the pictures of `docs/performance.md`, drawn in an environment of their own."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt  # type: ignore[import-not-found]  # installed beside this module alone

Figures = Mapping[str, Any]
SIZE, DOTS = (8, 4.5), 110


def main() -> None:
    found = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    lines = {name: figures["streams"] for name, figures in found["systems"].items()}
    if lines:
        title = "The slowest of 100 tokens, one core, 20 tokens/s in each stream"
        by_streams(lines, "p99_ms", "delay of a token, p99, ms", title, folder / "delay.png", log=True)
        own = {name: measured for name, measured in lines.items() if name != "upstream"}
        by_streams(own, "memory_mb", "memory, MB", "Memory, all processes of a system", folder / "memory.png")
    if found["growth"]:
        growth(found["growth"], folder / "growth.png")


def by_streams(
    lines: Mapping[str, Sequence[Figures]], figure: str, label: str, title: str, path: Path, *, log: bool = False
) -> None:
    """Draw a figure of each system against its streams; a hollow mark is one at which there were errors."""
    plot, axes = plt.subplots(figsize=SIZE)
    for name, measured in lines.items():
        counts, values = [one["streams"] for one in measured], [one[figure] for one in measured]
        [line] = axes.plot(counts, values, marker="o", label=name)
        failed = [(one["streams"], one[figure]) for one in measured if one["errors"]]
        axes.plot(
            *zip(*failed, strict=True) if failed else ([], []), "o", color="white", markeredgecolor=line.get_color()
        )
    if log:
        axes.set_yscale("log")
        axes.axhline(50, color="grey", linestyle=":", linewidth=1)
    finish(plot, axes, "streams open at once", label, title, path)


def growth(found: Figures, path: Path) -> None:
    """Draw the CPU of a turn against what is stored."""
    plot, axes = plt.subplots(figsize=SIZE)
    for name, measured in found.items():
        counts, values = [one["of"] for one in measured], [one["cpu_ms"] for one in measured]
        axes.plot(counts, values, marker="o", label=name.replace("_", " "))
    axes.set_ylim(bottom=0)
    finish(plot, axes, "stored", "CPU of a whole turn, ms", "A turn beside what is stored", path)


def finish(plot: Any, axes: Any, across: str, up: str, title: str, path: Path) -> None:
    axes.set_xscale("log")
    counts = sorted({count for line in axes.get_lines() for count in line.get_xdata() if count > 1})
    axes.set_xticks(counts, [f"{count:,.0f}" for count in counts])
    axes.minorticks_off()
    axes.set(xlabel=across, ylabel=up, title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    plot.tight_layout()
    plot.savefig(path, dpi=DOTS)
    plt.close(plot)


if __name__ == "__main__":
    main()
