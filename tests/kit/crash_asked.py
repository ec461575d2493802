"""The jobs that users and admins ask for, to be killed: export, erasure, re-indexing and summaries, over what a user may have."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

import msgspec

from service.backends.interfaces import Search, Set, Update
from service.context import documents_path
from service.errors import StoreError
from service.ingestion.pipeline import blob_name
from service.jobs.erasure import OwnErasure, receipt_path, subject_of
from service.jobs.export import Export
from service.jobs.orders import Input
from service.jobs.reindex import Reindex
from service.jobs.summaries import Summarise
from service.models import JSON, Call, Document, Job, JobStatus, Scope, timestamp
from service.proof.planting import plant_made
from service.records import from_record
from service.scope import shared
from tests.kit.crash_flows import ANSWER
from tests.kit.crash_stage import Kind, Stage

EVE = "eve-who-has-everything"
NOTES = b"# Kettle\n\nThe kettle of the moon base boils water at sixty-one degrees.\n"
RULES = b"The kettle of all: nobody boils it dry.\n"
LONG = b"".join(b"# Part %d\n\n%s\n\n" % (n, b"The kettle boils. " * 40) for n in range(12))
MADE = "What a job made of the kettle."
BEFORE = "before/64"
"""The embedder that was there before."""

OWNED = {
    "chats": 1,
    "turns": 2,
    "documents": 1,
    "chunks": 1,
    "data": 1,
    "usage rows": 2,
    "jobs": 1,
    "deliveries": 1,
    "dead letters": 1,
    "flows": 1,
    "passages": 1,
    "originals": 1,
    "artifacts": 1,
    "uploads": 1,
    "memberships": 1,
}
"""What `fill` gives a user, as a receipt counts it."""


def asked(kind: str, given: Input, user: str | None = None) -> Callable[[Stage], str]:
    def submit(stage: Stage) -> str:
        scope = stage.of(user) if user else stage.scope
        return stage.services.orders.submit(scope, kind, given, "once")[1].id

    return submit


def plant_document(stage: Stage, scope: Scope, title: str, content: bytes) -> str:
    """Have a document ingested without a job, and return its id."""
    received = stage.services.ingestion.receive(scope, io.BytesIO(content), title, "text/markdown")
    if received.writes:
        stage.store.commit(scope, received.writes)
    document = received.document
    stage.services.ingestion.ingest(scope, document.id, document.job, silent)
    return document.id


def silent(done: int, total: int, note: str) -> None:
    """The progress of what nobody waits for."""


def fill(stage: Stage, scope: Scope) -> None:
    """Give a user all that one may have."""
    now = timestamp()
    plant_document(stage, scope, "kettle.md", NOTES)
    with suppress(StoreError):  # a try before this one did
        plant_made(stage.services, scope, "made", MADE)
    stage.blobs.put(scope, "uploads/new.txt", io.BytesIO(b"not read yet"), "text/plain")
    dated: dict[str, JSON] = {"created": now, "updated": now}
    stage.store.commit(
        scope,
        [
            Set(("chats", "c"), {**dated, "title": "Kettles", "turns": 2}),
            *[Set(("chats", "c", "turns", str(seq)), {"seq": seq, "prompt": f"Question {seq}"}) for seq in (1, 2)],
            Set(("data", "profile"), {"updated": now, "data": {"likes": "kettles"}}),
            Set(("calls", "own"), {"created": now}),
            Set(("flows", "run"), {**dated, "lease": None}),
        ],
    )


# Export


def exported(stage: Stage, job: Job) -> set[str]:
    """The files hold everything once, and are those that are on record."""
    read: Counter[str] = Counter()
    contents: dict[str, bytes] = {}
    for artifact in job.artifacts:
        with stage.blobs.open(stage.scope, artifact.blob) as file:
            whole = zipfile.ZipFile(io.BytesIO(file.read()))
        assert whole.testzip() is None
        names = [name for name in whole.namelist() if name != "index.html"]
        read.update(names)
        contents |= {name: whole.read(name) for name in names}
    [document] = stage.all("documents")
    folder = f"documents/{document.path[-1]}"
    plain = ("chats/c", "data/profile", f"{folder}/document", "calls/00000000", "jobs/made", f"jobs/{job.id}")
    files = {f"{folder}/original/kettle.md": NOTES, "jobs/made/report.txt": MADE.encode()}
    files |= {"uploads/new.txt": b"not read yet"}
    assert read == Counter([*(f"{name}.json" for name in plain), "flows/run.json", *files])
    assert {name: contents[name] for name in files} == files
    assert [turn["seq"] for turn in msgspec.json.decode(contents["chats/c.json"])["messages"]] == [1, 2]
    assert len(msgspec.json.decode(contents["calls/00000000.json"])["calls"]) == len(stage.all("calls")) == 2
    assert job.output["parts"] == len(job.artifacts) > 2
    needed = {blob_name(document.path[-1]), "jobs/made/1-report.txt", "uploads/new.txt"}
    return needed | {artifact.blob for artifact in job.artifacts}


# Erasure


def prepare_erasure(stage: Stage) -> None:
    eve = stage.of(EVE)
    plant_document(stage, stage.scope, "rules.md", RULES)
    fill(stage, eve)
    notes = [
        Set(("outbox", "waits"), {"due": "2999", "place": "ingest 2999"}),
        Set(("deadLetters", "dead"), {"created": timestamp()}),
    ]
    stage.store.commit(eve, notes)
    stage.store.commit(stage.scope, [Set(("users", EVE), {"role": "member", "updated": timestamp()})])


def erased(stage: Stage, job: Job) -> set[str]:
    """Nothing of the user is left, there is one receipt, and neither it nor the job names them."""
    eve = stage.of(EVE)
    assert stage.store.everything(eve) == []
    assert stage.index.entries(eve) == []
    assert list(stage.blobs.names(eve)) == []
    membership, receipt = stage.store.get(stage.scope, ("users", EVE), receipt_path(job.id))
    assert membership is None
    assert [found.path[-1] for found in stage.all("erasures")] == [job.id]
    assert (receipt.data["status"], receipt.data["subject"]) == (JobStatus.COMPLETED, subject_of(eve))
    assert set(receipt.data["left"].values()) == {0}
    assert job.output == receipt.data
    assert EVE not in repr(job) + repr(receipt.data)
    removed = receipt.data["removed"]
    # What was removed just before a process died may be missing.
    assert set(removed) <= set(OWNED)
    assert all(count <= OWNED[kind] for kind, count in removed.items())
    assert removed == OWNED or job.attempts > 1
    [document] = stage.all("documents")
    assert len(stage.chunks(stage.scope, document.path[-1])) == len(stage.index.entries(stage.scope)) == 1
    return {blob_name(document.path[-1])}


# Re-indexing


def embedded_before(stage: Stage) -> None:
    """Documents of a user and of the app, which another embedder has embedded."""
    for scope, title, content in ((stage.of(EVE), "long.md", LONG), (stage.scope, "rules.md", RULES)):
        document = plant_document(stage, scope, title, content)
        stage.store.commit(scope, [Update(documents_path(scope, document), {"embedder": BEFORE})])
        entries = [replace(entry, space=BEFORE) for _, entry in stage.index.entries(scope)]
        stage.index.upsert(scope, entries)


def found_by_words(stage: Stage) -> dict[Scope, set[str]]:
    """By which embedder the documents are searchable; each is whole and found, whatever is under way."""
    spaces: dict[Scope, set[str]] = {}
    for scope in (stage.of(EVE), shared(stage.scope)):
        [found] = stage.all("documents", scope)
        document = from_record(Document, found.data)
        assert document.status is JobStatus.COMPLETED
        numbers = [chunk["n"] for chunk in stage.chunks(scope, document.id)]
        assert numbers == [*range(document.chunks)]
        entries = [entry for _, entry in stage.index.entries(scope)]
        assert sorted(entry.passage.chunk for entry in entries) == numbers
        hits = stage.index.search(scope, Search("kettle", None, document.embedder, 50))
        assert len([hit for hit in hits if hit.user == scope.user]) == document.chunks
        assert stage.blobs.open(scope, blob_name(document.id)).read() == (LONG if scope.user else RULES)
        spaces[scope] = {document.embedder, *(entry.space for entry in entries)}
    return spaces


def old_or_new(stage: Stage) -> None:
    new = stage.services.backends.embedder.name
    for spaces in found_by_words(stage).values():
        assert spaces <= {BEFORE, new}


def reindexed(stage: Stage, job: Job) -> set[str]:
    """Every document is embedded by the present embedder, and as whole as before."""
    new = stage.services.backends.embedder.name
    assert set(map(frozenset, found_by_words(stage).values())) == {frozenset({new})}
    assert job.output["unreadable"] == 0
    assert job.output["documents"] == 2 or (job.attempts > 1 and job.output["documents"] < 2)
    [document] = stage.all("documents")
    return {blob_name(document.path[-1])}


# Summaries


def two_documents(stage: Stage) -> None:
    plant_document(stage, stage.scope, "kettle.md", NOTES)
    plant_document(stage, stage.scope, "rules.md", RULES)


def summarised(stage: Stage, job: Job) -> set[str]:
    """Each document has a summary, which was paid for once as far as it was kept; the job costs what is on record."""
    documents = [from_record(Document, found.data) for found in stage.all("documents")]
    assert [(one.summary.text, one.summary.job) for one in documents if one.summary] == [(ANSWER, job.id)] * 2
    calls = [from_record(Call, found.data) for found in stage.all("calls")]
    paid = [call for call in calls if call.kind == "summary"]
    assert [(call.job, call.outcome) for call in paid] == [(job.id, "completed")] * 2
    assert sum(call.input_tokens for call in paid) == job.input_tokens > 0
    assert job.output == {"documents": 2, "failed": 0}
    return {blob_name(one.id) for one in documents}


ASKED: Mapping[str, Kind] = {
    "export": Kind(asked("export", Export()), exported, lambda stage: fill(stage, stage.scope), jobs=2),
    "erasure": Kind(
        lambda stage: asked("erasure", OwnErasure(confirm=stage.scope.app), EVE)(stage),
        erased,
        prepare_erasure,
        user=None,
        others=(EVE,),
    ),
    "reindex": Kind(
        asked("reindex", Reindex()), reindexed, embedded_before, meanwhile=old_or_new, user=None, others=(EVE,)
    ),
    "summaries": Kind(asked("summaries", Summarise()), summarised, two_documents),
}
