"""What the index in PostgreSQL promises beside the contract: bounded and honest failures, and a table that makes itself."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import psycopg
import psycopg_pool
import pytest

from service.backends.interfaces import Entry, Search
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.vectors import LocalVectors
from service.backends.postgres import PostgresVectors
from service.backends.postgres.failures import MEANINGS, mapped
from service.config import Settings
from service.errors import BadRequest, ConfigError, Unavailable
from service.models import Passage, Scope
from service.proof.process import free_port
from tests.kit.postgres import PASSWORD, Postgres, running
from tests.kit.server import ROOT

ADA, BOB, SHARED = Scope("recipes", "ada"), Scope("recipes", "bob"), Scope("recipes", None)
TEXT = "canary of " + "the text"
NOBODY = "postgresql://brainstem:{}@127.0.0.1:{}/brainstem"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running() as server:
        yield server


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.fresh()


def index_of(url: str, statement_seconds: float = 5.0) -> PostgresVectors:
    settings = Settings(postgres_url=url)
    return PostgresVectors(settings, EnvironmentSecrets(settings), statement_seconds=statement_seconds)


def entry(text: str, chunk: int = 0, document: str = "d1", seed: int = 0) -> Entry:
    numbers = np.random.default_rng(seed).standard_normal(8)
    vector = (numbers / np.linalg.norm(numbers)).astype(np.float32)
    return Entry(Passage(document=document, chunk=chunk, title="t", text=text), vector, "space")


def calls(index: PostgresVectors) -> list[Callable[[], object]]:
    asked = Search("canary", entry("x").vector, "space", 5)
    return [
        index.check,
        lambda: index.search(ADA, asked),
        lambda: index.upsert(ADA, [entry(TEXT)]),
        lambda: index.delete(ADA, "d1", 1),
        lambda: index.entries(ADA),
    ]


def words(index: PostgresVectors, text: str, scope: Scope = ADA) -> list[str]:
    return [hit.passage.text for hit in index.search(scope, Search(text, None, "space", 100))]


def refused(call: Callable[[], object], caplog: pytest.LogCaptureFixture | None = None) -> str:
    """Return what a failed call says, once it is sure that nothing of what it was given goes with it."""
    with pytest.raises(Unavailable) as caught:
        call()
    shown = "".join(traceback.format_exception(caught.value)) + (caplog.text if caplog else "")
    assert PASSWORD not in shown
    assert TEXT not in shown
    return caught.value.detail


# Set-up.


def test_a_missing_or_wrong_url_is_refused_at_the_start_without_a_word_of_it() -> None:
    with pytest.raises(ConfigError, match="POSTGRES_URL"):
        index_of("")
    for wrong in (f"mysql://u:{PASSWORD}@h/d", f"postgres:u:{PASSWORD}", f"host=h password={PASSWORD}"):
        with pytest.raises(ConfigError, match="POSTGRES_URL must be") as caught:
            index_of(wrong)
        assert PASSWORD not in str(caught.value)


def test_to_build_it_imports_no_driver_and_calls_nobody() -> None:
    program = (
        "import sys; from service.backends.postgres import PostgresVectors; from service.config import Settings\n"
        "PostgresVectors(Settings(postgres_url='postgresql://127.0.0.1:1/x'), None)\n"
        "print([name for name in ('psycopg', 'psycopg_pool', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.strip() == "[]", done.stderr


CHECK = """
import sys
from service.backends.postgres import PostgresVectors
from service.config import Settings
sys.stdin.readline()
PostgresVectors(Settings(postgres_url=sys.argv[1]), None).check()
"""


def test_threads_and_processes_that_begin_together_make_one_table(postgres: Postgres, url: str) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", CHECK, url], cwd=ROOT, stdin=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.close()
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(index_of(url).upsert, ADA, [entry(f"text {n}", n)]) for n in range(8)]:
            done.result()
    assert [process.wait(30) for process in processes] == [0, 0, 0]
    assert len(words(index_of(url), "text")) == 8
    name = url.partition("search_path%3D")[2].partition(",")[0]
    assert postgres.execute(f"SELECT count(*) FROM pg_tables WHERE schemaname = '{name}'") == [(1,)]


def test_a_table_that_was_dropped_is_made_again(postgres: Postgres, url: str) -> None:
    index = index_of(url)
    index.upsert(ADA, [entry("before")])
    name = url.partition("search_path%3D")[2].partition(",")[0]
    postgres.execute(f"DROP SCHEMA {name} CASCADE")
    postgres.execute(f"CREATE SCHEMA {name} AUTHORIZATION brainstem")
    index.upsert(ADA, [entry("after")])
    assert words(index, "before after") == ["after"]


# Failures.


def test_a_server_that_is_not_there_is_unavailable_in_time(caplog: pytest.LogCaptureFixture) -> None:
    index = index_of(NOBODY.format(PASSWORD, free_port()))
    with caplog.at_level(logging.DEBUG):
        for call in calls(index)[:3]:
            began = time.monotonic()
            assert "cannot be reached" in refused(call, caplog)
            assert time.monotonic() - began < 3


def test_a_server_that_takes_connections_and_says_nothing_is_unavailable_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index = index_of(NOBODY.format(PASSWORD, silent.getsockname()[1]))
        began = time.monotonic()
        assert "did not answer in time" in refused(index.check)
        assert time.monotonic() - began < 6
        assert "cannot be reached" in refused(calls(index)[1])
        silent.settimeout(5)
        silent.accept()[0].close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: url.replace(PASSWORD, "canary"), "refuses our user or password"),
        (lambda url: url.replace("/brainstem?", "/nowhere?"), "no such database"),
        (lambda url: url.split("?", maxsplit=1)[0] + "?options=-csearch_path%3Dpg_catalog", "lacks a right"),
        (lambda url: url.split("?", maxsplit=1)[0] + "?canary=1", "POSTGRES_URL"),
    ],
    ids=["password", "database", "rights", "option"],
)
def test_a_wrong_set_up_is_told_apart_and_nothing_of_it_shown(
    url: str, change: Callable[[str], str], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    index = index_of(change(url))
    index_of(url).check()
    with caplog.at_level(logging.DEBUG):
        assert words in refused(index.check, caplog)


def test_a_statement_that_takes_too_long_is_ended(postgres: Postgres, url: str) -> None:
    index = index_of(url, statement_seconds=0.4)
    index.upsert(ADA, [entry("here")])
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE brainstem_passages IN ACCESS EXCLUSIVE MODE")
        for call in calls(index):
            began = time.monotonic()
            assert "did not answer in time" in refused(call)
            assert 0.3 < time.monotonic() - began < 2
    assert words(index, "here") == ["here"]


def test_a_server_that_falls_silent_is_given_up(postgres: Postgres, url: str) -> None:
    index = index_of(url, statement_seconds=0.2)
    index.upsert(ADA, [entry("here")])
    pids = [pid for (pid,) in postgres.execute("SELECT pid FROM pg_stat_activity WHERE usename = 'brainstem'")]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert "did not answer in time" in refused(calls(index)[1])
        assert time.monotonic() - began < 4
        assert words(index, "here") == ["here"]
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_connections_that_the_server_has_ended_are_replaced(postgres: Postgres, url: str) -> None:
    index = index_of(url)
    index.upsert(ADA, [entry("here")])
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: words(index, "here"), range(12)))
    ended = postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'brainstem'")
    assert ended
    for _ in range(3):
        assert words(index, "here") == ["here"]


def test_when_all_connections_are_in_use_a_call_waits_only_so_long(url: str) -> None:
    index = index_of(url, statement_seconds=4.0)
    index.upsert(ADA, [entry("here")])
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE brainstem_passages IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor(10) as pool:
            holding = [pool.submit(words, index, "here") for _ in range(10)]
            time.sleep(0.5)
            began = time.monotonic()
            assert "busy" in refused(index.check)
            assert 1.5 < time.monotonic() - began < 3
            other.rollback()
            assert [done.result() for done in holding] == [["here"]] * 10


def test_writers_of_the_same_passages_do_not_lock_each_other_out(url: str) -> None:
    index = index_of(url)
    there = [entry(f"text {n}", n) for n in range(40)]
    with ThreadPoolExecutor(6) as pool:
        written = [pool.submit(index.upsert, ADA, there if n % 2 else there[::-1]) for n in range(18)]
        written += [pool.submit(index.delete, ADA, "d1", 20) for _ in range(6)]
        for done in written:
            done.result()
    index.upsert(ADA, there)
    assert len(words(index, "text")) == 40


def classes() -> list[type[psycopg.Error]]:
    homes = (psycopg, psycopg.errors, psycopg_pool)
    found = {value for home in homes for value in vars(home).values() if isinstance(value, type)}
    return sorted((c for c in found if issubclass(c, psycopg.Error)), key=lambda c: c.__name__)


def test_the_driver_has_the_errors_that_are_told_apart() -> None:
    assert {failure for failure, _ in MEANINGS} <= {*classes()}
    assert len(classes()) > 200


@pytest.mark.parametrize("failure", classes(), ids=lambda c: c.__name__)
def test_every_failure_has_a_meaning_that_repeats_nothing(failure: type[psycopg.Error]) -> None:
    error = mapped(failure(f"{PASSWORD} canary"))
    assert type(error) is Unavailable
    assert "The search index" in error.detail
    assert "canary" not in error.detail


# Isolation and paging.


def test_no_name_is_ever_a_statement(postgres: Postgres, url: str) -> None:
    index = index_of(url)
    evil = "x'); DROP TABLE brainstem_passages; --%s %(app)s {0} $1 \\ \0 \""
    scope = Scope(evil, evil)
    index.upsert(BOB, [entry("kept")])
    index.upsert(scope, [replace(entry(evil, document=evil), space=evil.replace("\0", ""))])
    [hit] = index.search(scope, Search(evil, None, evil, 10))
    assert (hit.app, hit.user, hit.passage.document, hit.passage.text) == (evil, evil, evil, evil)
    [(cursor, found)] = index.entries(scope)
    assert found.passage.document == evil
    assert index.entries(scope, cursor) == []
    for wrong in (evil, "d1/x", "x", "d1/-1"):
        with pytest.raises(BadRequest):
            index.entries(scope, wrong)
    index.delete(scope, evil, 1)
    assert index.entries(scope) == []
    assert words(index, "kept", BOB) == ["kept"]


def test_a_small_scope_beside_a_large_one_is_found_whole(url: str) -> None:
    index = index_of(url)
    # The large one's are all nearer to the question than the small one's.
    index.upsert(ADA, [entry("common words", n, seed=1) for n in range(2000)])
    index.upsert(BOB, [entry("common words", n, seed=100 + n) for n in range(30)])
    near = Search("", entry("", seed=1).vector, "space", 100)
    assert len(index.search(BOB, near)) == 30
    assert len(words(index, "common words", BOB)) == 30
    assert {hit.user for hit in index.search(BOB, Search("common", near.vector, "space", 100))} == {"bob"}


def test_words_that_most_passages_have_rank_but_rarer_ones_choose(url: str) -> None:
    index = index_of(url)
    index.upsert(ADA, [entry(f"common filler {n}", n) for n in range(1100)])
    index.upsert(ADA, [entry("rare and plain", 1, "d2"), entry("rare and common", 2, "d2")])
    assert words(index, "common rare") == ["rare and common", "rare and plain"]
    assert words(index, "what is the common 1050")[0] == "common filler 1050"
    assert len(words(index, "common")) == 100
    assert words(index, "and") == ["rare and plain", "rare and common"]


@pytest.fixture(params=["local", "pgvector"])
def listing(request: pytest.FixtureRequest, settings: Settings) -> LocalVectors | PostgresVectors:
    if request.param == "local":
        return LocalVectors(settings, EnvironmentSecrets(settings))
    return index_of(request.getfixturevalue("url"))


def test_entries_are_a_scope_s_own_in_order_and_come_back_as_they_were(listing: LocalVectors | PostgresVectors) -> None:
    given = [entry(f"text {d} {n}", n, d, seed=n) for d in ("b/1", "a", "Z", "é") for n in (0, 2, 10)]
    listing.upsert(ADA, given)
    listing.upsert(SHARED, [entry("shared", 5, "a")])
    listing.upsert(BOB, [entry("another's", 6, "a")])
    assert listing.entries(Scope("travel", "ada")) == []
    for limit in (1, 5, 12, 200):
        found: list[Entry] = []
        after = ""
        while page := listing.entries(ADA, after, limit):
            assert len(page) <= limit
            found += [one for _, one in page]
            after = page[-1][0]
        assert len(found) == len(given)
        by_place = {(one.passage.document, one.passage.chunk): one for one in found}
        for one in given:
            same = by_place[one.passage.document, one.passage.chunk]
            assert (same.passage, same.space) == (one.passage, one.space)
            assert np.array_equal(same.vector, one.vector)
    assert [one.passage.text for _, one in listing.entries(SHARED)] == ["shared"]
    with pytest.raises(BadRequest):
        listing.entries(ADA, "no cursor")
