"""A call to a provider: how long its stages may take, and how another thread ends it.

A read timeout alone is no limit: each comment or byte that drips in starts it anew. A call therefore has a deadline that only progress
moves, and `service.backends.openai.wire` lets no read of its socket last beyond it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LOCAL = threading.local()


class Line(Protocol):
    """The connection that a call uses at the moment."""

    reused: bool

    def shut(self, call: Call) -> None:
        """End what is read or written for `call` now, in whatever thread; nothing if the line serves another call by then."""

    def release(self, call: Call) -> None:
        """Serve `call` no longer: it has been answered."""


class Call:
    """One call, with all its attempts; `ended` is set once it is closed, and wakes whoever waits to try again."""

    def __init__(self, seconds: float) -> None:
        self.ended = threading.Event()
        self.line: Line | None = None
        self.eof = False
        self._began = time.monotonic()
        self._deadline = self._began + seconds

    def allow(self, seconds: float) -> None:
        """Give the call so many seconds from now until its next progress."""
        self._deadline = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._deadline - time.monotonic()

    @property
    def age(self) -> float:
        return time.monotonic() - self._began

    def close(self) -> None:
        self.ended.set()
        if self.line:
            self.line.shut(self)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make this the call of whatever this thread sends meanwhile."""
        LOCAL.call = self
        try:
            yield
        finally:
            LOCAL.call = None


def current() -> Call | None:
    call: Call | None = getattr(LOCAL, "call", None)
    return call
