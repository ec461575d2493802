"""What the Firestore index promises beside the contract: one round trip, bounded commits, rare words found among common ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from grpc import StatusCode

from service.backends.google.firestore import FirestoreDocuments, FirestoreVectors, keywords
from service.backends.google.firestore.indexes import GROUPS, definitions
from service.backends.interfaces import Entry, Search, Set
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.vectors import LocalVectors
from service.config import Settings
from service.errors import BadRequest, ConfigError, TooLarge, Unavailable
from service.models import JSON, Passage, Scope
from tests.kit.emulators import Emulators
from tests.kit.firestore_proxy import FirestoreProxy, own_database

if TYPE_CHECKING:
    from service.backends.interfaces import Vectors

ADA, SHARED = Scope("recipes", "ada"), Scope("recipes", None)
SPACE = "test-space"


@pytest.fixture
def proxy(firebase: Emulators) -> Iterator[FirestoreProxy]:
    with FirestoreProxy(firebase.hosts["firestore"]) as running:
        yield running


@pytest.fixture
def database(settings: Settings, proxy: FirestoreProxy) -> Settings:
    return own_database(settings, proxy.host)


@pytest.fixture
def index(database: Settings) -> FirestoreVectors:
    return FirestoreVectors(database, EnvironmentSecrets(database))


def direction(seed: int, dimensions: int = 16) -> Vectors:
    numbers = np.random.default_rng(seed).standard_normal(dimensions)
    return (numbers / np.linalg.norm(numbers)).astype(np.float32)


def entry(text: str, chunk: int = 0, document: str = "d1", vector: Vectors | None = None) -> Entry:
    passage = Passage(document=document, chunk=chunk, title="Handbook", text=text, headings=("One",), page=3)
    return Entry(passage, direction(chunk) if vector is None else vector, SPACE)


def by_words(index: FirestoreVectors, text: str, limit: int = 10) -> list[str]:
    return [hit.passage.text for hit in index.search(ADA, Search(text, None, SPACE, limit))]


# Round trips


def test_a_search_takes_the_time_of_one_round_trip(index: FirestoreVectors, proxy: FirestoreProxy) -> None:
    index.upsert(ADA, [entry("the pump shows E24 when the drain hose is kinked")])
    index.upsert(SHARED, [entry("the handbook of all pumps", document="d2")])
    question = Search("Why does the drain pump show E24?", direction(0), SPACE, 5)
    index.search(ADA, question)
    before = proxy.counts()
    proxy.delay(0.4)
    started = time.monotonic()
    hits = index.search(ADA, question)
    seconds = time.monotonic() - started
    assert {hit.user for hit in hits} == {"ada", None}
    # Both collections are asked for the vector, what is named, and each of the longest three words.
    assert proxy.counts() - before == {"RunQuery": 2 * 5}
    assert 0.4 <= seconds < 0.75


def test_what_is_not_there_is_deleted_by_one_query(index: FirestoreVectors, proxy: FirestoreProxy) -> None:
    index.delete(ADA, "unknown", 5000)
    assert proxy.counts() == {"RunQuery": 1}


def test_a_long_document_is_stored_and_deleted_in_few_commits(index: FirestoreVectors, proxy: FirestoreProxy) -> None:
    index.upsert(ADA, [entry(f"piece {n}", n) for n in range(1100)])
    index.upsert(ADA, [entry("kept", 5, "d2")])
    assert proxy.counts() == {"Commit": 4}
    assert len(by_words(index, "piece", 2000)) == 1100
    index.delete(ADA, "d1", 1099)
    assert by_words(index, "piece", 2000) == ["piece 1098"] or by_words(index, "piece", 2000) == ["piece 1099"]
    index.delete(ADA, "d1", 5000)
    assert by_words(index, "piece", 2000) == []
    assert by_words(index, "kept") == ["kept"]


def test_large_vectors_are_split_by_their_bytes(index: FirestoreVectors, proxy: FirestoreProxy) -> None:
    index.upsert(ADA, [entry(f"piece {n}", n, vector=direction(n, 2048)) for n in range(200)])
    assert proxy.counts()["Commit"] > 1
    [hit] = index.search(ADA, Search("", direction(150, 2048), SPACE, 1))
    assert hit.passage.text == "piece 150"


# Limits


def test_vectors_that_firestore_cannot_find_are_refused_by_name(index: FirestoreVectors, proxy: FirestoreProxy) -> None:
    large = direction(1, 2049)
    with pytest.raises(ConfigError, match="EMBEDDING_DIMENSIONS"):
        index.upsert(ADA, [entry("small"), entry("large", 1, vector=large)])
    with pytest.raises(ConfigError, match="2048 dimensions, and the embedder gives 2049"):
        index.search(ADA, Search("x", large, SPACE, 5))
    assert proxy.calls == []


def test_a_passage_that_firestore_cannot_hold_is_refused(index: FirestoreVectors, proxy: FirestoreProxy) -> None:
    with pytest.raises(BadRequest):
        index.upsert(ADA, [entry("half a character \ud800")])
    with pytest.raises(TooLarge):
        index.upsert(ADA, [entry("x" * 1_100_000)])
    assert proxy.calls == []


def test_a_long_passage_keeps_what_it_names(index: FirestoreVectors) -> None:
    text = (
        " ".join(f"{a}{b}{c}" for a in "bcdfghklmn" for b in "aeiou" for c in "bcdfghklmnprstvz")
        + " and ERR_1042 at last"
    )
    assert len(text.split()) > keywords.MOST_TERMS
    index.upsert(ADA, [entry(text), entry("something else", 1)])
    assert by_words(index, "ERR_1042") == [text]
    assert max(map(len, keywords.stored(entry("x" * 5000).passage))) <= keywords.LONGEST_TERM


# Words


def test_what_is_named_is_not_crowded_out_by_common_words(index: FirestoreVectors) -> None:
    common = [entry(f"the pump of the machine number {n} needs maintenance every month", n) for n in range(400)]
    index.upsert(
        ADA, [*common, entry("machine E24 is apart", 0, "d2"), entry("a word like idiosyncratic is rare", 1, "d2")]
    )
    assert (
        by_words(index, "Which maintenance does the machine need when it shows E24 every month?")[0]
        == "machine E24 is apart"
    )
    assert by_words(index, "the idiosyncratic pump of the machine")[0] == "a word like idiosyncratic is rare"


def test_of_what_has_the_words_that_with_more_and_rarer_ones_comes_first(index: FirestoreVectors) -> None:
    index.upsert(ADA, [entry(f"annual report of the office {n}", n) for n in range(10)])
    index.upsert(ADA, [entry("annual leave and sick leave", 20), entry("annual leave", 21), entry("sick office", 22)])
    assert by_words(index, "annual sick leave")[:2] == ["annual leave and sick leave", "annual leave"]


def test_function_words_are_asked_for_only_alone(index: FirestoreVectors) -> None:
    index.upsert(ADA, [entry("to be or not to be"), entry("the whole truth", 1)])
    assert by_words(index, "to be or not to be") == ["to be or not to be"]
    assert by_words(index, "the truth") == ["the whole truth"]
    assert by_words(index, "the zebra") == []


def test_texts_without_spaces_are_found_by_their_parts(index: FirestoreVectors) -> None:
    texts = [
        "東京の天気は晴れです。",
        "大阪で会議があります。",
        "오늘 서울의 날씨는 맑습니다.",
        "本契約の解除は三十日前に通知する。",
    ]
    index.upsert(ADA, [entry(text, n) for n, text in enumerate(texts)])
    assert by_words(index, "東京")[0] == texts[0]
    assert by_words(index, "会議はどこ？")[0] == texts[1]
    assert by_words(index, "날씨") == texts[2:3]
    assert by_words(index, "契約を解除")[0] == texts[3]
    assert by_words(index, "京") == texts[:1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("caching cached caches cache", "cach"),
        ("running runs run", "run"),
        ("falling falls fall", "fall"),
        ("returned returning returns return", "return"),
        ("policies policy", "policy"),
        ("days day", "day"),
        ("boxes boxed boxe", "box"),
        ("press presses pressed pressing presse", "press"),
    ],
)
def test_endings_are_cut(words: str, expected: str) -> None:
    assert {keywords.stem(word) for word in words.split()} == {expected}


@pytest.mark.parametrize(
    "word", ["bring", "sing", "red", "feed", "is", "bus", "e24", "naïf", "this", "thing", "ада", ""]
)
def test_what_is_no_ending_stays(word: str) -> None:
    assert keywords.stem(word) == word


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What does E24 mean?", [["e24"], ["mean"]]),
        ("fix ERR_1042 in foo.bar", [["err 1042", "1042", "foo bar"], ["fix"], ["err"], ["foo"], ["bar"]]),
        ("How much vacation do workers get?", [["vacation"], ["worker"], ["much"], ["get"]]),
        ("to be or not", [["not"], ["to"], ["be"], ["or"]]),
        ("", []),
    ],
)
def test_the_rarest_terms_are_asked_for_apart(question: str, expected: list[list[str]]) -> None:
    assert keywords.groups(keywords.asked(question)) == expected


def test_a_query_never_asks_for_more_terms_than_firestore_takes() -> None:
    groups = keywords.groups(keywords.asked(" ".join(f"A{n} word{'x' * n}" for n in range(200))))
    assert max(map(len, groups)) <= 30
    assert len(groups) <= 5


# Faults


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_reply_changes_nothing(index: FirestoreVectors, proxy: FirestoreProxy, when: str) -> None:
    faults = [
        proxy.fail("Commit", when="after" if when == "after" else "before"),
        proxy.fail("RunQuery", nth=3, times=2),
    ]
    index.upsert(ADA, [entry("piece one"), entry("piece two", 1)])
    assert sorted(by_words(index, "piece")) == sorted(by_words(index, "pieces")) == ["piece one", "piece two"]
    faults.append(proxy.fail("Commit", when="after" if when == "after" else "before"))
    index.delete(ADA, "d1", 1)
    assert by_words(index, "piece") == ["piece two"]
    assert [fault.fired for fault in faults] == [1, 2, 1]


def test_an_index_that_is_down_is_unavailable_soon(index: FirestoreVectors, proxy: FirestoreProxy) -> None:
    index.check()
    proxy.down()
    calls: list[Callable[[], object]] = [
        lambda: index.upsert(ADA, [entry("x")]),
        lambda: index.search(ADA, Search("x", direction(1), SPACE, 5)),
        lambda: index.delete(ADA, "d1", 1),
        lambda: index.entries(ADA),
        index.check,
    ]
    for call in calls:
        started = time.monotonic()
        with pytest.raises(Unavailable, match="The search index cannot be used: it cannot be reached"):
            call()
        assert time.monotonic() - started < 5


def test_a_missing_index_is_named(index: FirestoreVectors, proxy: FirestoreProxy) -> None:
    fault = proxy.fail(
        "RunQuery", status=StatusCode.FAILED_PRECONDITION, details="Missing vector index configuration", times=9
    )
    with pytest.raises(Unavailable, match=r"firestore\.indexes\.json"):
        index.search(ADA, Search("", direction(1), SPACE, 5))
    assert fault.fired >= 1


# What else may lie there


def test_a_hit_has_the_owner_that_is_stored_with_it(index: FirestoreVectors, database: Settings) -> None:
    """An entry that lies in the wrong place shows whose it is, so that the caller can drop it; what is no entry is not found."""
    documents = FirestoreDocuments(database, EnvironmentSecrets(database))
    foreign: dict[str, JSON] = {
        "app": "travel", "user": "eve", "document": "d9", "chunk": 1, "title": "t", "headings": [], "page": None, "line": None,
        "text": "sauce of eve", "words": ["sauc"], "space": SPACE,
    }  # fmt: skip
    index.upsert(ADA, [entry("my sauce")])
    documents.commit(ADA, [Set(("vectors", "x"), foreign), Set(("vectors", "y"), {"words": ["sauc"]})])
    hits = index.search(ADA, Search("sauce", None, SPACE, 10))
    assert {(hit.app, hit.user, hit.passage.text) for hit in hits} == {
        ("recipes", "ada", "my sauce"),
        ("travel", "eve", "sauce of eve"),
    }


def test_all_entries_of_a_scope_are_read_back_and_move_to_another_index(
    index: FirestoreVectors, settings: Settings
) -> None:
    stored = [entry(f"piece {n} of the whole", n) for n in range(25)]
    index.upsert(ADA, stored)
    index.upsert(SHARED, [entry("shared", 1, "d2")])
    index.upsert(Scope("recipes", "bob"), [entry("bob's", 1, "d3")])
    read: list[tuple[str, Entry]] = []
    while page := index.entries(ADA, read[-1][0] if read else "", limit=10):
        read += page
        assert len(page) <= 10
    assert [cursor for cursor, _ in read] == sorted({cursor for cursor, _ in read})
    assert len(read) == 25
    for original, (_, copy) in zip(stored, sorted(read, key=lambda pair: pair[1].passage.chunk), strict=True):
        assert copy.passage == original.passage
        assert copy.space == original.space
        assert np.array_equal(copy.vector, original.vector)
        assert copy.vector.dtype == np.float32
    assert [one.passage.shared for _, one in index.entries(SHARED)] == [True]
    assert index.entries(Scope("travel", "ada")) == []
    other = LocalVectors(settings, EnvironmentSecrets(settings))
    other.upsert(ADA, [one for _, one in read])
    question = Search("piece 7", direction(7), SPACE, 3)
    assert (
        other.search(ADA, question)[0].passage.text
        == index.search(ADA, question)[0].passage.text
        == "piece 7 of the whole"
    )


# Set-up


def test_the_index_definitions_are_what_firebase_reads() -> None:
    found = definitions([384, 1536])
    vectors = [index for index in found["indexes"] if index["collectionGroup"] == "vectors"]
    assert [index["fields"][1]["vectorConfig"] for index in vectors] == [
        {"dimension": 384, "flat": {}},
        {"dimension": 1536, "flat": {}},
    ]
    groups = [index for index in found["indexes"] if index["queryScope"] == "COLLECTION_GROUP"]
    assert [(index["collectionGroup"], [field["fieldPath"] for field in index["fields"]]) for index in groups] == [
        (name, ["_app", field]) for name, fields in GROUPS.items() for field in fields
    ]
    overrides = {(one["collectionGroup"], one["fieldPath"]): one["indexes"] for one in found["fieldOverrides"]}
    assert len(overrides) == len(found["fieldOverrides"])
    assert ("calls", "created") not in overrides
    assert overrides["vectors", "words"] == [{"arrayConfig": "CONTAINS", "queryScope": "COLLECTION"}]
    # What is asked for keeps its index: by order, by equality, or by the vector index.
    assert (
        not {("vectors", "space"), ("vectors", "document"), ("chats", "updated"), ("turns", "seq"), ("chunks", "n")}
        & overrides.keys()
    )


def test_a_missing_setting_is_named() -> None:
    without = Settings(google_cloud_project="")
    with pytest.raises(ConfigError, match="GOOGLE_CLOUD_PROJECT"):
        FirestoreVectors(without, EnvironmentSecrets(without))
