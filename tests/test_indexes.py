"""firestore.indexes.json holds what the service's queries need, and nothing else: the emulator never asks for an index.

The main flows run on the Firestore emulator behind a proxy that reads every query off the wire. Which index each needs follows from
"Index types in Cloud Firestore" and "Search with vector embeddings" in the Firestore documentation.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import grpc
import pytest
from flask import Flask

from service.app import create_app
from service.backends.google.firestore.indexes import GROUPS, UNINDEXED, definitions
from service.backends.local.vectors import LocalVectors
from service.cli.moving import Silent
from service.config import Settings
from service.ingestion.marks import Marks
from service.ingestion.moving import Moving
from service.jobs.export import SECTIONS
from service.models import Role, Scope
from service.services import Services
from tests.kit.apps import write_app
from tests.kit.client import User
from tests.kit.emulators import Emulators
from tests.kit.firestore_proxy import FirestoreProxy, own_database
from tests.kit.server import ROOT

FILE: dict[str, Any] = json.loads((ROOT / "firestore.indexes.json").read_text())
DIMENSIONS = (768, 1536)
"""Of the embedders that the cloud has by default: Vertex AI's and OpenAI's. Another number takes a definition of its own."""

Field: TypeAlias = tuple[str, str]
"""A field with how it is indexed: ASCENDING, DESCENDING, CONTAINS or VECTOR."""

NAME = "__name__"
ASCENDING, DESCENDING = "ASCENDING", "DESCENDING"
EQUAL, CONTAINS = {"EQUAL", "IN"}, {"ARRAY_CONTAINS", "ARRAY_CONTAINS_ANY"}


@dataclass(frozen=True)
class Needed:
    """An index that a query needs: of one field, which is there by itself unless it is exempted, or of several."""

    collection: str
    scope: str
    fields: tuple[Field, ...]

    @property
    def is_composite(self) -> bool:
        return len(self.fields) > 1 or self.fields[0][1] == "VECTOR"


class Recorder(FirestoreProxy):
    """Passes calls on and keeps the queries."""

    def __init__(self, emulator_host: str) -> None:
        from google.cloud.firestore_v1.types import RunQueryRequest  # takes longer than a call may

        super().__init__(emulator_host)
        self.queries: list[Any] = []
        self._read = RunQueryRequest.deserialize

    def serve(self, method: str, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        def kept() -> Iterator[bytes]:
            for request in requests:
                if method.endswith("/RunQuery"):
                    self.queries.append(self._read(request).structured_query)
                yield request

        return super().serve(method, kept(), context)


def needed(query: Any) -> set[Needed]:
    """The indexes that a query needs."""
    [source] = query.from_
    scope = "COLLECTION_GROUP" if source.all_descendants else "COLLECTION"

    def index(*fields: Field) -> Needed:
        return Needed(source.collection_id, scope, fields)

    filters = [(name, operator) for name, operator in filters_of(query.where) if name != NAME]
    equal = sorted({name for name, operator in filters if operator in EQUAL})
    arrays = sorted({name for name, operator in filters if operator in CONTAINS})
    ranges = {name for name, operator in filters if operator not in EQUAL | CONTAINS}
    if query.find_nearest.query_vector.map_value.fields:
        vector = (plain(query.find_nearest.vector_field), "VECTOR")
        assert not ranges | {*arrays}
        return {index(*((name, ASCENDING) for name in equal), vector)}
    orders = [(plain(order.field), order.direction.name) for order in query.order_by]
    directions = {direction for _, direction in orders}
    ordered = [(name, direction) for name, direction in orders if name != NAME]
    assert ranges <= {name for name, _ in ordered}, "such a query is not looked at here yet"
    assert len(directions) < 2, "such a query is not looked at here yet"
    if ordered or arrays:
        parts = [*((name, ASCENDING) for name in equal), *((name, "CONTAINS") for name in arrays), *ordered]
        return {index(*parts)}
    # Conditions of equality are met by the fields' own indexes, one beside the other.
    return {index((name, ASCENDING)) for name in equal}


def filters_of(where: Any) -> Iterator[tuple[str, str]]:
    for each in where.composite_filter.filters or [where]:
        if each.field_filter.field.field_path:
            yield plain(each.field_filter.field), each.field_filter.op.name


def plain(field: Any) -> str:
    """A field's name without the marks that quote it."""
    name: str = field.field_path
    return name.strip("`")


def composite(definition: Any) -> Needed:
    """A composite definition of the file."""
    fields = tuple(
        (field["fieldPath"], "VECTOR" if "vectorConfig" in field else field["order"]) for field in definition["fields"]
    )
    return Needed(definition["collectionGroup"], definition["queryScope"], fields)


def has_single(one: Needed) -> bool:
    """Whether the index of a single field is there, by itself or by an entry of the file."""
    [(field, kind)] = one.fields
    for override in FILE["fieldOverrides"]:
        if (override["collectionGroup"], override["fieldPath"]) == (one.collection, field):
            entries = {
                (entry["queryScope"], entry.get("order") or entry.get("arrayConfig")) for entry in override["indexes"]
            }
            return (one.scope, kind) in entries
    return one.scope == "COLLECTION"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, firebase: Emulators) -> list[Any]:
    """Every query of the main flows."""
    folder = tmp_path_factory.mktemp("indexes")
    write_app(folder / "apps", "alpha", '[context]\ndata = ["profile"]\n[retrieval]\ndata = ["diary"]\n')
    local = Settings(
        data_dir=folder / "data",
        apps_dir=folder / "apps",
        stand_in_words_per_second=0,
        backend_documents="google",
        backend_vectors="google",
    )
    with Recorder(firebase.hosts["firestore"]) as proxy:
        flask = create_app(own_database(local, proxy.host))
        try:
            use_everything(flask)
        finally:
            flask.extensions["brainstem"].backends.queue.stop()
        assert set(proxy.counts()) == {"RunQuery", "BatchGetDocuments", "Commit"}, "another kind of query is made"
    return proxy.queries


def use_everything(flask: Flask) -> None:
    """Walk through whatever asks the store."""
    services: Services = flask.extensions["brainstem"]
    ada, admin = User(flask, "ada", "alpha"), User(flask, "amy", "alpha", role="admin")
    document = ada.add("notes.md", b"# Birds\n\nThe heron ZX-81 stands in the reeds.")
    shared = admin.upload("shared.md", b"# House\n\nThe house rules.", where="shared/documents").json
    admin.wait(shared["id"], "shared/documents")
    for text in ("Which heron is ZX-81?", "And where?"):
        assert ada.ask("c1", text).status_code == 200
    assert ada.post("search", json={"text": "heron ZX-81"}).json["passages"]
    for name in ("profile", "diary"):
        assert ada.call("PUT", f"data/{name}", json={"note": name}).status_code == 200
    for listing in ("chats", "documents", "data", "shared/documents"):
        page = ada.get(f"{listing}?limit=1").json
        if page.get("next"):
            ada.get(f"{listing}?limit=1&cursor={page['next']}")
    assert ada.get("chats/c1").status_code == 200
    export = ada.post("jobs", json={"kind": "export", "input": {}}).json
    assert ada.wait(export["id"], "jobs")["status"] == "COMPLETED"
    assert ada.get("jobs?limit=1").status_code == 200
    assert services.sweeper.sweep() == 0
    assert services.jobs.letters(Scope("alpha", None)) == []
    assert ada.get("usage").status_code == 200
    assert admin.get("shared/usage").status_code == 200
    for target in ("first", "second"):
        move(services, target)
    services.members.put(Scope("alpha", "ada"), Role.MEMBER)
    assert list(services.members.records(Scope("alpha", None)))
    assert services.backends.vectors.entries(Scope("alpha", "ada"))  # type: ignore[attr-defined]
    bob = User(flask, "bob", "alpha")
    receipt = bob.post("jobs", json={"kind": "erasure", "input": {"confirm": "alpha"}}).headers["Location"]
    assert bob.wait(receipt.rpartition("/")[2], "erasures")["status"] == "COMPLETED"
    for gone in ("chats/c1", "data/diary", f"documents/{document['id']}"):
        assert ada.call("DELETE", gone).status_code == 204


def move(services: Services, target: str) -> None:
    """Move the app's vectors to a local index."""
    documents = services.backends.documents
    marks = Marks(documents, Scope("alpha", None), "google", target)
    index = LocalVectors(
        replace(services.settings, data_dir=services.settings.data_dir / target), services.backends.secrets
    )
    app, backends = services.apps.get("alpha"), services.backends
    Moving(app, documents, backends.embedder, backends.vectors, index, marks).run(Silent())


def test_every_query_has_its_index(recorded: list[Any]) -> None:
    wanted = set().union(*map(needed, recorded))
    composites = {composite(definition) for definition in FILE["indexes"]}
    assert {one for one in wanted if one.is_composite} == composites
    assert [one for one in wanted if not one.is_composite and not has_single(one)] == []


def test_nothing_is_indexed_in_vain(recorded: list[Any]) -> None:
    wanted = {one for query in recorded for one in needed(query) if not one.is_composite}
    asked = {(one.collection, field) for one in wanted for field, _ in one.fields}
    for override in FILE["fieldOverrides"]:
        place = override["collectionGroup"], override["fieldPath"]
        assert bool(override["indexes"]) == (place in asked), place
    assert {one.scope for one in wanted} == {"COLLECTION"}


def test_every_query_of_the_code_was_made(recorded: list[Any]) -> None:
    made = {
        (plain(order.field), order.direction.name == DESCENDING, query.from_[0].all_descendants)
        for query in recorded
        for order in list(query.order_by)[:1]
    }
    written = set(queries_in_the_code())
    assert len(written) >= 8
    assert written <= made


TOLD_BY_A_TABLE = {
    "export.py": [(section.order_by, False, False) for section in SECTIONS],
    "erasing.py": [(name, True, False) for name in ("created", "updated", "due")],
}


def queries_in_the_code() -> Iterator[tuple[str, bool, bool]]:
    """The order, direction and reach of each `Query(…)`."""
    for path in (ROOT / "service").rglob("*.py"):
        if "backends" in path.parts or "templates" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Query":
                order = node.args[1]
                if path.name in TOLD_BY_A_TABLE and not isinstance(order, ast.Constant):
                    yield from TOLD_BY_A_TABLE[path.name]
                    continue
                assert isinstance(order, ast.Constant), f"{path}:{node.lineno} orders by what is not seen here"
                flags = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
                yield str(order.value), flags.get("descending") is True, flags.get("of_every_user") is True


def test_the_file_holds_what_the_store_declares() -> None:
    declared = definitions(DIMENSIONS)
    assert declared["indexes"] == FILE["indexes"]
    assert [one for one in declared["fieldOverrides"] if one not in FILE["fieldOverrides"]] == []


def test_the_default_embedders_have_an_index() -> None:
    from service.backends.google.embeddings.embedder import DIMENSIONS as GOOGLE
    from service.backends.openai.embeddings import DIMENSIONS as OPENAI

    assert {GOOGLE, OPENAI[Settings().embedding_model]} == {*DIMENSIONS}


def test_no_query_of_an_app_walks_through_other_apps(recorded: list[Any]) -> None:
    # Without a collection it is all that lies below one user: nothing but their erasure asks for that.
    groups = [query for query in recorded if query.from_[0].all_descendants and query.from_[0].collection_id]
    assert {query.from_[0].collection_id for query in groups} == {*GROUPS}
    assert all(("_app", "EQUAL") in list(filters_of(query.where)) for query in groups)


def test_what_users_write_costs_no_entries() -> None:
    exempt = {(one["collectionGroup"], one["fieldPath"]) for one in FILE["fieldOverrides"] if not one["indexes"]}
    texts = {
        ("turns", "prompt"),
        ("turns", "reply"),
        ("chunks", "chunks"),
        ("vectors", "text"),
        ("vectors", "embedding"),
        ("data", "data"),
    }
    assert texts <= exempt
    assert {collection for collection, _ in exempt} == {*UNINDEXED}
