"""Embedding at the pace that the provider gives: all who ingest in this process share it, and a refusal is waited out, not repeated.

Until the first refusal nobody is held back. Between two refusals just what the provider takes has come through, so that is the pace
from then on, a little faster with each answer until the next refusal measures it anew. Before the moment that a refusal names nobody
calls; then one does, and the others follow at the pace. The question of a turn is not paced: who waits for it goes first.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Sequence

from service.backends.interfaces import Embedder, Embeddings
from service.errors import UpstreamBusy

PATIENCE_SECONDS = 120.0
"""So long a batch waits within its job's attempt; then the job is put off, and its worker free for others."""

REMEMBERED_SECONDS = 60.0
FASTER, MUCH_FASTER = 1.01, 1.5
SLOWER = 0.9
SLOWEST = 0.02
ENOUGH = 2
"""From so many answers between two refusals a pace is known; before, it is looked for in larger steps."""

LONGEST_PAUSE_SECONDS = 30.0


class Pace:
    """Says when the next call may be made, by what became of those before."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._per_second = 0.0  # no limit is known
        self._is_known = False
        self._next = 0.0
        self._refused_at = 0.0
        self._refusals = 0
        self._answered: deque[float] = deque(maxlen=1000)

    def wait(self, seconds: float) -> float | None:
        """Wait for one's turn and return the moment, or None if it does not come within so many seconds."""
        end = time.monotonic() + seconds
        with self._changed:
            while (left := self._next - (now := time.monotonic())) > 0:
                if now + left > end:
                    return None
                self._changed.wait(left)
            self._next = now + (1 / self._per_second if self._per_second else 0.0)
            return now

    def answered(self) -> None:
        with self._changed:
            self._answered.append(time.monotonic())
            self._refusals = 0
            self._per_second *= FASTER if self._is_known else MUCH_FASTER

    def refused(self, begun: float, retry_after: float | None) -> None:
        """Have everybody wait; `begun` is the moment of the call, for those who were under way together are refused once."""
        with self._changed:
            now = time.monotonic()
            pause = retry_after or min(2.0**self._refusals, LONGEST_PAUSE_SECONDS)
            if begun >= self._refused_at:
                self._measure(now, pause)
                self._refused_at = now
                self._refusals += 1
                self._answered.clear()
            # Chance keeps processes apart; it guards nothing.
            self._next = max(self._next, now + pause * random.uniform(1.0, 1.1))  # noqa: S311
            self._changed.notify_all()

    def _measure(self, now: float, pause: float) -> None:
        """Set the pace to what the provider took since it refused last, by its answers; without them, to a call in each pause."""
        recent = [at for at in self._answered if at > now - REMEMBERED_SECONDS]
        self._is_known = len(recent) >= ENOUGH
        if recent:
            since = max(self._refused_at or recent[0], now - REMEMBERED_SECONDS)
            found = len(recent) / max(now - min(since, recent[0]), 0.1)
        else:
            found = 1 / pause
        if self._per_second:
            found = max(min(found, self._per_second * SLOWER), self._per_second / 2)
        self._per_second = max(found, SLOWEST)


class PacedEmbedder:
    """An embedder for those who have time: all who embed by it keep one pace."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._pace = Pace()

    @property
    def name(self) -> str:
        return self._embedder.name

    @property
    def model(self) -> str:
        return self._embedder.model

    @property
    def dimensions(self) -> int:
        return self._embedder.dimensions

    @property
    def batch_size(self) -> int:
        return self._embedder.batch_size

    def check(self) -> None:
        self._embedder.check()

    def embed(self, texts: Sequence[str], *, wait: bool = True) -> Embeddings:
        """As `Embedder.embed`; while the provider refuses it waits, and raises `UpstreamBusy` when that takes too long."""
        if not wait:
            return self._embedder.embed(texts, wait=False)
        end, busy = time.monotonic() + PATIENCE_SECONDS, UpstreamBusy(retry_after=30)
        while (begun := self._pace.wait(end - time.monotonic())) is not None:
            try:
                embeddings = self._embedder.embed(texts, wait=False)
            except UpstreamBusy as error:
                if not error.limited:
                    raise  # one text may be why it fails: that is no reason to hold up the others
                self._pace.refused(begun, error.retry_after)
                busy = error
            else:
                self._pace.answered()
                return embeddings
        raise busy
