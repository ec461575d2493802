"""What the Firestore document store promises beyond the contract: lost replies, bounded calls, honest errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from service.backends.google.firestore import FirestoreDocuments, failures
from service.backends.google.firestore.connection import Failed
from service.backends.interfaces import Create, Delete, Query, Set, Snapshot, Update, Write
from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
from service.errors import AlreadyExists, BadRequest, ConfigError, PreconditionFailed, StoreError, TooLarge, Unavailable
from service.models import Scope
from tests.kit.emulators import Emulators
from tests.kit.firestore_proxy import FirestoreProxy, own_database

ADA = Scope("recipes", "ada")
CHAT = ("chats", "c1")
TURN = ("chats", "c1", "turns", "t1")
CHATS = Query(("chats",), "n")


@pytest.fixture
def proxy(firebase: Emulators) -> Iterator[FirestoreProxy]:
    with FirestoreProxy(firebase.hosts["firestore"]) as running:
        yield running


@pytest.fixture
def database(settings: Settings, proxy: FirestoreProxy) -> Settings:
    return own_database(settings, proxy.host)


@pytest.fixture
def documents(database: Settings) -> FirestoreDocuments:
    return store(database)


@pytest.fixture
def direct(database: Settings, firebase: Emulators) -> FirestoreDocuments:
    """The same database, past the proxy."""
    return store(replace(database, firestore_emulator_host=firebase.hosts["firestore"]))


def store(settings: Settings) -> FirestoreDocuments:
    return FirestoreDocuments(settings, EnvironmentSecrets(settings))


def read(documents: FirestoreDocuments, path: tuple[str, ...] = CHAT) -> Snapshot:
    [found] = documents.get(ADA, path)
    assert found is not None
    return found


# Round trips


def test_each_call_is_one_round_trip(documents: FirestoreDocuments, proxy: FirestoreProxy) -> None:
    documents.commit(ADA, [Create(("chats", str(n)), {"n": n}) for n in range(100)])
    documents.get(ADA, *(("chats", str(n)) for n in range(200)))
    documents.query(ADA, CHATS)
    documents.check()
    assert [call.method for call in proxy.calls] == ["Commit", "BatchGetDocuments", "RunQuery", "BatchGetDocuments"]


def test_what_asks_for_nothing_or_the_impossible_makes_no_call(
    documents: FirestoreDocuments, proxy: FirestoreProxy
) -> None:
    assert not documents.get(ADA)
    assert not documents.commit(ADA, [])
    assert not documents.query(ADA, replace(CHATS, limit=0))
    refused: list[Write] = [
        Set(("chats",), {}),
        Set(CHAT, {"n": 2**63}),
        Set(CHAT, {"x": "x" * 2_000_000}),
        Update(CHAT, {"n": 1}, "nonsense"),
        Delete(CHAT, "9" * 30),
    ]
    for write in refused:
        with pytest.raises((BadRequest, TooLarge, PreconditionFailed)):
            documents.commit(ADA, [write])
    assert proxy.calls == []


# Lost replies

CONDITIONAL: dict[str, Callable[[str], list[Write]]] = {
    "create": lambda old: [Create(TURN, {"run": "mine"})],
    "update with version": lambda old: [Update(CHAT, {"run": "mine"}, old)],
    "update that changes nothing": lambda old: [Update(CHAT, {"n": 1}, old)],
    "a turn begins": lambda old: [
        Update(CHAT, {"running": "t1"}, old),
        Create(TURN, {"run": "mine"}),
        Set(("calls", "x"), {}),
    ],
    "delete with version": lambda old: [Delete(CHAT, old)],
    "a chat goes": lambda old: [Delete(TURN), Delete(CHAT, old)],
    "one goes, one comes": lambda old: [Delete(CHAT, old), Create(TURN, {})],
}
DOUBTFUL = [
    StatusCode.UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.INTERNAL,
    StatusCode.UNKNOWN,
    StatusCode.CANCELLED,
]


@pytest.mark.parametrize("status", DOUBTFUL, ids=lambda status: str(status.name))
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("writes", CONDITIONAL.values(), ids=CONDITIONAL)
def test_a_commit_whose_reply_is_lost_has_one_effect_and_is_known(
    documents: FirestoreDocuments,
    direct: FirestoreDocuments,
    proxy: FirestoreProxy,
    writes: Any,
    when: Any,
    status: StatusCode,
) -> None:
    [old] = direct.commit(ADA, [Set(CHAT, {"n": 1})])
    fault = proxy.fail("Commit", when=when, status=status)
    commit = writes(old)
    versions = documents.commit(ADA, commit)
    assert fault.fired == 1
    assert proxy.counts() == {"Commit": 2} | ({"BatchGetDocuments": 1} if when == "after" else {})
    found = direct.get(ADA, *(write.path for write in commit))
    assert versions == [snapshot.version if snapshot else "" for snapshot in found]
    assert [snapshot is None for snapshot in found] == [isinstance(write, Delete) for write in commit]
    # The versions are those to go on with.
    documents.commit(
        ADA, [Update(w.path, {"n": 3}, v) for w, v in zip(commit, versions, strict=True) if v] or [Set(CHAT, {})]
    )


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_without_precondition_is_made_again(
    documents: FirestoreDocuments, direct: FirestoreDocuments, proxy: FirestoreProxy, when: Any
) -> None:
    direct.commit(ADA, [Set(CHAT, {"n": 1}), Set(TURN, {})])
    fault = proxy.fail("Commit", when=when, times=3)
    [_, version, _] = documents.commit(ADA, [Set(("calls", "x"), {"n": 1}), Update(CHAT, {"n": 2}), Delete(TURN)])
    assert fault.fired == 3
    assert read(direct) == Snapshot(CHAT, {"n": 2}, version)
    assert direct.get(ADA, TURN) == [None]


def test_anothers_write_is_never_taken_for_ones_own(
    documents: FirestoreDocuments, direct: FirestoreDocuments, proxy: FirestoreProxy
) -> None:
    """The same content is no proof: who lost the race is told so, or that it cannot be told, but never that they won."""
    [old] = direct.commit(ADA, [Set(CHAT, {"n": 1})])
    for write in (Create(TURN, {"n": 2}), Update(CHAT, {"n": 2}, old)):
        fault = proxy.fail("Commit")  # the first attempt never arrives, and meanwhile another writes the same
        direct.commit(ADA, [write])
        with pytest.raises(Unavailable, match="cannot be told"):
            documents.commit(ADA, [write])
        assert fault.fired == 1
    with pytest.raises(AlreadyExists):
        documents.commit(ADA, [Create(TURN, {"n": 2})])
    with pytest.raises(PreconditionFailed):
        documents.commit(ADA, [Update(CHAT, {"n": 2}, old)])


def test_ones_own_write_that_others_wrote_over_is_in_doubt(
    documents: FirestoreDocuments, direct: FirestoreDocuments, proxy: FirestoreProxy
) -> None:
    fault = proxy.fail("Commit", when="after")
    proxy.delay(0.15)
    caught: list[BaseException] = []

    def create() -> None:
        try:
            documents.commit(ADA, [Create(CHAT, {"n": 1})])
        except Unavailable as exc:
            caught.append(exc)

    thread = threading.Thread(target=create)
    thread.start()
    while direct.get(ADA, CHAT) == [None]:
        time.sleep(0.005)
    direct.commit(ADA, [Update(CHAT, {"n": 2})])
    thread.join()
    assert fault.fired == 1
    assert "cannot be told" in str(caught[0])
    assert read(direct).data == {"n": 2}


def test_of_many_that_claim_with_lost_replies_one_wins_or_none_is_told(
    documents: FirestoreDocuments, direct: FirestoreDocuments, proxy: FirestoreProxy
) -> None:
    for attempt in range(4):
        [old] = direct.commit(ADA, [Set(CHAT, {"by": None})])
        faults = [proxy.fail("Commit", nth=n, when="after") for n in (1, 3, 5)]
        outcomes: list[str] = []
        start = threading.Barrier(8)

        def claim(old: str = old, outcomes: list[str] = outcomes, start: threading.Barrier = start) -> None:
            start.wait()
            try:
                documents.commit(ADA, [Update(CHAT, {"by": "the same"}, old)])
                outcomes.append("won")
            except PreconditionFailed:
                outcomes.append("lost")
            except Unavailable:
                outcomes.append("unknown")

        threads = [threading.Thread(target=claim) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(outcomes) == 8
        assert outcomes.count("won") <= 1, attempt
        assert outcomes.count("won") == 1 or "unknown" in outcomes
        assert any(fault.fired for fault in faults)
        proxy.heal()


# Deadlines

CALLS: dict[str, Callable[[FirestoreDocuments], object]] = {
    "get": lambda documents: documents.get(ADA, CHAT),
    "query": lambda documents: documents.query(ADA, CHATS),
    "commit": lambda documents: documents.commit(ADA, [Set(CHAT, {"n": 1})]),
    "create": lambda documents: documents.commit(ADA, [Create(TURN, {"n": 1})]),
    "check": lambda documents: documents.check(),
}


def seconds_until_unavailable(call: Callable[[], object]) -> tuple[float, str]:
    started = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        call()
    return time.monotonic() - started, caught.value.detail


def test_a_database_that_is_down_is_unavailable_soon_and_found_again_when_it_is_back(
    documents: FirestoreDocuments, proxy: FirestoreProxy
) -> None:
    documents.commit(ADA, [Set(CHAT, {"n": 1})])
    proxy.down()
    for call in CALLS.values():
        seconds, detail = seconds_until_unavailable(lambda call=call: call(documents))  # type: ignore[misc]
        assert seconds < 5
        assert detail == "The document store cannot be used: it cannot be reached."
    proxy.up()
    started = time.monotonic()
    assert read(documents).data == {"n": 1}
    assert time.monotonic() - started < 5


def test_a_database_that_never_answers_is_unavailable_within_five_seconds(
    documents: FirestoreDocuments, proxy: FirestoreProxy
) -> None:
    documents.check()
    proxy.delay(8)
    outcomes: list[tuple[float, str]] = []
    threads = [
        threading.Thread(target=lambda call=call: outcomes.append(seconds_until_unavailable(lambda: call(documents))))
        for call in CALLS.values()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == len(CALLS)
    assert max(seconds for seconds, _ in outcomes) < 5
    assert {detail for _, detail in outcomes} == {"The document store cannot be used: it does not answer in time."}


def test_a_slow_database_is_waited_for(documents: FirestoreDocuments, proxy: FirestoreProxy) -> None:
    proxy.delay(1.0)
    documents.commit(ADA, [Create(CHAT, {"n": 1})])
    assert proxy.counts() == {"Commit": 1}


@pytest.mark.parametrize("call", ["get", "query", "commit"])
def test_a_hiccup_is_not_noticed(documents: FirestoreDocuments, proxy: FirestoreProxy, call: str) -> None:
    method = {"get": "BatchGetDocuments", "query": "RunQuery", "commit": "Commit"}[call]
    for status in (*DOUBTFUL, StatusCode.ABORTED, StatusCode.RESOURCE_EXHAUSTED):
        fault = proxy.fail(method, status=status, times=2)
        CALLS[call](documents)
        assert fault.fired == 2


def test_a_reply_that_breaks_off_is_read_anew(documents: FirestoreDocuments, proxy: FirestoreProxy) -> None:
    documents.commit(ADA, [Set(("chats", str(n)), {"n": n}) for n in range(50)])
    for method in ("RunQuery", "BatchGetDocuments"):
        proxy.fail(method, when="after")
    assert len(documents.query(ADA, CHATS)) == 50
    assert len(documents.get(ADA, *(("chats", str(n)) for n in range(50)))) == 50
    assert proxy.counts() == {"Commit": 1, "RunQuery": 2, "BatchGetDocuments": 2}


def test_contention_ends_within_three_seconds(documents: FirestoreDocuments, proxy: FirestoreProxy) -> None:
    fault = proxy.fail("Commit", status=StatusCode.ABORTED, times=100)
    seconds, detail = seconds_until_unavailable(lambda: documents.commit(ADA, [Create(CHAT, {"n": 1})]))
    assert seconds < 3
    assert detail == "The document store cannot be used: others keep changing the same documents."
    assert fault.fired == failures.ATTEMPTS


# Errors


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (StatusCode.PERMISSION_DENIED, "needs roles/datastore.user"),
        (StatusCode.UNAUTHENTICATED, "Application Default Credentials"),
        (StatusCode.UNIMPLEMENTED, "FIRESTORE_EMULATOR_HOST"),
        (StatusCode.NOT_FOUND, "FIRESTORE_DATABASE"),
        (StatusCode.FAILED_PRECONDITION, "firestore.indexes.json"),
        (StatusCode.DATA_LOSS, "lost data"),
    ],
    ids=str,
)
def test_a_refusal_is_not_repeated_and_says_what_to_do(
    documents: FirestoreDocuments, proxy: FirestoreProxy, status: StatusCode, remedy: str
) -> None:
    fault = proxy.fail("RunQuery", status=status, details="secret words of the upstream", times=9)
    with pytest.raises(Unavailable, match=remedy) as caught:
        documents.query(ADA, CHATS)
    assert fault.fired == 1
    assert "secret" not in caught.value.detail
    assert caught.value.__cause__ is None


def test_a_database_that_does_not_exist_is_no_lost_race(documents: FirestoreDocuments, proxy: FirestoreProxy) -> None:
    missing = "The database main does not exist for project p. Please visit …"
    proxy.fail("Commit", status=StatusCode.NOT_FOUND, details=missing)
    with pytest.raises(Unavailable, match="FIRESTORE_DATABASE"):
        documents.commit(ADA, [Update(CHAT, {"n": 1})])


def test_what_the_server_finds_invalid_is_the_callers_fault(
    documents: FirestoreDocuments, proxy: FirestoreProxy
) -> None:
    for status in (StatusCode.INVALID_ARGUMENT, StatusCode.OUT_OF_RANGE):
        fault = proxy.fail("Commit", status=status, times=9)
        with pytest.raises(BadRequest):
            documents.commit(ADA, [Set(CHAT, {"n": 1})])
        assert fault.fired == 1
        proxy.heal()


@pytest.mark.parametrize("code", StatusCode, ids=str)
@pytest.mark.parametrize("conditional", [False, True])
def test_every_status_has_a_meaning(code: StatusCode, conditional: bool) -> None:
    error = failures.mapped(Failed(code, "", False), "The document store", conditional=conditional)
    assert isinstance(error, Unavailable | StoreError | BadRequest | TooLarge)
    assert error.detail
    assert isinstance(error, StoreError) == (conditional and code in failures.REFUSED)


def test_without_credentials_it_is_unavailable(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    for call in CALLS.values():
        with pytest.raises(Unavailable, match="Application Default Credentials"):
            call(store(settings))


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(ConfigError, match="GOOGLE_CLOUD_PROJECT"):
        store(Settings(google_cloud_project=""))
    with pytest.raises(ConfigError, match="FIRESTORE_DATABASE"):
        store(Settings(firestore_database=""))


# What others see and write


def test_the_database_is_the_one_that_the_settings_name(database: Settings, firebase: Emulators) -> None:
    one, other = (store(replace(database, firestore_database=name)) for name in ("(default)", "second"))
    one.commit(ADA, [Create(CHAT, {"n": 1})])
    assert other.get(ADA, CHAT) == [None]
    other.commit(ADA, [Create(CHAT, {"n": 2})])
    assert read(one).data == {"n": 1}


def test_what_a_client_wrote_with_firebases_sdk_is_read_as_json(
    documents: FirestoreDocuments, database: Settings, firebase: Emulators
) -> None:
    from google.cloud.firestore_v1.types import document, firestore
    from google.cloud.firestore_v1.types import write as writing

    value: Any = document.Value.pb()
    fields = {
        "when": value(timestamp_value={"seconds": 1_700_000_000, "nanos": 5_000_000}),
        "bytes": value(bytes_value=b"abc"),
        "place": value(geo_point_value={"latitude": 1.5, "longitude": 2.0}),
        "friend": value(reference_value="projects/p/databases/(default)/documents/a/b"),
        "nan": value(double_value=float("nan")),
        "vector": value(map_value={"fields": {"__type__": value(string_value="__vector__"), "value": value(array_value={"values": [value(double_value=0.5)]})}}),
        "_commit": value(string_value="forged"),
        "plain": value(integer_value=7),
    }  # fmt: skip
    root = f"projects/{database.google_cloud_project}/databases/(default)"
    name = f"{root}/documents/apps/recipes/users/ada/data/me"
    request = firestore.CommitRequest.pb()(
        database=root, writes=[writing.Write.pb()(update=document.Document.pb()(name=name, fields=fields))]
    )
    with grpc.insecure_channel(firebase.hosts["firestore"]) as channel:
        commit = channel.unary_unary(
            "/google.firestore.v1.Firestore/Commit", request_serializer=firestore.CommitRequest.pb().SerializeToString
        )
        commit(request, metadata=[("authorization", "Bearer owner")], timeout=10)
    assert read(documents, ("data", "me")).data == {
        "when": "2023-11-14T22:13:20.005Z",
        "bytes": "YWJj",
        "place": {"latitude": 1.5, "longitude": 2.0},
        "friend": "projects/p/databases/(default)/documents/a/b",
        "nan": None,
        "vector": [0.5],
        "plain": 7,
    }
    found = documents.query(ADA, Query(("data",), "plain"))
    assert [snapshot.path for snapshot in found] == [("data", "me")]


def test_many_threads_share_one_channel(database: Settings, proxy: FirestoreProxy) -> None:
    documents = store(database)
    start = threading.Barrier(24)
    done: list[object] = []

    def work(n: int) -> None:
        start.wait()
        documents.commit(ADA, [Create(("chats", str(n)), {"n": n})])
        done.append(read(documents, ("chats", str(n))).data["n"])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {*done} == {*range(24)}
    assert proxy.peers() == 1
