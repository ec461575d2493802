"""The Vertex AI index beyond the contract: what it sends, what it makes of a faulty index, and how long it takes at most."""

from __future__ import annotations

import inspect
import logging
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import google.auth.exceptions
import grpc
import numpy as np
import pytest
from google.cloud import aiplatform_v1
from google.cloud.aiplatform_v1.services.match_service.transports.grpc import MatchServiceGrpcTransport
from hypothesis import given, settings
from hypothesis import strategies as st

from service.apps import load
from service.backends.google.vertex import VertexVectors, datapoints
from service.backends.google.vertex.failures import FAILURES, MEANINGS, mapped
from service.backends.google.vertex.sparse import normal, of_passage, of_question
from service.backends.google.vertex.wire import FIELDS, message
from service.backends.interfaces import Embeddings, Entry, Search, VectorIndex
from service.config import Settings
from service.context import Context
from service.errors import BadRequest, ConfigError, Unavailable
from service.models import Passage, Scope
from service.proof.process import free_port
from tests.kit.apps import write_app
from tests.kit.vertex import DEPLOYED, ENDPOINT, VertexServer
from tests.kit.vertex.door import API, DOMAIN, TOKEN, FrontDoor
from tests.kit.vertex.index import Point

ROOT = Path(__file__).parent.parent
SPACE = "test-space"
ADA, BOB, SHARED, ELSEWHERE = Scope("law", "ada"), Scope("law", "bob"), Scope("law", None), Scope("cooking", "ada")
CANARY = "canary-of-google"

Make = Callable[[Settings], VectorIndex]


def make(settings: Settings, **limits: float) -> VertexVectors:
    return VertexVectors(settings, None, **limits)  # type: ignore[arg-type]  # it reads no secret


@pytest.fixture
def server() -> Iterator[VertexServer]:
    with VertexServer() as running:
        yield running


@pytest.fixture
def index(server: VertexServer) -> VertexVectors:
    return make(server.settings)


def direction(seed: object, dimensions: int = 16) -> Any:
    numbers = np.random.default_rng(list(repr(seed).encode())).standard_normal(dimensions)
    return (numbers / np.linalg.norm(numbers)).astype(np.float32)


def entry(text: str, chunk: int = 0, document: str = "d1", space: str = SPACE) -> Entry:
    passage = Passage(document=document, chunk=chunk, title="Handbook", text=text)
    return Entry(passage, direction(text), space)


def ask(text: str, limit: int = 10) -> Search:
    return Search(text, direction(text), SPACE, limit)


def owners(index: VectorIndex, scope: Scope, search: Search) -> set[tuple[str, str | None]]:
    return {(hit.app, hit.user) for hit in index.search(scope, search)}


def texts(index: VectorIndex, scope: Scope, search: Search) -> list[str]:
    return [hit.passage.text for hit in index.search(scope, search)]


def fill(index: VectorIndex) -> None:
    """All users have the same document, and the app shares another; the text of each passage also says whose it is."""
    for scope in (ADA, BOB, SHARED, ELSEWHERE):
        document = "d1" if scope.user else "s1"
        index.upsert(scope, [entry(f"the same words of {scope.app} {scope.user}", n, document) for n in range(2)])


# What the first search costs.


def test_the_first_searches_load_none_of_google_s_thousands_of_messages(
    server: VertexServer, index: VertexVectors
) -> None:
    index.upsert(ADA, [entry("something to find")])
    program = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from service.backends.google.vertex import VertexVectors
from service.backends.interfaces import Search
from service.config import Settings
from service.models import Scope
index = VertexVectors(Settings(**{vertex_settings(server)!r}), None)
assert not [name for name in ("grpc", "google.protobuf", "google.auth") if name in sys.modules]
sys.setswitchinterval(1e-6)
with ThreadPoolExecutor(16) as pool:
    found = list(pool.map(lambda _: index.search(Scope("law", "ada"), Search("something", None, "s", 1)), range(16)))
assert [hit.passage.text for hits in found for hit in hits] == ["something to find"] * 16
print([name for name in ("google.cloud.aiplatform_v1", "google.cloud.aiplatform", "proto", "requests") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def vertex_settings(server: VertexServer) -> dict[str, str]:
    names = ("vertex_index", "vertex_index_endpoint", "vertex_deployed_index", "vertex_emulator_host")
    return {name: getattr(server.settings, name) for name in names}


# The messages are Google's.

HOMES = {"Query": "FindNeighborsRequest", "RRF": "FindNeighborsRequest.Query", "Neighbor": "FindNeighborsResponse", "NearestNeighbors": "FindNeighborsResponse", "Restriction": "IndexDatapoint", "SparseEmbedding": "IndexDatapoint"}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_each_message_has_the_fields_that_google_ships(name: str) -> None:
    shipped: Any = aiplatform_v1.types
    for part in [*HOMES.get(name, "").split("."), name]:
        shipped = getattr(shipped, part) if part else shipped
    theirs = {field.name: field for field in shipped.pb().DESCRIPTOR.fields}
    for field in message(name).DESCRIPTOR.fields:
        same = theirs[field.name]
        assert (field.number, field.type, field.is_repeated) == (same.number, same.type, same.is_repeated)
        assert (field.message_type and field.message_type.name) == (same.message_type and same.message_type.name)


def test_google_s_own_client_finds_what_was_stored(server: VertexServer, index: VertexVectors) -> None:
    fill(index)
    transport = MatchServiceGrpcTransport(channel=grpc.insecure_channel(server.domain))
    client = aiplatform_v1.MatchServiceClient(transport=transport)
    query = aiplatform_v1.FindNeighborsRequest.Query(
        datapoint=aiplatform_v1.IndexDatapoint(feature_vector=direction("x").tolist()), neighbor_count=100
    )
    request = aiplatform_v1.FindNeighborsRequest(
        index_endpoint=ENDPOINT, deployed_index_id=DEPLOYED, queries=[query], return_full_datapoint=True
    )
    [found] = client.find_neighbors(request=request, timeout=5, retry=None).nearest_neighbors
    # A query that names no namespace is not filtered, which is why the adapter must never send one.
    assert len(found.neighbors) == 8
    carried = dict(found.neighbors[0].datapoint.embedding_metadata)
    assert carried["text"].startswith("the same words of")
    transport.close()  # type: ignore[no-untyped-call]


# What is sent.


def sent(server: VertexServer) -> list[Any]:
    return [query for request in server.calls("FindNeighbors") for query in request.queries]


def named(query: Any) -> dict[str, list[str]]:
    return {one.namespace: list(one.allow_list) for one in query.datapoint.restricts if not one.deny_list}


def test_every_query_names_collection_app_and_owner(server: VertexServer, index: VertexVectors) -> None:
    fill(index)
    for scope in (ADA, SHARED):
        for search in (ask("the same words"), Search("words", None, SPACE, 5), Search("", direction(1), SPACE, 5)):
            assert index.search(scope, search)
    queries = [named(query) for query in sent(server)]
    assert len(queries) == 2 * (2 + 1 + 1)
    for query in queries:
        assert query.keys() - {"space"} == {"collection", "app", "owner"}
        assert len(query["collection"]) == len(query["app"]) == 1
    assert {len(query["owner"]) for query in queries[:4]} == {2}, "a user finds theirs and what the app shares"
    assert {len(query["owner"]) for query in queries[4:]} == {1}


def test_one_search_is_one_request_and_vertex_fuses_where_there_are_a_vector_and_words(
    server: VertexServer, index: VertexVectors
) -> None:
    fill(index)
    for search in (ask("what about the same words"), ask("ERR_1042"), Search("words", None, SPACE, 5), Search("", direction(1), SPACE, 5)):  # fmt: skip
        index.search(ADA, search)
    ordinary, identifier, by_words, by_vector = server.calls("FindNeighbors")
    assert [query.HasField("rrf") for query in ordinary.queries] == [True, False]
    assert identifier.queries[0].rrf.alpha < 0.5 < ordinary.queries[0].rrf.alpha
    [words], [vector] = by_words.queries, by_vector.queries
    assert [bool(one.datapoint.feature_vector) for one in (words, vector)] == [False, True]
    assert [bool(one.datapoint.sparse_embedding.dimensions) for one in (words, vector)] == [True, False]
    assert [one.HasField("rrf") for one in (words, vector)] == [False, False]


def test_a_search_for_nothing_asks_nothing(server: VertexServer, index: VertexVectors) -> None:
    for search in (Search("", None, SPACE, 5), Search("?!", None, SPACE, 5), ask("words", 0)):
        assert index.search(ADA, search) == []
    assert not server.requests


def test_ids_and_tokens_reveal_nothing(server: VertexServer, index: VertexVectors) -> None:
    index.upsert(
        Scope("lawyers", "ada@example.org"), [entry("secret text", document="secret-document", space="openai")]
    )
    [stored] = server.calls("UpsertDatapoints")[0].datapoints
    tokens = [token for one in stored.restricts for token in one.allow_list]
    assert len(stored.datapoint_id) == 64
    for shown in (stored.datapoint_id, *tokens):
        assert not any(word in shown for word in ("lawyers", "ada", "secret", "openai"))
    assert not stored.HasField("crowding_tag")


def test_large_changes_go_in_requests_that_vertex_takes(server: VertexServer, index: VertexVectors) -> None:
    index.upsert(ADA, [entry(f"passage {n}", n) for n in range(600)])
    assert [len(request.datapoints) for request in server.calls("UpsertDatapoints")] == [200, 200, 200]
    assert len(texts(index, ADA, Search("passage", None, SPACE, 1000))) == 600
    index.delete(ADA, "d1", 2500)
    assert [len(request.datapoint_ids) for request in server.calls("RemoveDatapoints")] == [1000, 1000, 500]
    assert not server.index.visible()


def test_text_that_no_protocol_can_hold_is_refused(index: VertexVectors) -> None:
    for refused in (
        lambda: index.upsert(ADA, [entry("half \ud83d a character")]),
        lambda: index.upsert(Scope("law", "\ud83d"), [entry("text")]),
        lambda: index.search(Scope("law", "\ud83d"), ask("text")),
        lambda: index.delete(ADA, "\ud83d", 1),
    ):
        with pytest.raises(BadRequest):
            refused()


# Whatever the names, a filter lets through exactly what a scope may see.

NAMES = st.one_of(
    st.sampled_from(
        ['A","B', "A*", "", "shared", "user:ada", "null", "None", "ada", "law", "law\0ada", '"', "\\", "a", "aa"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
)
SCOPES = st.builds(Scope, NAMES, st.one_of(st.none(), NAMES))


@settings(max_examples=2000, deadline=None)
@given(stored=st.lists(SCOPES, min_size=1, max_size=6), reader=SCOPES, space=st.one_of(st.none(), NAMES))
def test_a_filter_matches_its_own_and_the_shared_alone(stored: list[Scope], reader: Scope, space: str | None) -> None:
    query = message("IndexDatapoint")()
    datapoints.restrict(query, datapoints.reach(reader, space))
    for scope in [*stored, reader, Scope(reader.app, None)]:
        for written in (SPACE, "") if space is None else (space, space + "x"):
            datapoint = message("IndexDatapoint")(datapoint_id="d", feature_vector=[1.0])
            datapoints.restrict(datapoint, datapoints.restricts(scope.app, scope.user, written))
            mine = scope.app == reader.app and scope.user in (reader.user, None) and space in (None, written)
            assert Point.of(datapoint, 1).matches(query.restricts) == mine


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(SCOPES, NAMES, st.integers(0, 3)), max_size=8, unique=True))
def test_no_two_passages_share_an_id(places: list[tuple[Scope, str, int]]) -> None:
    ids = {datapoints.datapoint_id(scope.app, scope.user, document, chunk) for scope, document, chunk in places}
    assert len(ids) == len(places)


# A faulty index.


class FixedEmbedder:
    """Gives each text a vector of its own, always the same."""

    name, model, dimensions, batch_size = SPACE, "fixed", 16, 100

    def embed(self, texts: Any, *, wait: bool = True) -> Embeddings:
        return Embeddings(np.array([direction(text) for text in texts]), tokens=1)

    def check(self) -> None: ...


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.getMessage() == name]  # type: ignore[attr-defined]


@pytest.mark.parametrize("forgotten", [["owner"], ["app", "owner"]])
def test_what_an_index_finds_of_others_is_told_dropped_and_reported(
    server: VertexServer, index: VertexVectors, caplog: pytest.LogCaptureFixture, forgotten: list[str], tmp_path: Path
) -> None:
    fill(index)
    write_app(tmp_path, ADA.app, "[prices.fixed]\nfree = true\n")
    app = load(tmp_path / ADA.app)
    context = Context(None, index, FixedEmbedder())  # type: ignore[arg-type]  # a search reads no document
    own = {passage.text for passage in context.search(ADA, app, "the same words", 10).passages}
    assert own == {"the same words of law ada", "the same words of law None"}
    server.faults.unfiltered = forgotten
    assert (BOB.app, BOB.user) in owners(index, ADA, ask("the same words")), "the hit says what the index has stored"
    with caplog.at_level(logging.ERROR, "brainstem"):
        found = context.search(ADA, app, "the same words", 10).passages
    assert server.faults.fired["unfiltered"]
    assert {passage.text for passage in found} == own
    [event] = events(caplog, "foreign_hits_dropped")
    assert event["hits"] == 2 * (len(forgotten))


def strangers(server: VertexServer) -> list[Any]:
    """Datapoints that no upload has made: empty, forged in what they carry, and under an id that is not theirs."""
    [ada] = [
        p.message for p in server.index.visible().values() if p.message.embedding_metadata["text"].endswith("ada 0")
    ]
    [bob] = [
        p.message for p in server.index.visible().values() if p.message.embedding_metadata["text"].endswith("bob 0")
    ]
    made = {}
    for name in (
        "empty",
        "claims another's owner",
        "claims another app",
        "wrong id",
        "no chunk",
        "a number for text",
        "no restricts",
    ):
        made[name] = type(bob)()
        made[name].CopyFrom(bob)
    made["empty"].Clear()
    made["empty"].datapoint_id = "unknown"
    made["claims another's owner"].embedding_metadata["user"] = "ada"
    made["claims another app"].embedding_metadata.update({"app": "law", "user": None})
    made["wrong id"].CopyFrom(ada)
    made["wrong id"].datapoint_id = bob.datapoint_id
    made["no chunk"].embedding_metadata.fields.pop("chunk")
    made["a number for text"].embedding_metadata["text"] = 7
    del made["no restricts"].restricts[:]
    return list(made.values())


def test_what_does_not_agree_with_itself_is_dropped_and_reported(
    server: VertexServer, index: VertexVectors, caplog: pytest.LogCaptureFixture
) -> None:
    for scope in (ADA, BOB):
        index.upsert(scope, [entry(f"words of {scope.user} {n}", n) for n in range(2)])
    before = index.search(ADA, ask("words"))
    server.faults.strangers = strangers(server)
    with caplog.at_level(logging.ERROR, "brainstem"):
        assert index.search(ADA, ask("words")) == before != []
    assert server.faults.fired["strangers"]
    assert [event["hits"] for event in events(caplog, "strange_hits_dropped")] == [7, 7]


def test_a_deleted_passage_stays_away_though_the_index_still_finds_it(
    server: VertexServer, index: VertexVectors
) -> None:
    index.upsert(ADA, [entry("words that go", 0), entry("words that stay", 1)])
    server.faults.keep_deleted = True
    index.delete(ADA, "d1", 1)
    assert texts(index, ADA, ask("words")) == ["words that stay"]
    assert server.faults.fired["keep_deleted"]
    server.faults.keep_deleted = False
    make(server.settings).upsert(ADA, [entry("words that came back")])
    assert set(texts(index, ADA, ask("words"))) == {"words that came back", "words that stay"}
    index.upsert(ADA, [entry("words of mine")])
    assert set(texts(index, ADA, ask("words"))) == {"words of mine", "words that stay"}


def test_a_passage_found_three_times_is_one_hit(server: VertexServer, index: VertexVectors) -> None:
    index.upsert(ADA, [entry(f"words {n}", n) for n in range(5)])
    server.faults.duplicates = True
    assert sorted(texts(index, ADA, ask("words"))) == [f"words {n}" for n in range(5)]
    assert server.faults.fired["duplicates"]


def test_answers_to_other_questions_are_no_answers(server: VertexServer, index: VertexVectors) -> None:
    fill(index)
    server.faults.one_answer_less = True
    with pytest.raises(Unavailable, match="another number"):
        index.search(ADA, ask("words"))


def test_an_index_of_another_length_says_what_to_check(server: VertexServer, index: VertexVectors) -> None:
    fill(index)
    with pytest.raises(Unavailable, match="embedder's length"):
        index.search(ADA, Search("", direction(1, 8), SPACE, 5))


# Every guard is needed.

Mutant = tuple[str, str, str]
MUTANTS: dict[str, Mutant] = {
    "no filter": ("questions.py", "restrict(query.datapoint, reach(scope, space))", "pass"),
    "no app": ("datapoints.py", '"app": own["app"], ', ""),
    "no owner": ("datapoints.py", ', "owner": owners}', "}"),
    "no collection": ("datapoints.py", '{"collection": own["collection"], ', "{"),
    "no space": ("datapoints.py", '{**found, "space": own["space"]}', "found"),
    "owner without user": ("datapoints.py", 'token("owner", app, user)', 'token("owner", app)'),
    "id without app": ("datapoints.py", 'token("datapoint", app, user,', 'token("datapoint", user,'),
    "id without user": ("datapoints.py", 'token("datapoint", app, user,', 'token("datapoint", app,'),
    "shared for all apps": ("datapoints.py", 'token("owner", app, user)', 'token("owner", user)'),
    "strangers believed": ("datapoints.py", "return stored if agrees and", "return stored if True or"),
    "deleted believed": ("__init__.py", " and not covers(deletions, one)", ""),
    "words not needed": ("questions.py", "not self.words.isdisjoint(stored.words)", "True"),
    "foreign takes the place": ("questions.py", "stored.key if own else (stored.app, stored.user, *stored.key)", "stored.key"),
    "change not awaited": ("__init__.py", "for datapoint in batch}, deadline)", "for datapoint in batch if False}, deadline)"),
    "removal not awaited": ("__init__.py", "self._await(dict.fromkeys(batch), deadline)", "pass"),
}  # fmt: skip


def guards(made: Callable[..., VectorIndex]) -> None:
    """Assert all that stands between two scopes, and between a search and what must not be found."""
    with VertexServer() as server:
        index = made(server.settings, None, change_seconds=5.0)
        fill(index)
        assert len(server.index.visible()) == 8
        for guard in (finds_its_own, asks_for_its_own, believes_no_stranger, keeps_its_place, forgets, waits):
            guard(server, index, made)


def finds_its_own(server: VertexServer, index: VectorIndex, made: Callable[..., VectorIndex]) -> None:
    for scope in (ADA, BOB):
        assert owners(index, scope, ask("the same words", 100)) == {("law", scope.user), ("law", None)}
    assert owners(index, ELSEWHERE, ask("the same words", 100)) == {("cooking", "ada")}
    assert index.search(ADA, Search("zebra", None, SPACE, 10)) == []


def asks_for_its_own(server: VertexServer, index: VectorIndex, made: Callable[..., VectorIndex]) -> None:
    """Even a filter by owner alone would keep the apps apart, though none is ever sent."""
    for query in sent(server):
        assert named(query).keys() >= {"collection", "app", "owner"}
        assert not query.datapoint.feature_vector or "space" in named(query)
    assert not owned(server, "law") & owned(server, "cooking")


def owned(server: VertexServer, app: str) -> set[str]:
    """The owners' tokens that searches of an app have named."""
    [token] = {one for p in stored(server) if p.message.embedding_metadata["app"] == app for one in p.allowed["app"]}
    return {owner for query in sent(server) if named(query)["app"] == [token] for owner in named(query)["owner"]}


def stored(server: VertexServer) -> list[Point]:
    return list(server.index.visible().values())


def believes_no_stranger(server: VertexServer, index: VectorIndex, made: Callable[..., VectorIndex]) -> None:
    forged = type(stored(server)[0].message)()
    forged.CopyFrom(stored(server)[0].message)
    forged.datapoint_id = "forged"
    forged.embedding_metadata["document"] = "forged"
    server.faults.strangers = [forged]
    assert "forged" not in {hit.passage.document for hit in index.search(ADA, ask("the same words", 100))}
    assert server.faults.fired["strangers"]
    server.faults.strangers = []


def keeps_its_place(server: VertexServer, index: VectorIndex, made: Callable[..., VectorIndex]) -> None:
    """A foreign passage that an index finds wrongly, and which is then dropped, hides none of the scope's own."""
    server.faults.unfiltered = ["app", "owner"]
    for scope in (ADA, BOB, ELSEWHERE):
        assert (scope.app, scope.user) in owners(index, scope, ask("the same words", 100))
    assert server.faults.fired["unfiltered"]
    server.faults.unfiltered = []


def forgets(server: VertexServer, index: VectorIndex, made: Callable[..., VectorIndex]) -> None:
    server.faults.keep_deleted = True
    index.delete(ADA, "d1", 2)
    assert owners(index, ADA, ask("the same words", 100)) == {("law", None)}
    assert server.faults.fired["keep_deleted"]
    server.faults.keep_deleted = False


def waits(server: VertexServer, index: VectorIndex, made: Callable[..., VectorIndex]) -> None:
    """Asked of another process, which remembers nothing of the change itself."""
    server.index.lag = 0.2
    index.upsert(ADA, [entry("late words", 5)])
    assert "late words" in texts(made(server.settings, None), ADA, ask("late words", 100))
    index.delete(ADA, "d1", 6)
    assert "late words" not in texts(made(server.settings, None), ADA, ask("late words", 100))


def test_all_guards_stand() -> None:
    guards(VertexVectors)


@pytest.mark.parametrize("name", MUTANTS)
def test_without_any_one_guard_the_tests_fail(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, old, new = MUTANTS[name]
    package = f"vertex_mutant_{list(MUTANTS).index(name)}"
    shutil.copytree(ROOT / "service/backends/google/vertex", tmp_path / package)
    for path in (tmp_path / package).glob("*.py"):
        text = path.read_text().replace("service.backends.google.vertex", package)
        if path.name == file:
            assert text.count(old) == 1, f"{name}: the code has changed, so must the mutant"
            text = text.replace(old, new)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(AssertionError):
        guards(import_module(package).VertexVectors)


# Failures and time.

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
PASSING = ["ABORTED", "INTERNAL", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "UNKNOWN"]


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_each_status_has_a_meaning_and_only_those_that_may_pass_are_tried_again(
    server: VertexServer, index: VertexVectors, code: grpc.StatusCode
) -> None:
    fill(index)
    server.faults.failures = [("FindNeighbors", code, False)] * 10
    asked = len(server.requests)
    with pytest.raises(Unavailable) as raised:
        index.search(ADA, ask("words"))
    assert server.faults.fired["failures"] == len(server.requests) - asked == (4 if code.name in PASSING else 1)
    assert raised.value.detail == MEANINGS[code]
    assert CANARY not in "".join(traceback.format_exception(raised.value))


def test_the_map_of_failures_is_complete() -> None:
    assert set(MEANINGS) == set(CODES)
    raised = {
        error for module in (grpc, google.auth.exceptions) for _, error in inspect.getmembers(module, inspect.isclass)
    }
    errors = {error for error in raised if issubclass(error, Exception) and error is not grpc.aio.AbortError}
    assert {error.__name__ for error in errors} >= {
        "RpcError",
        "FutureTimeoutError",
        "RefreshError",
        "DefaultCredentialsError",
    }
    for error in errors:
        assert issubclass(error, FAILURES), f"{error} is new: decide what it means"
        meant = mapped(error(CANARY))
        assert meant.detail
        assert CANARY not in meant.detail


@pytest.mark.parametrize("applied", [False, True], ids=["lost-request", "lost-reply"])
@pytest.mark.parametrize(
    "method", ["UpsertDatapoints", "RemoveDatapoints", "FindNeighbors", "ReadIndexDatapoints", "GetIndexEndpoint"]
)
def test_a_call_that_fails_once_is_made_again(
    server: VertexServer, index: VertexVectors, method: str, applied: bool
) -> None:
    server.faults.failures = [(method, grpc.StatusCode.UNAVAILABLE, applied)]
    index.upsert(ADA, [entry("words", 0), entry("words", 1)])
    assert len(texts(index, ADA, ask("words"))) == 2
    index.delete(ADA, "d1", 1)
    assert len(texts(index, ADA, ask("words"))) == 1
    assert server.faults.fired == {"failures": 1}


def took(call: Callable[[], object]) -> float:
    started = time.monotonic()
    with pytest.raises(Unavailable):
        call()
    return time.monotonic() - started


def test_a_slow_search_ends_within_two_seconds(server: VertexServer, index: VertexVectors) -> None:
    fill(index)
    server.faults.delay = 4.0
    assert 1.8 < took(lambda: index.search(ADA, ask("words"))) < 2.5
    assert server.faults.fired["delay"]


def test_an_index_that_is_down_is_told_at_once_and_found_again(server: VertexServer, index: VertexVectors) -> None:
    fill(index)
    server.stop()
    for call in (lambda: index.search(ADA, ask("words")), index.check, lambda: index.upsert(ADA, [entry("x")])):
        assert took(call) < 2.5
    server.start()
    started = time.monotonic()
    while not found_again(index) and time.monotonic() - started < 10:
        time.sleep(0.05)
    assert time.monotonic() - started < 5
    assert texts(index, ADA, ask("the same words"))


def found_again(index: VertexVectors) -> bool:
    try:
        return bool(index.search(ADA, ask("the same words")))
    except Unavailable:
        return False


def test_a_change_that_does_not_show_in_time_is_said_to_be_missing(server: VertexServer) -> None:
    index = make(server.settings, change_seconds=0.4)
    index.upsert(ADA, [entry("old words")])
    server.index.lag = 60.0
    changes: list[Callable[[], None]] = [
        lambda: index.upsert(ADA, [entry("new words")]),
        lambda: index.delete(ADA, "d1", 1),
    ]
    for change in changes:
        with pytest.raises(Unavailable, match="longer than usual"):
            change()
    assert [point.message.embedding_metadata["text"] for point in stored(server)] == ["old words"]


def test_storing_returns_once_the_new_text_shows(server: VertexServer, index: VertexVectors) -> None:
    index.upsert(ADA, [entry("old words")])
    server.index.lag = 0.3
    for text in ("new words", "newer words"):
        started = time.monotonic()
        index.upsert(ADA, [entry(text)])
        assert 0.3 <= time.monotonic() - started < 1.5
        assert texts(make(server.settings), ADA, ask("words")) == [text]


def test_waiting_needs_no_answer_about_ids_that_are_not_there(server: VertexServer, index: VertexVectors) -> None:
    server.faults.unknown_ids_are_an_error, server.index.lag = True, 0.2
    index.upsert(ADA, [entry("words", 0), entry("words", 1)])
    assert len(texts(index, ADA, ask("words"))) == 2
    index.delete(ADA, "d1", 2)
    assert texts(index, ADA, ask("words")) == []
    index.check()
    assert server.faults.fired["unknown_ids_are_an_error"] >= 3


def test_an_endpoint_made_anew_is_found_at_its_new_address(server: VertexServer, index: VertexVectors) -> None:
    fill(index)
    server.stop()
    server.domain = server.endpoint.public_endpoint_domain_name = f"127.0.0.1:{free_port()}"
    server.start()
    started = time.monotonic()
    while not found_again(index) and time.monotonic() - started < 10:
        time.sleep(0.05)
    assert texts(index, ADA, ask("the same words"))


# Set-up.


def test_missing_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"VERTEX_INDEX \(.*VERTEX_INDEX_ENDPOINT \(.*VERTEX_DEPLOYED_INDEX \("):
        make(Settings())


def test_the_address_of_searches_is_asked_once(server: VertexServer, index: VertexVectors) -> None:
    fill(index)
    for _ in range(3):
        index.search(ADA, ask("words"))
    assert len(server.calls("GetIndexEndpoint")) == 1


def test_the_check_says_what_is_wrong_with_the_endpoint(server: VertexServer, index: VertexVectors) -> None:
    index.check()
    server.endpoint.public_endpoint_domain_name = ""
    with pytest.raises(Unavailable, match="publicEndpointEnabled"):
        index.check()
    with pytest.raises(Unavailable, match="VERTEX_DEPLOYED_INDEX"):
        make(replace(server.settings, vertex_deployed_index="another")).check()
    with pytest.raises(Unavailable, match="VERTEX_INDEX_ENDPOINT"):
        make(replace(server.settings, vertex_index_endpoint="333")).check()
    server.faults.failures = [("ReadIndexDatapoints", grpc.StatusCode.PERMISSION_DENIED, False)]
    server.endpoint.public_endpoint_domain_name = server.domain
    with pytest.raises(Unavailable, match=r"roles/aiplatform\.user"):
        index.check()


def test_without_credentials_the_check_says_how_to_have_some(
    server: VertexServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(Unavailable, match="gcloud auth application-default login"):
        make(replace(server.settings, vertex_emulator_host="")).check()


def test_many_threads_share_two_connections(server: VertexServer, index: VertexVectors) -> None:
    fill(index)
    fresh = make(server.settings)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: owners(fresh, ADA, ask("the same words")), range(64)))
    assert found == [{("law", "ada"), ("law", None)}] * 64
    peers = [metadata["peer"] for method, _, metadata in server.requests if method == "FindNeighbors"]
    assert (len(peers), len(set(peers))) == (64, 1)


def test_over_tls_with_the_service_s_own_credentials_it_reaches_google_s_hosts(tmp_path: Path) -> None:
    """In a process of its own, for gRPC reads its environment once: whom to trust, and the proxy that leads to the server."""
    program = """
from service.backends.google.vertex import VertexVectors
from service.backends.interfaces import Entry, Search
from service.config import Settings
from service.models import Passage, Scope
import numpy as np
given = dict(vertex_index="111", vertex_index_endpoint="222", vertex_deployed_index="brainstem_deployed")
index, ada = VertexVectors(Settings(**given), None), Scope("law", "ada")
index.check()
entry = Entry(Passage(document="d", chunk=0, title="t", text="words found"), np.ones(4, np.float32) / 2, "s")
index.upsert(ada, [entry])
print([hit.passage.text for hit in index.search(ada, Search("words", entry.vector, "s", 3))])
"""
    with FrontDoor(tmp_path) as door:
        given = [sys.executable, "-c", program]
        done = subprocess.run(
            given, capture_output=True, text=True, cwd=ROOT, env=door.environ, check=False, timeout=60
        )
        requests = door.server.requests
    assert done.stdout.strip() == "['words found']", done.stderr
    assert {f"{API}:443", f"{DOMAIN}:443"} <= set(door.connected)
    assert len(requests) >= 4
    assert {metadata.get("authorization") for _, _, metadata in requests} == {f"Bearer {TOKEN}"}


# Words.


@pytest.mark.parametrize("same", [("caching", "cached", "caches", "Cache"), ("recipe", "recipes"), ("Crème", "creme"), ("stopped", "stopping", "stops"), ("policies", "policy"), ("ÉTÉ", "e\u0301te\u0301")])  # fmt: skip
def test_endings_case_and_accents_do_not_matter(same: tuple[str, ...]) -> None:
    assert len({normal(word) for word in same}) == 1


@pytest.mark.parametrize("other", [("bus", "bu"), ("glass", "glas"), ("analysis", "analysi"), ("E24", "E25"), ("red", "r"), ("sing", "s"), ("東", "京")])  # fmt: skip
def test_different_words_stay_different(other: tuple[str, str]) -> None:
    assert normal(other[0]) != normal(other[1])


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("the error ERR_1042 came", "err_1042"),
        ("call foo.bar() now", "foo.bar"),
        ("東京都に行く", "東京"),
        ("東京都に行く", "都"),
    ],
)
def test_what_is_asked_for_is_what_was_indexed(text: str, question: str) -> None:
    passage = of_passage(Passage(document="d", chunk=0, title="", text=text))
    assert of_question(question).keys() <= passage.keys()


def test_an_identifier_outweighs_the_words_around_it() -> None:
    weights = sorted(of_question("what does the ERR_1042 mean").values())
    assert weights[-1] > sum(weight for weight in weights if weight <= 1.0)


@given(st.text(max_size=200), st.text(max_size=50))
def test_any_text_becomes_a_vector_that_vertex_takes(text: str, title: str) -> None:
    for words in (of_passage(Passage(document="d", chunk=0, title=title, text=text)), of_question(text)):
        assert all(0 <= place < 2**31 and 0 < weight < 10 for place, weight in words.items())
