"""Shows how a move of vectors goes: a live bar on a terminal, a line per document elsewhere, nothing where JSON is wanted."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import click

from service.cli.output import one_line


class Silent:
    """Shows nothing."""

    def begin(self, total: int) -> None:
        pass

    def step(self, title: str, did: str) -> None:
        pass


class Lines(Silent):
    """Prints a line per document: how many of how many, which, and what became of it."""

    def __init__(self) -> None:
        self._done = 0
        self._total = 0

    def begin(self, total: int) -> None:
        self._total += total

    def step(self, title: str, did: str) -> None:
        self._done += 1
        click.echo(f"{self._done} of {self._total}: {one_line(title)}: {did}")


class Bar(Silent):
    """One bar for all documents."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(highlight=False), transient=True)
        self._task = self._progress.add_task("Documents", total=0)
        self._total = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, total: int) -> None:
        self._total += total
        self._progress.update(self._task, total=self._total)

    def step(self, title: str, did: str) -> None:
        self._progress.advance(self._task)
