"""The user's own data that an app has searched: what is found is what is stored, whatever happens in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from service.app import create_app
from service.config import Settings
from service.models import JSON, Scope
from tests.kit.apps import write_app
from tests.kit.client import User

ADA = Scope("notes", "ada")


@pytest.fixture
def app(served: Settings) -> Iterator[Flask]:
    write_app(served.apps_dir, "notes", '[retrieval]\ndata = ["diary"]\n')
    made = create_app(served)
    yield made
    made.extensions["brainstem"].backends.queue.stop()


@pytest.fixture
def writer(app: Flask) -> User:
    return User(app, "ada", "notes")


def settle(user: User) -> list[Any]:
    for _ in range(400):
        documents: list[Any] = user.get("documents").json["documents"]
        if all(document["status"] == "COMPLETED" for document in documents):
            return documents
        time.sleep(0.02)
    raise AssertionError(documents)


def found(user: User, text: str = "zebra") -> str:
    return " ".join(p["text"] for p in user.post("search", json={"text": text, "limit": 50}).json["passages"])


def test_marked_data_is_found_and_follows_its_changes(writer: User) -> None:
    writer.call("PUT", "data/diary", json={"monday": {"seen": ["a zebra", "canary-one"]}, "mood": 7, "empty": None})
    assert len(settle(writer)) == 1
    assert "canary-one" in found(writer)
    assert "monday › seen: a zebra" in found(writer)
    writer.call("PUT", "data/diary", json={"tuesday": "another zebra, canary-two"})
    assert len(settle(writer)) == 1
    assert "canary-two" in found(writer)
    assert "canary-one" not in found(writer)
    assert writer.call("DELETE", "data/diary").status_code == 204
    assert settle(writer) == []
    assert "canary" not in found(writer)


def test_data_that_is_not_marked_is_not_searched(writer: User) -> None:
    writer.call("PUT", "data/profile", json={"secret": "zebra canary-profile"})
    assert settle(writer) == []
    assert "canary-profile" not in found(writer)


def test_being_told_again_changes_nothing(app: Flask, writer: User) -> None:
    writer.call("PUT", "data/diary", json={"monday": "zebra canary-one"})
    settle(writer)
    services = app.extensions["brainstem"]
    before = writer.get("usage").json["calls"]
    for _ in range(3):
        services.notes.refresh(ADA, services.apps.get("notes"), "diary")
    assert len(settle(writer)) == 1
    assert writer.get("usage").json["calls"] == before


@pytest.mark.parametrize("step", ["submit", "delete"])
def test_a_refresh_that_dies_is_completed_by_the_next(app: Flask, writer: User, step: str) -> None:
    class Died(BaseException):
        pass

    def die(*_: object) -> None:
        raise Died

    services = app.extensions["brainstem"]
    writer.call("PUT", "data/diary", json={"monday": "zebra canary-one"})
    settle(writer)
    notes, catalogued = services.notes, services.apps.get("notes")
    place, name = (notes, "_submit") if step == "submit" else (notes._ingestion, "delete")
    whole = getattr(place, name)
    record: dict[str, JSON] = {"data": {"tuesday": "zebra canary-two"}, "updated": "2026-01-01T00:00:00.000000Z"}
    from service.backends.interfaces import Set

    services.backends.documents.commit(ADA, [Set(("data", "diary"), record)])
    setattr(place, name, die)
    with pytest.raises(Died):
        notes.refresh(ADA, catalogued, "diary")
    setattr(place, name, whole)
    notes.refresh(ADA, catalogued, "diary")
    assert len(settle(writer)) == 1
    assert "canary-two" in found(writer)
    assert "canary-one" not in found(writer)
