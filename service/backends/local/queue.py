"""A durable job queue in one SQLite file, worked off by threads of this process.

A delivery is a lease: the row stays, hidden until the lease ends, and is removed once the job is done. So a worker
that is killed loses nothing. That is why no library stands here: huey's SQLite storage, for one, deletes a task before
it runs (`SqliteStorage.dequeue`), so a killed worker takes the task with it; what keeps tasks through a crash wants a
server (Redis, PostgreSQL) that a laptop does not have.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_hex

import msgspec

from service.backends import paths
from service.backends.interfaces import JobAddress, Secrets
from service.backends.local.sqlite import Database
from service.config import Settings
from service.errors import BrainstemError, Unavailable
from service.logging import Field, event
from service.records import from_text

ATTEMPTS = 10
"""More than a job may fail: what is given up here was refused each time, and a sweep finds it if it is still to be done."""

POLL_SECONDS = 0.4
"""How late a job of another process may be seen."""

LONGEST_BACKOFF_SECONDS = 60.0
LONGEST_WAIT_SECONDS = 1.0
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


class LocalQueue:
    """The queue of a laptop. A job that raises is delivered again, later each time, and dropped after ten attempts.

    An attempt counts when it begins, so a job that kills its process is dropped too; one that `stop` cuts short does not
    count. Enqueueing a job that waits may bring it forward; one that is under way is delivered once more afterwards.
    """

    def __init__(self, settings: Settings, secrets: Secrets, *, lease: float = 10.0, backoff: float = 1.0) -> None:
        self._database = Database(settings.data_dir / "jobs.sqlite3", SCHEMA, "The job queue")
        self._workers = settings.ingest_workers
        self._lease = lease
        self._backoff = backoff
        self._news = threading.Condition()
        self._enqueued = 0
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._running: dict[str, Delivery] = {}

    def enqueue(self, address: JobAddress, *, delay: float = 0.0) -> None:
        values = {"address": pack(address), "due": time.time() + delay}
        with self._database.write() as connection:
            connection.execute(ENQUEUE, values)
        with self._news:
            self._enqueued += 1
            self._news.notify_all()

    def start(self, run: Callable[[JobAddress], None]) -> None:
        assert not self._threads, "The queue is started already."
        self._stopping = threading.Event()  # a new one, so that a thread of an earlier start still ends
        self._threads = [threading.Thread(target=self._keep_leases, args=(self._stopping,), daemon=True)]
        for _ in range(self._workers):
            self._threads.append(threading.Thread(target=self._work, args=(run, self._stopping), daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads within about a second; the lease of a job that runs longer is left to expire."""
        self._stopping.set()
        with self._news:
            self._news.notify_all()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._threads = []
        if running := [delivery.key for delivery in list(self._running.values())]:
            self._quietly(UNCOUNT, running)

    def check(self) -> None:
        with self._database.write() as connection:
            connection.execute("SELECT 1 FROM jobs LIMIT 1")

    def _work(self, run: Callable[[JobAddress], None], stopping: threading.Event) -> None:
        while not stopping.is_set():
            seen = self._enqueued  # before the look into the file, so what comes after it is never slept through
            try:
                wait = self._step(run)
            except Unavailable as exc:
                event("queue.unavailable", logging.ERROR, exc)
                wait = LONGEST_WAIT_SECONDS
            self._rest(seen, stopping, wait)

    def _rest(self, seen: int, stopping: threading.Event, seconds: float) -> None:
        with self._news:
            self._news.wait_for(lambda: stopping.is_set() or self._enqueued != seen, seconds)

    def _step(self, run: Callable[[JobAddress], None]) -> float:
        """Deliver one job if one is due, and return the seconds to wait before the next look."""
        with self._database.read() as connection:
            due: float | None = connection.execute("SELECT min(due) FROM jobs").fetchone()[0]
        wait = POLL_SECONDS if due is None else min(due - time.time(), POLL_SECONDS)
        if wait <= 0 and (delivery := self._claim()):
            self._deliver(delivery, run)
        return wait

    def _claim(self) -> Delivery | None:
        owner, now = token_hex(8), time.time()
        with self._database.write() as connection:
            values = {"owner": owner, "now": now, "until": now + self._lease}
            row = connection.execute(CLAIM, values).fetchone()
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
        with self._database.write() as connection:
            connection.execute(REMOVE, delivery.key)
            connection.execute(AGAIN, delivery.key)

    def _drop(self, delivery: Delivery, error: Exception | None) -> None:
        self._finish(delivery)
        event("job.dropped", logging.ERROR, error, attempts=ATTEMPTS, **delivery.fields)

    def _retry(self, delivery: Delivery, error: Exception) -> None:
        longest = min(self._backoff * 2 ** (delivery.attempt - 1), LONGEST_BACKOFF_SECONDS)
        asked = (isinstance(error, BrainstemError) and error.retry_after) or 0
        pause = max(longest * random.uniform(0.5, 1.0), asked * random.uniform(1.0, 1.2))  # noqa: S311  # jitter, no secret
        with self._database.write() as connection:
            connection.execute(RETRY, {**delivery.key, "due": time.time() + pause})
        event("job.retry", logging.WARNING, error, attempt=delivery.attempt, seconds=round(pause, 1), **delivery.fields)

    def _keep_leases(self, stopping: threading.Event) -> None:
        while not stopping.wait(self._lease / 3):
            until = time.time() + self._lease
            if held := [{**delivery.key, "until": until} for delivery in list(self._running.values())]:
                self._quietly(RENEW, held)

    def _quietly(self, statement: str, values: list[dict[str, str | float]]) -> None:
        """Do what may fail without harm, for a lease that ends only brings another delivery."""
        try:
            with self._database.write() as connection:
                connection.executemany(statement, values)
        except Unavailable as exc:
            event("queue.unavailable", logging.ERROR, exc)


def pack(address: JobAddress) -> str:
    paths.locate(address.scope, ("jobs", address.id))  # refuses what no store could hold
    return msgspec.json.encode(address).decode()


def unpack(text: str) -> JobAddress:
    return from_text(JobAddress, text)
