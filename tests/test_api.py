"""The API as a client sees it: the boring loop, and what it answers to what is wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from flask import Flask

from service.app import create_app
from service.backends.interfaces import DocumentStore, Write
from service.config import Settings
from service.errors import Unavailable
from service.models import Scope
from tests.kit.apps import write_app
from tests.kit.client import User, events, parse_events
from tests.kit.upstream import Close, Gate, Response, Upstream, faults

FACT = b"# Kettle\n\nThe kettle of the moon base boils water at sixty-one degrees.\n"


def chat_requests(upstream: Upstream) -> int:
    return sum(request.path.endswith("/chat/completions") for request in upstream.requests)


# The loop


def test_an_answer_comes_whole_as_json_and_is_found_again(ada: User, upstream: Upstream) -> None:
    upstream.enqueue("Hello", " world")
    answer = ada.ask("c1", "Say hello")
    assert answer.status_code == 200
    assert answer.json["reply"] == "Hello world"
    assert answer.json["status"] == "COMPLETED"
    found = ada.get("chats/c1").json
    assert [(turn["prompt"], turn["reply"]) for turn in found["turns"]] == [("Say hello", "Hello world")]
    assert found["title"] == "Say hello"


def test_an_answer_is_streamed_with_its_citations(ada: User, upstream: Upstream) -> None:
    ada.add("kettle.md", FACT, "text/markdown")
    upstream.enqueue("At sixty-one", " degrees [1].")
    told = events(ada.stream("c1", "At what temperature does the kettle boil?"))
    assert [event.name for event in told] == ["accepted", "citations", "delta", "delta", "done"]
    citation = told[1].data["citations"][0]
    assert "sixty-one" in citation["text"]
    assert (citation["title"], citation["headings"]) == ("kettle.md", ["Kettle"])
    assert told[-1].data["turn"]["reply"] == "At sixty-one degrees [1]."
    sent = upstream.requests[-1].json["messages"]
    assert "sixty-one" in json.dumps(sent, ensure_ascii=False)


def test_the_user_message_is_stored_before_accepted_is_sent(ada: User, upstream: Upstream) -> None:
    gate = Gate()
    upstream.enqueue(gate, "late")
    response = ada.stream("c1", "Remember me", id="m1")
    stream = response.iter_encoded()
    assert b"event: accepted" in next(stream)
    [turn] = ada.get("chats/c1").json["turns"]
    assert (turn["prompt"], turn["status"]) == ("Remember me", "ACCEPTED")
    gate.open()
    assert b"event: done" in list(stream)[-1]


def test_the_prompt_holds_the_apps_words_the_users_data_and_the_history(ada: User, upstream: Upstream) -> None:
    assert ada.call("PUT", "data/profile", json={"diet": "vegan"}).status_code == 200
    upstream.enqueue("Noted.")
    ada.ask("c1", "I am Ada")
    upstream.enqueue("Ada.")
    ada.ask("c1", "Who am I?")
    roles = [(message["role"], message["content"]) for message in upstream.requests[-1].json["messages"]]
    assert roles[0][0] == "system"
    assert "Answer briefly." in roles[0][1]
    assert "vegan" in roles[0][1]
    assert roles[1:] == [("user", "I am Ada"), ("assistant", "Noted."), ("user", "Who am I?")]


def test_chats_are_listed_renamed_and_deleted(ada: User) -> None:
    for name in ("c1", "c2", "c3"):
        ada.ask(name, f"Question {name}")
    first = ada.get("chats?limit=2").json
    rest = ada.get(f"chats?limit=2&cursor={first['nextCursor']}").json
    assert [chat["id"] for chat in first["chats"] + rest["chats"]] == ["c3", "c2", "c1"]
    assert rest["nextCursor"] is None
    assert ada.call("PATCH", "chats/c1", json={"title": "Better"}).json["title"] == "Better"
    assert ada.get("chats/c1").json["title"] == "Better"
    assert ada.call("DELETE", "chats/c1").status_code == 204
    assert ada.get("chats/c1").status_code == 404
    assert ada.call("DELETE", "chats/c1").status_code == 404


def test_a_chats_turns_are_paged_from_the_newest_back(ada: User) -> None:
    for n in range(5):
        ada.ask("c1", f"Question {n}")
    newest = ada.get("chats/c1?limit=3").json
    older = ada.get(f"chats/c1?limit=3&cursor={newest['nextCursor']}").json
    assert [turn["seq"] for turn in newest["turns"]] == [3, 4, 5]
    assert [turn["seq"] for turn in older["turns"]] == [1, 2]


def test_usage_counts_every_call(ada: User, upstream: Upstream) -> None:
    upstream.enqueue("Yes", usage=(7, 3))
    ada.ask("c1", "Count me")
    usage = ada.get("usage").json
    rows = {row["kind"]: row for row in usage["rows"]}
    assert (rows["answer"]["inputTokens"], rows["answer"]["outputTokens"]) == (7, 3)
    assert rows["embedding"]["calls"] == 1
    assert usage["calls"] == 2


# The same message again


@pytest.mark.parametrize("by_header", [False, True])
def test_a_repeated_message_is_the_same_turn_without_a_second_call(
    ada: User, upstream: Upstream, by_header: bool
) -> None:
    body = {"text": "Once"} if by_header else {"text": "Once", "id": "m1"}
    headers = {"Idempotency-Key": "order-66"} if by_header else {}
    upstream.enqueue("First")
    first = ada.post("chats/c1/messages", json=body, headers=headers)
    again = ada.post("chats/c1/messages", json=body, headers=headers)
    streamed = ada.post("chats/c1/messages", json=body, headers={**headers, "Accept": "text/event-stream"})
    assert first.json == again.json
    assert [event.name for event in events(streamed)] == ["accepted", "delta", "done"]
    assert chat_requests(upstream) == 1
    assert len(ada.get("chats/c1").json["turns"]) == 1


def test_the_same_key_with_another_text_is_refused(ada: User, upstream: Upstream) -> None:
    ada.ask("c1", "One", id="m1")
    answer = ada.ask("c1", "Two", id="m1")
    assert (answer.status_code, answer.json["code"]) == (422, "idempotency_mismatch")
    assert chat_requests(upstream) == 1


def test_a_second_turn_waits_for_the_first(ada: User, upstream: Upstream) -> None:
    gate = Gate()
    upstream.enqueue("slow", gate, " answer")
    stream = ada.stream("c1", "First", id="m1").iter_encoded()
    next(stream)
    second = ada.ask("c1", "Second", id="m2")
    assert (second.status_code, second.json["code"]) == (409, "turn_in_progress")
    assert second.headers["Retry-After"]
    gate.open()
    list(stream)
    assert ada.ask("c1", "Second", id="m2").status_code == 200


def test_the_same_message_sent_ten_times_at_once_is_answered_once(flask: Flask, upstream: Upstream) -> None:
    users = [User(flask, "ada", "alpha") for _ in range(10)]
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda user: user.ask("c1", "Together", id="m1"), users))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert chat_requests(upstream) == 1


def test_a_running_turn_is_followed_by_who_sends_it_again(ada: User, upstream: Upstream) -> None:
    gate = Gate()
    upstream.enqueue("slow", gate, " answer")
    first = ada.stream("c1", "Same", id="m1").iter_encoded()
    assert b"accepted" in next(first)
    told: list[str] = []
    follower = threading.Thread(target=lambda: told.extend(e.name for e in events(ada.stream("c1", "Same", id="m1"))))
    follower.start()
    next(first)
    gate.open()
    list(first)
    follower.join(10)
    assert told[0] == "accepted"
    assert told[-1] == "done"
    assert chat_requests(upstream) == 1


def test_an_old_turn_that_is_begun_anew_does_not_read_what_came_after_it(ada: User, upstream: Upstream) -> None:
    upstream.script(faults.status(500), on="chat", times=3)
    assert ada.ask("c1", "The first", id="m1").status_code == 503
    assert ada.ask("c1", "The second", id="m2").status_code == 200
    assert ada.ask("c1", "The first", id="m1").status_code == 200
    assert "The second" not in json.dumps(upstream.requests[-1].json["messages"])


# What it costs


def calls(user: User, kind: str) -> int:
    return sum(row["calls"] for row in user.get("usage").json["rows"] if row["kind"] == kind)


def test_a_chat_that_is_deleted_and_asked_again_is_counted_again(ada: User) -> None:
    for n in range(1, 4):
        assert ada.ask("c1", "Hello", id="m1").status_code == 200
        assert ada.call("DELETE", "chats/c1").status_code == 204
        assert (calls(ada, "answer"), calls(ada, "embedding")) == (n, n)


def test_a_chat_that_is_deleted_while_it_answers_is_counted_and_stays_deleted(ada: User, upstream: Upstream) -> None:
    gate = Gate()
    upstream.enqueue("The start", gate, " and the rest")
    stream = ada.stream("c1", "Tell me", id="m1").iter_encoded()
    next(stream), next(stream)
    assert ada.call("DELETE", "chats/c1").status_code == 204
    gate.open()
    told = list(parse_events(b"".join(stream).decode()))
    assert (told[-1].name, told[-1].data["code"]) == ("error", "conflict")
    assert "deleted" in told[-1].data["detail"]
    assert ada.get("chats/c1").status_code == 404
    assert (calls(ada, "answer"), calls(ada, "embedding")) == (1, 1)


# What goes wrong behind us


class Flaky:
    """A store that loses replies: the commits with these numbers happen, or (`before`) do not, and end as Unavailable."""

    def __init__(self, store: DocumentStore, *numbers: int, before: bool = False) -> None:
        self._store = store
        self.numbers = list(numbers)
        self.before = before
        self.count = self.fired = 0
        self.get, self.query, self.check = store.get, store.query, store.check

    def commit(self, scope: Scope, writes: Sequence[Write]) -> list[str]:
        self.count += 1
        lose = self.count in self.numbers
        self.fired += lose
        if lose and self.before:
            raise Unavailable
        versions = self._store.commit(scope, writes)
        if lose:
            raise Unavailable
        return versions


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("numbers", [(2,), (3,), (2, 3), (3, 4)])
def test_a_lost_reply_of_the_store_changes_nothing(
    flask: Flask, ada: User, upstream: Upstream, numbers: tuple[int, ...], before: bool
) -> None:
    """Commit 1 accepts the turn, 2 is the checkpoint of its first piece, then comes its end."""
    conversations = flask.extensions["brainstem"].conversations
    flaky = Flaky(conversations._documents, *numbers, before=before)
    conversations._documents = flaky
    upstream.enqueue("Hello", " world", usage=(7, 3))
    answer = ada.ask("c1", "Say hello")
    assert (answer.status_code, answer.json["status"], answer.json["reply"]) == (200, "COMPLETED", "Hello world")
    assert flaky.fired == len(numbers)
    [turn] = ada.get("chats/c1").json["turns"]
    assert (turn["status"], turn["reply"]) == ("COMPLETED", "Hello world")
    assert calls(ada, "answer") == 1


def test_a_store_that_stays_down_is_an_honest_503_not_an_answer(flask: Flask, ada: User, upstream: Upstream) -> None:
    conversations = flask.extensions["brainstem"].conversations
    conversations._documents = Flaky(conversations._documents, *range(2, 100), before=True)
    answer = ada.ask("c1", "Say hello")
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")


def test_a_turn_that_takes_too_long_ends_at_its_deadline(served: Settings, upstream: Upstream) -> None:
    app = create_app(replace(served, turn_seconds=0.5))
    user, gate = User(app, "ada", "alpha"), Gate()
    upstream.enqueue(gate, "Too late")
    silent = user.ask("c1", "Think")
    assert (silent.status_code, silent.json["code"]) == (504, "deadline_exceeded")
    gate.open()
    upstream.enqueue("Half", second := Gate(), "Too late")
    half = user.ask("c2", "Think")
    assert (half.status_code, half.json["status"], half.json["reply"]) == (200, "INTERRUPTED", "Half")
    second.open()
    app.extensions["brainstem"].backends.queue.stop()


def test_the_branches_before_the_model_call_run_at_once(flask: Flask, ada: User) -> None:
    """Each branch waits until both are under way, which neither would be if it waited for the other."""
    services = flask.extensions["brainstem"]
    together = threading.Barrier(2, timeout=5)

    def meeting(function: Callable[..., object]) -> Callable[..., object]:
        def run(*args: object) -> object:
            together.wait()
            return function(*args)

        return run

    services.conversations.begin = meeting(services.conversations.begin)
    services.context.retrieve = meeting(services.context.retrieve)
    assert ada.ask("c1", "Hello").status_code == 200


def test_a_search_that_hangs_ends_its_turn_and_keeps_nobody_else_waiting(served: Settings, upstream: Upstream) -> None:
    app = create_app(replace(served, stage_seconds=0.5, threads=4))
    write_app(served.apps_dir, "plain", "[retrieval]\nenabled = false\n")
    gate = Gate()
    upstream.script(Response([gate]), on="embeddings", times=8)
    user = User(app, "ada", "alpha")
    slow = user.ask("c1", "Find it", id="m1")
    assert (slow.status_code, slow.json["code"]) == (504, "deadline_exceeded")
    assert user.get("chats/c1").json["turns"][0]["status"] == "FAILED"
    assert User(app, "ada", "plain").ask("c1", "No search").status_code == 200
    gate.open()
    app.extensions["brainstem"].backends.queue.stop()


# What goes wrong upstream


def test_a_client_that_leaves_keeps_what_came_and_ends_the_call(ada: User, upstream: Upstream) -> None:
    gate = Gate()
    upstream.enqueue("The start", gate, " and the rest")
    response = ada.stream("c1", "Tell me")
    stream = response.iter_encoded()
    next(stream), next(stream)
    response.close()
    [turn] = ada.get("chats/c1").json["turns"]
    assert (turn["status"], turn["reply"]) == ("INTERRUPTED", "The start")
    assert upstream.until(lambda: upstream.disconnects == 1, seconds=2)
    gate.open()
    assert ada.ask("c1", "Go on").status_code == 200


def test_an_answer_without_finish_reason_is_interrupted(ada: User, upstream: Upstream) -> None:
    upstream.enqueue("Half", Close(), finish=None)
    told = events(ada.stream("c1", "Tell me"))
    assert told[-1].name == "error"
    assert told[-1].data["code"] == "upstream_interrupted"
    assert told[-1].data["turn"]["status"] == "INTERRUPTED"
    assert ada.get("chats/c1").json["turns"][0]["reply"] == "Half"


def test_a_model_that_refuses_our_key_is_an_honest_503_that_echoes_nothing(ada: User, upstream: Upstream) -> None:
    upstream.script(faults.status(401), on="chat")
    answer = ada.ask("c1", "Hello", id="m1")
    assert (answer.status_code, answer.json["code"], answer.json["retryable"]) == (503, "upstream_config", False)
    assert "sk-" not in answer.text
    again = ada.ask("c1", "Hello", id="m1")
    assert (again.status_code, again.json["code"]) == (503, "upstream_config")
    assert ada.get("chats/c1").json["turns"][0]["status"] == "FAILED"


def test_a_turn_that_failed_for_a_passing_reason_is_begun_anew_by_the_same_message(
    ada: User, upstream: Upstream
) -> None:
    upstream.script(faults.status(500), on="chat", times=3)
    failed = ada.ask("c1", "Hello", id="m1")
    assert (failed.status_code, failed.json["retryable"]) == (503, True)
    assert ada.get("chats/c1").json["turns"][0]["status"] == "FAILED"
    upstream.enqueue("Back again")
    again = ada.ask("c1", "Hello", id="m1")
    assert (again.status_code, again.json["reply"], again.json["error"]) == (200, "Back again", None)
    [turn] = ada.get("chats/c1").json["turns"]
    assert (turn["status"], turn["seq"]) == ("COMPLETED", 1)
    assert ada.get("chats/c1").json["turnCount"] == 1
    answers = [row for row in ada.get("usage").json["rows"] if row["kind"] == "answer"]
    assert sum(row["calls"] for row in answers) == 2
    assert ada.ask("c1", "Other", id="m1").status_code == 422


def test_an_embedder_that_fails_ends_the_accepted_turn(ada: User, upstream: Upstream) -> None:
    upstream.script(faults.status(401), on="embeddings", times=10)
    answer = ada.ask("c1", "Hello", id="m1")
    assert answer.status_code == 503
    [turn] = ada.get("chats/c1").json["turns"]
    assert turn["status"] == "FAILED"
    assert chat_requests(upstream) == 0


# Documents


def test_a_document_is_ingested_found_and_forgotten(ada: User) -> None:
    document = ada.add("kettle.md", FACT, "text/markdown")
    assert (document["status"], document["chunks"], document["error"]) == ("COMPLETED", 1, None)
    assert [d["id"] for d in ada.get("documents").json["documents"]] == [document["id"]]
    [passage] = ada.post("search", json={"text": "kettle degrees"}).json["passages"]
    assert passage["document"] == document["id"]
    link = ada.get(f"documents/{document['id']}/original").json["url"]
    download = ada.http.get(link)
    assert download.data == FACT
    assert download.headers["Content-Disposition"].startswith("attachment")
    assert download.headers["X-Content-Type-Options"] == "nosniff"
    download.close()
    assert ada.call("DELETE", f"documents/{document['id']}").status_code == 204
    assert ada.post("search", json={"text": "kettle degrees"}).json["passages"] == []
    assert ada.get(f"documents/{document['id']}").status_code == 404
    assert ada.http.get(link).status_code == 404


def test_the_same_file_twice_is_one_document(ada: User) -> None:
    first = ada.add("kettle.md", FACT, "text/markdown")
    again = ada.upload("copy.md", FACT, "text/markdown")
    assert (again.status_code, again.json["id"]) == (200, first["id"])


def test_a_file_that_cannot_be_read_fails_with_a_reason_and_may_be_sent_again(ada: User) -> None:
    document = ada.add("broken.pdf", b"%PDF-1.7 nothing of the kind", "application/pdf")
    assert document["status"] == "FAILED"
    assert document["error"]
    assert ada.upload("broken.pdf", b"%PDF-1.7 nothing of the kind", "application/pdf").status_code == 202


def test_a_file_that_is_too_large_is_refused(flask: Flask, ada: User) -> None:
    limit = flask.extensions["brainstem"].settings.max_upload_bytes
    answer = ada.upload("big.txt", b"x" * (limit + 1))
    assert (answer.status_code, answer.json["code"]) == (413, "too_large")


# The user's own data


def test_data_is_written_listed_read_and_removed(ada: User) -> None:
    assert ada.get("data/profile").status_code == 404
    ada.call("PUT", "data/profile", json={"name": "Ada", "likes": ["maths"]})
    assert ada.get("data/profile").json["data"] == {"name": "Ada", "likes": ["maths"]}
    assert [row["id"] for row in ada.get("data").json["data"]] == ["profile"]
    assert ada.call("DELETE", "data/profile").status_code == 204
    assert ada.call("DELETE", "data/profile").status_code == 404


# The system


def test_health_ready_and_apps(flask: Flask, ada: User) -> None:
    http = flask.test_client()
    assert http.get("/health").json["status"] == "ok"
    ready = http.get("/ready")
    assert ready.status_code == 200, ready.json
    assert set(ready.json["backends"].values()) == {"ok"}
    assert [app["id"] for app in ada.get("/v1/apps").json["apps"]] == ["alpha", "beta"]
    assert http.get("/v1/apps").status_code == 401


def test_a_new_app_is_there_at_once_and_a_broken_one_hurts_no_other(flask: Flask) -> None:
    apps = flask.extensions["brainstem"].settings.apps_dir
    write_app(apps, "recipes")
    write_app(apps, "broken", "nonsense = 1")
    user = User(flask, "ada", "recipes")
    assert user.ask("c1", "Hello").status_code == 200
    assert [app["id"] for app in user.get("/v1/apps").json["apps"]] == ["alpha", "beta", "recipes"]
    broken = User(flask, "ada", "broken").get("chats")
    assert (broken.status_code, broken.json["code"], broken.json["detail"]) == (500, "config", "")


def test_pages_of_listed_origins_may_call_and_others_may_not(flask: Flask, ada: User) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for path in ("/v1/apps/alpha/chats", "/v1/apps/alpha/chats/c1/messages"):
        good = ada.http.options(path, headers={"Origin": "https://alpha.example", **asked})
        assert good.status_code == 204
        assert good.headers["Access-Control-Allow-Origin"] == "https://alpha.example"
        assert "Access-Control-Allow-Credentials" not in good.headers
    for origin in ("https://alpha.example.evil.com", "http://alpha.example", "null", "https://evilalpha.example"):
        answer = ada.http.options("/v1/apps/alpha/chats", headers={"Origin": origin, **asked})
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Origin" in answer.headers["Vary"]
