"""What every index promises: passages are found by meaning and by words, and never by anyone but those whose they are."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.backends.google.firestore import FirestoreVectors
from service.backends.google.vertex import VertexVectors
from service.backends.interfaces import Entry, Search, VectorIndex
from service.backends.local.embedder import MiniLM
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.vectors import LocalVectors
from service.backends.postgres import PostgresVectors
from service.config import Settings
from service.errors import Unavailable
from service.models import Passage, Scope
from tests.kit.emulators import Emulators
from tests.kit.firestore_proxy import own_database, warm
from tests.kit.postgres import Postgres, running

if TYPE_CHECKING:
    from service.backends.interfaces import Vectors

SPACE = "test-space"
DIMENSIONS = 16
APPS = ("recipes", "travel", "law")
USERS = ("ada", "bob", "eve")
SCOPES = [Scope(app, user) for app in APPS for user in (*USERS, None)]
ODD_NAMES = ['A","B', "*", '" OR 1=1 --', "NEAR(", "-", "'; DROP TABLE passages; --", "%", "_", "a\0b", "Ü", "U\u0308", "shared", "user:ada", ""]  # fmt: skip
ODD_QUERIES = [*ODD_NAMES, "AND", "NOT recipe", "recipe AND", "recipe*", "text:recipe", "{title} : x", "(", ")", '"', '""', "^", "+", "a NEAR b", "shelf1", "\ud800", "𝄞", "—", ": :", "\\", "recipe\0", "東", "?" * 10_000, "x " * 10_000]  # fmt: skip

Open = Callable[[], VectorIndex]

OF_ONE_LENGTH = (VertexVectors,)
"""Indexes that are made for vectors of one length, and refuse all others."""

IN_PIECES = (FirestoreVectors,)
"""Indexes whose emulator lets a search see half of a commit, which Firestore does not (33 of 2 976 searches)."""


def local(folder: Path) -> VectorIndex:
    chosen = Settings(data_dir=folder)
    return LocalVectors(chosen, EnvironmentSecrets(chosen))


@pytest.fixture
def vertex() -> Iterator[Open]:
    # Google's messages take seconds to import.
    from tests.kit.vertex import VertexServer

    with VertexServer() as server:
        yield lambda: VertexVectors(server.settings, EnvironmentSecrets(server.settings))


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running() as server:
        yield server


@pytest.fixture(params=["local", "google", "vertex", "pgvector"])
def open_index(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Open the same index anew, as another process would."""
    if request.param == "google":
        firebase: Emulators = request.getfixturevalue("firebase")
        warm(firebase.hosts["firestore"])
        chosen = own_database(Settings(), firebase.hosts["firestore"])
        return lambda: FirestoreVectors(chosen, EnvironmentSecrets(chosen))
    if request.param == "vertex":
        opened: Open = request.getfixturevalue("vertex")
        return opened
    if request.param == "pgvector":
        server: Postgres = request.getfixturevalue("postgres")
        postgresql = Settings(postgres_url=server.fresh())
        return lambda: PostgresVectors(postgresql, EnvironmentSecrets(postgresql))
    return lambda: local(tmp_path / "data")


@pytest.fixture
def index(open_index: Open) -> VectorIndex:
    return open_index()


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    chosen = Settings()
    return MiniLM(chosen, EnvironmentSecrets(chosen))


def direction(seed: object, dimensions: int = DIMENSIONS) -> Vectors:
    """A unit vector that is always the same for the same seed."""
    numbers = np.random.default_rng(list(repr(seed).encode("utf-8", "replace"))).standard_normal(dimensions)
    return (numbers / np.linalg.norm(numbers)).astype(np.float32)


def entry(text: str, *, document: str = "d1", chunk: int = 0, vector: object = None, space: str = SPACE) -> Entry:
    passage = Passage(document=document, chunk=chunk, title="Handbook", text=text)
    return Entry(passage, direction(text if vector is None else vector), space)


def words(text: str, limit: int = 10) -> Search:
    return Search(text, None, SPACE, limit)


def meaning(vector: object, limit: int = 10, space: str = SPACE) -> Search:
    return Search("", direction(vector), space, limit)


def found(index: VectorIndex, scope: Scope, search: Search) -> list[str]:
    return [hit.passage.text for hit in index.search(scope, search)]


def canary(scope: Scope) -> str:
    return f"canary{scope.app}{scope.user}"


@pytest.fixture
def full(index: VectorIndex) -> VectorIndex:
    """Every scope holds the same documents; the text and the title of each passage also name whose it is."""
    for scope in SCOPES:
        entries = [entry(f"the same recipe number {n} {canary(scope)}", chunk=n, vector=n) for n in range(12)]
        titled = [replace(e, passage=replace(e.passage, title=f"Book {canary(scope)}")) for e in entries]
        index.upsert(scope, titled)
    return index


@pytest.mark.parametrize("limit", [1, 5, 24, 1000])
@pytest.mark.parametrize("scope", SCOPES, ids=lambda scope: f"{scope.app}-{scope.user}")
def test_a_scope_finds_its_own_and_what_its_app_shares(full: VectorIndex, scope: Scope, limit: int) -> None:
    shared = Scope(scope.app, None)
    allowed = {canary(scope), canary(shared)}
    texts = ["", "the same recipe number 3", *map(canary, SCOPES)]
    for search in [Search(text, vector, SPACE, limit) for text in texts for vector in (None, direction(3))]:
        for hit in full.search(scope, search):
            assert (hit.app, hit.user) in {(scope.app, scope.user), (scope.app, None)}
            assert hit.passage.shared == (hit.user is None)
            assert canary(Scope(hit.app, hit.user)) in hit.passage.text
            assert {word for word in f"{hit.passage.text} {hit.passage.title}".split() if "canary" in word} <= allowed
    assert full.search(scope, Search(canary(scope), None, SPACE, limit))
    assert full.search(scope, meaning(3, limit))


@pytest.mark.parametrize("limit", [*range(1, 13), 100, 999, 1000])
def test_identical_texts_of_three_apps_and_three_users_never_cross(index: VectorIndex, limit: int) -> None:
    for scope in SCOPES:
        document = "theirs" if scope.user else "shared"
        index.upsert(scope, [entry(f"the same words {n}", document=document, chunk=n, vector="same") for n in range(3)])
    for scope in SCOPES:
        allowed = {(scope.app, scope.user), (scope.app, None)}
        for search in (
            words("the same words 1", limit),
            meaning("same", limit),
            Search("same 1", direction("same"), SPACE, limit),
        ):
            hits = index.search(scope, search)
            assert len(hits) == min(limit, 3 * len(allowed))
            found_of = {(hit.app, hit.user) for hit in hits}
            assert found_of == allowed if limit >= 3 * len(allowed) else found_of <= allowed


@pytest.mark.parametrize("victim", SCOPES, ids=lambda scope: f"{scope.app}-{scope.user}")
def test_nobody_finds_another_s_canary(full: VectorIndex, victim: Scope) -> None:
    readers = [s for s in SCOPES if s.app == victim.app and victim.user in (s.user, None)]
    assert [s for s in SCOPES if full.search(s, words(canary(victim), 1000))] == readers


def test_a_user_finds_what_the_app_shares_and_the_app_not_what_is_theirs(index: VectorIndex) -> None:
    ada, shared = Scope("recipes", "ada"), Scope("recipes", None)
    index.upsert(ada, [entry("my secret sauce", document="mine")])
    index.upsert(shared, [entry("the public sauce", document="ours")])
    hits = {hit.passage.document: hit for hit in index.search(ada, words("sauce"))}
    assert {name: (hit.user, hit.passage.shared) for name, hit in hits.items()} == {
        "mine": ("ada", False),
        "ours": (None, True),
    }
    assert found(index, shared, words("sauce")) == ["the public sauce"]
    assert found(index, shared, meaning("my secret sauce")) == ["the public sauce"]
    assert found(index, Scope("recipes", "bob"), words("sauce")) == ["the public sauce"]


@pytest.mark.parametrize(
    "search", [words("sauce", 25), meaning("sauce", 25), Search("sauce", direction("sauce"), SPACE, 25)]
)
def test_a_passage_that_is_mine_and_shared_is_found_once(index: VectorIndex, search: Search) -> None:
    ada, shared = Scope("recipes", "ada"), Scope("recipes", None)
    both = [entry("sauce", chunk=n, vector="sauce") for n in range(25)]
    index.upsert(shared, both)
    index.upsert(ada, both)
    hits = index.search(ada, search)
    assert sorted(hit.passage.chunk for hit in hits) == list(range(25))


def test_names_are_only_names(index: VectorIndex) -> None:
    scopes = [Scope(app, user) for app in ODD_NAMES for user in (*ODD_NAMES, None)]
    for n, scope in enumerate(scopes):
        index.upsert(scope, [entry(f"recipe{n}", document=f"d{n}", vector="same")])
    for n, scope in enumerate(scopes):
        mine, shared = f"recipe{n}", f"recipe{scopes.index(Scope(scope.app, None))}"
        assert set(found(index, scope, meaning("same", 1000))) == {mine, shared}
    index.delete(scopes[0], "d0", 1)
    assert len(found(index, scopes[1], meaning("same"))) == 2


@pytest.mark.parametrize("query", ODD_QUERIES, ids=lambda query: f"{query[:12]!a}-{len(query)}")
def test_a_query_is_never_syntax(full: VectorIndex, query: str) -> None:
    ada = SCOPES[0]
    for search in (words(query, 1000), Search(query, direction(1), SPACE, 1000)):
        hits = full.search(ada, search)
        assert {(hit.app, hit.user) for hit in hits} <= {("recipes", "ada"), ("recipes", None)}
        assert len({(hit.passage.document, hit.passage.chunk) for hit in hits}) == len(hits) <= 12


@pytest.mark.parametrize("query", ["", " \n", "?!", "—", "zebra", "NEAR(", '"'])
def test_a_query_without_known_words_finds_nothing_by_words(full: VectorIndex, query: str) -> None:
    assert full.search(SCOPES[0], words(query)) == []


IDENTIFIERS = ["ERR_1042", "foo.bar", "--dry-run", "CVE-2024-1234", "max_length", "HTTP/2", "§ 433", "user@example.org", "C3PO", "E4711"]  # fmt: skip


@pytest.mark.parametrize("identifier", IDENTIFIERS)
def test_an_exact_identifier_is_found_among_similar_ones(index: VectorIndex, identifier: str) -> None:
    similar = [
        "ERR_1043",
        "foo.baz",
        "bar.foo",
        "--dry",
        "--run",
        "CVE-2024-1235",
        "CVE-2023-1234",
        "min_length",
        "length max",
    ]
    similar += [
        "HTTP/1",
        "§ 434",
        "user@example.net",
        "C3PX",
        "E4712",
        *(one for one in IDENTIFIERS if one != identifier),
    ]
    ada = Scope("recipes", "ada")
    text = f"Sometimes {identifier}, it turns out, has its own remedy."
    entries = [entry(text, document="right")]
    for n, other in enumerate(similar * 3):
        entries.append(entry(f"Sometimes {other} has a remedy. Number {n}.", chunk=n))
    index.upsert(ada, entries)
    assert found(index, ada, words(f"What about {identifier}?"))[0] == text
    assert text in found(index, ada, Search(f"What about {identifier}?", direction("far off"), SPACE, 5))


def test_words_are_found_whatever_their_case_accent_or_ending(index: VectorIndex) -> None:
    ada = Scope("recipes", "ada")
    index.upsert(ada, [entry("Caching a CRÈME Brûlée"), entry("something else", chunk=1)])
    for query in ("caching", "creme", "brûlée", "BRULEE", "cached"):
        assert found(index, ada, words(query)) == ["Caching a CRÈME Brûlée"]


def test_a_title_and_headings_are_found_by_their_words(index: VectorIndex) -> None:
    ada = Scope("recipes", "ada")
    passage = Passage(
        document="d", chunk=0, title="annual-report.pdf", text="text", headings=("Chapter one", "Liquidity")
    )
    index.upsert(ada, [Entry(passage, direction("d"), SPACE), entry("other")])
    assert found(index, ada, words("liquidity")) == found(index, ada, words("annual-report.pdf")) == ["text"]


def test_all_of_a_passage_comes_back(index: VectorIndex) -> None:
    passage = Passage(
        document="d/ü",
        chunk=7,
        title="Täst “1”.pdf",
        text="a\nb\0c 😀",
        headings=("One", "Two, “three”"),
        page=3,
        line=9,
    )
    for scope in (Scope("recipes", "ada"), Scope("travel", None)):
        index.upsert(scope, [Entry(passage, direction("x"), SPACE)])
        [hit] = index.search(scope, meaning("x"))
        assert replace(hit.passage, score=0.0, shared=False) == passage
        assert hit.passage.shared == (scope.user is None)


def test_the_best_comes_first_and_scores_fall(full: VectorIndex) -> None:
    hits = full.search(SCOPES[0], Search("recipe number 7", direction(7), SPACE, 12))
    assert hits[0].passage.chunk == 7
    scores = [hit.passage.score for hit in hits]
    assert len(scores) == 12
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1] > 0


@pytest.mark.parametrize(("limit", "expected"), [(-1, 0), (0, 0), (1, 1), (11, 11), (12, 12), (1000, 12)])
def test_a_limit_is_kept(full: VectorIndex, limit: int, expected: int) -> None:
    for search in (words("recipe", limit), meaning(1, limit), Search("recipe", direction(1), SPACE, limit)):
        assert len(full.search(SCOPES[0], search)) == expected


def test_an_empty_index_finds_nothing(index: VectorIndex) -> None:
    assert index.search(SCOPES[0], Search("recipe", direction(1), SPACE, 10)) == []
    index.upsert(SCOPES[0], [])
    index.delete(SCOPES[0], "d1", 10)
    assert index.search(SCOPES[0], Search("recipe", direction(1), SPACE, 10)) == []


def test_deleting_forgets_a_document_in_this_scope_alone(full: VectorIndex) -> None:
    ada, bob = Scope("recipes", "ada"), Scope("recipes", "bob")
    full.upsert(ada, [entry("another document", document="d2")])
    full.delete(ada, "d1", 12)
    for search in (words(f"recipe {canary(ada)}", 1000), meaning(3, 1000)):
        assert canary(ada) not in " ".join(found(full, ada, search))
    assert found(full, ada, words("another")) == ["another document"]
    assert len(found(full, bob, words(canary(bob), 1000))) == 12
    assert len(found(full, ada, words(canary(Scope("recipes", None)), 1000))) == 12


def test_what_was_deleted_and_sent_again_is_found(index: VectorIndex) -> None:
    ada = Scope("recipes", "ada")
    for _ in range(3):
        index.upsert(ada, [entry(f"piece {n}", chunk=n) for n in range(4)])
        assert len(found(index, ada, words("piece"))) == len(found(index, ada, meaning("piece 1"))) == 4
        index.delete(ada, "d1", 4)
        assert found(index, ada, words("piece")) == found(index, ada, meaning("piece 1")) == []


def test_deleting_the_shared_leaves_the_users_their_own(full: VectorIndex) -> None:
    ada, shared = Scope("recipes", "ada"), Scope("recipes", None)
    full.delete(shared, "d1", 12)
    assert not full.search(ada, words(canary(shared)))
    assert len(full.search(ada, words(canary(ada), 1000))) == 12


def test_deleting_stops_at_the_given_number_and_may_be_repeated(index: VectorIndex) -> None:
    ada = Scope("recipes", "ada")
    index.upsert(ada, [entry(f"piece {n}", chunk=n) for n in range(4)])
    for _ in range(2):
        index.delete(ada, "d1", 3)
        index.delete(ada, "unknown", 3)
    assert found(index, ada, words("piece")) == found(index, ada, meaning("piece 0")) == ["piece 3"]


def test_a_new_entry_replaces_the_old_one(index: VectorIndex) -> None:
    ada = Scope("recipes", "ada")
    index.upsert(ada, [entry("an old aubergine"), entry("untouched", chunk=1)])
    assert found(index, ada, meaning("an old aubergine", 1)) == ["an old aubergine"]
    index.upsert(ada, [entry("a draft", vector="draft"), entry("a new zucchini")])
    assert found(index, ada, words("aubergine draft")) == []
    assert found(index, ada, words("zucchini")) == ["a new zucchini"]
    assert found(index, ada, meaning("a new zucchini")) == ["a new zucchini", "untouched"]


def test_vectors_of_another_space_are_not_compared_but_their_words_are_found(index: VectorIndex) -> None:
    ada = Scope("recipes", "ada")
    index.upsert(ada, [entry("old sauce", vector="same", space="old"), entry("new sauce", chunk=1, vector="same")])
    assert found(index, ada, meaning("same")) == ["new sauce"]
    assert found(index, ada, meaning("same", space="old")) == ["old sauce"]
    assert found(index, ada, meaning("same", space="unknown")) == []
    assert sorted(found(index, ada, Search("sauce", direction("same"), SPACE, 10))) == ["new sauce", "old sauce"]


def test_vectors_of_another_length_are_not_compared(index: VectorIndex) -> None:
    ada = Scope("recipes", "ada")
    longer = Entry(entry("longer", chunk=1).passage, direction("same", 2 * DIMENSIONS), SPACE)
    index.upsert(ada, [entry("shorter", vector="same")])
    if isinstance(index, OF_ONE_LENGTH):
        for refused in (
            lambda: index.upsert(ada, [longer]),
            lambda: found(index, ada, Search("", longer.vector, SPACE, 10)),
        ):
            with pytest.raises(Unavailable):
                refused()
        assert found(index, ada, meaning("same")) == ["shorter"]
        return
    index.upsert(ada, [longer])
    assert found(index, ada, meaning("same")) == ["shorter"]
    assert found(index, ada, Search("", direction("same", 2 * DIMENSIONS), SPACE, 10)) == ["longer"]


def test_it_survives_a_restart(full: VectorIndex, open_index: Open) -> None:
    again = open_index()
    assert len(again.search(SCOPES[0], words(canary(SCOPES[0]), 1000))) == 12
    again.delete(SCOPES[0], "d1", 11)
    assert len(full.search(SCOPES[0], words(canary(SCOPES[0]), 1000))) == 1


def test_another_instance_sees_every_change_at_once(index: VectorIndex, open_index: Open) -> None:
    other, ada = open_index(), Scope("recipes", "ada")
    for n in range(5):
        index.upsert(ada, [entry(f"piece {n}", chunk=n)])
        assert found(other, ada, meaning(f"piece {n}", 1)) == [f"piece {n}"]
        assert len(found(other, ada, meaning("piece 0"))) == n + 1
    index.upsert(ada, [entry("piece changed", chunk=2)])
    assert found(other, ada, meaning("piece changed", 1)) == ["piece changed"]
    index.delete(ada, "d1", 4)
    assert found(other, ada, meaning("piece 0")) == found(other, ada, words("piece")) == ["piece 4"]


def test_readers_go_on_while_something_is_written(index: VectorIndex) -> None:
    ada, done = Scope("recipes", "ada"), threading.Event()
    index.upsert(ada, [entry("the constant", document="fixed")])
    seen: list[int] = []
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not done.is_set():
                texts = found(index, ada, Search("the constant", direction("the constant"), SPACE, 1000))
                assert texts[0] == "the constant"
                # A batch is found whole or not at all.
                assert isinstance(index, IN_PIECES) or len(texts) % 10 == 1
                seen.append(len(texts))
        except BaseException as failure:  # noqa: BLE001  # a thread's failure is the test's
            failures.append(failure)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for batch in range(20):
        index.upsert(ada, [entry(f"the passage {batch} {n}", chunk=10 * batch + n) for n in range(10)])
    index.delete(ada, "d1", 200)
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(seen) >= 6
    assert found(index, ada, words("the", 1000)) == ["the constant"]


def test_a_usable_index_passes_its_check(index: VectorIndex) -> None:
    index.check()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["upsert", "upsert", "delete"]),
        st.sampled_from(SCOPES[:8]),
        st.sampled_from(["d1", "d2"]),
        st.integers(0, 3),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_after_any_history_each_scope_finds_exactly_what_it_may(
    index: VectorIndex, steps: list[tuple[str, Scope, str, int]]
) -> None:
    # One index serves all examples, so each has apps of its own.
    example = uuid.uuid4().hex

    def here(scope: Scope) -> Scope:
        return Scope(f"{scope.app}-{example}", scope.user)

    expected: dict[Scope, dict[tuple[str, int], str]] = {here(scope): {} for scope in SCOPES}
    for n, (step, somewhere, document, chunk) in enumerate(steps):
        scope = here(somewhere)
        if step == "upsert":
            text = f"recipe {canary(scope)} step {n}"
            index.upsert(scope, [entry(text, document=document, chunk=chunk)])
            expected[scope][document, chunk] = text
        else:
            index.delete(scope, document, chunk)
            kept = expected[scope].items()
            expected[scope] = {key: text for key, text in kept if key[0] != document or key[1] >= chunk}
        reader = here(random.Random(n).choice(SCOPES[:8]))
        for search in (words("recipe", 1000), meaning("anything", 1000)):
            assert_finds(index, reader, search, expected)


def assert_finds(
    index: VectorIndex, reader: Scope, search: Search, expected: dict[Scope, dict[tuple[str, int], str]]
) -> None:
    own, shared = expected[reader], expected[Scope(reader.app, None)]
    hits = {(hit.passage.document, hit.passage.chunk): hit.passage.text for hit in index.search(reader, search)}
    assert hits.keys() == own.keys() | shared.keys()
    assert all(text in (own.get(key), shared.get(key)) for key, text in hits.items())


@pytest.fixture
def library(index: VectorIndex, minilm: MiniLM) -> Callable[[str], list[str]]:
    """Search a small library with the real embedder."""
    texts = [
        "Goods may be returned within 30 days; the purchase price is then refunded to the card.",
        "The dishwasher shows E24 when the drain hose is kinked.",
        "Employees accrue two days of annual leave for each month of service.",
        "Backups run nightly and are kept for ninety days in another region.",
        "The committee elects its chair for a term of three years.",
        "Error E25 means that the pump is blocked.",
    ]
    ada = Scope("recipes", "ada")
    vectors = minilm.embed(texts).vectors
    entries = [entry(text, chunk=n) for n, text in enumerate(texts)]
    index.upsert(ada, [replace(e, vector=v, space=minilm.name) for e, v in zip(entries, vectors, strict=True)])

    def ask(question: str) -> list[str]:
        vector = minilm.embed([question]).vectors[0]
        return found(index, ada, Search(question, vector, minilm.name, 2))

    return ask


@pytest.mark.offline_model
@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Can I get my money back?", "Goods may be returned"),
        ("How much vacation do workers get?", "Employees accrue"),
        ("Who leads the board, and for how long?", "The committee elects"),
        ("what does E25 mean", "Error E25"),
        ("E24", "The dishwasher shows E24"),
    ],
)
def test_a_paraphrase_and_an_identifier_are_both_found(
    library: Callable[[str], list[str]], question: str, answer: str
) -> None:
    assert any(text.startswith(answer) for text in library(question))
