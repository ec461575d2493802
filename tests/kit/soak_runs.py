"""Keeps several processes of the service at work, and kills and stops them at moments that are drawn from a seed.

`python -m tests.kit.soak_runs` takes `Orders` as a line of JSON. It imports everything once and forks: each process is the whole service,
and all of them listen at one port, as the instances of a cloud do. After a line `calm` nothing befalls them any more; after `end`, or
when its input ends, they are killed and it says in a line of JSON what it did to them.
"""

from __future__ import annotations

import faulthandler
import io
import os
import random
import resource
import select
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from service.backends import registry
from service.backends.interfaces import BlobStore, Create
from service.config import Settings
from service.jobs import Attempt, Handler, Jobs, Result, Unfinished
from service.jobs.artifacts import put
from service.jobs.asked import Asked, asked_for
from service.jobs.orders import Input, Order
from service.models import timestamp
from service.services import Services, assemble
from tests.kit.soaking import LEASE, QUEUE_LEASE, Faults, faults

PARTS = 2
FILE = b"What came of it, in a file.\n" * 4
FROZEN_SECONDS = LEASE + 2 * QUEUE_LEASE + 1.0
"""Long enough that another process has taken over what the stopped one held."""

LOCK_SECONDS = 0.5
PRELOADED = """
    httpx2 openai openai.resources service.app service.backends.local.blobs service.backends.local.vectors service.backends.local.tokens
    service.backends.openai service.backends.openai.failures service.backends.openai.sdk google.cloud.tasks_v2.types
    google.iam.v1.iam_policy_pb2 service.backends.google.calls service.backends.google.cloud_tasks service.backends.google.firestore
    service.backends.google.firestore.failures service.backends.google.firestore.messages service.backends.google.firestore.statements
    service.backends.google.firestore.writes werkzeug.serving
"""


@dataclass(frozen=True, slots=True)
class Orders:
    """What is to be kept at work, and what befalls it: a process is killed and one stopped every so many seconds, on average."""

    folder: str
    port: int
    seed: int
    openai: str
    settings: dict[str, str | int]
    workers: int = 4
    kill_every: float = 3.0
    stop_every: float = 12.0


@dataclass(slots=True)
class Done:
    """What was done to the processes."""

    kills: int = 0
    stops: int = 0
    cpu: float = 0.0
    """Seconds that all of them have computed."""


# The service as one process has it


class Tally(Input, frozen=True):
    """A job that leaves something for each time that each of its parts was done; a `poison` one raises instead."""

    number: int
    poison: bool = False


def tally(blobs: BlobStore) -> Handler:
    """Makes two effects, each in a delivery of its own, and a file. The ids name the attempt, so what was done twice is there twice."""

    def run(attempt: Attempt) -> Result:
        job = attempt.job
        if job.input["poison"]:
            raise ValueError("canary")
        part = int(job.state or 0)
        if part < PARTS:
            effect = Create(("data", f"{job.id}-{part}-{job.attempts}"), {"updated": timestamp()})
            attempt.save([effect], state=part + 1, done=part + 1, total=PARTS)
            raise Unfinished
        return Result(
            output=job.input["number"], artifacts=(put(blobs, attempt, "it.txt", io.BytesIO(FILE), "text/plain"),)
        )

    return Handler(run)


@dataclass(frozen=True, slots=True)
class More(Asked):
    """The kinds that may be asked for, and one more."""

    blobs: BlobStore

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return {"tally": tally(self.blobs)}

    @property
    def orders(self) -> Mapping[str, Order]:
        return {"tally": Order(own=Tally)}


def more(settings: Settings, backends: Any, *others: Any) -> More:
    asked = asked_for(settings, backends, *others)
    return More(asked.erasures, asked.exports, asked.reindexes, asked.summaries, backends.blobs)


def service(orders: Orders) -> Services:
    folder = Path(orders.folder)
    settings = Settings(
        data_dir=folder / "data",
        apps_dir=folder / "apps",
        openai_base_url=orders.openai,
        openai_api_key="sk-scripted",
        **orders.settings,  # type: ignore[arg-type]  # each fits its setting
    )
    with patch.multiple("service.services", Jobs=partial(Jobs, lease=LEASE, renew=LEASE / 3), asked_for=more):
        return assemble(settings, registry.build(settings))


def serve(orders: Orders, listener: socket.socket) -> None:
    """Be one process of the service: answer requests, work on jobs, sweep."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    from service.app import create_flask

    class Quiet(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: object) -> None:
            pass

    made: Faults = faults()
    services = service(orders)
    services.backends.queue.start(services.jobs.run)
    services.sweeper.start()
    app = create_flask(services)
    server = make_server("127.0.0.1", orders.port, app, threaded=True, request_handler=Quiet, fd=listener.fileno())
    made.note("began")
    server.serve_forever(0.1)


# What befalls it


@dataclass(slots=True)
class Worker:
    """One of the processes that are to be there; `thaw` is when it goes on, if it was stopped."""

    number: int
    pid: int
    thaw: float | None = None


@dataclass(slots=True)
class Nursery:
    """Has so many processes there at any time, whatever befalls them."""

    orders: Orders
    listener: socket.socket
    done: Done = field(default_factory=Done)
    workers: list[Worker] = field(default_factory=list)
    begun: int = 0

    def __post_init__(self) -> None:
        self.workers = [Worker(n, self.begin()) for n in range(self.orders.workers)]

    def begin(self) -> int:
        self.begun += 1
        return in_child(Path(self.orders.folder), self.begun, self.orders, lambda: serve(self.orders, self.listener))

    def kill(self, worker: Worker) -> None:
        os.kill(worker.pid, signal.SIGKILL)
        os.waitpid(worker.pid, 0)
        self.done.kills += 1
        worker.pid = self.begin()

    def stop(self, worker: Worker) -> None:
        """Stop a process where it is writing to no file that the others write to, for they would all have to wait."""
        files = [*(Path(self.orders.folder) / "data").glob("*.sqlite3")]
        while True:
            os.kill(worker.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOWAIT)
            if all(map(can_be_written, files)):
                break
            os.kill(worker.pid, signal.SIGCONT)
            time.sleep(0.01)
        self.done.stops += 1
        worker.thaw = time.monotonic() + FROZEN_SECONDS

    def thaw(self) -> None:
        """Have go on who was stopped long enough."""
        for worker in self.workers:
            if worker.thaw and time.monotonic() >= worker.thaw:
                os.kill(worker.pid, signal.SIGCONT)
                worker.thaw = None

    def end(self) -> None:
        for worker in self.workers:
            os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.done.cpu = used.ru_utime + used.ru_stime

    @property
    def running(self) -> list[Worker]:
        return [worker for worker in self.workers if not worker.thaw]


def can_be_written(file: Path) -> bool:
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(file, LOCK_SECONDS, isolation_level=None)) as rows:
        rows.execute("BEGIN IMMEDIATE")
        rows.execute("ROLLBACK")
        return True
    return False


def torment(nursery: Nursery, orders: Orders) -> None:
    """Kill and stop processes until it is said that they may be left in peace, and wait until it is said that they are to end."""
    chance, heard = random.Random(orders.seed), ""
    kill, stop = time.monotonic() + orders.kill_every, time.monotonic() + orders.stop_every / 2
    while heard not in ("end", "calm"):
        heard = hear(0.05)
        nursery.thaw()
        if time.monotonic() >= kill:
            nursery.kill(chance.choice(nursery.running))
            kill = time.monotonic() + orders.kill_every * chance.uniform(0.5, 1.5)
        if time.monotonic() >= stop:
            nursery.stop(chance.choice(nursery.running))
            stop = time.monotonic() + orders.stop_every * chance.uniform(0.8, 1.2)
    while heard != "end":
        nursery.thaw()
        heard = hear(0.2)


def hear(seconds: float) -> str:
    """Return what was said, if anything was; `end` when nothing will be any more."""
    if not select.select([sys.stdin], [], [], seconds)[0]:
        return ""
    return sys.stdin.readline().strip() or "end"


def in_child(folder: Path, number: int, orders: Orders, what: Callable[[], object]) -> int:
    """Do something in a process of its own, whose words go to a log, and return its number."""
    child = os.fork()
    if child:
        return child
    try:
        os.environ["BRAINSTEM_TEST_SEED"] = f"{orders.seed}-{number}"
        os.environ["BRAINSTEM_TEST_JOURNAL"] = str(folder / f"journal-{number}")
        with (folder / f"log-{number}").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            faulthandler.enable(log)
            what()
    finally:
        os._exit(1)


def main() -> None:
    for name in PRELOADED.split():
        import_module(name)
    assert len(os.listdir("/proc/self/task")) == 1, "a thread would not survive the fork"
    orders = msgspec.json.decode(sys.stdin.readline(), type=Orders)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", orders.port))
        listener.listen(256)
        listener.setblocking(False)  # who comes too late for a connection does not wait for the next one
        nursery = Nursery(orders, listener)
        try:
            torment(nursery, orders)
        finally:
            nursery.end()
    sys.stdout.write(msgspec.json.encode(nursery.done).decode() + "\n")


if __name__ == "__main__":
    main()
