"""Shows how adding files goes: live bars on a terminal, a line per file elsewhere, nothing where JSON is wanted."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from service.cli.adding import Outcome
from service.cli.output import count, one_line
from service.models import Document, JobStatus


def line(outcome: Outcome) -> str:
    """What became of a file, in one line."""
    name = one_line(click.format_filename(outcome.path))
    if outcome.error is not None or outcome.document is None:
        return f"{name}: {one_line(outcome.error or 'failed')}"
    what = count(outcome.document.chunks, "passage")
    return f"{name}: {'there already' if outcome.known else 'added'}, {what}"


class Silent:
    """Shows nothing."""

    def begin(self, total: int) -> None:
        pass

    def progress(self, path: Path, document: Document) -> None:
        pass

    def end(self, outcome: Outcome) -> None:
        pass


class Lines(Silent):
    """Prints a line per file when it has ended, failures on standard error."""

    def end(self, outcome: Outcome) -> None:
        click.echo(line(outcome), err=outcome.error is not None)


class Bars:
    """A bar per file that is being added, below the lines of those that have ended."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), TextColumn("{task.fields[state]}"))
        self._progress = Progress(*columns, console=Console(highlight=False), transient=True)
        self._tasks: dict[Path, TaskID] = {}
        self._all: TaskID | None = None
        self._total = 0
        self._ended = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, total: int) -> None:
        self._total = total
        if total > 1:
            self._all = self._progress.add_task("All files", total=total, state=f"0 of {total}")

    def progress(self, path: Path, document: Document) -> None:
        if path not in self._tasks:
            name = one_line(path.name).replace("[", r"\[")
            self._tasks[path] = self._progress.add_task(name, total=None, state="")
        total = document.total or None
        self._progress.update(self._tasks[path], total=total, completed=document.done, state=state(document))

    def end(self, outcome: Outcome) -> None:
        self._ended += 1
        self._progress.console.print(Text(line(outcome), style="red" if outcome.error else ""))
        if outcome.path in self._tasks:
            self._progress.remove_task(self._tasks.pop(outcome.path))
        if self._all is not None:
            self._progress.update(self._all, completed=self._ended, state=f"{self._ended} of {self._total}")


def state(document: Document) -> str:
    """How far a document is, in words."""
    if document.status is JobStatus.PENDING:
        return "waiting"
    return f"{document.done} of {count(document.total, 'passage')}" if document.total else "reading"
