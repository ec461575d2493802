"""Work that outlives its request: PENDING → PROCESSING → COMPLETED | FAILED | CANCELLED, delivered at least once, ended exactly once."""

from __future__ import annotations

import contextvars
import logging
import math
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace

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
from service.errors import (
    BrainstemError,
    Conflict,
    DeadlineExceeded,
    DependencyError,
    InvalidOutput,
    NotFound,
    StoreError,
    Superseded,
    UpstreamBusy,
)
from service.jobs.attempt import (
    Attempt,
    Handler,
    Held,
    Kinds,
    Result,
    Unfinished,
    committed,
    job_path,
    letter_path,
    outbox_path,
    waiting_path,
)
from service.jobs.outbox import OUTBOX_SECONDS, WINDOWS, Outbox, Windows, age, taken_out
from service.models import Job, JobStatus, Scope, from_now, timestamp
from service.records import from_record, to_record
from service.scope import shared

__all__ = ["Attempt", "Handler", "Jobs", "Kinds", "Result", "Unfinished", "job_path"]

LEASE_SECONDS = 30.0
"""So long after the last sign of life an attempt counts as dead."""

RENEW_SECONDS = 10.0
ATTEMPT_SECONDS = 1500.0
"""What one attempt may take: less than Cloud Tasks waits for an answer, half an hour."""

MAX_FAILURES = 4
BUSY_SECONDS = 86400.0
"""So old a job may become while who it depends on is busy: that is no failure of the job's."""

FINISH_PAUSE_SECONDS = 2.0
PAGE = 200
CANCEL_TRIES = 20


class Jobs:
    """Submits jobs, runs those that the queue delivers, and has delivered what was lost."""

    def __init__(
        self,
        documents: DocumentStore,
        queue: JobQueue,
        kinds: Kinds,
        *,
        windows: Windows = WINDOWS,
        lease: float = LEASE_SECONDS,
        renew: float = RENEW_SECONDS,
        longest: float = ATTEMPT_SECONDS,
    ) -> None:
        self._documents = documents
        self._kinds = kinds
        self._outbox = Outbox(documents, queue, kinds, windows)
        self._lease = lease
        self._renew = renew
        self._longest = longest
        self._running: set[Attempt] = set()

    def submit(self, scope: Scope, job: Job, writes: Sequence[Write] = ()) -> None:
        """Record a job together with the writes that belong to it, and have it delivered; raises `StoreError` as a commit does.

        In the same commit stands that it is to be delivered. So a queue that cannot be reached delays it, and no more. Where its app
        has many jobs in its queue already, it follows when they end.
        """
        own = Create(job_path(job.id), to_record(job))
        self._outbox.submit(scope, job, lambda noted: self._documents.commit(scope, [*writes, own, noted]))

    def job(self, scope: Scope, job_id: str) -> tuple[Job, str]:
        """Return a job and its version; raises `NotFound`."""
        found = self._found(scope, job_id)
        return from_record(Job, found.data), found.version

    def jobs(self, scope: Scope, limit: int, after: tuple[str | int | float, str] | None = None) -> list[Job]:
        """Return jobs, the newest first."""
        query = Query(("jobs",), "created", descending=True, after=after, limit=limit)
        return [from_record(Job, found.data) for found in self._documents.query(scope, query)]

    def run(self, address: JobAddress, *, longest: float | None = None) -> None:
        """Run a delivered job, for `longest` seconds at most; raises if it should be delivered again.

        That is `Conflict` while another attempt at it is alive.
        """
        scope = address.scope
        [found] = self._documents.get(scope, job_path(address.id))
        job = from_record(Job, found.data) if found else None
        if found is None or job is None:
            return
        if job.status.terminal:
            self._see_through(scope, job)
            return
        if job.status is JobStatus.PROCESSING and found.age < job.lease:
            raise Conflict("This job is being worked on.", retry_after=math.ceil(job.lease - found.age))
        attempt = self._claim(scope, job, found)
        self._running.add(attempt)
        try:
            with log.bind(app=scope.app, job=job.id, kind=job.kind):
                self._work(attempt, self._longest if longest is None else longest)
        except (KeyboardInterrupt, SystemExit):
            with suppress(BrainstemError):
                attempt.release()
            raise
        finally:
            self._running.discard(attempt)

    def finish(self, address: JobAddress) -> Job:
        """Run a job here until it has ended, in as many attempts as it takes and however long each; raises `NotFound`."""
        while not (job := self.job(address.scope, address.id)[0]).status.terminal:
            try:
                self.run(address, longest=math.inf)
            except Exception as error:  # noqa: BLE001  # the job runner's edge: it is recorded, and tried again
                log.event("job_retry", logging.WARNING, error, app=address.scope.app, job=address.id)
                time.sleep((isinstance(error, BrainstemError) and error.retry_after) or FINISH_PAUSE_SECONDS)
        return job

    def release(self) -> None:
        """Leave what is under way to others, for this process ends: it does not count as failed, and waits for no lease."""
        for attempt in list(self._running):
            with suppress(BrainstemError):  # it has just ended, or its lease will
                attempt.release()

    def cancel(self, scope: Scope, job_id: str) -> Job:
        """End a job that has not ended; raises `NotFound`, or `Conflict` for one that completed or failed.

        An attempt that is under way can write nothing from then on, and ends at its next one.
        """
        for _ in range(CANCEL_TRIES):
            found = self._found(scope, job_id)
            job = from_record(Job, found.data)
            if job.status is JobStatus.CANCELLED:
                return job
            if job.status.terminal:
                raise Conflict("This job has ended already.")
            now = timestamp()
            cancelled = replace(job, status=JobStatus.CANCELLED, updated=now, ended=now, lease=0.0)
            try:
                ended = Update(found.path, to_record(cancelled), found.version)
                self._documents.commit(scope, [ended, to_be_told(job), Delete(waiting_path(job.id))])
            except StoreError:
                continue  # its attempt wrote just now
            self._tell(scope, cancelled)
            return cancelled
        raise Conflict("This job is being changed. Try again.", retry_after=1)

    def retry(self, scope: Scope, job_id: str) -> Job:
        """Submit a job that failed or was cancelled anew, as another job with the same input; raises `NotFound` or `Conflict`.

        The one that ended stays as it is, and is no dead letter any more. However often it is retried, one job comes of it.
        """
        job, _ = self.job(scope, job_id)
        if job.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
            raise Conflict("Only a job that failed or was cancelled can be retried.")
        handler = self._kinds.get(job.kind)
        if handler is None:
            raise Conflict("This version of the service knows no such kind of job.")
        now = timestamp()
        again = Job(
            id=uuid.uuid5(uuid.NAMESPACE_OID, job.id).hex,
            kind=job.kind,
            status=JobStatus.PENDING,
            input=job.input,
            created=now,
            updated=now,
            retry_of=job.id,
        )
        try:
            self.submit(scope, again, [*handler.renew(scope, again), Delete(letter_path(job.id))])
        except StoreError as error:
            [found] = self._documents.get(scope, job_path(again.id))
            if found is None:
                raise Conflict("What this job is about has changed meanwhile.") from error
            return from_record(Job, found.data)
        return again

    def letters(self, scope: Scope, limit: int = PAGE) -> list[tuple[Scope, Job]]:
        """Return the dead letters of all users of a scope's app and of what it shares, the oldest first."""
        query = Query(("deadLetters",), "created", limit=limit)
        letters = []
        for owner, found in self._outbox.of_app(shared(scope), query):
            with suppress(NotFound):  # a letter whose job was removed tells nobody anything
                letters.append((owner, self.job(owner, found.path[-1])[0]))
        return letters

    def sweep(self, scope: Scope) -> int:
        """Have delivered what is due in a scope's app and was not: lost by the queue, or by the process that worked on it.

        Returns how many were enqueued; not more than a page of them at once.
        """
        return self._outbox.sweep(scope)

    def _see_through(self, scope: Scope, job: Job) -> None:
        """Do what was left of a job's end by a process that died at it."""
        [noted] = self._documents.get(scope, outbox_path(job.id))
        if noted:
            self._tell(scope, job)

    def _tell(self, scope: Scope, job: Job) -> None:
        """Have the handler record elsewhere that its job failed or was cancelled, and note that this is done."""
        handler = self._kinds.get(job.kind)
        if handler and job.status is not JobStatus.COMPLETED:
            handler.fail(scope, job, job.error or "It was cancelled.")
        self._documents.commit(scope, [Delete(outbox_path(job.id))])
        self._outbox.ended(scope, job)

    def _found(self, scope: Scope, job_id: str) -> Snapshot:
        [found] = self._documents.get(scope, job_path(job_id))
        if found is None:
            raise NotFound
        return found

    def _claim(self, scope: Scope, job: Job, found: Snapshot) -> Attempt:
        """Begin an attempt. It counts before the work begins, so that a job that kills its worker runs out of them too."""
        died = job.status is JobStatus.PROCESSING and job.lease > 0
        now = timestamp()
        job = replace(
            job,
            status=JobStatus.PROCESSING,
            attempts=job.attempts + 1,
            failures=job.failures + died,
            lease=self._lease,
            started=job.started or now,
            updated=now,
        )
        try:
            version = committed(self._documents, scope, job, Update(found.path, to_record(job), found.version))
        except StoreError as error:
            raise Conflict("This job is being worked on.", retry_after=math.ceil(self._lease)) from error
        return Attempt(self._documents, scope, Held(job, version))

    def _work(self, attempt: Attempt, longest: float) -> None:
        """Have a job's handler work on it, and record what became of it; raises to have it delivered again."""
        job = attempt.job
        handler = self._kinds.get(job.kind)
        try:
            if handler is None:
                self._fail(attempt, "This version of the service knows no such kind of job.", "unknown_kind")
            elif job.failures >= MAX_FAILURES:
                self._fail(attempt, "It failed too often.", "too_many_failures")
            else:
                self._carry_out(attempt, handler, longest)
        except Superseded as error:
            if attempt.released:
                raise Conflict("This process ends.", retry_after=1) from error
            log.event("job_superseded", logging.WARNING, attempt=job.attempts)

    def _carry_out(self, attempt: Attempt, handler: Handler, longest: float) -> None:
        job = attempt.job
        try:
            result = self._guard(attempt, handler, longest) or Result()
        except Unfinished:
            attempt.save(lease=0.0, failures=0)
            self._outbox.enqueue(attempt.scope, job)
        except Superseded:
            raise
        except InvalidOutput as error:  # the model was told already what was wrong
            self._fail(attempt, error.detail or error.title, error.code)
        except DependencyError as error:
            self._put_off(attempt, error, error.title, error.code, again=error.retryable)
        except BrainstemError as error:
            self._fail(attempt, error.detail or error.title, error.code, letter=False)
        except Exception as error:  # noqa: BLE001  # the job runner's edge: it is logged, and raised again or recorded
            self._put_off(attempt, error, "An internal error.", "crashed", again=True)
        else:
            tokens_in, tokens_out = job.input_tokens + result.input_tokens, job.output_tokens + result.output_tokens
            attempt.save(
                taken_out(job.id),
                status=JobStatus.COMPLETED,
                output=result.output,
                artifacts=result.artifacts,
                input_tokens=tokens_in,
                output_tokens=tokens_out,
                ended=timestamp(),
                lease=0.0,
            )
            self._outbox.ended(attempt.scope, job)
            log.event("job_completed", attempt=job.attempts)

    def _guard(self, attempt: Attempt, handler: Handler, longest: float) -> Result | None:
        """Run the handler in a thread of its own, and meanwhile show that it lives.

        Raises what it raises, `Superseded` once the job is another's, and `DeadlineExceeded` for one that takes too long: what
        becomes of its thread then does no harm, for it can write nothing.
        """
        outcome: Future[Result | None] = Future()
        lent, context = attempt.lend(), contextvars.copy_context()
        threading.Thread(target=context.run, args=(settle, outcome, handler, lent), daemon=True).start()
        end = time.monotonic() + longest
        try:
            while True:
                try:
                    return outcome.result(min(self._renew, max(end - time.monotonic(), 0.001)))
                except TimeoutError:
                    if outcome.done():
                        raise  # the handler's own
                if time.monotonic() >= end:
                    raise DeadlineExceeded("The job took too long.")
                try:
                    attempt.save()
                except DependencyError as error:
                    log.event("job_not_renewed", logging.WARNING, error)
        finally:
            lent.close()

    def _put_off(self, attempt: Attempt, error: Exception, reason: str, code: str, *, again: bool) -> None:
        """Have a job tried again, which is to raise what it failed with; or fail it if it was tried often enough.

        Who is busy says nothing of the job, so that does not count; a day of it is enough.
        """
        job = attempt.job
        busy = isinstance(error, UpstreamBusy) and age(job) < BUSY_SECONDS
        failures = job.failures + (not busy)
        again = again and failures < MAX_FAILURES
        level = logging.WARNING if isinstance(error, DependencyError) else logging.ERROR
        log.event("job_delayed" if again else "job_given_up", level, error, attempt=job.attempts)
        if not again:
            return self._fail(attempt, reason, code)
        attempt.save(lease=0.0, failures=failures)
        raise error

    def _fail(self, attempt: Attempt, reason: str, code: str, *, letter: bool = True) -> None:
        """End a job as FAILED. What is not its input's fault leaves a dead letter, by which it can be found and retried."""
        job = attempt.job
        letters = [Set(letter_path(job.id), {"created": timestamp()})] if letter else []
        attempt.save(
            [to_be_told(job), Delete(waiting_path(job.id)), *letters],
            status=JobStatus.FAILED,
            error=reason,
            code=code,
            failures=job.failures + 1,
            ended=timestamp(),
            lease=0.0,
        )
        log.event("job_failed", logging.WARNING, attempt=job.attempts)
        self._tell(attempt.scope, attempt.job)


def settle(outcome: Future[Result | None], handler: Handler, attempt: Attempt) -> None:
    try:
        outcome.set_result(handler.run(attempt))
    except BaseException as error:  # noqa: BLE001  # whoever waits for the outcome raises it
        outcome.set_exception(error)


def to_be_told(job: Job) -> Write:
    """The note that a job which ends badly is to be delivered once more, should its process die before the handler was told.

    It has no place in line: the job's own is free.
    """
    return Set(outbox_path(job.id), {"due": from_now(OUTBOX_SECONDS)})
