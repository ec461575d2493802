"""What Cloud Tasks and functions call: only our own service accounts, and repeated calls do nothing twice."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from service.app import create_app
from service.backends.interfaces import Set, Update
from service.backends.local.tokens import LocalTokens
from service.config import Settings
from service.models import JSON, Scope
from tests.kit.apps import write_app
from tests.kit.client import User

URL, TASKS, FUNCTIONS = "https://brainstem.example", "tasks@demo.example", "functions@demo.example"
ADA = Scope("alpha", "ada")
EVENTS: dict[str, Any] = {
    "jobs/run": {"app": "alpha", "user": "ada", "job": "none"},
    "jobs/sweep": None,
    "events/object-finalized": {"name": "apps/alpha/users/ada/uploads/notes.md"},
    "events/data-written": {"app": "alpha", "user": "ada", "document": "diary"},
}


@pytest.fixture
def app(served: Settings) -> Iterator[Flask]:
    write_app(served.apps_dir, "alpha", '[retrieval]\ndata = ["diary"]\n')
    settings = replace(served, service_url=URL, internal_callers=f"{FUNCTIONS}, ", tasks_service_account=TASKS)
    made = create_app(settings)
    yield made
    made.extensions["brainstem"].backends.queue.stop()


@pytest.fixture
def tokens(app: Flask) -> LocalTokens:
    found: LocalTokens = app.extensions["brainstem"].backends.tokens
    return found


def call(app: Flask, token: str | None, path: str, body: object = None) -> TestResponse:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    sent = EVENTS[path] if body is None else body
    return app.test_client().post(f"/internal/{path}", headers=headers, **({} if sent is None else {"json": sent}))


@pytest.mark.parametrize("path", EVENTS)
def test_only_our_service_accounts_are_let_in(app: Flask, tokens: LocalTokens, path: str) -> None:
    for ours in (TASKS, FUNCTIONS):
        assert call(app, tokens.mint_service(ours, URL), path).status_code == 204
    for refused, status in (
        (None, 401),
        ("x", 401),
        (tokens.mint("ada", claims={"apps": {"alpha": "admin"}}), 401),
        (tokens.mint_app("1:2:web:3"), 401),
        (tokens.mint_service(TASKS, "https://other.example"), 401),
        (tokens.mint_service(TASKS, URL + "/"), 401),
        (tokens.mint_service("tasks@evil.example", URL), 403),
        (tokens.mint_service(TASKS.upper(), URL), 403),
    ):
        assert call(app, refused, path).status_code == status, refused
    queue_headers = {"X-CloudTasks-TaskName": "t", "X-CloudTasks-QueueName": "q"}
    assert app.test_client().post(f"/internal/{path}", json=EVENTS[path], headers=queue_headers).status_code == 401


def test_without_its_settings_nobody_is_let_in(flask: Flask) -> None:
    local = flask.extensions["brainstem"].backends.tokens
    for path in EVENTS:
        assert call(flask, local.mint_service(TASKS, URL), path).status_code == 401


def test_a_service_token_is_no_users(app: Flask, tokens: LocalTokens) -> None:
    headers = {"Authorization": f"Bearer {tokens.mint_service(TASKS, URL)}"}
    assert app.test_client().get("/v1/apps", headers=headers).status_code == 401


@pytest.mark.parametrize("path", [path for path, event in EVENTS.items() if event])
def test_bad_bodies_are_refused(app: Flask, tokens: LocalTokens, path: str) -> None:
    token = tokens.mint_service(TASKS, URL)
    event = EVENTS[path]
    bodies: list[Any] = [[], "x", {}, event | {"role": "admin"}, dict.fromkeys(event, 7), dict.fromkeys(event, "")]
    for body in bodies:
        assert call(app, token, path, body).status_code in (400, 422), body


def test_a_job_that_is_not_there_is_done(app: Flask, tokens: LocalTokens) -> None:
    token = tokens.mint_service(TASKS, URL)
    for body in ({"app": "alpha", "user": "ada", "job": "none"}, {"app": "gone", "user": None, "job": "none"}):
        assert call(app, token, "jobs/run", body).status_code == 204


def test_a_job_runs_once_however_often_it_is_delivered(app: Flask, tokens: LocalTokens) -> None:
    services = app.extensions["brainstem"]
    services.backends.queue.stop()
    ada = User(app, "ada", "alpha")
    document = ada.upload("z.md", b"# Z\n\nThe zebra secret.", "text/markdown").json["id"]
    body = {"app": "alpha", "user": "ada", "job": services.ingestion.document(ADA, document).job}
    for other in ({"app": "beta"}, {"user": "bob"}, {"user": None}):
        assert call(app, tokens.mint_service(TASKS, URL), "jobs/run", body | other).status_code == 204
    assert ada.get(f"documents/{document}").json["status"] == "PENDING"
    for _ in range(3):
        assert call(app, tokens.mint_service(TASKS, URL), "jobs/run", body).status_code == 204
    assert ada.get(f"documents/{document}").json["status"] == "COMPLETED"
    assert ada.get("usage").json["calls"] == 1


def test_an_instance_runs_no_more_jobs_at_once_than_it_may(app: Flask, tokens: LocalTokens) -> None:
    services = app.extensions["brainstem"]
    started, go = threading.Semaphore(0), threading.Event()

    def hang(address: object) -> None:
        started.release()
        assert go.wait(10)

    most, run = services.settings.ingest_workers, services.jobs.run
    services.jobs.run = hang
    token, answers = tokens.mint_service(TASKS, URL), []
    body = {"app": "alpha", "user": "ada", "job": "none", "queue": "ingest"}

    def deliver() -> None:
        answers.append(call(app, token, "jobs/run", body).status_code)

    threads = [threading.Thread(target=deliver) for _ in range(most)]
    for thread in threads:
        thread.start()
    assert all(started.acquire(timeout=10) for _ in range(most))
    refused = call(app, token, "jobs/run", body)
    assert (refused.status_code, refused.headers["Retry-After"]) == (409, "10")
    services.jobs.run = run
    for other in ("interactive", "batch"):  # which have room of their own
        assert call(app, token, "jobs/run", body | {"queue": other}).status_code == 204
    go.set()
    for thread in threads:
        thread.join(10)
    assert answers == [204] * most
    assert call(app, token, "jobs/run", body).status_code == 204


def test_a_job_that_another_works_on_is_asked_for_again_later(app: Flask, tokens: LocalTokens) -> None:
    services = app.extensions["brainstem"]
    services.backends.queue.stop()
    document = User(app, "ada", "alpha").upload("z.md", b"# Z", "text/markdown").json["id"]
    job = services.ingestion.document(ADA, document).job
    services.backends.documents.commit(ADA, [Update(("jobs", job), {"status": "PROCESSING", "lease": 30.0})])
    token = tokens.mint_service(TASKS, URL)
    refused = call(app, token, "jobs/run", {"app": "alpha", "user": "ada", "job": job})
    assert (refused.status_code, refused.headers["Retry-After"]) == (409, "30")


def test_what_was_lost_is_swept_up_when_our_scheduler_asks(app: Flask, tokens: LocalTokens) -> None:
    services = app.extensions["brainstem"]
    services.backends.queue.stop()
    ada = User(app, "ada", "alpha")
    document = ada.upload("z.md", b"# Z", "text/markdown").json["id"]
    job = services.ingestion.document(ADA, document).job
    token = tokens.mint_service(TASKS, URL)
    services.backends.documents.commit(ADA, [Update(("outbox", job), {"due": "2001"})])
    assert call(app, ada.token, "jobs/sweep").status_code == 401
    services.backends.queue.start(services.jobs.run)
    assert call(app, token, "jobs/sweep").status_code == 204
    assert ada.wait(document)["status"] == "COMPLETED"


def upload(app: Flask, scope: Scope, file: str, content: bytes = b"# Notes\n\nThe zebra canary-upload.") -> None:
    app.extensions["brainstem"].backends.blobs.put(scope, f"uploads/{file}", io.BytesIO(content), "text/markdown")


def settled(user: User) -> list[Any]:
    for _ in range(200):
        documents: list[Any] = user.get("documents").json["documents"]
        if documents and all(document["status"] in ("COMPLETED", "FAILED") for document in documents):
            return documents
        time.sleep(0.05)
    raise AssertionError(documents)


def test_an_upload_is_ingested_for_its_owner_and_removed(app: Flask, tokens: LocalTokens) -> None:
    upload(app, ADA, "notes.md")
    token = tokens.mint_service(FUNCTIONS, URL)
    for _ in range(3):
        assert call(app, token, "events/object-finalized").status_code == 204
    ada, bob = User(app, "ada", "alpha"), User(app, "bob", "alpha")
    assert [(d["title"], d["status"]) for d in settled(ada)] == [("notes.md", "COMPLETED")]
    assert "canary-upload" in ada.post("search", json={"text": "zebra"}).text
    assert "canary-upload" not in bob.post("search", json={"text": "zebra"}).text
    assert list(app.extensions["brainstem"].settings.data_dir.rglob("*notes*")) == []


def test_an_upload_that_is_too_large_is_removed(app: Flask, tokens: LocalTokens) -> None:
    services = app.extensions["brainstem"]
    upload(app, ADA, "notes.md", b"x" * (services.settings.max_upload_bytes + 1))
    assert call(app, tokens.mint_service(FUNCTIONS, URL), "events/object-finalized").status_code == 204
    assert User(app, "ada", "alpha").get("documents").json["documents"] == []
    assert list(services.settings.data_dir.rglob("*notes*")) == []


def test_what_is_no_upload_of_an_app_is_left_alone(app: Flask, tokens: LocalTokens) -> None:
    token = tokens.mint_service(FUNCTIONS, URL)
    for scope in (ADA, Scope("alpha", "a/b"), Scope("alpha", None), Scope("beta", "ada")):
        upload(app, scope, "notes.md")
    for name in (
        "notes.md",
        "apps/alpha/users/ada/documents/x/original",
        "apps/gone/users/ada/uploads/notes.md",
        "apps/alpha/users/a%2Fb/uploads/notes.md",
        "apps/alpha/users/a/b/uploads/notes.md",
        "apps/alpha/users/../uploads/notes.md",
        "apps/alpha/users//uploads/notes.md",
        "apps/alpha/users/ada/uploads/",
        "apps/alpha/users/ada/uploads/../../bob/uploads/notes.md",
        "apps/%61lpha/users/ada/uploads/notes.md",
        "/apps/alpha/users/ada/uploads/notes.md",
    ):
        assert call(app, token, "events/object-finalized", {"name": name}).status_code == 204, name
    assert [User(app, name, "alpha").get("documents").json["documents"] for name in ("ada", "a/b", "bob")] == [
        [],
        [],
        [],
    ]
    assert call(app, token, "events/object-finalized").status_code == 204
    assert len(settled(User(app, "ada", "alpha"))) == 1


def test_data_that_a_client_wrote_is_searched_if_the_app_says_so(app: Flask, tokens: LocalTokens) -> None:
    documents = app.extensions["brainstem"].backends.documents
    token = tokens.mint_service(FUNCTIONS, URL)
    ada = User(app, "ada", "alpha")
    for name in ("diary", "profile"):
        record: dict[str, JSON] = {"data": {"text": f"zebra canary-{name}"}, "updated": "2026-01-01T00:00:00.000000Z"}
        documents.commit(ADA, [Set(("data", name), record)])
        body = {"app": "alpha", "user": "ada", "document": name}
        assert call(app, token, "events/data-written", body).status_code == 204
    settled(ada)
    found = ada.post("search", json={"text": "zebra"}).text
    assert "canary-diary" in found
    assert "canary-profile" not in found
    ada.call("DELETE", "data/diary")
    assert call(app, token, "events/data-written").status_code == 204
    assert "canary-diary" not in ada.post("search", json={"text": "zebra"}).text
