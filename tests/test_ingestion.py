"""Ingestion beside deletion and repetition: what is deleted is gone, what is sent again is there once, every call is counted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from service.backends.interfaces import Delete, JobAddress, Query, Update
from service.backends.limits import document_size
from service.chunks import group_writes, read_chunks
from service.errors import Conflict, NotFound, Unavailable, UpstreamConfig
from service.ingestion.blocks import Block
from service.ingestion.chunks import chunk
from service.models import Chunk, JobStatus
from service.scope import of_job
from tests.kit.client import User
from tests.kit.upstream import Gate, Request, Response, Upstream, faults
from tests.kit.upstream.replies import embeddings

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


def unheard(done: int, total: int, note: str) -> None:
    """Nobody asks how far it is."""


def found(ada: User) -> int:
    return len(ada.post("search", json={"text": "zebra secret", "limit": 50}).json["passages"])


def embedding_calls(ada: User) -> int:
    """Calls of the ledger; a search is one too, so count before searching."""
    return sum(row["calls"] for row in ada.get("usage").json["rows"] if row["kind"] == "embedding")


def embedded_behind(gate: Gate, count: int) -> Response:
    """The answer to an embedding call of so many texts, held back until the gate is opened."""
    asked = {"model": "text-embedding-3-small", "input": ["zebra"] * count}
    answer = embeddings(Request("POST", "/v1/embeddings", {}, json.dumps(asked).encode(), 0.0))
    return replace(answer, steps=[gate, *answer.steps])


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


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def grow_stale(flask: Flask, document: str) -> None:
    """Make a document look as if its worker had been silent for long."""
    changes = {"status": "PROCESSING", "updated": "2020-01-01T00:00:00.000000Z"}
    flask.extensions["brainstem"].backends.documents.commit(ADA, [Update(("documents", document), changes)])


def deliver(flask: Flask, document: str) -> None:
    services = flask.extensions["brainstem"]
    services.jobs.run(JobAddress(ADA, services.ingestion.document(ADA, document).job))


def test_a_document_deleted_while_it_is_embedded_is_gone_and_its_call_is_counted(
    flask: Flask, ada: User, upstream: Upstream
) -> None:
    gate = Gate()
    upstream.script(embedded_behind(gate, 6), on="embeddings")
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    services = flask.extensions["brainstem"]
    path = ("jobs", services.ingestion.document(ADA, document).job)
    assert gate.reached.wait(10)
    assert ada.call("DELETE", f"documents/{document}").status_code == 204
    gate.open()
    for _ in range(200):
        [job] = services.backends.documents.get(ADA, path)
        if JobStatus(job.data["status"]).terminal:
            break
        time.sleep(0.05)
    assert job.data["status"] == "COMPLETED"
    assert embedding_calls(ada) == 1
    assert found(ada) == 0
    assert leftovers(flask, document) == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_document_deleted_while_it_is_indexed_is_gone(flask: Flask, ada: User, ingestion: Any, when: str) -> None:
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    vectors = Interrupting(ingestion._vectors, "upsert", **{when: lambda: ada.call("DELETE", f"documents/{document}")})
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

    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    job = ingestion.document(ADA, document).job
    index = ingestion._vectors
    ingestion._vectors = Interrupting(index, "upsert", after=raising(Died()))
    with pytest.raises(Died):
        deliver(flask, document)
    ingestion._vectors = index
    assert found(ada) == 6
    assert ada.call("DELETE", f"documents/{document}").status_code == 204
    assert found(ada) == 0
    # The job is delivered again, as if its first worker had written once more after the deletion.
    services = flask.extensions["brainstem"]
    services.backends.documents.commit(ADA, [Update(("jobs", job), {"lease": 0.0})])
    services.jobs.run(JobAddress(ADA, job))
    assert found(ada) == 0
    assert leftovers(flask, document) == []


@pytest.mark.parametrize(("count", "left"), [(6, ["0"]), (8, ["0"]), (9, ["0", "1"])])
def test_what_a_longer_attempt_stored_is_removed_by_the_next(
    flask: Flask, ada: User, ingestion: Any, count: int, left: list[str]
) -> None:
    text = "\n\n".join(f"# Part {n}\n\nThe zebra secret number {n}." for n in range(count)).encode()
    document = ada.upload("z.md", text, "text/markdown").json["id"]
    # An earlier attempt, whose reader cut the file into more pieces.
    store, path = flask.extensions["brainstem"].backends.documents, ("documents", document)
    store.commit(ADA, group_writes(path, [Chunk(n=n, text="canary-stale") for n in range(30)]))
    store.commit(ADA, [Update(path, {"written": 30})])
    deliver(flask, document)
    stored = store.query(ADA, Query((*path, "chunks"), "n"))
    assert [group.path[-1] for group in stored] == left
    assert "canary-stale" not in str(stored)
    assert sorted(n for _, n in read_chunks(store, ADA, [group.path for group in stored])) == [*range(count)]


def test_the_largest_chunks_fit_into_a_stored_document(flask: Flask, ada: User) -> None:
    """White space is no token, so one chunk took as much of it as a file has."""
    lines = [f"zebra{n}" + 20_000 * " " + "secret" + 1_000 * "\n" for n in range(60)]
    document = ada.add("wide.txt", "\n".join(lines).encode())
    assert (document["status"], document["error"]) == ("COMPLETED", None)
    widest = (("a" + 80 * "\n") * 240).rstrip()
    chunks = [Chunk(n=n, text=widest, line=1, tokens=240) for n in range(8)]
    [write] = group_writes(("documents", "d"), chunks)
    assert document_size(("documents", "d", "chunks", "0"), write.data) < 330_000
    [kept] = chunk([Block(("a" + 200 * "\n") * 240, line=1, kind="code")])
    assert (kept.text, kept.tokens) == (widest, 240)


def test_a_delivery_without_a_document_cleans_up_what_an_earlier_one_wrote(
    flask: Flask, ada: User, ingestion: Any
) -> None:
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    record = ingestion.document(ADA, document)
    deliver(flask, document)
    store = flask.extensions["brainstem"].backends.documents
    store.commit(ADA, [Delete(("documents", document))])
    assert found(ada) == 6
    ingestion.ingest(ADA, document, record.job, unheard)
    assert found(ada) == 0
    assert leftovers(flask, document) == []


def test_a_late_clean_up_fails_the_document_that_was_sent_anew_so_that_it_can_be_mended(
    flask: Flask, ada: User, ingestion: Any
) -> None:
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    late = ingestion.document(ADA, document).job
    assert ada.call("DELETE", f"documents/{document}").status_code == 204
    index = ingestion._vectors

    def send_again_and_ingest() -> None:
        assert ada.upload("z.md", TEXT, "text/markdown").status_code == 202
        deliver(flask, document)
        assert found(ada) == 6

    # The late delivery has seen that there is no record, and is about to remove what is left.
    ingestion._vectors = Interrupting(index, "delete", before=send_again_and_ingest)
    ingestion.ingest(ADA, document, late, unheard)
    ingestion._vectors = index
    assert found(ada) == 0
    broken = ada.get(f"documents/{document}").json
    assert (broken["status"], "Send it again" in broken["error"]) == ("FAILED", True)
    assert ada.upload("z.md", TEXT, "text/markdown").status_code == 202
    deliver(flask, document)
    assert found(ada) == 6


def test_what_an_outrun_job_indexed_goes_with_the_document(flask: Flask, ada: User, ingestion: Any) -> None:
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]

    def delete_and_send_again() -> None:
        assert ada.call("DELETE", f"documents/{document}").status_code == 204
        assert ada.upload("z.md", TEXT, "text/markdown").status_code == 202

    ingestion._vectors = Interrupting(ingestion._vectors, "upsert", before=delete_and_send_again)
    deliver(flask, document)
    assert ada.get(f"documents/{document}").json["status"] == "PENDING"
    assert found(ada) == 6
    assert ada.call("DELETE", f"documents/{document}").status_code == 204
    assert found(ada) == 0
    assert leftovers(flask, document) == []


def test_a_job_that_fails_after_its_document_was_deleted_leaves_nothing(
    flask: Flask, ada: User, ingestion: Any
) -> None:
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    ingestion._vectors = Interrupting(
        ingestion._vectors,
        "upsert",
        before=lambda: ada.call("DELETE", f"documents/{document}"),
        after=raising(UpstreamConfig()),
    )
    deliver(flask, document)
    assert ada.get(f"documents/{document}").status_code == 404
    assert found(ada) == 0
    assert leftovers(flask, document) == []


def test_a_file_sent_while_its_document_is_deleted_is_refused_and_may_be_sent_again(
    flask: Flask, ada: User, ingestion: Any, upstream: Upstream
) -> None:
    upstream.script(faults.key_leak(), on="embeddings")
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    deliver(flask, document)
    # The record was read; before the file is stored again, the deletion runs to its end.
    ingestion._blobs = Interrupting(ingestion._blobs, "put", before=lambda: ada.call("DELETE", f"documents/{document}"))
    refused = ada.upload("z.md", TEXT, "text/markdown")
    assert (refused.status_code, refused.json["code"]) == (409, "conflict")
    assert leftovers(flask, document) == []
    assert ada.upload("z.md", TEXT, "text/markdown").status_code == 202
    deliver(flask, document)
    assert found(ada) == 6


def test_a_file_sent_twice_at_once_is_ingested_once(
    flask: Flask, ada: User, ingestion: Any, upstream: Upstream
) -> None:
    jobs = flask.extensions["brainstem"].jobs
    jobs._outbox._queue = Interrupting(
        jobs._outbox._queue, "enqueue", before=lambda: ada.upload("z.md", TEXT, "text/markdown").status_code
    )
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    deliver(flask, document)
    assert len(upstream.asked("embeddings")) == 1
    assert found(ada) == 6


def test_a_file_whose_ingestion_failed_may_be_sent_again(
    flask: Flask, ada: User, ingestion: Any, upstream: Upstream
) -> None:
    upstream.script(faults.key_leak(), on="embeddings")
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    deliver(flask, document)
    assert ada.get(f"documents/{document}").json["status"] == "FAILED"
    assert ada.upload("z.md", TEXT, "text/markdown").status_code == 202
    deliver(flask, document)
    now = ada.get(f"documents/{document}").json
    assert (now["status"], now.get("error")) == ("COMPLETED", None)
    assert found(ada) == 6
    assert ada.upload("z.md", TEXT, "text/markdown").status_code == 200


def test_a_document_replaced_while_it_is_ingested_is_the_new_job_s(flask: Flask, ada: User, ingestion: Any) -> None:
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    old = ingestion.document(ADA, document).job

    def replace_and_ingest() -> None:
        grow_stale(flask, document)
        assert ada.upload("z.md", TEXT, "text/markdown").status_code == 202
        deliver(flask, document)

    ingestion._vectors = Interrupting(ingestion._vectors, "upsert", before=replace_and_ingest)
    deliver(flask, document)
    now = ingestion.document(ADA, document)
    assert (now.job != old, now.status) == (True, JobStatus.COMPLETED)
    assert found(ada) == 6
    assert ada.call("DELETE", f"documents/{document}").status_code == 204
    assert found(ada) == 0


def test_a_late_delivery_of_an_outrun_job_does_nothing(
    flask: Flask, ada: User, ingestion: Any, upstream: Upstream
) -> None:
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    old = ingestion.document(ADA, document).job
    grow_stale(flask, document)
    assert ada.upload("z.md", TEXT, "text/markdown").status_code == 202
    flask.extensions["brainstem"].jobs.run(JobAddress(ADA, old))
    assert ada.get(f"documents/{document}").json["status"] == "PENDING"
    assert upstream.asked("embeddings") == []


def test_a_document_that_is_done_is_not_paid_for_again_though_its_job_never_learned_it(
    flask: Flask, ada: User, ingestion: Any, upstream: Upstream
) -> None:
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    deliver(flask, document)
    path = ("jobs", ingestion.document(ADA, document).job)
    flask.extensions["brainstem"].backends.documents.commit(ADA, [Update(path, {"status": "PROCESSING"})])
    deliver(flask, document)
    assert len(upstream.asked("embeddings")) == 1
    assert ada.get(f"documents/{document}").json["status"] == "COMPLETED"


def test_a_file_sent_again_while_it_waits_is_not_queued_twice(flask: Flask, ada: User, ingestion: Any) -> None:
    first = ada.upload("z.md", TEXT, "text/markdown")
    again = ada.upload("z.md", TEXT, "text/markdown")
    assert (first.status_code, again.status_code) == (202, 200)
    deliver(flask, first.json["id"])
    assert found(ada) == 6


def test_a_file_whose_ingestion_was_lost_may_be_sent_again(flask: Flask, ada: User, ingestion: Any) -> None:
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    grow_stale(flask, document)
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
    ingestion.ingest(ADA, document, old.job, unheard)
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
    with pytest.raises(Conflict):
        services.jobs.run(address)
    assert runs == [1]
    assert sum(request.path.endswith("/embeddings") for request in upstream.requests) == 1
    assert ada.get(f"documents/{document}").json["status"] == "COMPLETED"


def test_every_attempt_counts_the_embedding_calls_it_made(
    flask: Flask, ada: User, ingestion: Any, upstream: Upstream
) -> None:
    document = ada.upload("z.md", TEXT, "text/markdown").json["id"]
    ingestion._vectors = Interrupting(ingestion._vectors, "upsert", before=raising(Unavailable()))
    with pytest.raises(Unavailable):
        deliver(flask, document)
    assert embedding_calls(ada) == 1
    for _ in range(2):
        deliver(flask, document)
    assert embedding_calls(ada) == len(upstream.asked("embeddings")) == 2
    assert ada.call("DELETE", f"documents/{document}").status_code == 204
    assert embedding_calls(ada) == 2
