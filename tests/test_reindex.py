"""Re-indexing an app: every document ends up read by the present embedder, whatever comes, goes or breaks off meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask import Flask

from service.app import create_app
from service.backends.interfaces import Delete, Update
from service.config import Settings
from service.context import documents_path
from service.ingestion.inventory import pages
from service.ingestion.pipeline import blob_name
from service.jobs.slices import Slice
from service.models import Scope
from tests.kit.client import User
from tests.test_job_kinds import ended

ADA, BOB, SHARED = Scope("alpha", "ada"), Scope("alpha", "bob"), Scope("alpha", None)
OLD, NEW = "text-embedding-3-small/1536", "text-embedding-3-large/3072"


@pytest.fixture
def documents(served: Settings) -> dict[str, str]:
    """Documents that the embedder before has embedded; their ids by name."""
    before = create_app(served)
    ids = {}
    for name in ("ada", "bob"):
        for n in range(2):
            added = User(before, name, "alpha").add(f"{name}{n}.txt", f"The zebra secret {n} of {name}.".encode())
            ids[f"{name}{n}"] = added["id"]
    root = User(before, "root", "alpha", "admin")
    ids["shared"] = root.upload("rules.txt", b"The zebra rules of all.", where="shared/documents").json["id"]
    assert root.wait(ids["shared"], "shared/documents")["status"] == "COMPLETED"
    User(before, "ada", "beta").add("x.txt", b"The zebra elsewhere.")
    before.extensions["brainstem"].backends.queue.stop()
    before.extensions["brainstem"].loop.stop()
    return ids


@pytest.fixture
def flask(served: Settings, documents: dict[str, str]) -> Iterator[Flask]:
    """The service with another embedder on the same data."""
    app = create_app(replace(served, embedding_model="text-embedding-3-large"))
    yield app
    app.extensions["brainstem"].backends.queue.stop()
    app.extensions["brainstem"].loop.stop()


def spaces(flask: Flask, scope: Scope) -> dict[str, str]:
    """The space of each document's passages in the index."""
    index = flask.extensions["brainstem"].backends.vectors
    return {entry.passage.document: entry.space for page in pages(index, scope) for entry in page}


def test_all_documents_of_an_app_end_up_with_the_present_embedder(
    flask: Flask, documents: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    services = flask.extensions["brainstem"]
    ada, root = User(flask, "ada", "alpha"), User(flask, "root", "alpha", "admin")
    assert set(spaces(flask, ADA).values()) == {OLD}
    found = [passage["title"] for passage in ada.post("search", json={"text": "zebra secret"}).json["passages"]]
    assert {"ada0.txt", "ada1.txt"} <= set(found)  # by their words
    services.backends.blobs.delete(BOB, blob_name(documents["bob1"]))
    monkeypatch.setattr(Slice.__init__, "__defaults__", (0.0,))  # one document to a delivery
    posted = root.post("shared/jobs", json={"kind": "reindex"})
    assert posted.status_code == 202
    job = ended(root, posted.json["id"], "shared/jobs")
    assert (job["status"], job["output"]) == ("COMPLETED", {"documents": 4, "unreadable": 1})
    assert (job["done"], job["attempts"], job["inputTokens"] > 0) == (4, 6, True)
    assert set(spaces(flask, ADA).values()) == set(spaces(flask, SHARED).values()) == {NEW}
    assert spaces(flask, BOB) == {documents["bob0"]: NEW, documents["bob1"]: OLD}
    assert set(spaces(flask, Scope("beta", "ada")).values()) == {OLD}
    rows = [row for row in ada.get("usage").json["rows"] if row["model"] == NEW]
    assert sum(row["calls"] for row in rows) >= 2
    assert ada.get(f"documents/{documents['ada0']}").json["status"] == "COMPLETED"
    # There is nothing to do a second time, unless everything is asked for.
    again = ended(root, root.post("shared/jobs", json={"kind": "reindex", "input": {}}).json["id"], "shared/jobs")
    assert again["output"]["documents"] == 0
    body = {"kind": "reindex", "input": {"everything": True}}
    assert ended(root, root.post("shared/jobs", json=body).json["id"], "shared/jobs")["output"]["documents"] == 4


def test_what_goes_or_changes_meanwhile_is_right_at_the_end(flask: Flask, documents: dict[str, str]) -> None:
    services = flask.extensions["brainstem"]
    root, store, ingestion = User(flask, "root", "alpha", "admin"), services.backends.documents, services.ingestion
    embed, met = ingestion._embedder.embed, list[str]()

    def embed_and_meddle(texts: list[str]) -> object:
        """Between reading and storing, delete one document and change another."""
        if "zebra secret 0 of ada" in texts[0]:
            met.append("deleted")
            store.commit(ADA, [Delete(documents_path(ADA, documents["ada0"]))])
        if "zebra secret 0 of bob" in texts[0] and "changed" not in met:
            met.append("changed")
            store.commit(BOB, [Update(documents_path(BOB, documents["bob0"]), {"title": "changed.txt"})])
        return embed(texts)

    class Meddling:
        name, batch_size, embed = (
            ingestion._embedder.name,
            ingestion._embedder.batch_size,
            staticmethod(embed_and_meddle),
        )

    ingestion._embedder = Meddling()
    job = ended(root, root.post("shared/jobs", json={"kind": "reindex"}).json["id"], "shared/jobs")
    assert job["status"] == "COMPLETED"
    assert sorted(met) == ["changed", "deleted"]
    assert spaces(flask, ADA) == {documents["ada1"]: NEW}
    assert set(spaces(flask, BOB).values()) == {NEW}
    changed = ingestion.document(BOB, documents["bob0"])
    assert (changed.title, changed.embedder) == ("changed.txt", NEW)
