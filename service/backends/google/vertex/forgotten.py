"""What was deleted lately: a search by this process never shows it again, even if the index still does for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from service.backends.google.vertex.datapoints import Stored

Shelf: TypeAlias = tuple[str, str | None, str]
"""App, user, document."""

Deletions: TypeAlias = Mapping[Shelf, tuple[int, float]]
"""Of which document how many chunks were deleted, and when."""

MOST_DELETIONS = 10_000


@dataclass(slots=True)
class Forgotten:
    """Remembers the newest deletions. `deletions` is replaced, never changed, so a search may rely on one state of it."""

    deletions: Deletions = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def deleted(self, shelf: Shelf, chunks: int) -> None:
        with self._lock:
            kept = [(one, what) for one, what in self.deletions.items() if one != shelf]
            self.deletions = dict([*kept[1 - MOST_DELETIONS :], (shelf, (chunks, time.time()))])

    def written(self, shelves: Collection[Shelf]) -> None:
        """Believe the index again: what it will hold of these documents is new."""
        with self._lock:
            if not self.deletions.keys().isdisjoint(shelves):
                self.deletions = {one: what for one, what in self.deletions.items() if one not in shelves}


def covers(deletions: Deletions, stored: Stored) -> bool:
    """Whether a passage is one that was deleted, and not one that was written later, by another process perhaps."""
    chunks, when = deletions.get((stored.app, stored.user, stored.passage.document), (0, 0.0))
    return stored.passage.chunk < chunks and stored.written <= when
