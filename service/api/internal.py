"""What only our own service accounts call: Cloud Tasks delivers jobs, functions tell what clients wrote. Signed by OIDC."""

from __future__ import annotations

import mimetypes
import shutil
import tempfile
import threading

from service import logging as log
from service.api.routing import AnyOperation, Call, Operation, Reply
from service.api.schemas import DataWrittenBody, JobBody, NoQuery, ObjectFinalizedBody
from service.apps import App
from service.backends import paths
from service.backends.interfaces import JobAddress
from service.errors import Conflict, DependencyError, NotFound, TooLarge
from service.models import Scope
from service.queues import caps
from service.scope import of_event, of_job
from service.services import Services

DONE = 204
IN_MEMORY_BYTES = 1 << 20


def internal(services: Services) -> list[AnyOperation]:
    """The operations for Cloud Tasks and functions. What is done already, or is not ours to do, is answered as done."""

    # Each may take as much memory as reading a file may; the queues' own limits count all instances together. No queue takes the
    # room of another.
    rooms = {queue: threading.BoundedSemaphore(max(1, cap.workers)) for queue, cap in caps(services.settings).items()}

    def run_job(call: Call[NoQuery, JobBody]) -> Reply:
        body = call.body
        room = rooms[body.queue]
        if not room.acquire(blocking=False):
            raise Conflict("This instance runs as many jobs as it may.", retry_after=10)
        try:
            services.jobs.run(JobAddress(of_job(body.app, body.user), body.job))
        except DependencyError as error:
            # To Cloud Tasks a 503 says that all of the queue comes too fast; this is one job's trouble, which was logged.
            raise Conflict("This job is to be tried again.", retry_after=error.retry_after) from error
        finally:
            room.release()
        return Reply(DONE)

    def sweep_jobs(call: Call[NoQuery, None]) -> Reply:
        services.sweeper.sweep()
        return Reply(DONE)

    def object_finalized(call: Call[NoQuery, ObjectFinalizedBody]) -> Reply:
        upload = upload_of(services, call.body.name)
        if upload is not None:
            ingest_upload(services, *upload)
        return Reply(DONE)

    def data_written(call: Call[NoQuery, DataWrittenBody]) -> Reply:
        app = known_app(services, call.body.app)
        if app is not None:
            services.notes.refresh(of_event(app, call.body.user), app, call.body.document)
        return Reply(DONE)

    return [
        Operation(
            "run_job", "POST", "/internal/jobs/run", "service", "Run a job that the queue delivers", run_job,
            {DONE: None}, body=JobBody,
        ),
        Operation(
            "sweep_jobs", "POST", "/internal/jobs/sweep", "service",
            "Have delivered what was lost; to be called once a minute where no process goes on between requests", sweep_jobs,
            {DONE: None},
        ),
        Operation(
            "object_finalized", "POST", "/internal/events/object-finalized", "service",
            "A client uploaded a file to its own path: ingest it", object_finalized, {DONE: None}, body=ObjectFinalizedBody,
        ),
        Operation(
            "data_written", "POST", "/internal/events/data-written", "service",
            "A client wrote or removed its data: keep what is searched of it true", data_written,
            {DONE: None}, body=DataWrittenBody,
        ),
    ]  # fmt: skip


def known_app(services: Services, app_id: str) -> App | None:
    try:
        return services.apps.get(app_id)
    except NotFound:
        log.event("event_of_unknown_app")
        return None


def upload_of(services: Services, name: str) -> tuple[Scope, str] | None:
    """Return whose upload an object is, and its file name; None if it is no upload of one of our apps.

    Clients write uids as they are, and the rules compare them as they are. One that our paths would encode could be taken
    for another user's, so it is none.
    """
    match name.split("/"):
        case ["apps", app_id, "users", user, "uploads", file] if user and file and paths.encode(user) == user:
            app = known_app(services, app_id)
            return None if app is None else (of_event(app, user), file)
    return None


def ingest_upload(services: Services, scope: Scope, file: str) -> None:
    """Ingest an upload as if its user had sent it to the API, then remove it; one that is gone was ingested already."""
    blobs, name = services.backends.blobs, f"uploads/{file}"
    try:
        with blobs.open(scope, name) as content, tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as copy:
            shutil.copyfileobj(content, copy)
            copy.seek(0)
            media_type = mimetypes.guess_type(file)[0] or ""
            received = services.ingestion.receive(scope, copy, file, media_type)  # type: ignore[arg-type]
        services.ingestions.submit(scope, received)
    except NotFound:
        return
    except TooLarge as error:
        log.event("upload_too_large", error=error, app=scope.app)
    blobs.delete(scope, name)
