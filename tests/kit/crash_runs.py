"""Runs a job in a process that dies at one step, has another process take over, and looks at what is there then.

`python -m tests.kit.crash_runs` takes `Orders`, each a line of JSON, and answers each with a line per run and an empty one. It imports everything once and forks:
each run is a child of this process, and each process of a run a child of that one. Nothing here starts a thread or speaks gRPC before
it has forked.
"""

from __future__ import annotations

import faulthandler
import hashlib
import os
import sqlite3
import sys
import threading
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import msgspec
import numpy as np

from service.backends import registry
from service.backends.interfaces import Entry, JobAddress, Set, Update
from service.config import Settings
from service.errors import StoreError
from service.ingestion.pipeline import blob_name
from service.jobs import Jobs
from service.jobs.kinds import kinds
from service.models import Job, Passage, Scope, timestamp
from service.services import Services, assemble
from tests.kit.apps import write_app
from tests.kit.crash_kinds import KINDS, scripted
from tests.kit.crash_stage import Kind, Stage, insistently
from tests.kit.crashing import steps

LEASE = 0.6
PART_BYTES = 400
"""Of an export, so that a small one has several parts."""

LATE = 60.0
"""Seconds after which a run that has not ended is stuck."""

POLL = {"local": 0.02, "google": 0.1}
"""Seconds between two looks: an emulator that is looked at all the time does little else."""

ADAPTERS = {
    f"backend_{name.lower()}": f"tests.kit.crashing:{name}"
    for name in ("Documents", "Vectors", "Blobs", "Embedder", "Model", "Queue")
}
PRELOADED = """
    httpx2 openai openai.resources service.app service.backends.local.blobs service.backends.local.documents service.backends.local.queue
    service.backends.local.vectors service.backends.openai service.backends.openai.failures service.backends.openai.sdk
    google.auth.transport.requests google.cloud.tasks_v2.types google.iam.v1.iam_policy_pb2 google.oauth2.credentials werkzeug.serving
    service.backends.google.calls service.backends.google.cloud_tasks service.backends.google.firebase
    service.backends.google.firestore.failures service.backends.google.firestore.messages service.backends.google.firestore.passages
    service.backends.google.firestore.writes service.backends.google.gcs.download service.backends.google.gcs.store
"""
NEIGHBOUR = b"What a neighbour keeps, and nobody touches."


@dataclass(frozen=True, slots=True)
class Run:
    """A job of a kind, and the last step of its process; with none it lives, and its steps are counted."""

    name: str
    kind: str
    last: str
    family: str = "local"
    port: int = 0
    at_once: bool = False
    """Whether the other process takes over while the lease still holds."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What is to be run, where, and what stands in for the world."""

    folder: str
    runs: list[Run]
    at_once: int
    openai: str
    settings: dict[str, str] | None = None
    """Of the family `google`."""
    tasks: str = ""
    """Where it is said how many tasks wait for a port."""


@dataclass(slots=True)
class Outcome:
    """What came of a run: how its first process ended, after which steps, and how many calls were put on record."""

    run: Run
    status: int = 0
    steps: list[str] = field(default_factory=list)
    rows: int = 0
    swept: bool = False
    error: str = ""


class Process:
    """One process of a run."""

    def __init__(self, orders: Orders, run: Run, *, renew: float = LEASE / 3, key: str = "") -> None:
        self.orders, self.run, self.renew = orders, run, renew
        self.key = key or run.name
        self.folder = Path(orders.folder) / run.name
        self.kind: Kind = KINDS[run.kind]
        self.stage = self._stage()

    def _stage(self) -> Stage:
        run, orders = self.run, self.orders
        settings = Settings(
            data_dir=self.folder / "data",
            apps_dir=self.folder / "apps",
            openai_base_url=orders.openai,
            openai_api_key=f"sk-{self.key}",
            embedding_model="scripted",
            embedding_dimensions=64,
            ingest_workers=1,
            **ADAPTERS,  # type: ignore[arg-type]  # each is a name
        )
        if run.family == "google":
            url = f"http://127.0.0.1:{run.port}"
            changes: dict[str, Any] = {"backends": "google", "backend_secrets": "local", **(orders.settings or {})}
            changes["google_cloud_project"] = f"demo-{run.name}"
            settings = replace(settings, service_url=url, **changes)
        made: list[Services] = []
        backends = registry.build(settings)
        with patch.multiple(
            "service.services",
            Jobs=partial(Jobs, lease=LEASE, renew=self.renew),
            kinds=lambda *args, **kwargs: {**kinds(*args, **kwargs), **scripted(lambda: made[0])},
        ):
            made.append(assemble(settings, backends))
        made[0].asked.erasures.longest_wait = LEASE
        made[0].asked.exports.part_bytes = PART_BYTES
        return Stage(made[0], Scope(run.name, self.kind.user))

    # What is there before

    def prepare(self) -> None:
        for app in (self.run.name, f"{self.run.name}-other"):
            write_app(self.folder / "apps", app, "[prices.scripted]\nfree = true\n")
        for scope in self.neighbours():
            self.plant(scope)
        insistently(lambda: self.kind.prepare(self.stage))

    def neighbours(self) -> list[Scope]:
        other = f"{self.run.name}-other"
        shared = [] if self.kind.user is None else [Scope(self.run.name, None)]
        return [Scope(self.run.name, "bob"), Scope(other, "ada"), Scope(other, None), *shared]

    def plant(self, scope: Scope) -> None:
        """Give a neighbour a document, and all that one may have."""
        import io

        now = timestamp()
        job = Job(id="theirs", kind="report", status="COMPLETED", input={}, created=now, updated=now)  # type: ignore[arg-type]
        self.stage.store.commit(
            scope,
            [
                Set(("jobs", "theirs"), msgspec.to_builtins(job)),
                Set(("calls", "theirs"), {"created": now}),
                Set(("deadLetters", "theirs"), {"created": now}),
                Set(("data", "theirs"), {"updated": now}),
            ],
        )
        passage = Passage(document="theirs", chunk=0, title="Theirs", text="Their kettle boils.")
        vector = np.full(64, 0.125, dtype=np.float32)
        self.stage.index.upsert(scope, [Entry(passage, vector, "scripted/64")])
        self.stage.blobs.put(scope, blob_name("theirs"), io.BytesIO(NEIGHBOUR), "text/plain")

    def untouched(self) -> dict[str, object]:
        """All that the neighbours have."""
        found: dict[str, object] = {}
        for scope in self.neighbours():
            found[f"{scope} documents"] = self.stage.whole(scope)
            entries = self.stage.index.entries(scope)
            found[f"{scope} vectors"] = [(at, entry.passage.text) for at, entry in entries]
            with self.stage.blobs.open(scope, blob_name("theirs")) as file:
                found[f"{scope} file"] = file.read()
        return found

    # The process that dies, and the one that takes over

    def work(self) -> None:
        """Submit the job, work on it, and leave when it has ended and the queue knows."""
        job_id = self.acknowledged()
        with self.working():
            while not (self.waiting() == 0 and self.ended(job_id)):
                time.sleep(POLL[self.run.family])

    def take_over(self) -> Outcome:
        """Do what is left, with what was lost swept up once it is clear that it was, and look at what is there then."""
        before = self.untouched()
        self.kind.meanwhile(self.stage)
        job_id, outcome = self.acknowledged(), Outcome(self.run)
        deadline = time.monotonic() + LATE
        with self.working():
            while not (self.waiting() == 0 and self.ended(job_id) and not self.noted()):
                assert time.monotonic() < deadline, f"stuck: {self.stage.job(job_id)}"
                if self.waiting() == 0 and not outcome.swept:
                    outcome.swept = True
                    self.sweep()
                time.sleep(POLL[self.run.family])
        self.look(job_id, outcome)
        self.deliver_late(job_id)
        assert self.untouched() == before
        return outcome

    def acknowledged(self) -> str:
        """The job's id: what the client was told, or is told now that it calls again."""
        note = self.folder / "acknowledged"
        if not note.exists():
            job_id = insistently(lambda: self.kind.submit(self.stage))
            note.write_text(job_id)
        return note.read_text()

    @contextmanager
    def working(self) -> Iterator[None]:
        services = self.stage.services
        if self.run.family == "google":
            with serving(services, self.run.port):
                yield
            return
        services.backends.queue.start(services.jobs.run)
        yield
        services.backends.queue.stop()

    def ended(self, job_id: str) -> bool:
        job = self.stage.job(job_id)
        return job is not None and job.status.terminal

    def noted(self) -> bool:
        """Whether something is written of what is to be delivered, or waits for that."""
        return bool(self.stage.all("outbox") or self.stage.all("waiting"))

    def waiting(self) -> int:
        """How many deliveries the queue has to make."""
        if self.run.family == "google":
            with urllib.request.urlopen(f"{self.orders.tasks}/{self.run.port}", timeout=10) as answer:
                return int(answer.read())
        self.stage.services.backends.queue.check()  # makes the file, if nobody has yet
        with closing(sqlite3.connect(self.folder / "data" / "queues.sqlite3")) as rows:
            return int(rows.execute("SELECT count(*) FROM jobs").fetchone()[0])

    def sweep(self) -> None:
        """Sweep as if a while had passed."""
        for note in self.stage.all("outbox"):
            with suppress(StoreError):  # it was done just now
                self.stage.store.commit(self.stage.scope, [Update(note.path, {"due": "2001"})])
        self.stage.services.sweeper.sweep()

    # What is there then

    def look(self, job_id: str, outcome: Outcome) -> None:
        stage, kind = self.stage, self.kind
        job = stage.job(job_id)
        assert job is not None
        assert (job.status, job.lease) == (kind.status, 0.0), job
        assert job.created <= (job.ended or "")
        assert (job.error is not None) == (job.status == "FAILED"), job
        assert len(stage.all("jobs")) == kind.jobs
        assert len(stage.all("deadLetters")) == kind.letters
        needed = kind.check(stage, job)
        self.look_at_files(job, needed)
        outcome.rows = sum(
            call.data.get("job") == job.id
            for scope in (stage.scope, *map(stage.of, kind.others))
            for call in stage.all("calls", scope)
        )

    def look_at_files(self, job: Job, needed: set[str]) -> None:
        """Every file that is needed is whole; beside them lie at most those of the job's earlier attempts."""
        stage, folder = self.stage, f"jobs/{job.id}/"
        there = set(stage.blobs.names(stage.scope))
        made = {name for name in there if name.startswith(folder)}
        assert there - made == {name for name in needed if not name.startswith(folder)}
        assert {name for name in needed if name.startswith(folder)} == {artifact.blob for artifact in job.artifacts}
        assert {int(name.removeprefix(folder).partition("/")[0]) for name in made} <= {*range(1, job.attempts + 1)}
        for artifact in job.artifacts:
            with stage.blobs.open(stage.scope, artifact.blob) as file:
                content = file.read()
            assert (artifact.bytes, artifact.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        others = sum(len(list(stage.blobs.names(stage.of(user)))) for user in self.kind.others)
        assert self.files() == len(there) + others + len(self.neighbours())

    def files(self) -> int:
        """How many files there are of this run's apps."""
        if self.run.family == "local":
            return len(list((self.folder / "data" / "blobs").rglob("*.blob")))
        return sum(
            name.startswith((f"apps/{self.run.name}/", f"apps/{self.run.name}-other/")) for name in self.objects()
        )

    def objects(self) -> Iterator[str]:
        """The names of all objects in the bucket that may be of this run, as Cloud Storage lists them."""
        url = f"{os.environ['BRAINSTEM_TEST_STORAGE']}/storage/v1/b/{(self.orders.settings or {})['storage_bucket']}/o"
        token = {"Authorization": f"Bearer {os.environ['BRAINSTEM_TEST_STORAGE_TOKEN']}"}
        page, more = "", True
        while more:
            query = f"?prefix=apps/{self.run.name}&pageToken={quote(page)}"
            with urllib.request.urlopen(urllib.request.Request(url + query, headers=token), timeout=10) as answer:
                told = msgspec.json.decode(answer.read())
            yield from (item["name"] for item in told["items"])
            page = told.get("nextPageToken", "")
            more = bool(page)

    def deliver_late(self, job_id: str) -> None:
        """What is delivered after the end, or asked for then, changes nothing."""
        stage = self.stage
        before = stage.whole(stage.scope)
        for _ in range(2):
            insistently(lambda: stage.services.jobs.run(JobAddress(stage.scope, job_id)))
        assert stage.services.sweeper.sweep() == 0
        assert stage.whole(stage.scope) == before


@contextmanager
def serving(services: Services, port: int) -> Iterator[None]:
    """Serve HTTP, with a step before each delivery of a job and one before its answer is sent."""
    from werkzeug.serving import make_server

    from service.app import create_flask

    app = create_flask(services)
    inner = app.wsgi_app

    def wsgi(environ, start_response):  # type: ignore[no-untyped-def]
        with steps().around("queue.deliver"):
            return inner(environ, start_response)

    app.wsgi_app = wsgi  # type: ignore[method-assign]
    server = make_server("127.0.0.1", port, app, threaded=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield
    server.shutdown()
    server.server_close()


# Processes


def in_child(folder: Path, last: str, what: Callable[[], object]) -> int:
    """Do something in a process of its own, whose words go to the run's log, and return how it ended: -9 if it was killed."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        os.environ |= {"BRAINSTEM_TEST_LAST_STEP": last, "BRAINSTEM_TEST_STEPS": str(folder / "steps")}
        with (folder / "log").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            faulthandler.enable(log)
            try:
                what()
                code = 0
            except BaseException:  # noqa: BLE001  # it is said in the log, and by how the process ends
                traceback.print_exc(file=log)
    finally:
        os._exit(code)


def carry_out(orders: Orders, run: Run) -> Outcome:
    folder = Path(orders.folder) / run.name
    folder.mkdir(parents=True)
    report = folder / "outcome"
    outcome = Outcome(run)

    def prepare() -> None:
        Process(orders, run, key=f"{run.name}-before").prepare()

    def take_over() -> None:
        report.write_bytes(msgspec.json.encode(Process(orders, run).take_over()))

    if in_child(folder, "", prepare) != 0:
        return replace(outcome, error=(folder / "log").read_text()[-3000:])
    (folder / "steps").unlink(missing_ok=True)
    status = in_child(folder, run.last, lambda: Process(orders, run, renew=3600.0).work())
    passed = (folder / "steps").read_text().splitlines()
    if not run.at_once:
        time.sleep(LEASE)
    well = in_child(folder, "", take_over) == 0
    if well:
        outcome = msgspec.json.decode(report.read_bytes(), type=Outcome)
    log = (folder / "log").read_text()
    if not well or ("request_crashed" in log and not KINDS[run.kind].crashes):
        outcome.error = log[-3000:]
    return replace(outcome, status=status, steps=passed)


def carry_out_all(orders: Orders) -> Iterator[Outcome]:
    """Run them all, some at a time, each in a process of its own."""
    under_way: dict[int, Run] = {}
    for run in [*orders.runs, None]:
        while len(under_way) == orders.at_once or (run is None and under_way):
            child, _ = os.wait()
            yield said(orders, under_way.pop(child))
        if run is not None:
            under_way[begin(orders, run)] = run


def begin(orders: Orders, run: Run) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        outcome = carry_out(orders, run)
        (Path(orders.folder) / f"{run.name}.json").write_bytes(msgspec.json.encode(outcome))
        code = 0
    finally:
        os._exit(code)


def said(orders: Orders, run: Run) -> Outcome:
    file = Path(orders.folder) / f"{run.name}.json"
    if not file.exists():
        return Outcome(run, error="The run itself broke off.")
    return msgspec.json.decode(file.read_bytes(), type=Outcome)


def preload() -> None:
    """Import now what every child would."""
    for name in PRELOADED.split():
        import_module(name)


def main() -> None:
    preload()
    assert len(os.listdir("/proc/self/task")) == 1, "a thread would not survive the fork"
    for line in sys.stdin.buffer:
        for outcome in carry_out_all(msgspec.json.decode(line, type=Orders)):
            sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
        sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
