"""A job for a key: asked for again, it is the same job, and not another."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from service.backends.interfaces import Write
from service.errors import IdempotencyMismatch, NotFound, StoreError, Unprocessable
from service.flows.runs import fingerprint
from service.jobs import Jobs
from service.models import JSON, Job, JobStatus, Scope, timestamp


def new_job(scope: Scope, kind: str, given: Mapping[str, JSON], told: Mapping[str, Any], *names: str | None) -> Job:
    """A job as it begins, for what a caller has `given`; `told` is its input as it is stored.

    Its id follows from the scope, the kind and the names, of which the last is the key; without a key it is an id of its own.
    """
    now = timestamp()
    named = msgspec.json.encode([scope.app, scope.user, kind, *names])
    return Job(
        id=hashlib.sha256(named).hexdigest()[:32] if names[-1] else uuid.uuid4().hex,
        kind=kind,
        status=JobStatus.PENDING,
        input=told,
        created=now,
        updated=now,
        fingerprint=fingerprint(given),
    )


def submit_once(jobs: Jobs, scope: Scope, job: Job, writes: Sequence[Write] = ()) -> Job:
    """Submit a job with the writes that belong to it, or return the one that its key named before.

    Raises `IdempotencyMismatch` if that was for another input, and `Unprocessable` if one of the writes will not do.
    """
    try:
        jobs.submit(scope, job, writes)
    except StoreError:
        return known(jobs, scope, job)
    return job


def known(jobs: Jobs, scope: Scope, job: Job) -> Job:
    try:
        found, _ = jobs.job(scope, job.id)
    except NotFound:
        raise Unprocessable("What this job is about has changed meanwhile.") from None
    if found.fingerprint != job.fingerprint:
        raise IdempotencyMismatch("Use a new key for a new input.")
    return found
