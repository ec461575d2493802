"""A turn on the real Firestore emulator: how many round trips it takes, and what becomes of it when they fail."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import grpc
import pytest
from flask import Flask

from service.app import create_app
from service.backends.interfaces import Delete, DocumentStore, Set
from service.config import Settings
from service.conversations import chat_path, turn_path
from service.models import Chat, Scope, Turn, TurnStatus, timestamp
from service.records import to_record
from tests.kit.apps import write_app
from tests.kit.client import User, events
from tests.kit.emulators import Emulators
from tests.kit.firestore_proxy import FirestoreProxy, own_database
from tests.kit.upstream import Answer, Upstream

When = Literal["before", "after"]

LONGEST_SECONDS = 6.0
"""What an answer takes while the store is down: less than the five seconds of one call, and what lies around it."""


@pytest.fixture
def proxy(firebase: Emulators) -> Iterator[FirestoreProxy]:
    with FirestoreProxy(firebase.hosts["firestore"]) as running:
        yield running


@pytest.fixture
def flask(served: Settings, proxy: FirestoreProxy) -> Iterator[Flask]:
    """The service with its documents and vectors in Firestore."""
    settings = own_database(served, proxy.host)
    app = create_app(
        replace(
            settings,
            backend_documents="google",
            backend_vectors="google",
            checkpoint_seconds=30.0,
            stage_seconds=5.0,
            lease_seconds=2.0,
        )
    )
    yield app
    app.extensions["brainstem"].backends.queue.stop()


def began(upstream: Upstream) -> float:
    """When the last model call arrived, by the monotonic clock."""
    return upstream.asked()[-1].at


# Round trips.


def test_round_trips_of_a_turn(proxy: FirestoreProxy, ada: User, upstream: Upstream) -> None:
    assert (
        ada.add("z.md", b"# Z\n\nThe zebra secret is canary.\n\nMore about it.", "text/markdown")["status"]
        == "COMPLETED"
    )
    ada.call("PUT", "data/profile", json={"likes": "zebras"})
    assert ada.ask("c1", "What is the zebra secret?").status_code == 200
    start = len(proxy.calls)
    assert ada.ask("c1", "And what else about the zebra?").status_code == 200
    calls = proxy.calls[start:]
    before = Counter(call.method for call in calls if call.at < began(upstream))
    after = Counter(call.method for call in calls if call.at >= began(upstream))
    # The user's data; the passages' chunks; two queries for vectors and four for words; accept.
    assert before == {"BatchGetDocuments": 2, "RunQuery": 6, "Commit": 1}
    # Its first words, and its end with the ledger's rows.
    assert after == {"Commit": 2}


def test_before_the_model_is_called_two_round_trips_are_waited_for(
    proxy: FirestoreProxy, ada: User, upstream: Upstream
) -> None:
    ada.add("z.md", b"# Z\n\nThe zebra secret is canary.", "text/markdown")
    assert ada.ask("c1", "What is the zebra secret?").status_code == 200
    delay = 0.3
    proxy.delay(delay)
    start = time.monotonic()
    assert ada.ask("c1", "And what else about the zebra?").status_code == 200
    waited = (began(upstream) - start) / delay
    assert 2 <= waited < 3


class Billed(FirestoreProxy):
    """Counts what Firestore bills: each document that is read or found missing, and each that is written.

    Those of a collection count under its name as well: `chunks reads`, `chunks writes`.
    """

    def __init__(self, emulator_host: str) -> None:
        from google.cloud.firestore_v1.types import (  # takes longer than a call may
            BatchGetDocumentsResponse,
            CommitRequest,
            RunQueryResponse,
        )

        super().__init__(emulator_host)
        self.billed: Counter[str] = Counter()
        self._commit, self._found = CommitRequest.deserialize, RunQueryResponse.deserialize
        self._got = BatchGetDocumentsResponse.deserialize

    def serve(self, method: str, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        short = method.rpartition("/")[2]

        def written() -> Iterator[bytes]:
            for request in requests:
                if short == "Commit":
                    for write in self._commit(request).writes:
                        self._count("writes", write.update.name or write.delete)
                yield request

        for reply in super().serve(method, written(), context):
            if short == "RunQuery" and (name := self._found(reply).document.name):
                self._count("reads", name)
            elif short == "BatchGetDocuments":
                got = self._got(reply)
                self._count("reads", got.found.name or got.missing)
            yield reply

    def _count(self, what: str, name: str) -> None:
        self.billed[what] += 1
        self.billed[f"{name.split('/')[-2]} {what}"] += 1


def test_a_turn_costs_the_same_however_long_its_chat(firebase: Emulators, served: Settings, upstream: Upstream) -> None:
    write_app(served.apps_dir, "plain", "[retrieval]\nenabled = false\n[context]\nhistory_turns = 10\n")
    upstream.always(Answer(["Hello", " world"]))
    with Billed(firebase.hosts["firestore"]) as proxy:
        app = create_app(replace(own_database(served, proxy.host), backend_documents="google", checkpoint_seconds=30.0))
        services, user = app.extensions["brainstem"], User(app, "ada", "plain")
        seen = []
        for length in (10, 100, 10_000):
            chat = f"c{length}"
            fill(services.backends.documents, Scope("plain", "ada"), chat, length)
            for _ in range(3):
                proxy.billed.clear()
                assert user.ask(chat, "Say hello").status_code == 200
                seen.append((proxy.billed["reads"], proxy.billed["writes"]))
        services.backends.queue.stop()
    # A chat that was never asked before, as these, is read once: the chat, the turn, the turns before, and ten of them. From then on
    # this process knows how it left it. Written are the turn and its chat when it is accepted and at its end, there with the ledger's
    # row and the turns for the next one; and the turn with its first words.
    assert seen == 3 * [(13, 7), (0, 7), (0, 7)]


LONG = "\n".join(f"# Part {n}\n\nParagraph {n} tells of topic{n} at some length.\n" for n in range(100)).encode()
"""A file that gives 100 chunks."""


@pytest.fixture
def billed(firebase: Emulators) -> Iterator[Billed]:
    with Billed(firebase.hosts["firestore"]) as running:
        yield running


@pytest.fixture
def reader(billed: Billed, served: Settings) -> Iterator[User]:
    """A user of a service with its documents in Firestore and its index beside it."""
    app = create_app(replace(own_database(served, billed.host), backend_documents="google", checkpoint_seconds=30.0))
    yield User(app, "ada", "alpha")
    app.extensions["brainstem"].backends.queue.stop()


def test_chunks_are_stored_read_and_removed_eight_at_once(billed: Billed, reader: User, upstream: Upstream) -> None:
    document = reader.add("long.md", LONG, "text/markdown")
    assert (document["status"], document["chunks"]) == ("COMPLETED", 100)
    assert billed.billed["chunks writes"] == 13
    # The received document with its job and outbox; the job begun, gone on and ended, out of the outbox and of those that
    # wait; the document's four steps; the ledger's row of one call.
    assert billed.billed["writes"] - 13 <= 13
    numbers = {f"Part {n}": n for n in range(100)}
    for n in (7, 40, 99):
        reader.ask(f"c{n}", "Say hello")
        billed.billed.clear()
        cited = reader.ask(f"c{n}", f"What of topic{n}?").json["citations"]
        found = [numbers[citation["headings"][0]] for citation in cited]
        assert (len(found), n in found) == (6, True)
        groups = {k // 8 for at in found for k in (at - 1, at, at + 1) if k >= 0}
        assert billed.billed["chunks reads"] == len(groups) <= 12
        # Of the chat nothing is read, for this process answered it last; the other one is the user's data.
        assert billed.billed["reads"] == len(groups) + 1
    billed.billed.clear()
    assert reader.call("DELETE", f"documents/{document['id']}").status_code == 204
    assert (billed.billed["chunks reads"], billed.billed["chunks writes"]) == (13, 13)
    assert reader.ask("c7", "What of topic7?").json["citations"] == []
    assert "tells of" not in json.dumps(upstream.asked()[-1].json)


def test_text_that_the_store_has_no_more_is_not_told_though_the_index_finds_it(
    flask: Flask, ada: User, upstream: Upstream
) -> None:
    document = ada.add("long.md", LONG, "text/markdown")["id"]
    assert "tells of topic20 " in asked_for(ada, upstream, "c1", "What of topic20?")
    store = flask.extensions["brainstem"].backends.documents
    store.commit(Scope("alpha", "ada"), [Delete(("documents", document, "chunks", "2"))])
    told = asked_for(ada, upstream, "c2", "What of topic20?")
    assert "tells of" in told
    assert not [n for n in range(16, 24) if f"tells of topic{n} " in told]


def asked_for(user: User, upstream: Upstream, chat: str, question: str) -> str:
    """What the model is told when a user asks."""
    assert user.ask(chat, question).status_code == 200
    return json.dumps(upstream.asked()[-1].json)


def fill(documents: DocumentStore, scope: Scope, chat: str, length: int) -> None:
    """Store a chat of so many answered turns."""
    now = timestamp()
    turns = [
        Turn(
            id=f"t{seq}", chat=chat, seq=seq, prompt=f"Question {seq}", reply=f"Answer {seq}",
            status=TurnStatus.COMPLETED, created=now, updated=now, fingerprint="", run="r",
        )
        for seq in range(1, length + 1)
    ]  # fmt: skip
    for start in range(0, length, 500):
        some = turns[start : start + 500]
        documents.commit(scope, [Set(turn_path(chat, turn.id), to_record(turn)) for turn in some])
    last = Chat(id=chat, title="Long", created=now, updated=now, turns=length)
    documents.commit(scope, [Set(chat_path(chat), to_record(last))])


# Faults.


def effects(ada: User, upstream: Upstream, chat: str) -> tuple[list[Any], int]:
    """The turns of a chat, and the model calls in the ledger."""
    turns = ada.get(f"chats/{chat}").json["turns"]
    rows = ada.get("usage").json["rows"]
    return turns, sum(row["calls"] for row in rows if row["kind"] == "answer")


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize(
    ("status", "when"),
    [
        (grpc.StatusCode.UNAVAILABLE, "before"),
        (grpc.StatusCode.UNAVAILABLE, "after"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "before"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "after"),
        # It says that nothing was applied, so it never comes after the commit.
        (grpc.StatusCode.ABORTED, "before"),
    ],
)
def test_a_write_that_fails_once_changes_nothing(
    proxy: FirestoreProxy, ada: User, upstream: Upstream, nth: int, when: When, status: grpc.StatusCode
) -> None:
    upstream.enqueue("Hello", " world")
    fault = proxy.fail("Commit", nth, when=when, status=status)
    told = events(ada.stream("c1", "Say hello", id="m1"))
    assert fault.fired == 1
    assert told[-1].name == "done"
    [turn], calls = effects(ada, upstream, "c1")
    assert (turn["status"], turn["reply"], calls) == ("COMPLETED", "Hello world", 1)
    again = ada.ask("c1", "Say hello", id="m1")
    assert (again.status_code, again.json["reply"]) == (200, "Hello world")
    assert len(upstream.asked()) == 1


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_write_whose_reply_is_lost_time_and_again_has_its_effect_once(
    proxy: FirestoreProxy, ada: User, upstream: Upstream, nth: int
) -> None:
    upstream.always(Answer(["Hello", " world"]))
    fault = proxy.fail("Commit", nth, when="after", times=1000)
    for _ in range(2):
        answer = ada.ask("c1", "Say hello", id="m1")
        assert (answer.status_code, answer.json["status"], answer.json["reply"]) == (200, "COMPLETED", "Hello world")
    assert fault.fired >= 2
    proxy.heal()
    turns, calls = effects(ada, upstream, "c1")
    assert (len(turns), calls, len(upstream.asked())) == (1, 1, 1)


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_write_that_fails_for_long_is_answered_in_time_and_never_called_done(
    proxy: FirestoreProxy, ada: User, upstream: Upstream, nth: int
) -> None:
    upstream.always(Answer(["Hello", " world"]))
    fault = proxy.fail("Commit", nth, times=1000)
    start = time.monotonic()
    answer = ada.ask("c1", "Say hello", id="m1")
    took = time.monotonic() - start
    assert fault.fired >= 2
    assert (answer.status_code, answer.json["code"], answer.json["retryable"]) == (503, "unavailable", True)
    # Before the model is called it costs nothing to give up; an answer that was paid for is tried to be saved for longer.
    assert took < (LONGEST_SECONDS if nth == 1 else 25)
    assert len(upstream.asked()) == (0 if nth == 1 else 1)
    proxy.heal()
    deadline = time.monotonic() + 60
    while (again := ada.ask("c1", "Say hello", id="m1")).status_code != 200:
        assert again.json["retryable"], again.json
        assert time.monotonic() < deadline
        time.sleep(0.2)
    turns, calls = effects(ada, upstream, "c1")
    assert [turn["status"] for turn in turns] == ["COMPLETED" if nth == 1 else "INTERRUPTED"]
    # An answer of which not one write succeeded, from the first to the last, leaves no row: nothing says that it was begun.
    assert (calls, len(upstream.asked())) == ((0, 1) if nth == 2 else (1, 1))


def test_while_the_store_is_down_answers_come_in_time_and_it_is_back_at_once(
    proxy: FirestoreProxy, ada: User, upstream: Upstream
) -> None:
    assert ada.ask("c1", "Say hello").status_code == 200
    proxy.down()
    for method, path, body in (
        ("GET", "chats", None),
        ("POST", "chats/c2/messages", {"text": "Hello"}),
        ("PUT", "data/x", {"a": 1}),
        ("DELETE", "chats/c1", None),
    ):
        start = time.monotonic()
        answer = ada.call(method, path, json=body)
        assert (answer.status_code, answer.json["code"], answer.json["retryable"]) == (503, "unavailable", True), path
        assert time.monotonic() - start < LONGEST_SECONDS
    assert len(upstream.asked()) == 1
    ready = ada.http.get("/ready")
    assert (ready.status_code, ready.json["ready"]) == (503, False)
    assert "document store" in ready.json["backends"]["documents"]
    assert ada.http.get("/health").status_code == 200
    proxy.up()
    deadline = time.monotonic() + 10
    while ada.get("chats").status_code != 200:
        assert time.monotonic() < deadline
    assert ada.ask("c1", "Say it again").status_code == 200


def test_a_slow_store_slows_and_does_not_break(proxy: FirestoreProxy, ada: User, upstream: Upstream) -> None:
    proxy.delay(1.0)
    upstream.enqueue("Hello")
    start = time.monotonic()
    told = events(ada.stream("c1", "Say hello"))
    assert told[-1].name == "done"
    assert time.monotonic() - start < 6
    proxy.heal()
    [turn], calls = effects(ada, upstream, "c1")
    assert (turn["status"], calls) == ("COMPLETED", 1)


def test_a_store_that_hangs_is_given_up(proxy: FirestoreProxy, ada: User, upstream: Upstream) -> None:
    proxy.delay(8.0)
    start = time.monotonic()
    answer = ada.ask("c1", "Say hello")
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
    assert time.monotonic() - start < LONGEST_SECONDS
    assert upstream.asked() == []
    proxy.heal()


def test_four_at_once_in_one_chat_are_one_turn(ada: User, upstream: Upstream) -> None:
    """The race that transactions lose: accepting by precondition has one winner, and the others are told at once."""
    upstream.always(Answer(["Hello"]))
    barrier, answers = threading.Barrier(4), []

    def ask(n: int) -> None:
        barrier.wait()
        answers.append(ada.ask("c1", "Say hello", id="m1"))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [answer.status_code for answer in answers] == [200] * 4
    assert {answer.json["reply"] for answer in answers} == {"Hello"}
    assert len(upstream.asked()) == 1
