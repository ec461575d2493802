"""What is killed: kinds of jobs, each with how it is submitted and what must be there at its end. To add one takes an entry of `KINDS`."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping

from service.backends.interfaces import Create, Delete, Search, Set, Update
from service.context import documents_path
from service.errors import StoreError, Unavailable
from service.ingestion.pipeline import blob_name
from service.jobs import Attempt, Handler, Jobs, Kinds, Result, Unfinished, job_path
from service.jobs.artifacts import put
from service.models import JSON, Document, Job, JobStatus, Scope, timestamp
from service.records import from_record
from service.services import Services
from tests.kit.crash_asked import ASKED
from tests.kit.crash_flows import FLOWS
from tests.kit.crash_stage import Kind, Stage

SHORT = b"# Kettle\n\nThe kettle of the moon base boils water at sixty-one degrees.\n"
LONG = b"".join(b"# Part %d\n\n%s\n\n" % (n, b"The kettle boils. " * 40) for n in range(20))
REJECTED = b"%PDF-1.7 and then nothing that a PDF has"
REPORT = b"What came of it, in a file.\n" * 40
PARTS = 2


# Documents.


def upload(content: bytes, filename: str = "kettle.md") -> Callable[[Stage], str]:
    def submit(stage: Stage) -> str:
        received = stage.services.ingestion.receive(stage.scope, io.BytesIO(content), filename, "text/markdown")
        stage.services.ingestions.submit(stage.scope, received)
        return received.document.job

    return submit


def id_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def searchable(content: bytes, batches: int) -> Callable[[Stage, Job], set[str]]:
    """The document is there, whole, once, and found."""

    def check(stage: Stage, job: Job) -> set[str]:
        [found] = stage.all("documents")
        document = from_record(Document, found.data)
        assert (document.id, document.status) == (id_of(content), JobStatus.COMPLETED), document
        assert document.chunks == document.done == document.total == document.written > 8 * (batches - 1)
        numbers = [chunk["n"] for chunk in stage.chunks(stage.scope, document.id)]
        assert numbers == [*range(document.chunks)]
        entries = stage.index.entries(stage.scope)
        assert sorted(entry.passage.chunk for _, entry in entries) == numbers
        found_by_words = stage.index.search(stage.scope, Search("kettle boils", None, document.embedder, 50))
        hits = [hit for hit in found_by_words if hit.user == stage.scope.user]
        assert {hit.passage.document for hit in hits} == {document.id}
        assert len(hits) == document.chunks
        return {blob_name(document.id)}

    return check


def failed(content: bytes, reason: str) -> Callable[[Stage, Job], set[str]]:
    """The document is there with the reason why it cannot be searched, and nothing of it is found."""

    def check(stage: Stage, job: Job) -> set[str]:
        [found] = stage.all("documents")
        document = from_record(Document, found.data)
        assert (document.id, document.status) == (id_of(content), JobStatus.FAILED), document
        assert reason in (document.error or ""), document
        assert job.error is None or reason in job.error, job
        assert stage.chunks(stage.scope, document.id) == []
        assert stage.index.entries(stage.scope) == []
        return {blob_name(document.id)}

    return check


def only_job(stage: Stage) -> Job:
    [found] = [found for found in stage.all("jobs") if "retry_of" not in found.data or found.data["retry_of"] is None]
    return from_record(Job, found.data)


def cancel(stage: Stage) -> str:
    job = only_job(stage)
    return stage.services.jobs.cancel(stage.scope, job.id).id


def retry(stage: Stage) -> str:
    return stage.services.jobs.retry(stage.scope, only_job(stage).id).id


def ingested_in_vain(content: bytes) -> Callable[[Stage], None]:
    """A document whose job has failed, since the provider refused the key."""

    def prepare(stage: Stage) -> None:
        job = upload(content)(stage)
        end: dict[str, JSON] = {
            "status": "FAILED",
            "error": "Refused.",
            "code": "upstream_config",
            "ended": timestamp(),
            "failures": 1,
        }
        document = (*documents_path(stage.scope), id_of(content))
        stage.store.commit(
            stage.scope,
            [
                Update(job_path(job), end),
                Update(document, {"status": "FAILED", "error": "Refused."}),
                Set(("deadLetters", job), {"created": timestamp()}),
                Delete(("outbox", job)),
            ],
        )

    return prepare


# Jobs of a scripted kind.


def submit(kind: str) -> Callable[[Stage], str]:
    def call(stage: Stage) -> str:
        now = timestamp()
        job = Job(id=f"job-{kind}", kind=kind, status=JobStatus.PENDING, input={}, created=now, updated=now)
        try:
            stage.services.jobs.submit(stage.scope, job)
        except StoreError:
            assert stage.job(job.id) is not None  # submitted by the call that was not acknowledged
        return job.id

    return call


def scripted(services: Callable[[], Services]) -> Kinds:
    """Kinds that do what handlers may do: write, go on in slices, make a file, fail, and lose their job."""

    def jobs() -> Jobs:
        return services().jobs

    def effect(attempt: Attempt, name: str, **changes: object) -> None:
        attempt.save([Create(("data", f"{attempt.job.id}-{name}"), {"updated": timestamp()})], **changes)

    def report(attempt: Attempt) -> Result:
        part = int(attempt.job.state or 0)
        if part < PARTS:
            effect(attempt, str(part), state=part + 1, done=part + 1, total=PARTS)
            raise Unfinished
        blobs = services().backends.blobs
        artifact = put(blobs, attempt, "report.txt", io.BytesIO(REPORT), "text/plain")
        return Result(output={"parts": part}, artifacts=(artifact,))

    def flaky(attempt: Attempt) -> Result:
        if attempt.job.failures < 2:
            raise Unavailable
        if attempt.job.state is None:
            effect(attempt, "done", state="done")
        return Result()

    def poison(attempt: Attempt) -> Result:
        raise ValueError("canary")

    def cancelled(attempt: Attempt) -> Result:
        if attempt.job.state is None:
            effect(attempt, "begun", state="begun")
        jobs().cancel(attempt.scope, attempt.job.id)  # somebody else's process does, meanwhile
        effect(attempt, "late")
        return Result()

    def fail(scope: Scope, job: Job, reason: str) -> None:
        failure = {"updated": timestamp(), "reason": reason}
        services().backends.documents.commit(scope, [Set(("data", f"{job.id}-failed"), failure)])

    runs = {"report": report, "flaky": flaky, "poison": poison, "cancelled": cancelled}
    return {name: Handler(run, fail) for name, run in runs.items()}


def effects(*names: str) -> Callable[[Stage, Job], set[str]]:
    """These documents are there, and no others: each made once, for a second time would have been refused."""

    def check(stage: Stage, job: Job) -> set[str]:
        found = {one.path[-1] for one in stage.all("data")}
        assert found == {f"{job.id}-{name}" for name in names}, found
        return set()

    return check


def with_file(stage: Stage, job: Job) -> set[str]:
    effects(*map(str, range(PARTS)))(stage, job)
    [artifact] = job.artifacts
    assert (artifact.bytes, artifact.sha256) == (len(REPORT), hashlib.sha256(REPORT).hexdigest())
    assert job.output == {"parts": PARTS}
    return {artifact.blob}


KINDS: Mapping[str, Kind] = {
    "ingest-short": Kind(upload(SHORT), searchable(SHORT, 1)),
    "ingest-batches": Kind(upload(LONG), searchable(LONG, 3)),
    "ingest-shared": Kind(upload(SHORT), searchable(SHORT, 1), user=None),
    "ingest-rejected": Kind(upload(REJECTED, "broken.pdf"), failed(REJECTED, "PDF"), status=JobStatus.FAILED),
    "ingest-cancelled": Kind(cancel, failed(SHORT, "cancelled"), upload(SHORT), status=JobStatus.CANCELLED),
    "ingest-retried": Kind(retry, searchable(SHORT, 1), ingested_in_vain(SHORT), jobs=2),
    "report": Kind(submit("report"), with_file),
    "flaky": Kind(submit("flaky"), effects("done")),
    "poison": Kind(submit("poison"), effects("failed"), status=JobStatus.FAILED, letters=1, crashes=True),
    "cancelled": Kind(submit("cancelled"), effects("begun", "failed"), status=JobStatus.CANCELLED),
    **FLOWS,
    **ASKED,
}
