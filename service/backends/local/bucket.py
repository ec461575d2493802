"""A token bucket: so many in a second, and as many at once after a rest."""

from __future__ import annotations

import threading
import time


class Bucket:
    """Counts what may begin. It is full at first; at less than one a second it still holds one."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second)
        self._tokens = self._most
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> float:
        """Take a token and return 0, or return the seconds until there is one; a rate of 0 is no limit."""
        if not self._per_second:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self._most, self._tokens + (now - self._at) * self._per_second)
            self._at = now
            if self._tokens >= 1:
                self._tokens -= 1
                return 0.0
            return (1 - self._tokens) / self._per_second

    def give_back(self) -> None:
        """Return a token with which nothing was begun."""
        with self._lock:
            self._tokens = min(self._most, self._tokens + 1)
