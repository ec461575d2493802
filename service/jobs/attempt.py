"""One attempt at a job: what its handler reads of it, and the only way in which it writes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from service.backends.interfaces import DocumentStore, Path, Update, Write
from service.errors import DependencyError, StoreError, Superseded
from service.models import JSON, Artifact, Job, QueueName, Scope, timestamp
from service.records import from_record, to_record


@dataclass(slots=True)
class Held:
    """A job as it was written last, and its version; `released` if it was given up for others."""

    job: Job
    version: str
    released: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class Attempt:
    """A job that this process works on, until somebody else does.

    Every write carries the version that the last one gave the job. So whoever lost it, to another attempt after a pause or to a
    cancellation, writes nothing any more, and what belongs to a job is written with it or not at all. Whoever only lost the reply
    to a commit goes on.
    """

    def __init__(self, documents: DocumentStore, scope: Scope, held: Held) -> None:
        self.scope = scope
        self._documents = documents
        self._held = held
        self._closed = False

    @property
    def job(self) -> Job:
        return self._held.job

    def save(self, writes: Sequence[Write] = (), **changes: Any) -> None:
        """Write changes of the job and what belongs to them in one commit; raises `Superseded` if the job is not ours any more."""
        held = self._held
        with held.lock:
            if self._closed or held.released:
                raise Superseded
            job = replace(held.job, updated=timestamp(), **changes)
            record = to_record(job)
            own = Update(job_path(job.id), {name: record[name] for name in ("updated", *changes)}, held.version)
            try:
                version = committed(self._documents, self.scope, job, own, writes)
            except StoreError as error:
                [found] = self._documents.get(self.scope, own.path)
                if found and found.version == held.version:
                    raise  # it is one of the other writes
                raise Superseded from error
            held.job, held.version = job, version

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Tell how far the job is: `done` of `total`, and a sentence for who waits."""
        self.save(done=done, total=total, note=note)

    def lend(self) -> Attempt:
        """Return the same for a handler, whose writes can be ended alone."""
        return Attempt(self._documents, self.scope, self._held)

    def release(self) -> None:
        """Leave the job to whoever takes it up next, as one whose attempt did not fail."""
        self.save(lease=0.0)
        self._held.released = True

    @property
    def released(self) -> bool:
        return self._held.released

    @property
    def closed(self) -> bool:
        """Whether nothing can be written from here any more, so that whatever is still done for it is in vain."""
        return self._closed or self._held.released

    def close(self) -> None:
        """Write nothing from here any more; a save that is under way ends first."""
        with self._held.lock:
            self._closed = True


def committed(documents: DocumentStore, scope: Scope, job: Job, own: Update, writes: Sequence[Write] = ()) -> str:
    """Commit what makes a job as it is here, and return its version, also where it was only the reply that was lost.

    Raises as a commit does, and `Superseded` if somebody else wrote instead: they gave it another attempt or another status.
    """
    try:
        [version, *_] = documents.commit(scope, [own, *writes])
        return version
    except DependencyError as doubt:
        [found] = documents.get(scope, own.path)
        if found is None or found.version == own.version:
            raise
        stored = from_record(Job, found.data)
        if (stored.attempts, stored.status, stored.updated) != (job.attempts, job.status, job.updated):
            raise Superseded from doubt
        return found.version


@dataclass(frozen=True, slots=True)
class Result:
    """What a job made: a small JSON value, files, and tokens that were paid."""

    output: JSON = None
    artifacts: tuple[Artifact, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0


class Unfinished(Exception):
    """Raised by a handler that saved how far it is and goes on in another delivery."""


def nothing(scope: Scope, job: Job) -> Sequence[Write]:
    return ()


@dataclass(frozen=True, slots=True)
class Handler:
    """What a kind of job does.

    `run` does the work, again from the beginning or from what it saved if an earlier attempt did not end; whatever it writes has ids
    that follow from the job's. `fail` records elsewhere that the job failed or was cancelled: once it has, and more than once if need be.
    `renew` returns the writes that go with a new job of the same input. `queue` is where jobs of this kind wait.
    """

    run: Callable[[Attempt], Result | None]
    fail: Callable[[Scope, Job, str], None] = lambda scope, job, reason: None
    renew: Callable[[Scope, Job], Sequence[Write]] = nothing
    queue: QueueName = "batch"


Kinds = Mapping[str, Handler]


def job_path(job: str) -> Path:
    return ("jobs", job)


def outbox_path(job: str) -> Path:
    return ("outbox", job)


def waiting_path(job: str) -> Path:
    return ("waiting", job)


def letter_path(job: str) -> Path:
    return ("deadLetters", job)
