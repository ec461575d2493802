"""Erasure: everything of a user in one app is removed, and a receipt that names nobody says what it was.

The job is one of the app's, because it removes the user's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Annotated

from msgspec import Meta

from service.backends.interfaces import Backends, Path, Set, Update, Write
from service.errors import StoreError, Unprocessable
from service.jobs.attempt import Attempt, Handler, Result
from service.jobs.erasing import LONGEST_WAIT_SECONDS, Erased, Erasing
from service.jobs.orders import Input, Order
from service.models import Job, JobStatus, Scope, timestamp
from service.records import to_record
from service.scope import of_job

Uid = Annotated[str, Meta(min_length=1, max_length=128)]


class OwnErasure(Input, frozen=True):
    """`confirm` is the app's id."""

    confirm: Annotated[str, Meta(max_length=128)]


class ErasureOfUser(Input, frozen=True):
    """`confirm` is the user's id once more."""

    user: Uid
    confirm: Annotated[str, Meta(max_length=128)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What an erasure came to. `subject` is a hash of app and user, by which who knows both finds that it is theirs.

    `removed` counts by kind; what was removed just before a process died may be missing from it. `left` is what a last look
    found, `unlisted` names what cannot be looked through, because its index lists nothing.
    """

    id: str
    subject: str
    status: JobStatus
    created: str
    ended: str | None = None
    removed: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, int] | None = None
    unlisted: tuple[str, ...] = ()


def subject_of(scope: Scope) -> str:
    return hashlib.sha256(f"{scope.app}\n{scope.user}".encode()).hexdigest()


def receipt_path(job: str) -> Path:
    return ("erasures", job)


class Erasures:
    """Erases users of apps."""

    def __init__(self, backends: Backends, max_chunks: int, *, longest_wait: float = LONGEST_WAIT_SECONDS) -> None:
        self._backends = backends
        self._documents = backends.documents
        self._max_chunks = max_chunks
        self.longest_wait = longest_wait

    @property
    def handler(self) -> Handler:
        return Handler(run=self._run, fail=self._fail, renew=lambda scope, job: [receipt_write(job)])

    @property
    def order(self) -> Order:
        return Order(own=OwnErasure, shared=ErasureOfUser, check=check, apart=True, begin=begin)

    def _run(self, attempt: Attempt) -> Result:
        user = attempt.job.input.get("user")
        if user is None:  # it was erased, and the end of the job not written
            [found] = self._documents.get(attempt.scope, receipt_path(attempt.job.id))
            return Result(output=dict(found.data) if found else None)
        scope = of_job(attempt.scope.app, str(user))
        erased = Erasing(self._backends, self._max_chunks, self.longest_wait, attempt, scope).run()
        record = to_record(receipt_of(attempt.job, scope, erased))
        # From here on, nothing names the user any more.
        attempt.save([Set(receipt_path(attempt.job.id), record)], input={"subject": subject_of(scope)}, state=None)
        return Result(output=record)

    def _fail(self, scope: Scope, job: Job, reason: str) -> None:
        status = job.status if job.status.terminal else JobStatus.FAILED
        with suppress(StoreError):
            self._documents.commit(
                scope, [Update(receipt_path(job.id), {"status": status.value, "ended": timestamp()})]
            )


def check(scope: Scope, given: Input) -> None:
    match given:
        case OwnErasure(confirm=confirm) if confirm != scope.app:
            raise Unprocessable("`confirm`: send the id of this app. Everything that you have in it will be removed.")
        case ErasureOfUser(user=user, confirm=confirm) if confirm != user:
            raise Unprocessable("`confirm`: send the user's id once more. Everything that they have will be removed.")


def begin(scope: Scope, job: Job) -> tuple[Job, Sequence[Write]]:
    user = scope.user if scope.user is not None else str(job.input["user"])
    job = replace(job, input={"user": user, "subject": subject_of(of_job(scope.app, user))})
    return job, [receipt_write(job)]


def receipt_write(job: Job) -> Write:
    receipt = Receipt(id=job.id, subject=str(job.input["subject"]), status=JobStatus.PENDING, created=job.created)
    return Set(receipt_path(job.id), to_record(receipt))


def receipt_of(job: Job, scope: Scope, erased: Erased) -> Receipt:
    return Receipt(
        id=job.id,
        subject=subject_of(scope),
        status=JobStatus.COMPLETED,
        created=job.created,
        ended=timestamp(),
        removed=erased.removed,
        left=erased.left,
        unlisted=erased.unlisted,
    )
