"""The Firestore that the bench measures with speaks gRPC as Google's does: to several at once, at any size, and with its refusals."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from bench.systems import Firestore
from service.backends.google.firestore import FirestoreDocuments
from service.backends.interfaces import Create, Delete, Set, Update
from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
from service.errors import AlreadyExists, PreconditionFailed
from service.models import Scope

ADA = Scope("recipes", "ada")
LARGE = "x" * 900_000


@pytest.fixture
def documents(settings: Settings) -> Iterator[FirestoreDocuments]:
    with Firestore() as server:
        host = f"127.0.0.1:{server.address[1]}"
        chosen = replace(settings, google_cloud_project="demo", firestore_emulator_host=host)
        yield FirestoreDocuments(chosen, EnvironmentSecrets(chosen))


def test_replies_larger_than_a_client_has_room_for_come_whole(documents: FirestoreDocuments) -> None:
    paths = [("chats", str(n)) for n in range(10)]
    documents.commit(ADA, [Set(path, {"text": LARGE}) for path in paths])
    for _ in range(3):
        assert [found and found.data for found in documents.get(ADA, *paths)] == [{"text": LARGE}] * 10


def test_many_ask_at_once_on_one_connection(documents: FirestoreDocuments) -> None:
    def keep(n: int) -> int:
        path = ("chats", str(n))
        for turn in range(20):
            documents.commit(ADA, [Set(path, {"n": turn, "text": LARGE[: n * 5000]})])
            [found] = documents.get(ADA, path)
            assert found
            assert found.data == {"n": turn, "text": LARGE[: n * 5000]}
        return n

    with ThreadPoolExecutor(16) as threads:
        assert [*threads.map(keep, range(16))] == [*range(16)]


def test_preconditions_hold(documents: FirestoreDocuments) -> None:
    path = ("chats", "c")
    [old] = documents.commit(ADA, [Create(path, {"n": 1})])
    [new] = documents.commit(ADA, [Update(path, {"m": 2}, old)])
    for write in (Update(path, {"n": 3}, old), Delete(path, old), Update(("chats", "other"), {"n": 1})):
        with pytest.raises(PreconditionFailed):
            documents.commit(ADA, [Set(("chats", "with"), {}), write])
    with pytest.raises(AlreadyExists):
        documents.commit(ADA, [Create(path, {})])
    found, beside = documents.get(ADA, path, ("chats", "with"))
    assert found
    assert (found.data, found.version, beside) == ({"n": 1, "m": 2}, new, None)
