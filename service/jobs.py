"""Work that outlives its request: PENDING → PROCESSING → COMPLETED | FAILED, delivered at least once, ended exactly once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from service import logging as log
from service.backends.interfaces import Create, DocumentStore, JobAddress, JobQueue, Update, Write
from service.errors import BrainstemError, Conflict, DependencyError, NotFound, StoreError
from service.ingestion import Ingestion
from service.ingestion.pipeline import Received
from service.models import Job, JobStatus, Scope, timestamp
from service.records import from_record, to_record

OUTBOX_SECONDS = 2.0
MAX_ATTEMPTS = 4
"""Fewer than a queue delivers an address, so that a job ends FAILED before its queue gives it up."""


@dataclass(frozen=True, slots=True)
class Handler:
    """What a kind of job does, and how it records that it failed for good."""

    run: Callable[[Scope, Job], None]
    fail: Callable[[Scope, Job, str], None]


def handlers(ingestion: Ingestion) -> dict[str, Handler]:
    """The kinds of jobs that there are."""
    return {
        "ingest": Handler(
            run=lambda scope, job: ingestion.ingest(scope, job.input["document"], job.id),
            fail=lambda scope, job, reason: ingestion.fail(scope, job.input["document"], job.id, reason),
        )
    }


class Jobs:
    """Submits jobs and runs those that the queue delivers."""

    def __init__(self, documents: DocumentStore, queue: JobQueue, kinds: Mapping[str, Handler]) -> None:
        self._documents = documents
        self._queue = queue
        self._kinds = kinds

    def submit(self, scope: Scope, job: Job, writes: Sequence[Write] = ()) -> None:
        """Record a job, together with the writes that belong to it, and have it delivered.

        The queue knows of it first, for a little later: a process that dies once it is recorded leaves no job behind that
        nobody delivers, and a delivery of what was never recorded ends by itself.
        """
        address = JobAddress(scope, job.id)
        self._queue.enqueue(address, delay=OUTBOX_SECONDS)
        self._documents.commit(scope, [*writes, Create(("jobs", job.id), to_record(job))])
        self._queue.enqueue(address)

    def submit_ingestion(self, scope: Scope, received: Received) -> None:
        """Have a received document ingested, unless it is already; raises `Conflict` if it was deleted meanwhile."""
        if not received.writes:
            return
        document = received.document
        job = Job(
            id=document.job,
            kind="ingest",
            status=JobStatus.PENDING,
            input={"document": document.id},
            created=document.created,
            updated=document.created,
        )
        try:
            self.submit(scope, job, received.writes)
        except StoreError as exc:
            [found] = self._documents.get(scope, received.writes[0].path)
            if found is None:
                self._kinds[job.kind].fail(scope, job, "Deleted.")  # removes the file that was just stored
                raise Conflict("This document was deleted meanwhile. Send it again.", retry_after=1) from exc
            # Otherwise the same file was received twice at once, and the other one's job ingests it.

    def run(self, address: JobAddress) -> None:
        """Run a delivered job; raises if it should be delivered again."""
        scope = address.scope
        [found] = self._documents.get(scope, ("jobs", address.id))
        if found is None:
            raise NotFound("The job is not recorded yet.")
        job = from_record(Job, found.data)
        if job.status.terminal:
            return
        job = replace(job, status=JobStatus.PROCESSING, attempts=job.attempts + 1, updated=timestamp())
        # The attempt counts before the work begins, so that a job that kills its worker runs out of attempts too.
        [version] = self._documents.commit(scope, [Update(found.path, to_record(job), found.version)])
        with log.bind(app=scope.app, job=job.id, kind=job.kind):
            reason = self._attempt(scope, job)
        status = JobStatus.COMPLETED if reason is None else JobStatus.FAILED
        ended = replace(job, status=status, error=reason, updated=timestamp())
        self._documents.commit(scope, [Update(found.path, to_record(ended), version)])

    def _attempt(self, scope: Scope, job: Job) -> str | None:
        """Run the handler once; return why the job failed for good, or None, or raise to have it tried again."""
        handler = self._kinds[job.kind]
        if job.attempts > MAX_ATTEMPTS:
            return self._give_up(scope, job, handler, "It failed too often.")
        try:
            handler.run(scope, job)
        except DependencyError as error:
            if error.retryable and job.attempts < MAX_ATTEMPTS:
                log.event("job_delayed", logging.WARNING, error, attempt=job.attempts)
                raise
            return self._give_up(scope, job, handler, error.title)
        except BrainstemError as error:
            return self._give_up(scope, job, handler, error.detail or error.title)
        except Exception as error:  # the job runner's edge
            log.event("job_crashed", logging.ERROR, error, attempt=job.attempts)
            if job.attempts < MAX_ATTEMPTS:
                raise
            return self._give_up(scope, job, handler, "An internal error.")
        log.event("job_completed", attempt=job.attempts)
        return None

    def _give_up(self, scope: Scope, job: Job, handler: Handler, reason: str) -> str:
        handler.fail(scope, job, reason)
        log.event("job_failed", logging.WARNING, attempt=job.attempts)
        return reason
