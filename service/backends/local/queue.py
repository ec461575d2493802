"""Durable job queues in one SQLite file, each worked off by threads of its own in this process.

A delivery is a lease: the row stays, hidden until the lease ends, and is removed once the job is done. So a worker
that is killed loses nothing. That is why no library stands here: huey's SQLite storage, for one, deletes a task before
it runs (`SqliteStorage.dequeue`), so a killed worker takes the task with it; what keeps tasks through a crash wants a
server (Redis, PostgreSQL) that a laptop does not have.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_hex

import msgspec

from service.backends import paths
from service.backends.interfaces import JobAddress, Secrets
from service.backends.local.bucket import Bucket
from service.backends.local.sqlite import Database
from service.config import Settings
from service.errors import BrainstemError, Unavailable
from service.logging import Field, event
from service.models import QueueName
from service.queues import ATTEMPTS, caps
from service.records import from_text

POLL_SECONDS = 0.4
"""How late a job of another process may be seen."""

LONGEST_BACKOFF_SECONDS = 60.0
LONGEST_WAIT_SECONDS = 1.0
STOP_SECONDS = 1.0

SCHEMA = (
    # `due` is when the job may be delivered next: while it is under way, the end of its lease. `again` is when it must
    # be delivered once more because it was enqueued while it was under way.
    """CREATE TABLE IF NOT EXISTS jobs (
        address TEXT PRIMARY KEY, queue TEXT NOT NULL, due REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, owner TEXT,
        again REAL)""",
    "CREATE INDEX IF NOT EXISTS jobs_by_due ON jobs (queue, due)",
)
ENQUEUE = """
    INSERT INTO jobs (address, queue, due) VALUES (:address, :queue, :due) ON CONFLICT (address) DO UPDATE SET
        again = CASE WHEN owner IS NOT NULL THEN min(coalesce(again, :due), :due) END,
        due = CASE WHEN owner IS NULL THEN min(due, :due) ELSE due END"""
CLAIM = """
    UPDATE jobs SET owner = :owner, due = :until, attempts = attempts + 1
    WHERE address = (SELECT address FROM jobs WHERE queue = :queue AND due <= :now ORDER BY due LIMIT 1)
    RETURNING address, attempts"""
NEXT = "SELECT min(due) FROM jobs WHERE queue = ?"
RENEW = "UPDATE jobs SET due = :until WHERE address = :address AND owner = :owner"
REMOVE = "DELETE FROM jobs WHERE address = :address AND owner = :owner AND again IS NULL"
AGAIN = (
    "UPDATE jobs SET owner = NULL, attempts = 0, due = again, again = NULL WHERE address = :address AND owner = :owner"
)
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

    @property
    def key(self) -> dict[str, str | float]:
        return {"address": self.address, "owner": self.owner}

    @property
    def fields(self) -> dict[str, Field]:
        address = unpack(self.address)
        return {"app": address.scope.app, "job": address.id}


class Line:
    """One queue as this process works on it: its threads, how fast they may begin, and news of what was enqueued here."""

    def __init__(self, name: QueueName, workers: int, per_second: float) -> None:
        self.name = name
        self.workers = workers
        self.bucket = Bucket(per_second)
        self.enqueued = 0
        self._news = threading.Condition()

    def tell(self, *, enqueued: int = 1) -> None:
        with self._news:
            self.enqueued += enqueued
            self._news.notify_all()

    def rest(self, seen: int, stopping: threading.Event, seconds: float) -> None:
        """Wait for news, or so many seconds."""
        with self._news:
            self._news.wait_for(lambda: stopping.is_set() or self.enqueued != seen, seconds)


class LocalQueue:
    """The queues of a laptop. A job that raises is delivered again, later each time, and dropped after ten attempts.

    The caps of `service.queues` hold for each process. An attempt counts when it begins, so a job that kills its process is dropped too; one that `stop` cuts short does not
    count. Enqueueing a job that waits may bring it forward; one that is under way is delivered once more afterwards.
    """

    def __init__(self, settings: Settings, secrets: Secrets, *, lease: float = 10.0, backoff: float = 1.0) -> None:
        self._database = Database(settings.data_dir / "queues.sqlite3", SCHEMA, "The job queue")
        self._lines = {name: Line(name, cap.workers, cap.per_second) for name, cap in caps(settings).items()}
        self._lease = lease
        self._backoff = backoff
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._running: dict[str, Delivery] = {}

    def enqueue(self, address: JobAddress, *, queue: QueueName = "batch", delay: float = 0.0) -> None:
        values = {"address": pack(address), "queue": queue, "due": time.time() + delay}
        self._database.commit(lambda connection: connection.execute(ENQUEUE, values))
        self._lines[queue].tell()

    def start(self, run: Callable[[JobAddress], None]) -> None:
        assert not self._threads, "The queue is started already."
        self._stopping = threading.Event()  # a new one, so that a thread of an earlier start still ends
        self._threads = [threading.Thread(target=self._keep_leases, args=(self._stopping,), daemon=True)]
        for line in self._lines.values():
            for _ in range(line.workers):
                self._threads.append(threading.Thread(target=self._work, args=(line, run, self._stopping), daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads within about a second; the lease of a job that runs longer is left to expire."""
        self._stopping.set()
        for line in self._lines.values():
            line.tell(enqueued=0)
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._threads = []
        if running := [delivery.key for delivery in list(self._running.values())]:
            self._quietly(UNCOUNT, running)

    def check(self) -> None:
        self._database.commit(lambda connection: connection.execute("SELECT 1 FROM jobs LIMIT 1"))

    def _work(self, line: Line, run: Callable[[JobAddress], None], stopping: threading.Event) -> None:
        while not stopping.is_set():
            seen = line.enqueued  # before the look into the file, so what comes after it is never slept through
            try:
                wait = self._step(line, run)
            except Unavailable as exc:
                event("queue.unavailable", logging.ERROR, exc)
                wait = LONGEST_WAIT_SECONDS
            line.rest(seen, stopping, wait)

    def _step(self, line: Line, run: Callable[[JobAddress], None]) -> float:
        """Deliver one job if one is due, and return the seconds to wait before the next look."""
        due: float | None = self._database.fetch(NEXT, (line.name,))[0][0]
        wait = POLL_SECONDS if due is None else min(due - time.time(), POLL_SECONDS)
        if wait > 0:
            return wait
        if (pause := line.bucket.take()) > 0:
            return pause
        if delivery := self._claim(line.name):
            self._deliver(delivery, run)
        else:
            line.bucket.give_back()
        return 0.0

    def _claim(self, queue: QueueName) -> Delivery | None:
        owner, now = token_hex(8), time.time()
        values = {"owner": owner, "now": now, "until": now + self._lease, "queue": queue}
        row = self._database.commit(lambda connection: connection.execute(CLAIM, values).fetchone())
        return Delivery(row[0], owner, row[1]) if row else None

    def _deliver(self, delivery: Delivery, run: Callable[[JobAddress], None]) -> None:
        if delivery.attempt > ATTEMPTS:  # the last attempt ended with its process
            self._drop(delivery, None)
            return
        self._running[delivery.owner] = delivery
        try:
            run(unpack(delivery.address))
        except Exception as exc:  # noqa: BLE001  # the job runner's edge: whatever a job raises, it is tried again
            if delivery.attempt == ATTEMPTS:
                self._drop(delivery, exc)
            else:
                self._retry(delivery, exc)
        else:
            self._finish(delivery)
        finally:
            del self._running[delivery.owner]

    def _finish(self, delivery: Delivery) -> None:
        def remove(connection: sqlite3.Connection) -> None:
            connection.execute(REMOVE, delivery.key)
            connection.execute(AGAIN, delivery.key)

        self._database.commit(remove)

    def _drop(self, delivery: Delivery, error: Exception | None) -> None:
        self._finish(delivery)
        event("job.dropped", logging.ERROR, error, attempts=ATTEMPTS, **delivery.fields)

    def _retry(self, delivery: Delivery, error: Exception) -> None:
        longest = min(self._backoff * 2 ** (delivery.attempt - 1), LONGEST_BACKOFF_SECONDS)
        asked = (isinstance(error, BrainstemError) and error.retry_after) or 0
        pause = max(longest * random.uniform(0.5, 1.0), asked * random.uniform(1.0, 1.2))  # noqa: S311  # jitter, no secret
        values = {**delivery.key, "due": time.time() + pause}
        self._database.commit(lambda connection: connection.execute(RETRY, values))
        event("job.retry", logging.WARNING, error, attempt=delivery.attempt, seconds=round(pause, 1), **delivery.fields)

    def _keep_leases(self, stopping: threading.Event) -> None:
        while not stopping.wait(self._lease / 3):
            until = time.time() + self._lease
            if held := [{**delivery.key, "until": until} for delivery in list(self._running.values())]:
                self._quietly(RENEW, held)

    def _quietly(self, statement: str, values: list[dict[str, str | float]]) -> None:
        """Do what may fail without harm, for a lease that ends only brings another delivery."""
        try:
            self._database.commit(lambda connection: connection.executemany(statement, values))
        except Unavailable as exc:
            event("queue.unavailable", logging.ERROR, exc)


def pack(address: JobAddress) -> str:
    paths.locate(address.scope, ("jobs", address.id))  # refuses what no store could hold
    return msgspec.json.encode(address).decode()


def unpack(text: str) -> JobAddress:
    return from_text(JobAddress, text)
