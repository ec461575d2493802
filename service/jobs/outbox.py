"""What is to be delivered: given to its queue as far as its app has room there, waiting otherwise, and looked for if it gets lost.

Of the users of one app, and of what an app shares, a queue holds so many jobs at once and no more: the others wait here, and each that
ends has the oldest of them follow. So a job of another app waits behind those few, however many there are. Whoever submits looks
whether there is room before the commit and, if there was none, after it again; so either they or who ends sees the other. What a
process that died between leaves behind, the sweep finds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from service import logging as log
from service.backends.interfaces import (
    Create,
    Delete,
    DocumentStore,
    JobAddress,
    JobQueue,
    Query,
    Set,
    Snapshot,
    Update,
    Write,
)
from service.errors import DependencyError, StoreError
from service.jobs.attempt import Kinds, job_path, outbox_path, waiting_path
from service.models import Job, JobStatus, QueueName, Scope, from_now, timestamp
from service.queues import LEAST_WINDOW, QUEUES
from service.records import from_record
from service.scope import of_job, shared

OUTBOX_SECONDS = 30.0
LONGEST_OUTBOX_SECONDS = 3600.0
"""A job that waits is enqueued again after half a minute, and then each time when it is twice as old: a queue that is long holds few of
them twice, and one that lost them gets all of them back."""

PAGE = 200
FAILED_IN_A_ROW = 3

Windows = Mapping[QueueName, int]
"""How many jobs of one app each queue is given at once."""

WINDOWS: Windows = dict.fromkeys(QUEUES, LEAST_WINDOW)


class Outbox:
    """Delivers the jobs that are recorded, each app's the oldest first."""

    def __init__(self, documents: DocumentStore, queue: JobQueue, kinds: Kinds, windows: Windows) -> None:
        self._documents = documents
        self._queue = queue
        self._kinds = kinds
        self._windows = windows

    def submit(self, scope: Scope, job: Job, commit: Callable[[Write], object]) -> None:
        """Have `commit` record a job with what is written of its delivery, and deliver it; a queue that is down delays it only."""
        queue, now = self.queue_of(job), timestamp()
        if self._has_room(scope, queue):
            commit(Create(outbox_path(job.id), queued(queue, now)))
            self._enqueue_or_later(scope, job.id, queue)
        else:
            commit(Create(waiting_path(job.id), {"place": place(queue, now)}))
            self.advance(scope, queue)

    def enqueue(self, scope: Scope, job: Job) -> None:
        """Have a job delivered that has its place in its queue."""
        self._queue.enqueue(JobAddress(scope, job.id), queue=self.queue_of(job))

    def ended(self, scope: Scope, job: Job) -> None:
        """Have the next one follow in place of a job that ended; what fails here, the sweep makes good."""
        queue = self.queue_of(job)
        try:
            if self._in_line(scope, "waiting", queue, 1):
                self.advance(scope, queue)
        except DependencyError as error:
            log.event("outbox_not_advanced", logging.WARNING, error, app=scope.app)

    def advance(self, scope: Scope, queue: QueueName) -> None:
        """Enqueue what waits, the oldest first, as far as there is room."""
        while (room := self._windows[queue] - len(self._in_line(scope, "outbox", queue))) > 0:
            waiting = self._in_line(scope, "waiting", queue, room)
            if not waiting:
                return
            for owner, found in waiting:
                self._promote(owner, found, queue)

    def sweep(self, scope: Scope) -> int:
        """Have delivered what is due in a scope's app and was not; returns how many were enqueued, at most a page of them at once."""
        app = shared(scope)
        query = Query(("outbox",), "due", where=[("due", "<=", timestamp())], limit=PAGE)
        enqueued = self._sweep_all([(owner, found.path[-1]) for owner, found in self.of_app(app, query)])
        for owner, _ in self.of_app(app, Query(("waiting",), "place", limit=1)):
            for queue in QUEUES:
                self.advance(owner, queue)
        return enqueued

    def of_app(self, scope: Scope, query: Query) -> Iterator[tuple[Scope, Snapshot]]:
        """Yield whose documents a query finds among all users of an app and what the app shares, and the documents."""
        yield from self._of_users(scope, query)
        yield from ((scope, found) for found in self._documents.query(scope, query))

    def queue_of(self, job: Job) -> QueueName:
        handler = self._kinds.get(job.kind)
        return handler.queue if handler else "batch"

    def _of_users(self, scope: Scope, query: Query) -> Iterator[tuple[Scope, Snapshot]]:
        for found in self._documents.query(scope, replace(query, of_every_user=True)):
            yield of_job(scope.app, found.path[1]), found

    def _in_line(
        self, scope: Scope, collection: str, queue: QueueName, limit: int | None = None
    ) -> list[tuple[Scope, Snapshot]]:
        """Return what is in a queue (`outbox`) or waits for it: of the app's users together, or of what the app shares."""
        bounds = [("place", ">=", f"{queue} "), ("place", "<", f"{queue}!")]  # "!" is the character behind the space
        query = Query((collection,), "place", where=bounds, limit=limit or self._windows[queue])  # type: ignore[arg-type]
        if scope.user is None:
            return [(scope, found) for found in self._documents.query(scope, query)]
        return list(self._of_users(shared(scope), query))

    def _has_room(self, scope: Scope, queue: QueueName) -> bool:
        """Say whether a new job may go to its queue at once; while others of its app wait, it waits behind them."""
        inside = len(self._in_line(scope, "outbox", queue))
        return not inside or (inside < self._windows[queue] and not self._in_line(scope, "waiting", queue, 1))

    def _promote(self, scope: Scope, found: Snapshot, queue: QueueName) -> None:
        job_id = found.path[-1]
        since = str(found.data["place"]).partition(" ")[2]
        writes: list[Write] = [
            Delete(waiting_path(job_id), found.version),
            Set(outbox_path(job_id), queued(queue, since)),
        ]
        try:
            self._documents.commit(scope, writes)
        except StoreError:
            return  # another did, or it was cancelled
        self._enqueue_or_later(scope, job_id, queue)

    def _enqueue_or_later(self, scope: Scope, job_id: str, queue: QueueName) -> None:
        try:
            self._queue.enqueue(JobAddress(scope, job_id), queue=queue)
        except DependencyError as error:
            log.event("job_not_enqueued", logging.WARNING, error, app=scope.app, job=job_id)

    def _sweep_all(self, due: Sequence[tuple[Scope, str]]) -> int:
        """Sweep jobs one by one; raises `DependencyError` once several in a row could not be, for then none can."""
        enqueued = failed = 0
        for owner, job_id in due:
            try:
                enqueued += self._sweep_one(owner, job_id)
                failed = 0
            except DependencyError as error:
                failed += 1
                if failed == FAILED_IN_A_ROW:
                    raise
                log.event("job_not_swept", logging.WARNING, error, app=owner.app, job=job_id)
        return enqueued

    def _sweep_one(self, scope: Scope, job_id: str) -> bool:
        [found] = self._documents.get(scope, job_path(job_id))
        job = from_record(Job, found.data) if found else None
        if found is None or job is None:
            self._documents.commit(scope, taken_out(job_id))
            return False
        alive = job.lease - found.age if job.status is JobStatus.PROCESSING else 0.0
        if alive <= 0:
            self.enqueue(scope, job)
        pause = alive if alive > 0 else min(max(OUTBOX_SECONDS, age(job)), LONGEST_OUTBOX_SECONDS)
        with suppress(StoreError):  # it ended just now
            self._documents.commit(scope, [Update(outbox_path(job_id), {"due": from_now(pause)})])
        return alive <= 0


def queued(queue: QueueName, since: str) -> dict[str, str]:
    """Return what stands in the outbox of a job that its queue was given."""
    return {"due": from_now(OUTBOX_SECONDS), "place": place(queue, since)}


def place(queue: QueueName, since: str) -> str:
    """Return a job's place in line: among those of its queue, the oldest first."""
    return f"{queue} {since}"


def taken_out(job_id: str) -> list[Write]:
    """Return the writes by which a job that has ended is not delivered any more."""
    return [Delete(outbox_path(job_id)), Delete(waiting_path(job_id))]


def age(job: Job) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(job.created)).total_seconds()
