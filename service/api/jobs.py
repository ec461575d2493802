"""Jobs: what a user, or an app's admin for all of it, has done, how far it is, and the files that it made."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

import msgspec

from service.api import cursors, schemas
from service.api.encoders import job_answer
from service.api.orders import JobsQuery, OrderBody
from service.api.parsing import idempotency_key, to_struct
from service.api.routing import Access, AnyOperation, Call, Operation, Reply
from service.api.schemas import NameQuery, NoQuery
from service.errors import BadRequest, NotFound
from service.jobs import Jobs
from service.jobs.orders import Whose
from service.models import Artifact, Job, JobStatus, Scope, from_now
from service.scope import shared
from service.services import Services

APP = "/v1/apps/<app>"
LINK_SECONDS = 600
LONGEST_WAIT_SECONDS = 30.0
LOOK_SECONDS = 0.5
MOST_WAITING = 16
"""Requests that may wait for a job at once, each of which holds a thread; who comes beyond that is answered at once."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Whose jobs they are: a user's own, or the app's, which its admins see to."""

    whose: Whose
    word: str
    title: str
    path: str
    scope: Callable[[Scope], Scope]
    access: Access


OWN = Desk("own", "", "Your jobs", f"{APP}/jobs", lambda scope: scope, "member")
SHARED = Desk("shared", "shared_", "The app's own jobs", f"{APP}/shared/jobs", shared, "admin")


def jobs(services: Services) -> list[AnyOperation]:
    """The operations on a user's jobs and on the app's own."""
    room = threading.BoundedSemaphore(MOST_WAITING)
    return [
        *looking(services, OWN, room),
        *doing(services, OWN),
        *looking(services, SHARED, room),
        *doing(services, SHARED),
    ]


def looking(services: Services, desk: Desk, room: threading.BoundedSemaphore) -> list[AnyOperation]:
    """The operations that show jobs."""

    def list_jobs(call: Call[JobsQuery, None]) -> msgspec.Struct:
        query = call.query
        found = services.jobs.jobs(desk.scope(call.scope), query.limit, cursors.decode(query.cursor))
        wanted = [job for job in found if query.kind in (None, job.kind) and query.status in (None, job.status)]
        return schemas.JobsAnswer([job_answer(job) for job in wanted], cursors.after(found, query.limit, "created"))

    def get_job(call: Call[NoQuery, None]) -> Reply:
        scope = desk.scope(call.scope)
        job, version = services.jobs.job(scope, call.ids["job"])
        known = call.request.if_none_match
        wait = preferred_wait(call.request.headers.get("Prefer", ""))
        if wait and not job.status.terminal and room.acquire(blocking=False):
            try:
                job, version = waited(services.jobs, scope, call, job, version, time.monotonic() + wait)
            finally:
                room.release()
        headers = {"ETag": f'"{etag(version)}"', "Cache-Control": "private, no-cache"}
        if known.contains_weak(etag(version)):
            return Reply(304, None, headers)
        if not job.status.terminal:
            headers["Retry-After"] = "1"
        return Reply(200, job_answer(job), headers)

    def get_artifact(call: Call[NameQuery, None]) -> msgspec.Struct:
        scope = desk.scope(call.scope)
        job, _ = services.jobs.job(scope, call.ids["job"])
        artifact = chosen(job, call.query.name)
        url = services.backends.blobs.sign(scope, artifact.blob, seconds=LINK_SECONDS, filename=artifact.name)
        return schemas.LinkAnswer(url, from_now(LINK_SECONDS))

    one, word = f"{desk.path}/<job>", desk.word
    return [
        Operation(
            f"list_{word}jobs", "GET", desk.path, desk.access, f"{desk.title}, the newest first", list_jobs,
            {200: schemas.JobsAnswer}, query=JobsQuery,
        ),
        Operation(
            f"get_{word}job", "GET", one, desk.access, "A job and how far it is", get_job, {200: schemas.JobAnswer, 304: None},
            headers={
                "If-None-Match": "The `ETag` of an earlier answer: 304 if the job has not changed since",
                "Prefer": "`wait=20` waits so many seconds, 30 at most, for the job to end (with `If-None-Match`, to change)",
            },
        ),
        Operation(
            f"get_{word}artifact", "GET", f"{one}/artifact", desk.access, "A URL that downloads a file that the job made",
            get_artifact, {200: schemas.LinkAnswer}, query=NameQuery,
        ),
    ]  # fmt: skip


def doing(services: Services, desk: Desk) -> list[AnyOperation]:
    """The operations that have jobs done, ended or done again."""

    def post_job(call: Call[NoQuery, OrderBody]) -> Reply:
        kind, key = call.body.kind, idempotency_key(call.request)
        given = to_struct(dict(call.body.input), services.orders.shape(kind, desk.whose))
        asked = desk.scope(call.scope)
        scope, job = services.orders.submit(asked, kind, given, key)
        where = f"{desk.path}/{job.id}" if scope == asked else f"{APP}/erasures/{job.id}"
        return Reply(202, job_answer(job), {"Location": where.replace("<app>", call.app.id)})

    def cancel_job(call: Call[NoQuery, None]) -> msgspec.Struct:
        return job_answer(services.jobs.cancel(desk.scope(call.scope), call.ids["job"]))

    def retry_job(call: Call[NoQuery, None]) -> Reply:
        job = services.jobs.retry(desk.scope(call.scope), call.ids["job"])
        return Reply(202, job_answer(job), {"Location": f"{desk.path.replace('<app>', call.app.id)}/{job.id}"})

    one, word = f"{desk.path}/<job>", desk.word
    return [
        Operation(
            f"post_{word}job", "POST", desk.path, desk.access,
            "Have a job done: `kind` names what, `input` is what that kind takes", post_job,
            {202: schemas.JobAnswer}, body=OrderBody,
            headers={"Idempotency-Key": "Makes it safe to send again: the same key is the same job"},
        ),
        Operation(
            f"cancel_{word}job", "POST", f"{one}/cancel", desk.access, "End a job that has not ended", cancel_job,
            {200: schemas.JobAnswer},
        ),
        Operation(
            f"retry_{word}job", "POST", f"{one}/retry", desk.access,
            "Run a job that failed or was cancelled anew, as another job", retry_job, {202: schemas.JobAnswer},
        ),
    ]  # fmt: skip


def waited(
    room: Jobs, scope: Scope, call: Call[NoQuery, None], job: Job, version: str, until: float
) -> tuple[Job, str]:
    """Wait until a job has ended or, for a client that knows how far it was, until it has gone on."""
    known = call.request.if_none_match
    while time.monotonic() < until and not job.status.terminal and (not known or known.contains_weak(etag(version))):
        time.sleep(LOOK_SECONDS)
        job, version = room.job(scope, job.id)
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
