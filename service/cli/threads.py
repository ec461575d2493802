"""Threads for work that waits, with less around each piece of it than the standard library's pool has."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Threads(Generic[T]):
    """At most so many threads, which call one function with what is submitted; it must not raise.

    The thread that was at work last is the next, for what it needs is still in the processor's caches.
    """

    def __init__(self, most: int, function: Callable[[T], object]) -> None:
        self._most = most
        self._function = function
        self._started = 0
        self._idle: list[SimpleQueue[T]] = []
        self._waiting: deque[T] = deque()
        self._lock = threading.Lock()

    def submit(self, given: T) -> None:
        with self._lock:
            if self._idle:
                self._idle.pop().put(given)
                return
            if self._started == self._most:
                self._waiting.append(given)
                return
            self._started += 1
            name = f"request_{self._started}"
        threading.Thread(target=self._run, args=(given,), name=name, daemon=True).start()

    def shutdown(self, wait: bool = True) -> None:
        """Nothing: the threads end with the process, and what was submitted is still worked on."""

    def _run(self, given: T) -> None:
        mine: SimpleQueue[T] = SimpleQueue()
        while True:
            self._function(given)
            with self._lock:
                if self._waiting:
                    mine.put(self._waiting.popleft())
                else:
                    self._idle.append(mine)
            given = mine.get()
