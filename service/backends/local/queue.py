"""A durable job queue in one SQLite file, worked off by threads of this process.

A delivery is a lease: the row stays, hidden until the lease ends, and is removed once the job is done. So a worker
that is killed loses nothing. That is why no library stands here: huey's SQLite storage, for one, deletes a task before
it runs (`SqliteStorage.dequeue`), so a killed worker takes the task with it; what keeps tasks through a crash wants a
server (Redis, PostgreSQL) that a laptop does not have.
"""

from __future__ import annotations

import json
import logging
import random
import secrets as tokens
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from service.backends.interfaces import JobAddress, Secrets
from service.backends.local import paths
from service.backends.local.sqlite import Database
from service.config import Settings
from service.errors import Unavailable
from service.logging import event
from service.models import Scope

ATTEMPTS = 5
POLL_SECONDS = 0.4
"""How late a job of another process may be seen."""

LONGEST_BACKOFF_SECONDS = 60.0
STOP_SECONDS = 1.0

SCHEMA = (
    # `due` is when the job may be delivered next: while it is under way, the end of its lease. `again` is when it must
    # be delivered once more because it was enqueued while it was under way.
    """CREATE TABLE IF NOT EXISTS jobs (
        address TEXT PRIMARY KEY, due REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, owner TEXT, again REAL)""",
    "CREATE INDEX IF NOT EXISTS jobs_by_due ON jobs (due)",
)
ENQUEUE = """
    INSERT INTO jobs (address, due) VALUES (:address, :due) ON CONFLICT (address) DO UPDATE SET
        again = CASE WHEN owner IS NOT NULL THEN min(coalesce(again, :due), :due) END,
        due = CASE WHEN owner IS NULL THEN min(due, :due) ELSE due END"""
CLAIM = """
    UPDATE jobs SET owner = :owner, due = :until, attempts = attempts + 1
    WHERE address = (SELECT address FROM jobs WHERE due <= :now ORDER BY due LIMIT 1) RETURNING address, attempts"""
RENEW = "UPDATE jobs SET due = :until WHERE address = :address AND owner = :owner"
REMOVE = "DELETE FROM jobs WHERE address = :address AND owner = :owner AND again IS NULL"
RENEWED = "UPDATE jobs SET owner = NULL, attempts = 0, due = again, again = NULL WHERE address = :address AND owner = :owner"
RETRY = """
    UPDATE jobs SET owner = NULL, due = min(:due, coalesce(again, :due)), again = NULL
    WHERE address = :address AND owner = :owner"""
UNCOUNT = "UPDATE jobs SET attempts = attempts - 1 WHERE address = :address AND owner = :owner"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A job that this process holds; `owner` is drawn anew for each delivery, so a late worker cannot touch the next one."""

    address: str
    owner: str
    attempt: int


class LocalQueue:
    """The queue of a laptop. A job that raises is delivered again, later each time, and dropped after five attempts.

    An attempt counts when it begins, so a job that kills its process is dropped too; one that `stop` cuts short does not
    count. Enqueueing a job that waits may bring it forward; one that is under way is delivered once more afterwards.
    """

    def __init__(self, settings: Settings, secrets: Secrets, *, lease: float = 10.0, backoff: float = 1.0) -> None:
        self._database = Database(settings.data_dir / "jobs.sqlite3", SCHEMA, "The job queue")
        self._workers = settings.ingest_workers
        self._lease = lease
        self._backoff = backoff
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._running: dict[str, Delivery] = {}
        self._threads: list[threading.Thread] = []

    def enqueue(self, address: JobAddress, *, delay: float = 0.0) -> None:
        with self._database.write() as connection:
            connection.execute(ENQUEUE, {"address": pack(address), "due": time.time() + delay})
        self._wake.set()

    def start(self, run: Callable[[JobAddress], None]) -> None:
        assert not self._threads, "The queue is started already."
        self._stopping.clear()
        self._threads = [threading.Thread(target=self._keep_leases, name="queue-leases", daemon=True)]
        for n in range(self._workers):
            self._threads.append(threading.Thread(target=self._work, args=(run,), name=f"queue-{n}", daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads within about a second; the lease of a job that runs longer is left to expire."""
        self._stopping.set()
        self._wake.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._threads = []
        with self._database.write() as connection:
            for delivery in list(self._running.values()):
                connection.execute(UNCOUNT, {"address": delivery.address, "owner": delivery.owner})

    def check(self) -> None:
        with self._database.write() as connection:
            connection.execute("SELECT 1 FROM jobs LIMIT 1")

