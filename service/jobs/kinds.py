"""The kinds of jobs that the product itself has."""

from __future__ import annotations

from service.backends.interfaces import DocumentStore
from service.errors import Conflict, StoreError
from service.ingestion import Ingestion
from service.ingestion.pipeline import Received
from service.jobs import Attempt, Handler, Jobs, Kinds, Result
from service.models import Job, JobStatus, Scope


def kinds(ingestion: Ingestion, flow: Handler) -> Kinds:
    """Return the handlers of all kinds; `flow` is that of `flow_runs`."""

    def ingest(attempt: Attempt) -> Result:
        tokens = ingestion.ingest(attempt.scope, document_of(attempt.job), attempt.job.id, attempt.progress)
        return Result(input_tokens=tokens)

    return {
        "ingest": Handler(
            run=ingest,
            fail=lambda scope, job, reason: ingestion.fail(scope, document_of(job), job.id, reason),
            renew=lambda scope, job: ingestion.renew(scope, document_of(job), job.id),
            queue="ingest",
        ),
        "flow": flow,
    }


def document_of(job: Job) -> str:
    return str(job.input["document"])


class Ingestions:
    """Submits the ingestion of documents."""

    def __init__(self, documents: DocumentStore, ingestion: Ingestion, jobs: Jobs) -> None:
        self._documents = documents
        self._ingestion = ingestion
        self._jobs = jobs

    def submit(self, scope: Scope, received: Received) -> None:
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
            self._jobs.submit(scope, job, received.writes)
        except StoreError as exc:
            [found] = self._documents.get(scope, received.writes[0].path)
            if found is None:
                self._ingestion.fail(scope, document.id, job.id, "Deleted.")  # removes the file that was just stored
                raise Conflict("This document was deleted meanwhile. Send it again.", retry_after=1) from exc
            # Otherwise the same file was received twice at once, and the other one's job ingests it.
