"""The erasure of a user: nothing of theirs is left in any store, and of everybody else's nothing has changed."""

from __future__ import annotations

import io
import json
import sqlite3
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from flask import Flask

from service.app import create_flask
from service.backends import registry
from service.backends.google.gcs import CloudStorage
from service.backends.interfaces import JobAddress, Set
from service.config import Settings
from service.context import documents_path
from service.ingestion.inventory import Listing, pages
from service.ingestion.marks import Mark, Marks
from service.jobs import Jobs
from service.jobs.attempt import Unfinished
from service.jobs.erasure import subject_of
from service.jobs.slices import Slice
from service.models import JSON, JobStatus, Role, Scope, timestamp
from service.proof.planting import plant_job, plant_made
from service.services import Services, assemble
from tests.kit.apps import write_app, write_flow
from tests.kit.client import User
from tests.kit.emulators import Emulators
from tests.kit.firestore_proxy import own_database, warm
from tests.kit.gcs import BUCKET, StorageServer
from tests.kit.models import eventually
from tests.kit.upstream import Gate, Upstream
from tests.kit.upstream.replies import embeddings
from tests.kit.upstream.script import Request, Response
from tests.test_job_kinds import ended

if TYPE_CHECKING:
    from tests.kit.vertex import VertexServer

ADA, BOB, ELSEWHERE, SHARED = Scope("alpha", "ada"), Scope("alpha", "bob"), Scope("beta", "ada"), Scope("alpha", None)
CANARY = "canary-{0.app}-{0.user}-5e1f"


class Held(Upstream):
    """Embeds what has the word `heldback` in it once the gate is open."""

    gate = Gate()

    def respond(self, request: Request) -> Response:
        if request.path != "/v1/embeddings" or b"heldback" not in request.body:
            return super().respond(request)
        answer = embeddings(request)
        return replace(answer, steps=[self.gate, *answer.steps])


@pytest.fixture
def upstream() -> Iterator[Held]:
    server = Held()
    server.gate = Gate()
    with server:
        yield server
        server.gate.open()


@dataclass(frozen=True)
class World:
    """The service on some stores, and all that these hold."""

    flask: Flask
    dump: Callable[[], dict[str, bytes]]

    @property
    def services(self) -> Services:
        services: Services = self.flask.extensions["brainstem"]
        return services

    def apart(self, scope: Scope) -> dict[str, bytes]:
        """Everything that is not a user's: what the app keeps of jobs and receipts left aside."""
        own = f"apps/{scope.app}/users/{scope.user}"
        beside = (f"apps/{scope.app}/jobs/", f"apps/{scope.app}/outbox/", f"apps/{scope.app}/erasures/")
        canary = CANARY.format(scope).encode()  # points of Vertex AI's index have no owner in their name
        return {
            name: content
            for name, content in self.dump().items()
            if not name.startswith((own, *beside)) and canary not in content
        }


@pytest.fixture(params=["local", "google"])
def world(request: pytest.FixtureRequest, served: Settings, upstream: Upstream) -> Iterator[World]:
    settings = replace(served, lease_seconds=3.0, checkpoint_seconds=1.0, stage_seconds=5.0)
    note = {"type": "object", "properties": {"text": {"type": "string"}}}
    for app in ("alpha", "beta"):
        write_app(served.apps_dir, app, '[context]\ndata = ["profile"]\n[retrieval]\ndata = ["profile"]\n')
        write_flow(served.apps_dir, app, "note", note, note, "Note {{text}}.")
    if request.param == "google":
        firebase: Emulators = request.getfixturevalue("firebase")
        warm(firebase.hosts["firestore"])
        settings = own_database(settings, firebase.hosts["firestore"])
        settings = replace(settings, backend_documents="google", backend_vectors="google", storage_bucket=BUCKET)
        with StorageServer() as storage:
            backends = registry.build(settings)
            blobs = CloudStorage(settings, backends.secrets, credentials=storage.credentials(), server=storage.url)
            backends = replace(backends, blobs=blobs, names={**backends.names, "blobs": "google"})
            yield from running(assemble(settings, backends), lambda: {**exported(settings), **objects(storage)})
    elif request.param == "vertex":
        # Google's messages take seconds to import.
        from service.backends.google.vertex import VertexVectors
        from tests.kit.vertex import VertexServer

        with VertexServer() as server:
            backends = registry.build(settings)
            backends = replace(backends, vectors=VertexVectors(server.settings, backends.secrets))
            services = assemble(settings, backends)
            yield from running(
                services, lambda: {**rows(settings.data_dir), **files(settings.data_dir), **points(server)}
            )
    else:
        services = assemble(settings, registry.build(settings))
        yield from running(
            services, lambda: {**rows(settings.data_dir), **files(settings.data_dir), **entries(services)}
        )


def running(services: Services, dump: Callable[[], dict[str, bytes]]) -> Iterator[World]:
    services.backends.queue.start(services.jobs.run)
    yield World(create_flask(services), dump)
    services.backends.queue.stop()
    services.loop.stop()


def exported(settings: Settings) -> dict[str, bytes]:
    """Every document of the database, by the emulator's REST API: nothing of the service's takes part in it."""
    root = f"projects/{settings.google_cloud_project}/databases/(default)/documents"
    everything = {"structuredQuery": {"from": [{"allDescendants": True}]}}
    asked = urllib.request.Request(
        f"http://{settings.firestore_emulator_host}/v1/{root}:runQuery",
        json.dumps(everything).encode(),
        {"Authorization": "Bearer owner", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=20) as answer:
        found = [one["document"] for one in json.load(answer) if "document" in one]
    return {one["name"].removeprefix(f"{root}/"): json.dumps(one, sort_keys=True).encode() for one in found}


def objects(storage: StorageServer) -> dict[str, bytes]:
    return {f"{name} in the bucket": stored.content for (_, name), stored in storage.buckets.objects.items()}


def rows(folder: Path) -> dict[str, bytes]:
    with closing(sqlite3.connect(folder / "documents.sqlite3")) as database:
        return {
            f"{collection}/{name}": f"{data} {version}".encode()
            for collection, name, data, version in database.execute(
                "SELECT collection, id, data, version FROM documents"
            )
        }


def files(folder: Path) -> dict[str, bytes]:
    found = (folder / "blobs").rglob("*.blob")
    return {f"{path.relative_to(folder / 'blobs')} on the disk": path.read_bytes() for path in found}


def entries(services: Services) -> dict[str, bytes]:
    index, found = services.backends.vectors, {}
    assert isinstance(index, Listing)
    for scope in (ADA, BOB, ELSEWHERE, SHARED):
        owner = f"apps/{scope.app}" if scope.user is None else f"apps/{scope.app}/users/{scope.user}"
        for page in pages(index, scope):
            for entry in page:
                where = f"{owner}/index/{entry.passage.document}/{entry.passage.chunk}"
                found[where] = repr(entry.passage).encode() + entry.vector.tobytes()
    return found


def points(server: VertexServer) -> dict[str, bytes]:
    return {f"points/{name}": str(point.message).encode() for name, point in server.index.points.items()}


def plant(world: World, scope: Scope, upstream: Upstream) -> User:
    """Give a user a thing of every kind, each with a canary in it."""
    services, canary = world.services, CANARY.format(scope)
    user = User(world.flask, str(scope.user), scope.app)
    assert user.add(f"{canary}.txt", f"The zebra secret is {canary}.".encode())["status"] == "COMPLETED"
    upstream.enqueue(f"Reply {canary}")
    assert user.ask("c1", f"Tell me the zebra secret {canary}").status_code == 200
    assert user.call("PUT", "data/profile", json={"secret": canary}).status_code == 200
    eventually(lambda: {one["status"] for one in user.get("jobs").json["jobs"]} == {"COMPLETED"}, 20)
    upstream.enqueue(json.dumps({"text": canary}))
    ran = user.post("flows/note", json={"text": canary}, headers={"Idempotency-Key": "k1"})
    assert ran.status_code == 200, ran.text
    plant_made(services, scope, "made", canary)
    plant_job(services, scope, "waiting", f"{canary}.md")
    services.backends.blobs.put(scope, "uploads/ü 1.txt", io.BytesIO(canary.encode()), "text/plain")
    services.backends.documents.commit(
        scope,
        [
            Set(("deadLetters", "made"), {"created": timestamp()}),
            Set(("unheard-of", "x", "below", "y"), {"text": canary}),
            Set(("documents", "gone", "chunks", "0"), {"n": 0, "chunks": f'[{{"n":0,"text":"{canary}"}}]'}),
        ],
    )
    services.members.put(scope, Role.MEMBER)
    marks = Marks(services.backends.documents, Scope(scope.app, None), "local", "postgres")
    marks.begin()
    marks.put([Mark("d1", scope.user, timestamp(), 3)])
    return user


def plant_everyone(world: World, upstream: Upstream) -> dict[Scope, User]:
    users = {scope: plant(world, scope, upstream) for scope in (ADA, BOB, ELSEWHERE)}
    root = User(world.flask, "root", "alpha", "admin")
    made = root.upload("rules.txt", b"The zebra rules of all.", where="shared/documents").json
    assert root.wait(made["id"], "shared/documents")["status"] == "COMPLETED"
    return users


def trace(dump: dict[str, bytes], scope: Scope) -> list[str]:
    """Where anything of a user's is still found."""
    canary, own = CANARY.format(scope), f"apps/{scope.app}/users/{scope.user}"
    marks = f"%40{scope.user}"
    return [
        name
        for name, content in dump.items()
        if name.startswith((f"{own}/", f"{own} ")) or name == own or canary.encode() in content or canary in name
        or (name.endswith(marks) and name.startswith(f"apps/{scope.app}/"))
    ]  # fmt: skip


@pytest.mark.parametrize("world", ["local", "google", "vertex"], indirect=True)
def test_nothing_of_a_user_is_left_and_nothing_of_others_is_touched(world: World, upstream: Upstream) -> None:
    users = plant_everyone(world, upstream)
    assert len(trace(world.dump(), ADA)) > 20
    before = {
        name: content
        for name, content in world.apart(ADA).items()
        if "alpha/moves" not in name or not name.endswith("%40ada")
    }
    posted = users[ADA].post("jobs", json={"kind": "erasure", "input": {"confirm": "alpha"}})
    assert (posted.status_code, posted.json["kind"]) == (202, "erasure")
    assert posted.headers["Location"] == f"/v1/apps/alpha/erasures/{posted.json['id']}"
    receipt = ended(users[ADA], posted.json["id"], "erasures")
    assert (receipt["status"], receipt["left"]) == (
        "COMPLETED",
        {"records": 0, "passages": 0, "files": 0, "memberships": 0},
    )
    removed = receipt["removed"]
    expected = {
        "chats": 1, "turns": 1, "recent": 1, "documents": 3, "data": 1, "searchable": 1, "flows": 1, "dead letters": 1, "below": 1,
        "artifacts": 1, "uploads": 1, "memberships": 1, "marks": 1, "originals": 3, "passages": 2,
    }  # fmt: skip
    listing = isinstance(world.services.backends.vectors, Listing)
    if not listing:
        del expected["passages"]
    assert receipt["unlisted"] == ([] if listing else ["passages"])
    assert {kind: removed[kind] for kind in expected} == expected
    assert removed["jobs"] >= 3
    assert removed["usage rows"] >= 4
    after = world.dump()
    assert trace(after, ADA) == []
    assert world.apart(ADA) == before
    # What is kept of it names nobody.
    kept = b" ".join(content for name, content in after.items() if name.startswith("apps/alpha/"))
    assert subject_of(ADA).encode() in kept
    about = [content for name, content in after.items() if posted.json["id"] in name and name.startswith("apps/alpha/")]
    assert len(about) == 2
    assert not any(b'"ada"' in content for content in about)
    for other in (users[BOB], users[ELSEWHERE]):
        assert other.get(f"erasures/{receipt['id']}").status_code == 404
        assert CANARY.format(BOB if other is users[BOB] else ELSEWHERE) in other.get("chats/c1").text
    # Who was erased may begin anew.
    assert users[ADA].get("chats").json["chats"] == []
    assert users[ADA].ask("c1", "Hello").status_code == 200


def test_what_is_being_written_meanwhile_does_not_survive(world: World, upstream: Held) -> None:
    """A turn that is being answered, and a file that is being read: both find out when they are to write."""
    ada, root = User(world.flask, "ada", "alpha"), User(world.flask, "root", "alpha", "admin")
    canary = CANARY.format(ADA)
    world.services.asked.erasures.longest_wait = 4.0
    upstream.enqueue(canary, answering := Gate(), canary)
    turn = threading.Thread(target=ada.ask, args=("c1", f"Tell me {canary}"))
    turn.start()
    assert answering.reached.wait(20)
    file = ada.upload(f"{canary}.txt", f"What is heldback is {canary}.".encode()).json["id"]
    assert upstream.gate.reached.wait(20)
    assert len(trace(world.dump(), ADA)) > 5
    posted = root.post("shared/jobs", json={"kind": "erasure", "input": {"user": "ada", "confirm": "ada"}})
    assert posted.status_code == 202
    eventually(lambda: world.services.backends.documents.get(ADA, documents_path(ADA, file)) == [None], 20)
    upstream.gate.open()
    job = ended(root, posted.json["id"], "shared/jobs")
    assert (job["status"], job["output"]["removed"]["documents"]) == ("COMPLETED", 1)
    turn.join(20)
    # The answer ended when its turn was gone, long before it was whole; what both cost was written, and removed in its turn.
    assert not answering.is_open
    assert not turn.is_alive()
    assert job["output"]["removed"]["usage rows"] >= 2
    assert trace(world.dump(), ADA) == []


@pytest.mark.parametrize("world", ["local"], indirect=True)
def test_an_erasure_goes_on_from_where_it_was(world: World, upstream: Upstream) -> None:
    """Its attempt is taken away again and again, after each thing that it has removed."""
    services = world.services
    users = plant_everyone(world, upstream)
    before = world.apart(BOB)
    services.backends.queue.stop()
    posted = users[BOB].post("jobs", json={"kind": "erasure", "input": {"confirm": "alpha"}})
    address = JobAddress(SHARED, posted.json["id"])
    store, taken = services.backends.documents, list[int]()
    jobs = Jobs(store, services.backends.queue, services.asked.handlers)

    def step(self: Slice, state: JSON, done: int, total: int, note: str, *, now: bool = False) -> None:
        self.attempt.save(state=state, done=done, total=total, note=note)
        if done > len(taken) + 1:
            taken.append(done)
            raise Unfinished

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Slice, "step", step)
        for _ in range(200):
            jobs.run(address)
            if jobs.job(SHARED, address.id)[0].status is JobStatus.COMPLETED:
                break
    job, _ = jobs.job(SHARED, address.id)
    assert (job.status, job.attempts) == (JobStatus.COMPLETED, len(taken) + 1)
    assert len(taken) >= 5
    assert job.input == {"subject": subject_of(BOB)}
    assert trace(world.dump(), BOB) == []
    assert world.apart(BOB) == {name: content for name, content in before.items() if not name.endswith("%40bob")}


def test_who_confirms_nothing_erases_nothing(world: World, upstream: Upstream) -> None:
    ada, root = User(world.flask, "ada", "alpha"), User(world.flask, "root", "alpha", "admin")
    ada.call("PUT", "data/profile", json={"likes": "zebras"})
    for user, where, given in (
        (ada, "jobs", {"confirm": "ada"}),
        (ada, "jobs", {}),
        (root, "shared/jobs", {"user": "ada", "confirm": "alpha"}),
        (root, "shared/jobs", {"user": "ada"}),
    ):
        assert user.post(where, json={"kind": "erasure", "input": given}).status_code == 422
    assert ada.get("data/profile").status_code == 200
