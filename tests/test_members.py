"""Roles by record, and what admins may do: manage what the app shares, and see what everyone spends."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from flask import Flask

from service.app import create_app
from service.config import Settings
from service.errors import NotFound
from service.members import Members
from service.models import JSON, Role, Scope
from tests.kit.apps import write_app
from tests.kit.client import User

ADA, BOB = Scope("closed", "ada"), Scope("closed", "bob")


@pytest.fixture
def members(flask: Flask) -> Members:
    write_app(flask.extensions["brainstem"].settings.apps_dir, "closed", '[access]\nmembership = "record"\n')
    found: Members = flask.extensions["brainstem"].members
    return found


def test_a_record_lets_its_user_in_and_nobody_else(flask: Flask, members: Members) -> None:
    ada, bob = User(flask, "ada", "closed", "admin"), User(flask, "bob", "closed", "admin")
    assert ada.get("chats").status_code == 403  # the claim `apps` counts for nothing here
    members.put(ADA, Role.MEMBER)
    assert ada.get("chats").status_code == 200
    assert bob.get("chats").status_code == 403
    assert User(flask, "ada", "alpha").get("chats").status_code == 200


def test_a_user_cannot_make_a_record_of_their_own(flask: Flask, members: Members) -> None:
    members.put(ADA, Role.MEMBER)
    ada = User(flask, "ada", "closed")
    for name in ("role", "member", "ada"):
        assert ada.call("PUT", f"data/{name}", json={"role": "admin"}).status_code == 200
    assert ada.get("shared/usage").status_code == 403


def test_a_role_that_is_taken_ends_within_seconds(served: Settings) -> None:
    write_app(served.apps_dir, "closed", '[access]\nmembership = "record"\n')
    app = create_app(replace(served, membership_seconds=0.3))
    try:
        members = app.extensions["brainstem"].members
        members.put(ADA, Role.MEMBER)
        ada = User(app, "ada", "closed")
        assert ada.get("chats").status_code == 200
        members.remove(ADA)
        deadline = time.monotonic() + 5
        while ada.get("chats").status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert ada.get("chats").status_code == 403
    finally:
        app.extensions["brainstem"].backends.queue.stop()


def test_records_are_listed_the_last_changed_first(members: Members) -> None:
    members.put(ADA, Role.MEMBER)
    members.put(BOB, Role.ADMIN)
    members.put(Scope("alpha", "eve"), Role.ADMIN)
    assert [(record.user, record.role) for record in members.records(ADA)] == [("bob", "admin"), ("ada", "member")]
    members.remove(BOB)
    with pytest.raises(NotFound):
        members.remove(BOB)
    assert [record.user for record in members.records(ADA)] == ["ada"]


def test_a_record_with_no_known_role_gives_none(flask: Flask, members: Members) -> None:
    from service.backends.interfaces import Set

    documents = flask.extensions["brainstem"].backends.documents
    roles: list[JSON] = ["owner", "", None, ["admin"], {"admin": True}, True]
    for role in roles:
        documents.commit(Scope("closed", None), [Set(("users", "ada"), {"role": role, "updated": "now"})])
        assert User(flask, "ada", "closed").get("chats").status_code == 403


def test_admins_manage_what_the_app_shares_and_members_read_it(flask: Flask) -> None:
    admin, member = User(flask, "root", "alpha", "admin"), User(flask, "ada", "alpha")
    stranger = User(flask, "ada", "beta", "admin")
    made = admin.upload(
        "rules.md", b"# Rules\n\nThe zebra crossing is canary-shared.", "text/markdown", "shared/documents"
    )
    assert made.status_code == 202, made.text
    assert made.headers["Location"] == f"/v1/apps/alpha/shared/documents/{made.json['id']}"
    path = f"shared/documents/{made.json['id']}"
    for _ in range(200):
        if member.get(path).json["status"] == "COMPLETED":
            break
        time.sleep(0.05)
    assert [d["title"] for d in member.get("shared/documents").json["documents"]] == ["rules.md"]
    assert "canary-shared" in member.post("search", json={"text": "zebra crossing"}).text
    assert member.get(f"{path}/original").status_code == 200
    assert member.get("documents").json["documents"] == []
    for user, status in ((member, 403), (stranger, 404)):
        assert user.call("DELETE", path).status_code == status
    assert member.upload("x.md", b"# X\n\nx", "text/markdown", "shared/documents").status_code == 403
    assert "canary-shared" not in stranger.post("search", json={"text": "zebra crossing"}).text
    assert admin.call("DELETE", path).status_code == 204
    assert member.get(path).status_code == 404
    assert "canary-shared" not in member.post("search", json={"text": "zebra crossing"}).text


def test_an_admin_sees_what_everyone_in_the_app_spends(flask: Flask) -> None:
    for name, app in (("ada", "alpha"), ("bob", "alpha"), ("eve", "beta")):
        assert User(flask, name, app).ask("c1", "What is a zebra?").status_code == 200
    admin = User(flask, "root", "alpha", "admin")
    answer = admin.get("shared/usage").json
    assert {row["user"] for row in answer["rows"]} == {"ada", "bob"}
    mine = User(flask, "ada", "alpha").get("usage").json
    theirs = [row for row in answer["rows"] if row["user"] == "ada"]
    assert sum(row["inputTokens"] for row in theirs) == mine["inputTokens"]
    assert sum(row["calls"] for row in theirs) == mine["calls"]
    assert answer["calls"] == sum(row["calls"] for row in answer["rows"])
    for user in (User(flask, "ada", "alpha"), User(flask, "root", "beta")):
        assert user.get("/v1/apps/alpha/shared/usage").status_code in (200, 403)
    assert User(flask, "ada", "alpha").get("shared/usage").status_code == 403
