"""Moving an app's vectors: nothing is lost, nothing of another app comes along, and whatever interrupts it may be repeated."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from service.apps import load
from service.backends import registry
from service.backends.google.firestore import FirestoreVectors
from service.backends.google.vertex import VertexVectors
from service.backends.interfaces import Create, Delete, Entry, Hit, Search, Update, VectorIndex
from service.backends.local.vectors import LocalVectors
from service.backends.postgres import PostgresVectors
from service.chunks import group_writes
from service.config import Settings
from service.context import documents_path
from service.errors import Unavailable
from service.ingestion.inventory import Listing, pages
from service.ingestion.marks import Marks
from service.ingestion.moving import Moved, Moving
from service.ingestion.pipeline import passage_of
from service.models import Chunk, Document, JobStatus, Scope
from service.records import to_record
from service.services import Services, assemble
from tests.kit.emulators import Emulators
from tests.kit.firestore_proxy import own_database
from tests.kit.models import eventually
from tests.kit.postgres import Postgres, running
from tests.kit.terminal import Terminal, environment
from tests.kit.upstream import Upstream

if TYPE_CHECKING:
    from service.backends.interfaces import Vectors

EMBEDDER = "text-embedding-3-small/1536"
ADA, BOB, SHARED = Scope("alpha", "ada"), Scope("alpha", "b/o%b"), Scope("alpha", None)
ELSEWHERE = Scope("beta", "ada")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running() as server:
        yield server


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    server: Postgres = request.getfixturevalue("postgres")
    return replace(settings, postgres_url=server.fresh())


@pytest.fixture
def services(served: Settings) -> Services:
    return assemble(served, registry.build(served))


@pytest.fixture
def local(services: Services) -> LocalVectors:
    index = services.backends.vectors
    assert isinstance(index, LocalVectors)
    return index


@pytest.fixture
def pgvector(served: Settings, services: Services) -> PostgresVectors:
    return PostgresVectors(served, services.backends.secrets)


@pytest.fixture
def terminal(served: Settings, tmp_path: Path) -> Terminal:
    return Terminal(tmp_path, environment(served) | {"POSTGRES_URL": served.postgres_url})


def vector(seed: object) -> Vectors:
    numbers = np.random.default_rng(list(repr(seed).encode())).standard_normal(1536)
    return (numbers / np.linalg.norm(numbers)).astype(np.float32)


def document(name: str, chunks: int = 3, stamp: str = "1") -> Document:
    """A document as ingestion leaves it."""
    return Document(
        id=name,
        title=f"{name}.md",
        media_type="text/markdown",
        bytes=1,
        sha256=name,
        status=JobStatus.COMPLETED,
        created=f"2026-01-01T00:00:00.{name}",
        updated=stamp,
        job="j",
        chunks=chunks,
        written=chunks,
        embedder=EMBEDDER,
    )


def entries_of(scope: Scope, made: Document, numbers: range | None = None) -> list[Entry]:
    chunks = [chunk(scope, made, n) for n in numbers or range(made.chunks)]
    passages = [passage_of(made, c, shared=scope.user is None) for c in chunks]
    return [Entry(p, vector((scope, p.document, p.chunk)), EMBEDDER) for p in passages]


def chunk(scope: Scope, made: Document, n: int) -> Chunk:
    return Chunk(n=n, text=f"canary of {scope.app} {scope.user} in {made.id} piece {n}", headings=("One",), page=n + 1)


def add(services: Services, scope: Scope, made: Document, *, indexed: bool = True) -> Document:
    path = documents_path(scope, made.id)
    chunks = [chunk(scope, made, n) for n in range(made.chunks)]
    services.backends.documents.commit(scope, [Create(path, to_record(made)), *group_writes(path, chunks)])
    if indexed:
        services.backends.vectors.upsert(scope, entries_of(scope, made))
    return made


@pytest.fixture
def seeded(services: Services) -> Services:
    """Two users and the shared knowledge of `alpha`, with two documents each, and a document of another app."""
    for scope in (ADA, BOB, SHARED):
        for name in ("d1", "d2"):
            add(services, scope, document(name))
    add(services, ELSEWHERE, document("d1"))
    return services


@dataclass
class Watching:
    """Notes what is done, and does something at a step."""

    at: dict[int, Callable[[], object]] = field(default_factory=dict)
    totals: list[int] = field(default_factory=list)
    steps: list[tuple[str, str]] = field(default_factory=list)

    def begin(self, total: int) -> None:
        self.totals.append(total)

    def step(self, title: str, did: str) -> None:
        self.steps.append((title, did))
        if done := self.at.pop(len(self.steps), None):
            done()


@dataclass
class Unlisted:
    """An index that cannot list what it has, as Vertex AI's cannot."""

    index: VectorIndex

    def __post_init__(self) -> None:
        self.upsert, self.search, self.delete = self.index.upsert, self.index.search, self.index.delete
        self.check = self.index.check


def move(
    services: Services,
    source: VectorIndex,
    target: VectorIndex,
    watching: Watching | None = None,
    *,
    again: bool = False,
) -> Moved:
    app = load(services.settings.apps_dir / "alpha")
    documents = services.backends.documents
    marks = Marks(documents, SHARED, "old", "new")
    moving = Moving(app, documents, services.backends.embedder, source, target, marks)
    return moving.run(watching or Watching(), again=again)


def contents(index: Listing, *scopes: Scope) -> dict[tuple[Scope, str, int], Entry]:
    listed = {scope: [entry for page in pages(index, scope) for entry in page] for scope in scopes}
    return {(s, e.passage.document, e.passage.chunk): e for s, entries in listed.items() for e in entries}


def assert_same(found: dict[tuple[Scope, str, int], Entry], expected: dict[tuple[Scope, str, int], Entry]) -> None:
    assert found.keys() == expected.keys()
    for key, entry in found.items():
        assert entry.passage == expected[key].passage
        assert entry.space == expected[key].space
        assert np.array_equal(entry.vector, expected[key].vector)


def test_every_user_s_and_the_shared_vectors_come_over_as_they_are(
    seeded: Services, terminal: Terminal, local: LocalVectors, pgvector: PostgresVectors, upstream: Upstream
) -> None:
    result = terminal.run("vectors", "move", "alpha", "--to", "pgvector")
    assert result.exit_code == 0, result.stderr
    *steps, summary, last = result.stdout.splitlines()
    assert [step.split(":")[0] for step in steps] == [f"{n} of 6" for n in range(1, 7)]
    assert {step.split(": ", 1)[1] for step in steps} == {"d1.md: moved", "d2.md: moved"}
    assert summary == "6 documents moved: 18 passages copied, 0 embedded anew from the stored text. 0 removed."
    assert "`local` serves until you set BACKEND_VECTORS=pgvector" in last
    assert last.endswith("brainstem vectors move alpha --from local --to pgvector")
    assert_same(contents(pgvector, ADA, BOB, SHARED), contents(local, ADA, BOB, SHARED))
    assert len(contents(pgvector, ADA, BOB, SHARED)) == 18
    assert contents(pgvector, ELSEWHERE, Scope("beta", None)) == {}
    assert len(contents(local, ELSEWHERE)) == 3
    assert upstream.asked("embeddings") == []
    # What came over answers as before, in the service that the last line tells of.
    found = terminal.run(
        "search", "alpha", "canary piece 2", "--user", "ada", BACKEND_VECTORS="pgvector", OPENAI_API_KEY="k"
    )
    assert "canary of alpha ada in d1 piece 2" in found.stdout


def test_the_way_back_brings_everything_back(seeded: Services, terminal: Terminal, local: LocalVectors) -> None:
    before = contents(local, ADA, BOB, SHARED)
    assert terminal.run("vectors", "move", "alpha", "--to", "pgvector").exit_code == 0
    for scope, name, _ in before:
        local.delete(scope, name, 3)
    assert contents(local, ADA, BOB, SHARED) == {}
    told = terminal.run("vectors", "move", "alpha", "--to", "local", "--json", BACKEND_VECTORS="pgvector")
    assert json.loads(told.stdout) == {
        "app": "alpha",
        "from": "pgvector",
        "to": "local",
        "next": "`pgvector` serves until you set BACKEND_VECTORS=local and restart. Then bring over what changed meanwhile: "
        "brainstem vectors move alpha --from pgvector --to local",
        "documents": 6,
        "copied": 18,
        "embedded": 0,
        "removed": 0,
        "waiting": 0,
        "incomplete": [],
    }
    assert_same(contents(local, ADA, BOB, SHARED), before)


def test_a_move_that_was_killed_goes_on_where_it_was(
    services: Services, terminal: Terminal, local: LocalVectors, pgvector: PostgresVectors
) -> None:
    for n in range(60):
        add(services, [ADA, BOB, SHARED][n % 3], document(f"d{n:02}", chunks=2))
    process = terminal.start("vectors", "move", "alpha", "--to", "pgvector")
    assert process.stdout is not None
    assert process.stderr is not None
    first = [process.stdout.readline() for _ in range(5)]
    process.send_signal(signal.SIGKILL)
    first += process.stdout.readlines()
    assert process.wait(10) == -signal.SIGKILL
    for pipe in (process.stdout, process.stderr):
        pipe.close()
    assert 5 <= len(first) < 60
    assert len(contents(pgvector, ADA, BOB, SHARED)) < 120

    second = terminal.run("vectors", "move", "alpha", "--to", "pgvector")
    steps = [line for line in second.stdout.splitlines() if line.endswith(": moved")]
    # Of the one that it was killed at, the mark or the line may be missing.
    assert 60 - len(first) - 1 <= len(steps) <= 60 - len(first) + 1
    assert_same(contents(pgvector, ADA, BOB, SHARED), contents(local, ADA, BOB, SHARED))
    assert len(contents(pgvector, ADA, BOB, SHARED)) == 120


def test_repeating_it_moves_only_what_has_changed(
    seeded: Services, local: LocalVectors, pgvector: PostgresVectors
) -> None:
    assert move(seeded, local, pgvector).documents == 6
    watching = Watching()
    assert move(seeded, local, pgvector, watching) == Moved()
    assert (watching.totals, watching.steps) == ([], [])
    add(seeded, BOB, document("d3"))
    assert move(seeded, local, pgvector, watching).documents == 1
    assert watching.steps == [("d3.md", "moved")]
    assert move(seeded, local, pgvector, again=True).documents == 7
    assert_same(contents(pgvector, ADA, BOB, SHARED), contents(local, ADA, BOB, SHARED))


@pytest.mark.parametrize("step", [1, 3, 6])
def test_documents_that_go_change_and_come_meanwhile_end_as_they_are(
    seeded: Services, local: LocalVectors, pgvector: PostgresVectors, step: int
) -> None:
    def meddle() -> None:
        seeded.ingestion.delete(ADA, "d1")
        seeded.ingestion.delete(SHARED, "d2")
        changed = document("d2", chunks=2, stamp="2")
        local.delete(BOB, "d2", 3)
        local.upsert(BOB, entries_of(ELSEWHERE, changed))
        seeded.backends.documents.commit(BOB, [Update(documents_path(BOB, "d2"), to_record(changed))])
        add(seeded, Scope("alpha", "new"), document("d9"))

    watching = Watching(at={step: meddle})
    move(seeded, local, pgvector, watching)
    assert not watching.at
    assert len(watching.totals) >= 2
    new = Scope("alpha", "new")
    found = contents(pgvector, ADA, BOB, SHARED, new)
    assert_same(found, contents(local, ADA, BOB, SHARED, new))
    assert {(scope.user, name) for scope, name, _ in found} == {
        ("ada", "d2"), ("b/o%b", "d1"), ("b/o%b", "d2"), (None, "d1"), ("new", "d9")
    }  # fmt: skip
    assert (BOB, "d2", 2) not in found


def test_a_document_deleted_between_two_runs_is_removed_by_the_second(
    seeded: Services, local: LocalVectors, pgvector: PostgresVectors
) -> None:
    class Killed(BaseException):
        pass

    def kill() -> None:
        raise Killed

    with pytest.raises(Killed):
        move(seeded, local, pgvector, Watching(at={1: kill}))
    written = {(scope, name) for scope, name, _ in contents(pgvector, ADA, BOB, SHARED)}
    assert written
    for scope, name in written:
        seeded.ingestion.delete(scope, name)
    moved = move(seeded, local, pgvector)
    # What shared a page with the document that was finished had been written as well.
    assert moved.removed >= len(written)
    assert_same(contents(pgvector, ADA, BOB, SHARED), contents(local, ADA, BOB, SHARED))
    assert len(contents(pgvector, ADA, BOB, SHARED)) == 18 - 3 * len(written)


def test_a_document_deleted_while_the_new_index_served_does_not_come_back_with_the_old_one(
    seeded: Services, local: LocalVectors, pgvector: PostgresVectors, terminal: Terminal
) -> None:
    assert terminal.run("vectors", "move", "alpha", "--to", "pgvector").exit_code == 0
    serving = assemble(seeded.settings, replace(seeded.backends, vectors=pgvector))
    serving.ingestion.delete(ADA, "d1")
    assert [hit for hit in local.search(ADA, Search("canary ada d1", None, "", 50)) if hit.user]
    assert terminal.run("vectors", "move", "alpha", "--to", "local", BACKEND_VECTORS="pgvector").exit_code == 0
    assert_same(contents(local, ADA, BOB, SHARED), contents(pgvector, ADA, BOB, SHARED))


def test_what_an_index_cannot_list_is_embedded_anew_and_paid_for_in_the_ledger(
    seeded: Services, local: LocalVectors, pgvector: PostgresVectors, upstream: Upstream
) -> None:
    moved = move(seeded, Unlisted(local), pgvector)
    assert (moved.documents, moved.copied, moved.embedded) == (6, 0, 18)
    assert len(upstream.asked("embeddings")) == 6
    found, before = contents(pgvector, ADA, BOB, SHARED), contents(local, ADA, BOB, SHARED)
    assert {key: entry.passage for key, entry in found.items()} == {key: e.passage for key, e in before.items()}
    assert {entry.space for entry in found.values()} == {EMBEDDER}
    _, rows = seeded.usage.summary(ADA, 1)
    assert [(row.kind, row.calls) for row in rows] == [("embedding", 2)]


def test_a_long_document_is_embedded_anew_whole(
    seeded: Services, local: LocalVectors, pgvector: PostgresVectors, upstream: Upstream
) -> None:
    add(seeded, ADA, document("d7", chunks=300))
    for lost in range(5, 300, 3):
        local.upsert(
            ADA, [replace(entry, space="old") for entry in entries_of(ADA, document("d7"), range(lost, lost + 1))]
        )
    moved = move(seeded, local, pgvector)
    assert (moved.copied, moved.embedded) == (18 + 201, 99)
    found, before = contents(pgvector, ADA), contents(local, ADA)
    assert {key: entry.passage for key, entry in found.items()} == {key: e.passage for key, e in before.items()}


def test_passages_that_the_old_index_has_lost_or_has_of_another_embedder_are_embedded_anew(
    seeded: Services, local: LocalVectors, pgvector: PostgresVectors
) -> None:
    local.delete(ADA, "d1", 1)
    local.upsert(BOB, [replace(entry, space="old") for entry in entries_of(BOB, document("d1"), range(1))])
    moved = move(seeded, local, pgvector)
    assert (moved.documents, moved.copied, moved.embedded) == (6, 16, 2)
    found = contents(pgvector, ADA, BOB, SHARED)
    assert len(found) == 18
    assert {entry.space for entry in found.values()} == {EMBEDDER}


def test_an_index_that_was_emptied_is_filled_again(
    seeded: Services, local: LocalVectors, pgvector: PostgresVectors
) -> None:
    move(seeded, local, pgvector)
    pgvector.delete(BOB, "d2", 3)
    pgvector.delete(SHARED, "d1", 1)
    assert move(seeded, local, pgvector).documents == 2
    assert_same(contents(pgvector, ADA, BOB, SHARED), contents(local, ADA, BOB, SHARED))


def test_vertex_gets_everything_and_each_passage_is_found_there(seeded: Services, local: LocalVectors) -> None:
    # Google's messages take seconds to import.
    from tests.kit.vertex import VertexServer

    with VertexServer() as server:
        vertex = VertexVectors(server.settings, seeded.backends.secrets)
        assert not isinstance(vertex, Listing)
        assert move(seeded, local, vertex).copied == 18
        for (scope, name, n), entry in contents(local, ADA, BOB, SHARED).items():
            hit = vertex.search(scope, Search("", entry.vector, entry.space, 1))[0]
            assert (hit.user, hit.passage.document, hit.passage.chunk) == (scope.user, name, n)
        searches = [method for method, _, _ in server.requests if "FindNeighbors" in method]
        assert len(searches) >= 18


def test_an_index_that_does_not_find_what_it_took_ends_the_move(seeded: Services, local: LocalVectors) -> None:
    with pytest.raises(Unavailable, match="does not find what was just stored"):
        move(seeded, local, Lossy())


def test_firestore_takes_everything_and_gives_it_back(
    seeded: Services, local: LocalVectors, pgvector: PostgresVectors, firebase: Emulators
) -> None:
    chosen = own_database(Settings(), firebase.hosts["firestore"])
    google = FirestoreVectors(chosen, seeded.backends.secrets)
    eventually(
        lambda: answers(google), seconds=60
    )  # an emulator that has just started takes its time for the first call
    assert move(seeded, local, google).copied == 18
    assert_same(contents(google, ADA, BOB, SHARED), contents(local, ADA, BOB, SHARED))
    assert move(seeded, google, pgvector, again=True).copied == 18
    assert_same(contents(pgvector, ADA, BOB, SHARED), contents(local, ADA, BOB, SHARED))


def answers(index: VectorIndex) -> bool:
    try:
        index.check()
    except Unavailable:
        return False
    return True


class Lossy:
    """Takes everything and finds nothing."""

    def upsert(self, scope: Scope, entries: object) -> None:
        pass

    def search(self, scope: Scope, search: Search) -> list[Hit]:
        return []

    def delete(self, scope: Scope, document: str, chunks: int) -> None:
        pass

    def check(self) -> None:
        pass


def test_what_is_not_ingested_yet_is_told_and_comes_later(
    seeded: Services, terminal: Terminal, pgvector: PostgresVectors
) -> None:
    waiting = replace(document("d5"), status=JobStatus.PROCESSING)
    add(seeded, ADA, waiting)
    result = terminal.run("vectors", "move", "alpha", "--to", "pgvector")
    assert result.exit_code == 0
    assert "1 document not ingested yet: repeat this command" in result.stderr
    ready = replace(waiting, status=JobStatus.COMPLETED, updated="2")
    seeded.backends.documents.commit(ADA, [Update(documents_path(ADA, "d5"), to_record(ready))])
    assert "1 document moved" in terminal.run("vectors", "move", "alpha", "--to", "pgvector").stdout
    assert (ADA, "d5", 2) in contents(pgvector, ADA)


def test_a_document_whose_text_is_gone_is_named_and_the_others_are_moved(
    seeded: Services, terminal: Terminal, local: LocalVectors, pgvector: PostgresVectors
) -> None:
    local.delete(ADA, "d2", 3)
    seeded.backends.documents.commit(ADA, [Delete(documents_path(ADA, "d2", "chunks", "0"))])
    result = terminal.run("vectors", "move", "alpha", "--to", "pgvector")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["d2: its text is not stored whole. Add this document again."]
    assert len(contents(pgvector, ADA, BOB, SHARED)) == 15


@pytest.mark.parametrize(
    ("args", "environ", "words"),
    [
        (["nope", "--to", "pgvector"], {}, "There is no app `nope`. There are: alpha, beta."),
        (["alpha", "--to", "oracle"], {}, "--to: there is no index `oracle`. There are `local`, `google`, `vertex`, `pgvector`."),
        (["alpha", "--to", "pgvector", "--from", "oracle"], {}, "--from: there is no index `oracle`."),
        (["alpha", "--to", "local"], {}, "from `local` to `local`"),
        (["alpha", "--to", "pgvector", "--from", "pgvector"], {}, "from `pgvector` to `pgvector`"),
        (["alpha", "--to", "pgvector"], {"POSTGRES_URL": ""}, "POSTGRES_URL"),
        (["alpha", "--to", "pgvector"], {"POSTGRES_URL": "mysql://canary-pw@x"}, "POSTGRES_URL must be an address such as"),
        (["alpha", "--to", "pgvector"], {"POSTGRES_URL": "postgresql://u:canary-pw@127.0.0.1:1/x"}, "cannot be reached"),
        (["alpha", "--to", "nowhere:Index"], {}, "cannot be imported"),
        (["alpha", "--to", "vertex"], {}, "VERTEX_INDEX"),
    ],
)  # fmt: skip
def test_a_wrong_name_or_setting_is_one_sentence(
    terminal: Terminal, args: list[str], environ: dict[str, str], words: str
) -> None:
    result = terminal.run("vectors", "move", *args, **environ)
    assert result.exit_code == 1
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert words in line
    assert "canary" not in line
