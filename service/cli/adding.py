"""Adds files: hands each to ingestion, delivers the jobs here (or lets a running server do it) and watches them end."""

from __future__ import annotations

import mimetypes
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from service.cli.files import Named
from service.cli.opening import Opened
from service.cli.output import sentence
from service.errors import BrainstemError, NotFound
from service.models import Document

AT_ONCE = 8
"""Files handed over at a time, so that Ctrl-C leaves few of them waiting for a server."""

POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file; `known` if its content was there before."""

    path: Path
    document: Document | None
    error: str | None = None
    known: bool = False


class Watcher(Protocol):
    """Shows how adding goes."""

    def begin(self, total: int) -> None: ...

    def progress(self, path: Path, document: Document) -> None: ...

    def end(self, outcome: Outcome) -> None: ...


def add(opened: Opened, files: Sequence[Named], watcher: Watcher) -> list[Outcome]:
    """Add files and wait until each is searchable or has failed.

    Jobs lie in the durable queue, which gives each to one worker at a time, of this process or of a running server: so who
    does the work does not matter, and what Ctrl-C leaves undone is done when a server runs.
    """
    queue = opened.services.backends.queue
    watcher.begin(len(files))
    outcomes = []
    queue.start(opened.services.jobs.run)
    try:
        for outcome in outcomes_of(opened, files, watcher):
            watcher.end(outcome)
            outcomes.append(outcome)
    finally:
        queue.stop()
    return outcomes


def outcomes_of(opened: Opened, files: Sequence[Named], watcher: Watcher) -> Iterator[Outcome]:
    waiting, running = deque(files), list[tuple[Path, str]]()
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            begun = hand_over(opened, waiting.popleft())
            if isinstance(begun, Outcome):
                yield begun
            else:
                running.append(begun)
        for path, document_id in list(running):
            document = look(opened, document_id)
            if document is None or document.status.terminal:
                running.remove((path, document_id))
                yield ended(path, document)
            else:
                watcher.progress(path, document)
        if running:
            time.sleep(POLL_SECONDS)


def hand_over(opened: Opened, named: Named) -> Outcome | tuple[Path, str]:
    """Store a file and submit its job; return its outcome if that is certain already, else its path and document."""
    from service.ingestion.formats import HEAD, recognise

    path = named.path
    if named.problem:
        return Outcome(path, None, named.problem)
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    try:
        with path.open("rb") as file:
            recognise(path.name, media_type, file.read(HEAD))
            file.seek(0)
            received = opened.services.ingestion.receive(opened.scope, file, path.name, media_type)
        opened.services.ingestions.submit(opened.scope, received)
    except OSError as exc:
        return Outcome(path, None, f"It cannot be read: {exc.strerror}.")
    except BrainstemError as error:
        return Outcome(path, None, sentence(error))
    if received.document.status.terminal:
        return Outcome(path, received.document, known=True)
    return path, received.document.id


def look(opened: Opened, document_id: str) -> Document | None:
    try:
        return opened.services.ingestion.document(opened.scope, document_id)
    except NotFound:
        return None


def ended(path: Path, document: Document | None) -> Outcome:
    if document is None:
        return Outcome(path, None, "It was removed while it was being read.")
    return Outcome(path, document, document.error)
