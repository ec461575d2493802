"""An ingestion that is begun again goes on where it stopped: no text is embedded twice that was paid for and has not changed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from service.app import create_flask
from service.backends import registry
from service.backends.interfaces import JobAddress, Update
from service.backends.openai.embeddings import OpenAIEmbedder
from service.config import Settings
from service.errors import BrainstemError, Unavailable
from service.models import Scope
from service.services import Services, assemble
from tests.kit.client import User
from tests.kit.upstream import Request, Response, Upstream, faults

ADA = Scope("alpha", "ada")
SECTIONS = 20
TEXT = "\n\n".join(f"# Part {n}\n\nThe zebra secret number {n} is canary-{n}." for n in range(SECTIONS)).encode()
BATCHES = [8, 8, 4]
"""How many texts each call has that embeds these."""


class Breaking(Upstream):
    """Embeds as often as it is to; then it fails."""

    left = 1000
    failed = 0

    def __init__(self) -> None:
        super().__init__()
        self.paid: list[list[str]] = []

    def respond(self, request: Request) -> Response:
        if request.path != "/v1/embeddings":
            return super().respond(request)
        if not self.left:
            self.failed += 1
            return faults.html()
        self.left -= 1
        self.paid.append(request.json["input"])
        return super().respond(request)


class World:
    """The service whose queue delivers by hand, and a document that waits to be ingested."""

    def __init__(self, settings: Settings, upstream: Breaking) -> None:
        self.settings, self.upstream = settings, upstream
        self.services: Services = assemble(settings, registry.build(settings))
        self.flask: Flask = create_flask(self.services)
        self.ada = User(self.flask, "ada", "alpha")
        self.document = self.ada.upload("z.md", TEXT, "text/markdown").json["id"]

    def deliver(self, services: Services | None = None) -> None:
        job = self.services.ingestion.document(ADA, self.document).job
        self.services.backends.documents.commit(ADA, [Update(("jobs", job), {"lease": 0.0})])
        (services or self.services).jobs.run(JobAddress(ADA, job))

    def stop_behind(self, calls: int) -> None:
        """Deliver, with an embedder that fails behind so many calls."""
        self.upstream.left = calls
        with pytest.raises(BrainstemError):
            self.deliver()
        assert self.upstream.failed, "the fault did not fire"
        self.upstream.left = 1000

    def sizes(self) -> list[int]:
        """How many texts each call embedded."""
        return [len(texts) for texts in self.upstream.paid]

    def kept(self) -> list[str]:
        names = self.services.backends.blobs.names(ADA, "documents/")
        return [name for name in names if not name.endswith("/original")]

    def rows(self) -> int:
        return sum(call.kind == "embedding" for call in self.services.usage._calls(ADA, ""))

    def look(self) -> None:
        """The document is whole and found, each call is on record, and nothing is left that only an ingestion needs."""
        assert self.rows() == len(self.upstream.paid)
        assert self.kept() == []
        state = self.ada.get(f"documents/{self.document}").json
        assert (state["status"], state["chunks"], state["done"]) == ("COMPLETED", SECTIONS, SECTIONS)
        for n in (0, 9, 19):
            body = {"text": f"the zebra secret number {n} is canary-{n}", "limit": 1}
            [passage] = self.ada.post("search", json=body).json["passages"]
            assert passage["chunk"] == n


@pytest.fixture
def upstream() -> Iterator[Breaking]:
    server = Breaking()
    with server:
        yield server


@pytest.fixture
def world(served: Settings, upstream: Breaking, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(OpenAIEmbedder, "batch_size", 8)
    return World(replace(served, embedding_dimensions=64), upstream)


@pytest.mark.parametrize("calls", [1, 2])
def test_what_failed_half_way_embeds_only_the_rest(world: World, calls: int) -> None:
    world.stop_behind(calls)
    assert (world.sizes(), len(world.kept())) == (BATCHES[:calls], calls)
    world.deliver()
    assert world.sizes() == BATCHES
    texts = [text for batch in world.upstream.paid for text in batch]
    assert len(set(texts)) == len(texts) == SECTIONS
    world.look()


class Died(BaseException):
    """A process that ends as by SIGKILL: nothing catches it."""


def test_a_worker_that_dies_before_the_index_is_written_leaves_nothing_to_embed(world: World) -> None:
    index: Any = world.services.backends.vectors
    fired = []

    class Dying:
        def __getattr__(self, name: str) -> Any:
            return getattr(index, name)

        def upsert(self, *_: object) -> None:
            fired.append(True)
            raise Died

    ingestion: Any = world.services.ingestion
    ingestion._vectors = Dying()
    with pytest.raises(Died):
        world.deliver()
    assert fired
    ingestion._vectors = index
    world.deliver()
    assert world.sizes() == BATCHES
    world.look()


def test_a_job_that_is_retried_goes_on_too(world: World) -> None:
    world.stop_behind(2)
    job = world.services.ingestion.document(ADA, world.document).job
    assert world.ada.post(f"jobs/{job}/cancel").json["status"] == "CANCELLED"
    assert world.ada.post(f"jobs/{job}/retry").status_code == 202
    world.deliver()
    assert world.sizes() == BATCHES
    world.look()


def test_another_embedder_embeds_everything(world: World) -> None:
    world.stop_behind(2)
    settings = replace(world.settings, embedding_model="text-embedding-3-large")
    services = assemble(settings, registry.build(settings))
    world.deliver(services)
    assert world.sizes() == [*BATCHES[:2], *BATCHES]
    assert world.kept() == []
    assert services.ingestion.document(ADA, world.document).embedder == "text-embedding-3-large/64"


@pytest.mark.parametrize("content", [b"", b"cut", bytes(32) + bytes(8 * 64 * 4)])
def test_what_is_kept_and_not_whole_is_embedded_again(world: World, content: bytes) -> None:
    world.stop_behind(2)
    for name in world.kept():
        world.services.backends.blobs.put(ADA, name, io.BytesIO(content), "application/octet-stream")
    world.deliver()
    assert world.sizes() == [*BATCHES[:2], *BATCHES]
    world.look()


def test_what_cannot_be_kept_does_no_harm(world: World) -> None:
    blobs: Any = world.services.backends.blobs
    fired = []

    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(blobs, name)

        def put(self, *_: object) -> None:
            fired.append(True)
            raise Unavailable

    ingestion: Any = world.services.ingestion
    ingestion._kept._blobs = Full()
    world.deliver()
    assert len(fired) == len(BATCHES)
    world.look()


def test_a_document_that_is_deleted_takes_what_is_kept_with_it(world: World) -> None:
    world.stop_behind(2)
    assert world.kept()
    assert world.ada.call("DELETE", f"documents/{world.document}").status_code == 204
    assert list(world.services.backends.blobs.names(ADA)) == []
