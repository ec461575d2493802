"""The server's threads: everything that is submitted is worked on, by so many at once and no more."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from service.cli.threads import Threads


def test_all_that_is_submitted_is_worked_on_by_so_many_at_once() -> None:
    started: SimpleQueue[int] = SimpleQueue()
    ended: SimpleQueue[int] = SimpleQueue()
    go = threading.Semaphore(0)

    def work(given: int) -> None:
        started.put(given)
        go.acquire(timeout=10)
        ended.put(given)

    threads = Threads(2, work)
    for given in range(5):
        threads.submit(given)
    assert {started.get(timeout=10), started.get(timeout=10)} == {0, 1}
    assert started.empty()
    go.release(5)
    assert {ended.get(timeout=10) for _ in range(5)} == set(range(5))
