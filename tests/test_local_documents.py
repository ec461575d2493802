"""What the SQLite document store promises beyond the contract: speed, several processes, crashes, full disks."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from service.backends.interfaces import Create, DocumentStore, Query, Set, Update
from service.backends.local.documents import SQLiteDocuments
from service.backends.local.queries import select
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.sqlite import Database
from service.config import Settings
from service.errors import AlreadyExists, TooLarge, Unavailable
from service.models import JSON, Scope
from tests.kit.processes import line, lines, python

ADA = Scope("recipes", "ada")
CHAT = ("chats", "c1")


@pytest.fixture
def documents(settings: Settings) -> DocumentStore:
    return SQLiteDocuments(settings, EnvironmentSecrets(settings))


@pytest.fixture
def path(settings: Settings) -> Path:
    return settings.data_dir / "documents.sqlite3"


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("collection", "field"),
    [
        (("chats",), "updated"),
        (("data",), "updated"),
        ((*CHAT, "turns"), "seq"),
        (("calls",), "created"),
        (("documents",), "created"),
    ],
)
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("since", [False, True])
def test_a_page_costs_the_same_however_large_the_collection(
    documents: DocumentStore,
    path: Path,
    collection: tuple[str, ...],
    field: str,
    descending: bool,
    deep: bool,
    since: bool,
) -> None:
    documents.commit(ADA, [Set((*collection, f"{n:03}"), {field: n}) for n in range(300)])
    query = Query(
        collection, field, descending, where=[(field, ">=", 40)] if since else [], after=(150, "150") if deep else None
    )
    statement, values = select(ADA, query)
    with raw(path) as connection:
        connection.execute("ANALYZE")
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
        rows = connection.execute(statement, values).fetchall()
    assert len(plan) == 1  # no step that sorts
    assert plan[0].startswith("SEARCH documents USING INDEX documents_in_order (collection=? AND ")
    assert len(rows) == len(documents.query(ADA, replace(query, limit=1000)))  # none is read in vain


def test_no_document_that_was_acknowledged_is_lost_by_kill_9(settings: Settings, documents: DocumentStore) -> None:
    for turn in range(3):
        code = f"""
            documents = SQLiteDocuments(settings, secrets)
            n = 0
            while True:
                documents.commit(ada, [Create(("r{turn}", f"{{n}}-{{part}}"), {{"created": n}}) for part in "abc"])
                say(n)
                n += 1
        """
        with python(code, settings.data_dir) as process:
            for _ in range(40 + 13 * turn):
                last = line(process)
            process.kill()
            acknowledged = int((lines(process) or [last])[-1]) + 1
        found = documents.query(ADA, Query((f"r{turn}",), "created", limit=100_000))
        kept = [snapshot.data["created"] for snapshot in found]
        assert len(kept) // 3 in (acknowledged, acknowledged + 1)
        assert kept == [n for n in range(len(kept) // 3) for _ in "abc"]  # all three or none


def test_several_processes_write_one_new_file_and_lose_nothing(settings: Settings, documents: DocumentStore) -> None:
    code = """
        say("ready"); sys.stdin.readline()
        documents = SQLiteDocuments(settings, secrets)
        for _ in range(25):
            while True:
                (found,) = documents.get(ada, ("counters", "c"))
                try:
                    if found is None:
                        documents.commit(ada, [Create(("counters", "c"), {"n": 1})])
                    else:
                        documents.commit(ada, [Update(("counters", "c"), {"n": found.data["n"] + 1}, found.version)])
                    break
                except StoreError:
                    pass
        say("done")
    """
    with ExitStack() as stack:
        processes = [stack.enter_context(python(code, settings.data_dir)) for _ in range(4)]
        for process in processes:
            assert line(process) == "ready"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [line(process) for process in processes] == ["done"] * 4
    (found,) = documents.get(ADA, ("counters", "c"))
    assert found is not None
    assert found.data == {"n": 100}


def test_a_call_that_finds_the_file_locked_ends_within_five_seconds(documents: DocumentStore, path: Path) -> None:
    documents.commit(ADA, [Set(CHAT, {"n": 1})])
    outcomes: list[tuple[str, float]] = []

    def write() -> None:
        started = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            documents.commit(ADA, [Set(CHAT, {"n": 2})])
        outcomes.append((caught.value.detail, time.monotonic() - started))

    with raw(path) as other:
        other.execute("BEGIN EXCLUSIVE")
        threads = [threading.Thread(target=write) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        assert documents.get(ADA, CHAT)[0] is not None  # readers do not mind
        with pytest.raises(Unavailable):
            documents.check()
        for thread in threads:
            thread.join()
        other.execute("ROLLBACK")
    assert {detail for detail, _ in outcomes} == {"The document store cannot be used: it is busy."}
    assert len(outcomes) == 6
    assert max(seconds for _, seconds in outcomes) < 5
    documents.commit(ADA, [Set(CHAT, {"n": 3})])


def test_a_new_file_that_another_process_holds_is_waited_for(documents: DocumentStore, path: Path) -> None:
    path.parent.mkdir()
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(0.3, holder.close)
    timer.start()
    documents.commit(ADA, [Set(CHAT, {"n": 1})])
    timer.join()


def test_a_full_disk_is_unavailable_and_keeps_what_was_acknowledged(
    settings: Settings, documents: DocumentStore
) -> None:
    code = """
        import resource
        documents = SQLiteDocuments(settings, secrets)
        documents.check()
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        for n in range(100):
            try:
                documents.commit(ada, [Set(("big", str(n)), {"created": n, "text": "x" * 40_000})])
            except Unavailable as exc:
                say(exc.detail)
                break
            say(n)
        say(len(documents.query(ada, Query(("big",), "created"))))
    """
    with python(code, settings.data_dir) as process:
        *acknowledged, detail, seen = lines(process)
    assert detail.startswith("The document store cannot be used: the disk ")
    assert 0 < len(acknowledged) < 100
    assert int(seen) == len(acknowledged) == len(documents.query(ADA, Query(("big",), "created")))
    documents.commit(ADA, [Set(CHAT, {"n": 1})])


@pytest.mark.parametrize("damage", ["text", "folder", "zeros"])
def test_a_damaged_file_is_unavailable(documents: DocumentStore, path: Path, damage: str) -> None:
    if damage == "folder":
        path.mkdir(parents=True)
    else:
        documents.commit(ADA, [Set(("chats", str(n)), {"created": n, "x": "y" * 500}) for n in range(200)])
        documents = SQLiteDocuments(Settings(data_dir=path.parent), EnvironmentSecrets(Settings()))
        with raw(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = path.stat().st_size
        path.write_bytes(b"no database " * 100 if damage == "text" else path.read_bytes()[:4096] + bytes(size - 4096))
    for call in (documents.check, lambda: documents.query(ADA, Query(("chats",), "created"))):
        with pytest.raises(Unavailable, match="The document store cannot be used"):
            call()


def test_threads_that_come_and_go_leave_few_files_open(documents: DocumentStore) -> None:
    documents.commit(ADA, [Set(CHAT, {"n": 0})])

    together = threading.Barrier(20)

    def work() -> None:
        documents.commit(ADA, [Update(CHAT, {"n": 1})])
        together.wait()
        documents.get(ADA, *[CHAT] * 100)  # long enough to need many connections at once

    def burst() -> int:
        threads = [threading.Thread(target=work) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(os.listdir("/dev/fd"))

    before = len(os.listdir("/dev/fd"))
    most = max(burst() for _ in range(3)) - before
    # Eight connections stay, each with two files, and all share one. The other twelve are closed, but SQLite keeps a
    # descriptor of each for the next connection, because POSIX drops every lock of a process when it closes any.
    assert most <= 8 * 2 + 1 + 12


def test_a_failed_commit_leaves_the_store_usable(documents: DocumentStore) -> None:
    for n in range(30):
        documents.commit(ADA, [Create(("chats", str(n)), {})])
        with pytest.raises(Exception, match="exists already"):
            documents.commit(ADA, [Set(CHAT, {"n": n}), Create(("chats", str(n)), {})])
    assert documents.get(ADA, CHAT) == [None]


def test_only_the_owner_may_read_the_data(documents: DocumentStore, path: Path) -> None:
    documents.commit(ADA, [Set(CHAT, {"n": 1})])
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


# Commits that come together


def transactions(path: Path) -> int:
    """How many commits the write-ahead log holds: the frames that say how large the database is after them."""
    log = path.with_name(f"{path.name}-wal").read_bytes()
    [page] = struct.unpack(">I", log[8:12])
    salts = log[16:24]
    frames = (log[at : at + 24] for at in range(32, len(log), 24 + page))
    return sum(frame[4:8] != bytes(4) for frame in frames if frame[8:16] == salts)


def test_commits_that_come_together_share_one_write_to_the_disk(documents: DocumentStore, path: Path) -> None:
    documents.commit(ADA, [Set(CHAT, {"n": 0})])
    before = transactions(path)
    with ThreadPoolExecutor(16) as threads, raw(path) as other:
        other.execute("BEGIN IMMEDIATE")
        commits = [threads.submit(documents.commit, ADA, [Set(("chats", str(n)), {"n": n})]) for n in range(16)]
        time.sleep(0.3)
        other.execute("ROLLBACK")
        versions = [commit.result()[0] for commit in commits]
    found = documents.get(ADA, *(("chats", str(n)) for n in range(16)))
    assert [snapshot and (snapshot.data["n"], snapshot.version) for snapshot in found] == list(enumerate(versions))
    assert 1 <= transactions(path) - before <= 2


def test_of_commits_that_come_together_each_fails_alone(documents: DocumentStore, path: Path) -> None:
    documents.commit(ADA, [Create(("chats", str(n)), {"n": "old"}) for n in range(0, 16, 2)])
    with ThreadPoolExecutor(16) as threads, raw(path) as other:
        other.execute("BEGIN IMMEDIATE")
        commits = [
            threads.submit(
                documents.commit, ADA, [Set(("beside", str(n)), {"n": n}), Create(("chats", str(n)), {"n": n})]
            )
            for n in range(16)
        ]
        time.sleep(0.3)
        other.execute("ROLLBACK")
        errors = [commit.exception() for commit in commits]
    assert [type(error) for error in errors] == [AlreadyExists, type(None)] * 8
    for where in ("chats", "beside"):
        found = documents.get(ADA, *((where, str(n)) for n in range(16)))
        old = "old" if where == "chats" else None
        values = [snapshot.data["n"] if snapshot else None for snapshot in found]
        assert values == [n if n % 2 else old for n in range(16)]


class Dawdling:
    """A lock whoever leaves which goes on a moment later, as a thread does that the machine takes the processor from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        time.sleep(random.uniform(0, 0.004))


def test_who_comes_just_as_another_ends_is_written_too(tmp_path: Path) -> None:
    database = Database(tmp_path / "it.sqlite3", ["CREATE TABLE IF NOT EXISTS it (n INTEGER)"], "It")
    database._lock = Dawdling()  # type: ignore[assignment]  # the moment is too short to be met otherwise

    def write(n: int) -> None:
        for _ in range(20):
            time.sleep(random.uniform(0, 0.004))
            database.commit(lambda db: db.execute("INSERT INTO it VALUES (?)", (n,)))

    with ThreadPoolExecutor(8) as threads:
        writing = [threads.submit(write, n) for n in range(8)]
        for one in writing:
            one.result(60)
    with database.read() as db:
        assert db.execute("SELECT count(*) FROM it").fetchone() == (160,)


def test_no_commit_of_many_threads_that_was_acknowledged_is_lost_by_kill_9(
    settings: Settings, documents: DocumentStore
) -> None:
    code = """
        from threading import Thread
        documents = SQLiteDocuments(settings, secrets)
        def work(name):
            n = 0
            while True:
                documents.commit(ada, [Create(("r", f"{name}-{n}-{part}"), {"created": n}) for part in "abc"])
                sys.stdout.write(f"{name}-{n}\\n")
                sys.stdout.flush()
                n += 1
        for name in range(8):
            Thread(target=work, args=(name,), daemon=True).start()
        sys.stdin.readline()
    """
    with python(code, settings.data_dir) as process:
        acknowledged = [line(process) for _ in range(200)]
        process.kill()
        acknowledged += lines(process)
    # The last line may be half of one.
    names = [("r", f"{name}-{part}") for name in acknowledged[:-1] for part in "abc"]
    assert None not in documents.get(ADA, *names)
    everything = documents.query(ADA, Query(("r",), "created", limit=100_000))
    kept = Counter(snapshot.path[1].rpartition("-")[0] for snapshot in everything)
    assert set(kept.values()) == {3}  # all three or none


@pytest.mark.parametrize(
    "data", [{"n": 1.5e300, "m": -0.0, "k": 2**63 - 1}, {"a": "x" * 40_000, "b": {"c": [{}] * 3000}}]
)
def test_an_update_keeps_what_it_does_not_name_to_the_letter(documents: DocumentStore, data: dict[str, JSON]) -> None:
    documents.commit(ADA, [Set(CHAT, data)])
    documents.commit(ADA, [Update(CHAT, {"new": 1})])
    [found] = documents.get(ADA, CHAT)
    assert found is not None
    assert found.data == {**data, "new": 1}


def test_what_updates_add_up_to_is_no_larger_than_a_document_may_be(documents: DocumentStore) -> None:
    """Of empty objects, which take the fewest characters for their size."""
    documents.commit(ADA, [Set(CHAT, {"a": [{}] * 32_000})])
    documents.commit(ADA, [Update(CHAT, {"b": [{}] * 700})])
    before = documents.get(ADA, CHAT)
    with pytest.raises(TooLarge):
        documents.commit(ADA, [Update(CHAT, {"c": [{}] * 700})])
    assert documents.get(ADA, CHAT) == before


def test_an_update_moves_a_document_in_every_order_that_it_changes(documents: DocumentStore) -> None:
    documents.commit(ADA, [Set(("chats", str(n)), {"updated": n, "created": n, "seq": n}) for n in range(5)])
    documents.commit(ADA, [Update(("chats", "0"), {"updated": 9, "created": 2.5}), Update(("chats", "1"), {"seq": -1})])
    documents.commit(ADA, [Set(("chats", "2"), {"updated": 10}), Update(("chats", "3"), {"seq": 3})])
    orders = {
        field: [snapshot.path[1] for snapshot in documents.query(ADA, Query(("chats",), field))]
        for field in ("updated", "created", "seq")
    }
    assert orders == {"updated": [*"13402"], "created": [*"1034"], "seq": [*"1034"]}


def test_a_file_of_another_version_says_so(documents: DocumentStore, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with raw(path) as connection:
        connection.execute("CREATE TABLE documents (collection TEXT, id TEXT, data TEXT, version TEXT, updated BLOB)")
    with pytest.raises(Unavailable, match="another version made its file; move the data folder away"):
        documents.get(ADA, CHAT)
