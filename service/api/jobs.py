"""Jobs: what a user had done, how far it is, and the files that it made."""

from __future__ import annotations

import threading
import time
from hashlib import sha256

import msgspec

from service.api import cursors, schemas
from service.api.encoders import job_answer
from service.api.routing import AnyOperation, Call, Operation, Reply
from service.api.schemas import NameQuery, NoQuery, PageQuery
from service.errors import BadRequest, NotFound
from service.jobs import Jobs
from service.models import Artifact, Job, JobStatus, from_now
from service.services import Services

APP = "/v1/apps/<app>"
LINK_SECONDS = 600
LONGEST_WAIT_SECONDS = 30.0
LOOK_SECONDS = 0.5
MOST_WAITING = 16
"""Requests that may wait for a job at once, each of which holds a thread; who comes beyond that is answered at once."""


def jobs(services: Services) -> list[AnyOperation]:
    """The operations on a user's jobs."""
    room = threading.BoundedSemaphore(MOST_WAITING)

    def list_jobs(call: Call[PageQuery, None]) -> msgspec.Struct:
        limit = call.query.limit
        found = services.jobs.jobs(call.scope, limit, cursors.decode(call.query.cursor))
        return schemas.JobsAnswer([job_answer(job) for job in found], cursors.after(found, limit, "created"))

    def get_job(call: Call[NoQuery, None]) -> Reply:
        job, version = services.jobs.job(call.scope, call.ids["job"])
        known = call.request.if_none_match
        wait = preferred_wait(call.request.headers.get("Prefer", ""))
        if wait and not job.status.terminal and room.acquire(blocking=False):
            try:
                job, version = waited(services.jobs, call, job, version, time.monotonic() + wait)
            finally:
                room.release()
        headers = {"ETag": f'"{etag(version)}"', "Cache-Control": "private, no-cache"}
        if known.contains_weak(etag(version)):
            return Reply(304, None, headers)
        if not job.status.terminal:
            headers["Retry-After"] = "1"
        return Reply(200, job_answer(job), headers)

    def cancel_job(call: Call[NoQuery, None]) -> msgspec.Struct:
        return job_answer(services.jobs.cancel(call.scope, call.ids["job"]))

    def retry_job(call: Call[NoQuery, None]) -> Reply:
        job = services.jobs.retry(call.scope, call.ids["job"])
        return Reply(202, job_answer(job), {"Location": f"/v1/apps/{call.app.id}/jobs/{job.id}"})

    def get_artifact(call: Call[NameQuery, None]) -> msgspec.Struct:
        job, _ = services.jobs.job(call.scope, call.ids["job"])
        artifact = chosen(job, call.query.name)
        blobs = services.backends.blobs
        url = blobs.sign(call.scope, artifact.blob, seconds=LINK_SECONDS, filename=artifact.name)
        return schemas.LinkAnswer(url, from_now(LINK_SECONDS))

    one = f"{APP}/jobs/<job>"
    return [
        Operation(
            "list_jobs", "GET", f"{APP}/jobs", "member", "Your jobs, the newest first", list_jobs,
            {200: schemas.JobsAnswer}, query=PageQuery,
        ),
        Operation(
            "get_job", "GET", one, "member", "A job and how far it is", get_job, {200: schemas.JobAnswer, 304: None},
            headers={
                "If-None-Match": "The `ETag` of an earlier answer: 304 if the job has not changed since",
                "Prefer": "`wait=20` waits so many seconds, 30 at most, for the job to end (with `If-None-Match`, to change)",
            },
        ),
        Operation(
            "cancel_job", "POST", f"{one}/cancel", "member", "End a job that has not ended", cancel_job,
            {200: schemas.JobAnswer},
        ),
        Operation(
            "retry_job", "POST", f"{one}/retry", "member", "Run a job that failed or was cancelled anew, as another job",
            retry_job, {202: schemas.JobAnswer},
        ),
        Operation(
            "get_artifact", "GET", f"{one}/artifact", "member", "A URL that downloads a file that the job made",
            get_artifact, {200: schemas.LinkAnswer}, query=NameQuery,
        ),
    ]  # fmt: skip


def waited(room: Jobs, call: Call[NoQuery, None], job: Job, version: str, until: float) -> tuple[Job, str]:
    """Wait until a job has ended or, for a client that knows how far it was, until it has gone on."""
    known = call.request.if_none_match
    while time.monotonic() < until and not job.status.terminal and (not known or known.contains_weak(etag(version))):
        time.sleep(LOOK_SECONDS)
        job, version = room.job(call.scope, job.id)
    return job, version


def chosen(job: Job, name: str | None) -> Artifact:
    """Return the artifact of a name, or the only one."""
    if job.status is not JobStatus.COMPLETED or not job.artifacts:
        raise NotFound
    if name is None and len(job.artifacts) > 1:
        raise BadRequest("This job made several files. Name one of them: `?name=`.")
    found = next((one for one in job.artifacts if name in (None, one.name)), None)
    if found is None:
        raise NotFound
    return found


def etag(version: str) -> str:
    return sha256(version.encode()).hexdigest()[:32]


def preferred_wait(prefer: str) -> float:
    """Return the seconds that a client would wait (RFC 7240), 0 where it does not say so."""
    for preference in prefer.split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait" and value.strip().isdecimal() and len(value) < 10:
            return min(float(value), LONGEST_WAIT_SECONDS)
    return 0.0
