"""A call through the SDK: how long its stages may take.

A read timeout alone is no limit: each byte that drips in starts it anew. A call therefore has a deadline, and
`service.backends.openai.wire` lets no read of its socket last beyond it.
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


class Call:
    """One call, with all its attempts."""

    def __init__(self, seconds: float) -> None:
        self.line: Line | None = None
        self.eof = False
        self._began = time.monotonic()
        self._deadline = self._began + seconds

    def allow(self, seconds: float) -> None:
        """Give the call so many seconds from now."""
        self._deadline = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._deadline - time.monotonic()

    @property
    def age(self) -> float:
        return time.monotonic() - self._began

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
