"""Nobody sees what is another's: two apps, two users in each (with the same names in both), and canaries in everything."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask

from service.backends.interfaces import Create, Hit, Search
from service.jobs.erasure import Receipt, receipt_path, subject_of
from service.models import Job, JobStatus, Passage, Scope, timestamp
from service.proof.planting import plant_made
from service.records import to_record
from service.scope import shared
from tests.kit.apps import write_app, write_flow
from tests.kit.client import User, events
from tests.kit.upstream import Upstream

APPS, NAMES = ("alpha", "beta"), ("ada", "bob")

# Every route declares how it is attacked; a route that is missing here fails the suite.
BY_ID: dict[str, tuple[str, str, Any]] = {
    "chats.get_chat": ("GET", "chats/{chat}", None),
    "chats.rename_chat": ("PATCH", "chats/{chat}", {"title": "Taken"}),
    "chats.delete_chat": ("DELETE", "chats/{chat}", None),
    "documents.get_document": ("GET", "documents/{document}", None),
    "documents.get_original": ("GET", "documents/{document}/original", None),
    "documents.delete_document": ("DELETE", "documents/{document}", None),
    "jobs.get_job": ("GET", "jobs/{job}", None),
    "jobs.get_artifact": ("GET", "jobs/{job}/artifact", None),
    "jobs.cancel_job": ("POST", "jobs/{open}/cancel", None),
    "data.get_data": ("GET", "data/{data}", None),
    "data.delete_data": ("DELETE", "data/{data}", None),
    "erasures.get_erasure": ("GET", "erasures/{erasure}", None),
}
LISTS: dict[str, tuple[str, str, Any]] = {
    "chats.list_chats": ("GET", "chats", None),
    "documents.list_documents": ("GET", "documents", None),
    "documents.search": ("POST", "search", {"text": "canary zebra secret", "limit": 50}),
    "jobs.list_jobs": ("GET", "jobs", None),
    "data.list_data": ("GET", "data", None),
    "flows.list_flows": ("GET", "flows", None),
    "usage.get_usage": ("GET", "usage", None),
}
SHARED: dict[str, tuple[str, str, Any]] = {
    "documents.list_shared_documents": ("GET", "shared/documents", None),
    "documents.get_shared_document": ("GET", "shared/documents/{document}", None),
    "documents.get_shared_original": ("GET", "shared/documents/{document}/original", None),
    "documents.delete_shared_document": ("DELETE", "shared/documents/{document}", None),
    "documents.add_shared_document": ("POST", "shared/documents", None),
    "usage.get_app_usage": ("GET", "shared/usage", None),
    "jobs.list_shared_jobs": ("GET", "shared/jobs", None),
    "jobs.get_shared_job": ("GET", "shared/jobs/{made}", None),
    "jobs.get_shared_artifact": ("GET", "shared/jobs/{made}/artifact", None),
    "jobs.post_shared_job": ("POST", "shared/jobs", None),
    "jobs.cancel_shared_job": ("POST", "shared/jobs/{open}/cancel", None),
    "jobs.retry_shared_job": ("POST", "shared/jobs/{open}/retry", None),
}
ADMINS = {
    "documents.delete_shared_document", "documents.add_shared_document", "usage.get_app_usage", "jobs.list_shared_jobs",
    "jobs.get_shared_job", "jobs.get_shared_artifact", "jobs.post_shared_job", "jobs.cancel_shared_job", "jobs.retry_shared_job",
}  # fmt: skip
SERVICE = {"internal.run_job", "internal.sweep_jobs", "internal.object_finalized", "internal.data_written"}
WRITES = {
    "chats.post_message",
    "documents.add_document",
    "data.put_data",
    "flows.run_flow",
    "jobs.retry_job",
    "jobs.post_job",
}
PUBLIC = {
    "system.health", "system.ready", "system.config", "system.openapi", "sign_in.sign_in", "downloads.get_blob",
    "pages.index", "pages.reports", "pages.asset",
}  # fmt: skip
SIGNED_IN = {"system.list_apps"}


@dataclass
class Seeded:
    user: User
    app: str
    canary: str
    ids: dict[str, str]

    def fill(self, path: str) -> str:
        return path.format(**self.ids)


@pytest.fixture
def everyone(flask: Flask, upstream: Upstream) -> list[Seeded]:
    """Four users with an object of each kind, each with a canary of its own in every text."""
    seeded = []
    for app in APPS:
        for name in NAMES:
            user, canary = User(flask, name, app), f"canary-{app}-{name}-7f3a"
            document = user.add(f"{canary}.txt", f"The zebra secret is {canary}.".encode())
            assert document["status"] == "COMPLETED", document
            upstream.enqueue(f"Reply {canary}")
            assert user.ask(f"chat-{app}-{name}", f"Tell me the zebra secret {canary}").status_code == 200
            assert user.call("PUT", f"data/data-{app}-{name}", json={"secret": canary}).status_code == 200
            assert user.call("PUT", "data/profile", json={"secret": canary}).status_code == 200
            ids = {"chat": f"chat-{app}-{name}", "document": document["id"], "data": f"data-{app}-{name}"}
            ids |= plant_jobs(flask, Scope(app, name), canary)
            seeded.append(Seeded(user, app, canary, ids))
    return seeded


def plant_jobs(flask: Flask, scope: Scope, canary: str) -> dict[str, str]:
    """Store a job that has ended with a file, and one that has not; return their ids."""
    backends = flask.extensions["brainstem"].backends
    ended, waiting = f"job-{scope.app}-{scope.user}", f"open-{scope.app}-{scope.user}"
    plant_made(flask.extensions["brainstem"], scope, ended, canary)
    now = timestamp()
    job = Job(id=waiting, kind="report", status=JobStatus.PENDING, input={}, created=now, updated=now, note=canary)
    backends.documents.commit(scope, [Create(("jobs", waiting), to_record(job))])
    receipt = Receipt(
        id=f"erasure-{scope.app}-{scope.user}",
        subject=subject_of(scope),
        status=JobStatus.COMPLETED,
        created=now,
        removed={canary: 1},
    )
    backends.documents.commit(shared(scope), [Create(receipt_path(receipt.id), to_record(receipt))])
    return {"job": ended, "open": waiting, "erasure": receipt.id}


def foreign_canaries(text: str, own: Seeded, everyone: list[Seeded]) -> list[str]:
    return [other.canary for other in everyone if other is not own and other.canary in text]


def without_request_id(text: str) -> str:
    return re.sub(r'"requestId":"[0-9a-f]+"', "", text)


def test_every_route_declares_how_it_is_attacked(flask: Flask) -> None:
    routes = {rule.endpoint for rule in flask.url_map.iter_rules()}
    assert routes == set(BY_ID) | set(LISTS) | set(SHARED) | SERVICE | WRITES | PUBLIC | SIGNED_IN


def test_every_route_but_the_public_ones_demands_a_token(flask: Flask, ada: User) -> None:
    http, forged = flask.test_client(), ada.token[:-8] + "AAAAAAAA"
    tried = 0
    for rule in flask.url_map.iter_rules():
        if rule.endpoint in PUBLIC:
            continue
        path = re.sub(r"<(\w+)>", lambda m: "alpha" if m[1] == "app" else "x", rule.rule)
        for method in (rule.methods or set()) - {"OPTIONS"}:
            for headers in ({}, {"Authorization": f"Bearer {forged}"}, {"Authorization": "Basic YTpi"}):
                answer = http.open(path, method=method, headers=headers, json={"text": "x"})
                assert answer.status_code == 401, (rule.endpoint, method, headers)
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                tried += 1
    assert tried >= 40


def test_anothers_object_and_one_that_is_not_there_are_the_same_404(everyone: list[Seeded]) -> None:
    tried = 0
    for victim in everyone:
        for thief in everyone:
            if thief is victim:
                continue
            for method, path, body in BY_ID.values():
                stolen = thief.user.call(method, victim.fill(path), json=body)
                absent = thief.user.call(method, path.format_map(dict.fromkeys(victim.ids, "none")), json=body)
                assert stolen.status_code == absent.status_code == 404, (method, path)
                assert without_request_id(stolen.text) == without_request_id(absent.text)
                assert not foreign_canaries(stolen.text, thief, everyone)
                tried += 1
    assert tried == 4 * 3 * len(BY_ID)
    # The owners still have all of it, and their own requests succeed: deletions last.
    for owner in everyone:
        for method, path, body in sorted(BY_ID.values(), key=lambda attack: attack[0] == "DELETE"):
            answer = owner.user.call(method, owner.fill(path), json=body)
            assert answer.status_code in (200, 204), (method, path, answer.text)
            if not path.endswith(("original", "artifact")) and method == "GET":
                assert owner.canary in answer.text


def test_lists_and_searches_hold_only_ones_own(everyone: list[Seeded]) -> None:
    for own in everyone:
        for endpoint, (method, path, body) in LISTS.items():
            answer = own.user.call(method, path, json=body)
            assert answer.status_code == 200, (endpoint, answer.text)
            assert not foreign_canaries(answer.text, own, everyone), endpoint
            assert own.canary in answer.text or endpoint in ("usage.get_usage", "flows.list_flows"), endpoint


def test_what_an_app_shares_is_its_admins_to_change_and_no_other_apps_to_see(flask: Flask) -> None:
    admins = {app: User(flask, "root", app, "admin") for app in APPS}
    ids = {}
    for app, admin in admins.items():
        made = admin.upload("rules.txt", f"Rule canary-shared-{app}".encode(), where="shared/documents")
        document = admin.wait(made.json["id"], "shared/documents")["id"]
        jobs = plant_jobs(flask, Scope(app, None), f"canary-shared-{app}")
        ids[app] = {"document": document, "made": jobs["job"], "open": jobs["open"]}
    for app, other in (("alpha", "beta"), ("beta", "alpha")):
        member, stranger = User(flask, "ada", app), admins[other]
        for endpoint, (method, path, _) in SHARED.items():
            where = path.format(**ids[app])
            answer = stranger.call(method, where)
            assert f"canary-shared-{app}" not in answer.text
            assert answer.status_code == (404 if "{" in path else 415 if method == "POST" else 200), endpoint
            assert member.call(method, where).status_code == (403 if endpoint in ADMINS else 200), endpoint
        assert admins[app].get(f"shared/documents/{ids[app]['document']}").status_code == 200
        assert f"canary-shared-{app}" in admins[app].get("shared/jobs").text
        assert admins[app].get("shared/usage").status_code == 200
        assert admins[app].call("DELETE", f"shared/documents/{ids[app]['document']}").status_code == 204


def test_prompts_hold_only_ones_own(everyone: list[Seeded], upstream: Upstream) -> None:
    for own in everyone:
        for victim in everyone:
            # Also in a chat that is called like the victim's, and with the victim's words as question.
            told = events(own.user.stream(victim.ids["chat"], f"The zebra secret of {victim.ids['chat']}?"))
            assert told[-1].name == "done"
            prompt = json.dumps(upstream.requests[-1].json, ensure_ascii=False)
            assert own.canary in prompt
            assert not foreign_canaries(prompt, own, everyone)
            assert not foreign_canaries(json.dumps([event.data for event in told]), own, everyone)
    for own in everyone:
        assert own.canary in own.user.get(f"chats/{own.ids['chat']}").text


def test_the_same_id_is_another_object_for_each(everyone: list[Seeded]) -> None:
    for own in everyone:
        assert own.user.get("data/profile").json["data"] == {"secret": own.canary}
    for own in everyone:
        own.user.call("PUT", "data/profile", json={"secret": own.canary + "!"})
        assert own.user.ask("shared-name", f"I am {own.canary}", id="m1").status_code == 200
    for own in everyone:
        assert own.user.get("data/profile").json["data"] == {"secret": own.canary + "!"}
        [turn] = own.user.get("chats/shared-name").json["turns"]
        assert turn["prompt"] == f"I am {own.canary}"


def test_anothers_key_is_not_anothers_run(everyone: list[Seeded], flask: Flask, upstream: Upstream) -> None:
    apps, schema = flask.extensions["brainstem"].settings.apps_dir, {"type": "object", "properties": {"text": {}}}
    for app in APPS:
        write_flow(apps, app, "note", schema, schema, "Note {{text}}.")
    for own in everyone:
        upstream.enqueue(json.dumps({"text": own.canary}))
    for _ in range(2):
        for own in everyone:
            answer = own.user.post("flows/note", json={"text": "same"}, headers={"Idempotency-Key": "same"})
            assert answer.json["output"] == {"text": own.canary}


def test_usage_counts_only_ones_own_calls(everyone: list[Seeded]) -> None:
    before = [own.user.get("usage").json["calls"] for own in everyone]
    everyone[0].user.ask("more", "One more")
    after = [own.user.get("usage").json["calls"] for own in everyone]
    assert [now - then for then, now in zip(before, after, strict=True)] == [2, 0, 0, 0]


def test_anothers_cursor_leads_through_ones_own_list_only(everyone: list[Seeded]) -> None:
    victim, thief = everyone[0], everyone[1]
    victim.user.ask("second", "Another chat")
    cursor = victim.user.get("chats?limit=1").json["nextCursor"]
    answer = thief.user.get(f"chats?limit=10&cursor={cursor}")
    assert answer.status_code == 200
    assert not foreign_canaries(answer.text, thief, everyone)
    for forged in (["2026", "../../x"], [1, "x"], ["x"], {"a": 1}, ["z" * 300, "z"], [True, "x"], "x", [[], "x"]):
        text = base64.urlsafe_b64encode(json.dumps(forged).encode()).decode()
        answer = thief.user.get(f"chats?cursor={text}")
        assert answer.status_code in (200, 400)
        assert not foreign_canaries(answer.text, thief, everyone)


@pytest.mark.parametrize("uid", ["a/b", "..", "__x__", "ada/chats/c", "%2e%2e", "ADA", "ada ", "ad\u0430", "x" * 128])
def test_odd_user_names_reach_nobody_else(flask: Flask, everyone: list[Seeded], uid: str) -> None:
    odd = User(flask, uid, "alpha")
    assert odd.get("chats").json["chats"] == []
    assert odd.ask("c1", "Hello").status_code == 200
    assert [chat["id"] for chat in odd.get("chats").json["chats"]] == ["c1"]
    for own in everyone:
        assert "c1" not in [chat["id"] for chat in own.user.get("chats").json["chats"]]


def test_an_app_that_is_not_there_is_a_404(flask: Flask, ada: User) -> None:
    for app in ("gamma", "Alpha", "alpha%20", "..", "alph\u0430"):
        assert ada.get(f"/v1/apps/{app}/chats").status_code == 404


def test_who_is_no_member_is_refused(flask: Flask) -> None:
    services = flask.extensions["brainstem"]
    write_app(services.settings.apps_dir, "closed", '[access]\nmembership = "claim"\n')
    member = User(flask, "ada", "closed")
    assert member.get("chats").status_code == 200
    member.token = services.backends.tokens.mint("ada", claims={"apps": {"alpha": "admin"}})
    answer = member.get("chats")
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


def test_a_foreign_hit_of_the_index_is_dropped(flask: Flask, everyone: list[Seeded]) -> None:
    """The fourth lock: an index that ignores its filter does not reach the caller."""
    context = flask.extensions["brainstem"].context
    index = context._vectors

    class Leaky:
        def search(self, scope: Scope, search: Search) -> list[Hit]:
            passage = Passage(document="d", chunk=0, title="t", text="foreign")
            hits: list[Hit] = index.search(scope, search)
            return [Hit("beta", scope.user, passage), Hit(scope.app, "bob", passage), *hits]

    context._vectors = Leaky()
    answer = everyone[0].user.post("search", json={"text": "zebra secret"})
    assert everyone[0].canary in answer.text
    assert "foreign" not in answer.text
