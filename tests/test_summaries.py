"""Summaries of documents as a job: each is paid for once, kept with its document, and made of its owner's text alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from flask import Flask

from service.app import create_flask
from service.backends import registry
from service.backends.interfaces import JobAddress
from service.config import Settings
from service.errors import BrainstemError
from service.jobs import Jobs, summarising
from service.jobs.slices import Slice
from service.models import Call, Scope
from service.services import Services, assemble
from service.tokenizer import count_tokens
from tests.kit.apps import write_app
from tests.kit.client import Json, User
from tests.kit.emulators import Emulators
from tests.kit.firestore_proxy import own_database, warm
from tests.kit.upstream import Gate, Upstream, faults
from tests.test_job_kinds import ended

ADA, SHARED = Scope("alpha", "ada"), Scope("alpha", None)
BODY = {"kind": "summaries"}
SENTENCE = "Paragraph {n} tells of the zebra number {n}, which ate {n} apples in the year {n} and was not sorry. "
LONG = "\n\n".join(SENTENCE.format(n=n) * 4 for n in range(60)).encode()


class World:
    """The service whose queue delivers by hand."""

    def __init__(self, settings: Settings, upstream: Upstream) -> None:
        self.settings, self.upstream = settings, upstream
        self.services: Services = assemble(settings, registry.build(settings))
        self.flask: Flask = create_flask(self.services)
        self.ada = User(self.flask, "ada", "alpha")

    def add(self, name: str, content: bytes) -> str:
        document = self.ada.upload(name, content).json["id"]
        self.run(self.services.ingestion.document(ADA, document).job)
        assert self.ada.get(f"documents/{document}").json["status"] == "COMPLETED"
        return str(document)

    def submit(self, **given: Json) -> str:
        answer = self.ada.post("jobs", json={**BODY, "input": given})
        assert answer.status_code == 202, answer.text
        return str(answer.json["id"])

    def run(self, job: str, jobs: Jobs | None = None) -> None:
        (jobs or self.services.jobs).run(JobAddress(ADA, job))

    def job(self, job: str) -> Json:
        return self.ada.get(f"jobs/{job}").json

    def summary(self, document: str) -> Json:
        return self.ada.get(f"documents/{document}").json["summary"]

    def ledger(self) -> list[Call]:
        calls = [call for call in self.services.usage._calls(ADA, "") if call.kind == "summary"]
        return sorted(calls, key=lambda call: call.created)


@pytest.fixture
def world(served: Settings, upstream: Upstream) -> Iterator[World]:
    made = World(served, upstream)
    yield made
    made.services.loop.stop()


def told(upstream: Upstream) -> list[Json]:
    """What each prompt held."""
    return [json.loads(request.json["messages"][-1]["content"]) for request in upstream.asked()]


def summaries(user: User, where: str = "documents") -> dict[str, Any]:
    listed = user.get(where).json["documents"]
    return {one["title"]: one["summary"] and one["summary"]["text"] for one in listed}


# Whose, and what of it


@pytest.fixture
def everybody(ada: User, flask: Flask) -> User:
    """Documents of two users, in two apps, and of what an app shares; returns an admin of `alpha`."""
    for n in range(2):
        ada.add(f"ada{n}.txt", f"Zebra {n} of ada.".encode())
    User(flask, "bob", "alpha").add("bob.txt", b"Secret of bob.")
    User(flask, "ada", "beta").add("beta.txt", b"Secret of ada in beta.")
    root = User(flask, "root", "alpha", "admin")
    shared = root.upload("rules.txt", b"Rules of all.", where="shared/documents").json["id"]
    assert root.wait(shared, "shared/documents")["status"] == "COMPLETED"
    return root


def test_a_user_has_their_own_documents_summarised_and_nobody_elses(
    ada: User, everybody: User, flask: Flask, upstream: Upstream
) -> None:
    upstream.enqueue("On zebra 0.", usage=(70, 7))
    upstream.enqueue(" On zebra 1.\n", usage=(80, 8))
    job = ended(ada, ada.post("jobs", json=BODY).json["id"])
    assert (job["status"], job["output"]) == ("COMPLETED", {"documents": 2, "failed": 0})
    assert (job["done"], job["total"], job["inputTokens"], job["outputTokens"]) == (2, 2, 150, 15)
    assert summaries(ada) == {"ada0.txt": "On zebra 0.", "ada1.txt": "On zebra 1."}
    document = ada.get("documents").json["documents"][0]
    assert ada.get(f"documents/{document['id']}").json == document
    assert set(document["summary"]) == {"text", "model", "created", "cut"}
    assert told(upstream) == [{"title": f"ada{n}.txt", "text": f"Zebra {n} of ada."} for n in range(2)]
    assert "never an instruction" in upstream.asked()[0].json["messages"][0]["content"]
    [row] = [row for row in ada.get("usage").json["rows"] if row["kind"] == "summary"]
    assert (row["calls"], row["inputTokens"], row["outputTokens"]) == (2, 150, 15)
    # Nothing of anybody else was read, or written.
    for user in (User(flask, "bob", "alpha"), User(flask, "ada", "beta")):
        assert set(summaries(user).values()) == {None}
        assert not [row for row in user.get("usage").json["rows"] if row["kind"] == "summary"]
    assert summaries(ada, "shared/documents") == {"rules.txt": None}


def test_what_is_summarised_already_is_paid_for_again_only_if_all_is_asked_for(
    ada: User, everybody: User, upstream: Upstream
) -> None:
    ended(ada, ada.post("jobs", json=BODY).json["id"])
    assert len(upstream.asked()) == 2
    ada.add("new.txt", b"Another zebra.")
    job = ended(ada, ada.post("jobs", json=BODY).json["id"])
    assert (job["output"]["documents"], len(upstream.asked())) == (1, 3)
    job = ended(ada, ada.post("jobs", json={**BODY, "input": {"everything": True}}).json["id"])
    assert (job["output"]["documents"], len(upstream.asked())) == (3, 6)


def test_an_admin_has_summarised_what_the_app_shares(
    ada: User, everybody: User, flask: Flask, upstream: Upstream
) -> None:
    assert ada.post("shared/jobs", json=BODY).status_code == 403
    upstream.enqueue("On rules.")
    job = ended(everybody, everybody.post("shared/jobs", json=BODY).json["id"], "shared/jobs")
    assert (job["status"], job["output"]["documents"]) == ("COMPLETED", 1)
    assert summaries(ada, "shared/documents") == {"rules.txt": "On rules."}
    assert set(summaries(ada).values()) == {None}
    assert told(upstream) == [{"title": "rules.txt", "text": "Rules of all."}]
    rows = list(flask.extensions["brainstem"].usage._calls(SHARED, ""))
    assert [row.job for row in rows if row.kind == "summary"] == [job["id"]]


def test_a_document_sent_anew_after_it_was_deleted_has_no_summary(ada: User) -> None:
    document = ada.add("z.txt", b"Zebras.")
    ended(ada, ada.post("jobs", json=BODY).json["id"])
    assert ada.get(f"documents/{document['id']}").json["summary"]
    assert ada.call("DELETE", f"documents/{document['id']}").status_code == 204
    assert ada.add("z.txt", b"Zebras.")["summary"] is None


def test_an_app_says_how_long_and_what_else(served: Settings, upstream: Upstream) -> None:
    write_app(
        served.apps_dir,
        "alpha",
        '[summaries]\nwords = 33\nwish = "In Latin."\n[model]\nname = "small"\n[prices.small]\nfree = true\n',
    )
    world = World(served, upstream)
    world.add("z.txt", b"Zebras.")
    world.run(world.submit())
    asked = upstream.asked()[-1].json
    assert "at most 33 words" in asked["messages"][0]["content"]
    assert asked["messages"][0]["content"].endswith("\n\nIn Latin.")
    assert asked["model"] == "small" == world.ledger()[0].model
    world.services.loop.stop()


def test_an_app_whose_prompts_are_too_short_refuses_at_once(served: Settings, upstream: Upstream) -> None:
    write_app(served.apps_dir, "alpha", "[context]\ntoken_budget = 500\n")
    refused = World(served, upstream).ada.post("jobs", json=BODY)
    assert (refused.status_code, refused.json["code"]) == (422, "unprocessable")
    assert "token_budget" in refused.json["detail"]


def test_without_a_model_a_summary_is_an_extract_that_says_so(settings: Settings, upstream: Upstream) -> None:
    world = World(settings, upstream)
    ada = world.ada = User(world.flask, "ada", "assistant")
    document = ada.upload("z.txt", b"Zebras have stripes.").json["id"]
    scope = Scope("assistant", "ada")
    world.services.jobs.run(JobAddress(scope, world.services.ingestion.document(scope, document).job))
    world.services.jobs.run(JobAddress(scope, world.submit()))
    summary = world.summary(document)
    assert "Zebras have stripes." in summary["text"]
    assert "No language model is set up" in summary["text"]
    assert upstream.asked() == []
    world.services.loop.stop()


# Long documents


def test_a_long_document_is_summarised_in_parts_within_the_apps_budget(served: Settings, upstream: Upstream) -> None:
    write_app(served.apps_dir, "alpha", "[context]\ntoken_budget = 1500\n")
    world = World(served, upstream)
    document = world.add("long.txt", LONG)
    answers = [f"Part {n} tells of zebras." for n in range(60)]
    for answer in answers:
        upstream.enqueue(answer)
    job = world.submit()
    world.run(job)
    prompts = told(upstream)
    parts = [prompt for prompt in prompts if "part" in prompt]
    assert len(parts) > 5
    assert [prompt["part"] for prompt in parts] == [f"{n + 1} of {len(parts)}" for n in range(len(parts))]
    assert prompts[len(parts) :] == [{"title": "long.txt", "summaries": answers[: len(parts)]}]
    assert world.summary(document)["text"] == answers[len(parts)]
    assert world.summary(document)["cut"] is False
    everything = " ".join(prompt["text"] for prompt in parts)
    assert all(f"zebra number {n}," in everything for n in range(60))
    for request in upstream.asked():
        assert sum(count_tokens(message["content"]) for message in request.json["messages"]) <= 1500
    assert len(world.ledger()) == len(parts) + 1 == len(upstream.asked())
    assert world.job(job)["inputTokens"] == sum(call.input_tokens for call in world.ledger())
    world.services.loop.stop()


def test_what_is_behind_the_last_part_is_left_and_the_summary_says_so(
    served: Settings, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_app(served.apps_dir, "alpha", "[context]\ntoken_budget = 1500\n")
    monkeypatch.setattr(summarising, "MAX_PARTS", 2)
    world = World(served, upstream)
    document = world.add("long.txt", LONG)
    world.run(world.submit())
    assert len(upstream.asked()) == 3
    assert world.summary(document)["cut"] is True
    world.services.loop.stop()


def test_long_answers_come_to_one_summary_in_no_more_calls_than_are_promised(
    served: Settings, upstream: Upstream
) -> None:
    """Each level has at most a third of the parts of the one below, whatever the model answers."""
    for room in (500, 1000, 7000):
        parts: list[summarising.Part] = [(f"part {n}",) for n in range(summarising.MAX_PARTS)]
        answer, calls, level = "word, \n" * 2000, 0, parts
        while True:
            calls += len(level)
            if len(level) == 1:
                break
            level = list(summarising.packed([summarising.shortened(answer, room)] * len(level), room))
        assert calls <= 80


# Interruptions


def test_what_fails_goes_on_behind_what_is_paid_also_within_a_document(served: Settings, upstream: Upstream) -> None:
    write_app(served.apps_dir, "alpha", "[context]\ntoken_budget = 1500\n")
    world = World(served, upstream)
    first, second = world.add("a.txt", b"Zebras."), world.add("long.txt", LONG)
    for n in range(3):
        upstream.enqueue(f"Answer {n}.")
    upstream.script(faults.status(500), times=5)
    job = world.submit()
    with pytest.raises(BrainstemError):
        world.run(job)
    failed = len(upstream.asked()) - 3
    assert failed >= 1, "the fault did not fire"
    assert (world.job(job)["status"], world.summary(first)["text"]) == ("PROCESSING", "Answer 0.")
    assert world.summary(second) is None
    upstream.forget()
    world.run(job)
    prompts = told(upstream)
    assert prompts[0]["part"].startswith("3 of "), "two parts were paid for already"
    assert prompts[-1]["summaries"][:2] == ["Answer 1.", "Answer 2."]
    assert world.job(job)["output"] == {"documents": 2, "failed": 0}
    assert world.job(job)["inputTokens"] == sum(call.input_tokens for call in world.ledger())
    assert len({call.id for call in world.ledger()}) == len(world.ledger())
    world.services.loop.stop()


def test_a_job_goes_on_in_slices(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [world.add(f"{n}.txt", f"Zebra {n}.".encode()) for n in range(3)]
    monkeypatch.setattr(Slice.__init__, "__defaults__", (0.0,))  # one document to a delivery
    job = world.submit()
    for n in range(1, 4):
        world.run(job)
        assert (world.job(job)["done"], world.job(job)["status"]) == (n, "PROCESSING")
    monkeypatch.undo()
    world.run(job)
    assert (world.job(job)["status"], world.job(job)["attempts"]) == ("COMPLETED", 4)
    assert all(map(world.summary, documents))
    assert len(world.upstream.asked()) == len(world.ledger()) == 3


def test_a_worker_that_was_taken_for_dead_writes_its_row_and_nothing_else(world: World) -> None:
    documents = [world.add(f"{n}.txt", f"Zebra {n}.".encode()) for n in range(2)]
    world.upstream.enqueue("First.")
    world.upstream.enqueue("Stale", gate := Gate(), ".")
    job = world.submit()
    slow = Jobs(
        world.services.backends.documents, world.services.backends.queue, world.services.asked.handlers, lease=0.1
    )
    dead = threading.Thread(target=partial(world.run, job, slow))
    dead.start()
    assert gate.reached.wait(10)
    world.upstream.enqueue("Second.")
    gone = threading.Event()
    gone.wait(0.3)  # the lease
    world.run(job)
    assert world.job(job)["status"] == "COMPLETED"
    gate.open()
    dead.join(20)
    assert not dead.is_alive()
    assert [world.summary(document)["text"] for document in documents] == ["First.", "Second."]
    assert len(world.upstream.asked()) == 3
    assert len(world.ledger()) == 3, "each paid call is on record"


def test_a_cancelled_job_asks_no_more(world: World) -> None:
    documents = [world.add(f"{n}.txt", f"Zebra {n}.".encode()) for n in range(3)]
    world.upstream.enqueue("First.")
    world.upstream.enqueue("Second", gate := Gate(), ".")
    job = world.submit()
    running = threading.Thread(target=partial(world.run, job))
    running.start()
    assert gate.reached.wait(10)
    assert world.ada.post(f"jobs/{job}/cancel").json["status"] == "CANCELLED"
    gate.open()
    running.join(20)
    assert not running.is_alive()
    assert world.job(job)["status"] == "CANCELLED"
    assert [bool(world.summary(document)) for document in documents] == [True, False, False]
    assert len(world.upstream.asked()) == len(world.ledger()) == 2


def test_a_document_that_is_deleted_meanwhile_is_passed_over(world: World) -> None:
    gone, stays = world.add("0.txt", b"Zebra 0."), world.add("1.txt", b"Zebra 1.")
    world.upstream.enqueue("Gone", gate := Gate(), ".")
    world.upstream.enqueue("Stays.")
    job = world.submit()
    running = threading.Thread(target=partial(world.run, job))
    running.start()
    assert gate.reached.wait(10)
    assert world.ada.call("DELETE", f"documents/{gone}").status_code == 204
    gate.open()
    running.join(20)
    assert world.job(job)["output"] == {"documents": 1, "failed": 0}
    assert (world.job(job)["done"], world.job(job)["total"]) == (1, 1)
    assert world.ada.get(f"documents/{gone}").status_code == 404
    assert world.summary(stays)["text"] == "Stays."
    assert len(world.ledger()) == 2


def test_what_the_model_refuses_is_counted_and_keeps_no_other_from_its_summary(world: World) -> None:
    documents = [world.add(f"{n}.txt", f"Zebra {n}.".encode()) for n in range(4)]
    world.upstream.enqueue("No", finish="content_filter")
    world.upstream.script(faults.context_too_long())
    world.upstream.enqueue(" ")
    world.upstream.enqueue("Fine.")
    job = world.submit()
    world.run(job)
    assert world.job(job)["output"] == {"documents": 1, "failed": 3}
    assert (world.job(job)["done"], world.job(job)["total"]) == (4, 4)
    assert [bool(world.summary(document)) for document in documents] == [False, False, False, True]
    assert [call.outcome for call in world.ledger()] == ["failed", "failed", "invalid", "completed"]


def test_on_firestore(served: Settings, upstream: Upstream, firebase: Emulators) -> None:
    warm(firebase.hosts["firestore"])
    settings = own_database(served, firebase.hosts["firestore"])
    world = World(replace(settings, backend_documents="google", backend_vectors="google"), upstream)
    first, second = world.add("0.txt", b"Zebra 0."), world.add("1.txt", b"Zebra 1.")
    upstream.enqueue("First.")
    upstream.script(faults.status(500), times=5)
    job = world.submit()
    with pytest.raises(BrainstemError):
        world.run(job)
    upstream.forget()
    upstream.enqueue("Second.")
    world.run(job)
    assert world.job(job)["output"] == {"documents": 2, "failed": 0}
    assert [world.summary(one)["text"] for one in (first, second)] == ["First.", "Second."]
    assert len(upstream.asked()) == 1
    assert world.job(job)["inputTokens"] == sum(call.input_tokens for call in world.ledger())
    world.services.loop.stop()
