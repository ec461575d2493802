"""Ingestion beside deletion and repetition: what is deleted is gone, what is sent again is there once, every call is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from service.backends.interfaces import Delete, JobAddress, Set, Update
from service.errors import NotFound, StoreError, Unavailable
from service.models import Document, JobStatus
from service.records import from_record, to_record
from service.scope import of_job
from tests.kit.client import User
from tests.kit.upstream import Upstream

TEXT = "\n\n".join(f"# Part {n}\n\nThe zebra secret number {n} is canary-{n}." for n in range(6)).encode()
ADA = of_job("alpha", "ada")


class Interrupting:
    """An index, or another backend, that lets something happen before or after one of its calls."""

    def __init__(
        self, inner: object, method: str, *, before: Callable[[], object] = int, after: Callable[[], object] = int
    ) -> None:
        self._inner, self._method, self._before, self._after = inner, method, before, after
        self.fired = 0

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._inner, name)
        if name != self._method:
            return function

        def run(*args: Any, **options: Any) -> Any:
            self.fired += 1
            if self.fired == 1:
                self._before()
            result = function(*args, **options)
            if self.fired == 1:
                self._after()
            return result

        return run


def found(ada: User) -> int:
    return len(ada.post("search", json={"text": "zebra secret", "limit": 50}).json["passages"])


def leftovers(flask: Flask, document: str) -> list[str]:
    """What is stored of a document in any backend."""
    backends = flask.extensions["brainstem"].backends
    paths = [("documents", document), *(("documents", document, "chunks", str(n)) for n in range(10))]
    kept = [str(s.path) for s in backends.documents.get(ADA, *paths) if s]
    try:
        backends.blobs.open(ADA, f"documents/{document}/original").close()
    except NotFound:
        return kept
    return [*kept, "blob"]


@pytest.fixture
def ingestion(flask: Flask) -> Any:
    """The ingestion of a service whose queue does not deliver, so that a test does it by hand."""
    services = flask.extensions["brainstem"]
    services.backends.queue.stop()
    return services.ingestion


def deliver(flask: Flask, document: str) -> None:
    services = flask.extensions["brainstem"]
    services.jobs.run(JobAddress(ADA, services.ingestion.document(ADA, document).job))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["upsert"])
def test_a_document_deleted_while_it_is_indexed_is_gone(
    flask: Flask, ada: User, ingestion: Any, method: str, when: str
) -> None:
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    vectors = Interrupting(ingestion._vectors, method, **{when: lambda: ada.call("DELETE", f"documents/{document}")})
    ingestion._vectors = vectors
    deliver(flask, document)
    assert vectors.fired >= 1
    assert ada.get(f"documents/{document}").status_code == 404
    assert found(ada) == 0
    assert leftovers(flask, document) == []


def test_a_deletion_during_which_the_ingestion_ends_takes_everything(flask: Flask, ada: User, ingestion: Any) -> None:
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    # The deletion has forgotten what there was; before it removes the record, the ingestion runs to its end.
    blobs = Interrupting(ingestion._blobs, "delete", before=lambda: deliver(flask, document))
    ingestion._blobs = blobs
    assert ada.call("DELETE", f"documents/{document}").status_code == 204
    assert blobs.fired == 2
    assert ada.get(f"documents/{document}").status_code == 404
    assert found(ada) == 0
    assert leftovers(flask, document) == []


def test_a_document_deleted_after_its_worker_died_leaves_nothing(flask: Flask, ada: User, ingestion: Any) -> None:
    class Died(BaseException):
        pass

    def die() -> None:
        raise Died

    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    job = ingestion.document(ADA, document).job
    index = ingestion._vectors
    ingestion._vectors = Interrupting(index, "upsert", after=die)
    with pytest.raises(Died):
        deliver(flask, document)
    ingestion._vectors = index
    assert found(ada) == 6
    assert ada.call("DELETE", f"documents/{document}").status_code == 204
    assert found(ada) == 0
    # The job is delivered again, as if its first worker had written once more after the deletion.
    services = flask.extensions["brainstem"]
    services.jobs.run(JobAddress(ADA, job))
    assert found(ada) == 0
    assert leftovers(flask, document) == []


def test_a_delivery_without_a_document_cleans_up_what_an_earlier_one_wrote(
    flask: Flask, ada: User, ingestion: Any
) -> None:
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    record = ingestion.document(ADA, document)
    deliver(flask, document)
    store = flask.extensions["brainstem"].backends.documents
    store.commit(ADA, [Delete(("documents", document))])
    assert found(ada) == 6
    ingestion.ingest(ADA, document, record.job)
    assert found(ada) == 0
    assert leftovers(flask, document) == []


def test_a_file_sent_again_while_it_waits_is_not_queued_twice(flask: Flask, ada: User, ingestion: Any) -> None:
    first = ada.upload("z.md", TEXT, "text/markdown")
    again = ada.upload("z.md", TEXT, "text/markdown")
    assert (first.status_code, again.status_code) == (202, 200)
    deliver(flask, first.json["id"])
    assert found(ada) == 6


def test_a_file_whose_ingestion_was_lost_may_be_sent_again(flask: Flask, ada: User, ingestion: Any) -> None:
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    store = flask.extensions["brainstem"].backends.documents
    path = ("documents", document)
    [snapshot] = store.get(ADA, path)
    lost = replace(
        from_record(Document, snapshot.data), status=JobStatus.PROCESSING, updated="2020-01-01T00:00:00.000000Z"
    )
    store.commit(ADA, [Set(path, to_record(lost))])
    assert ada.upload("z.md", TEXT, "text/markdown").status_code == 202
    deliver(flask, document)
    assert ada.get(f"documents/{document}").json["status"] == "COMPLETED"
    assert found(ada) == 6


def test_an_older_attempt_does_not_write_over_a_newer_one(flask: Flask, ada: User, ingestion: Any) -> None:
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    old = ingestion.document(ADA, document)

    def replaced() -> None:
        store = flask.extensions["brainstem"].backends.documents
        store.commit(ADA, [Update(("documents", document), {"job": "newer"})])

    ingestion._vectors = Interrupting(ingestion._vectors, "upsert", before=replaced)
    ingestion.ingest(ADA, document, old.job)
    now = ingestion.document(ADA, document)
    assert (now.job, now.status) == ("newer", JobStatus.PROCESSING)


def test_a_job_that_is_delivered_twice_at_once_runs_once(
    flask: Flask, ada: User, ingestion: Any, upstream: Upstream
) -> None:
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    services = flask.extensions["brainstem"]
    address = JobAddress(ADA, ingestion.document(ADA, document).job)
    store, runs = services.jobs._documents, []

    def second_delivery() -> None:
        services.jobs._documents = store
        services.jobs.run(address)
        runs.append(1)

    # Both read the job before either has written it.
    services.jobs._documents = Interrupting(store, "commit", before=second_delivery)
    with pytest.raises(StoreError):
        services.jobs.run(address)
    assert runs == [1]
    assert sum(request.path.endswith("/embeddings") for request in upstream.requests) == 1
    assert ada.get(f"documents/{document}").json["status"] == "COMPLETED"


def test_embedding_calls_are_counted_once_however_often_they_are_recorded(
    flask: Flask, ada: User, ingestion: Any
) -> None:
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    deliver(flask, document)
    deliver(flask, document)
    [row] = [row for row in ada.get("usage").json["rows"] if row["kind"] == "embedding"]
    assert row["calls"] == 1


def test_a_job_whose_process_dies_before_it_is_queued_is_delivered_all_the_same(flask: Flask, ada: User) -> None:
    services = flask.extensions["brainstem"]
    queue = services.jobs._queue

    class Dying:
        calls = 0

        def enqueue(self, address: JobAddress, *, delay: float = 0.0) -> None:
            self.calls += 1
            if self.calls == 2:
                raise Unavailable
            queue.enqueue(address, delay=delay)

    services.jobs._queue = Dying()
    assert ada.upload("z.md", TEXT, "text/markdown").status_code == 503
    services.jobs._queue = queue
    [document] = ada.get("documents").json["documents"]
    assert ada.wait(document["id"])["status"] == "COMPLETED"
