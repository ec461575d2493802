"""`kill -9` at every step of every kind of job: another process takes over, and nothing is lost or doubled.

A step is a moment just before or just after a call of an adapter: of the document store, the files, the index, the embedder, the queue,
and a delivery with its acknowledgement. A run without a kill counts them; each kill is a run of its own, in processes of its own.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest

from service.proof.loopback import LoopbackServer
from tests.kit.cloud_tasks import ACCOUNT, TasksServer
from tests.kit.crash_kinds import KINDS
from tests.kit.crash_runs import Orders, Outcome, Run
from tests.kit.emulators import Emulators
from tests.kit.firestore_proxy import warm
from tests.kit.gcs import ACCOUNT as STORAGE_ACCOUNT
from tests.kit.gcs import BUCKET, StorageServer
from tests.kit.keys import KeyServer
from tests.kit.server import ROOT
from tests.kit.upstream import Upstream

FULL = os.environ.get("BRAINSTEM_TEST_EVERY_STEP") == "1"
"""Whether every step is the last one once, and once more with another process that takes over at once."""

FAMILIES = ["local"]
"""`google` is not among them yet: a delivery more or less makes its count of steps differ by one between runs, so a last step may not come."""

EVERY = {"local": 2, "google": 8}
"""Each how many'th step is the last one otherwise; another share of them every day."""

FLOORS = {"local": 550, "google": 500} if FULL else {"local": 160, "google": 40}
AT_ONCE = 10
SECONDS = 3600 if FULL else 600


class Waiting(BaseHTTPRequestHandler):
    """Tells how many tasks of a queue wait for a port."""

    tasks: TasksServer

    def do_GET(self) -> None:
        port = self.path.strip("/")
        waiting = [task for task in list(self.tasks.tasks.values()) if f":{port}/" in task.message.http_request.url]
        said = str(len(waiting)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:
        pass


class World:
    """What the runs need: a provider of embeddings, and for `google` all that Google has."""

    def __init__(self, upstream: Upstream, family: str, stack: ExitStack, request: pytest.FixtureRequest) -> None:
        self.upstream, self.family = upstream, family
        # What a process wrote survives its death wherever it wrote it: memory is as good as a disk, and faster.
        memory = Path("/dev/shm")
        self.folder = tempfile.mkdtemp(prefix="brainstem-crashes-", dir=memory if memory.is_dir() else None)
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.settings: dict[str, str] | None = None
        self.waiting = ""
        environ = {"PATH": os.environ["PATH"], "OPENBLAS_NUM_THREADS": "1", "TMPDIR": self.folder}
        if family == "google":
            environ |= self.google(stack, request.getfixturevalue("firebase"))
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.kit.crash_runs"],
            cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        stack.enter_context(self.process)
        stack.callback(self.process.kill)
        self.names = 0
        self.port = random.randrange(20_000, 30_000)

    def google(self, stack: ExitStack, firebase: Emulators) -> dict[str, str]:
        keys, storage = stack.enter_context(KeyServer()), stack.enter_context(StorageServer())
        self.tasks = stack.enter_context(TasksServer(lambda claims: keys.services.factory.sign(claims)))
        self.tasks.behaviour.attempts = 100_000
        warm(firebase.hosts["firestore"])
        self.settings = {
            "firestore_emulator_host": firebase.hosts["firestore"],
            "cloud_tasks_emulator_host": self.tasks.host,
            "google_keys_emulator_host": keys.host,
            "tasks_service_account": ACCOUNT,
            "storage_bucket": BUCKET,
        }
        server = LoopbackServer(("127.0.0.1", 0), type("Handler", (Waiting,), {"tasks": self.tasks}))
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self.waiting = f"http://127.0.0.1:{server.server_address[1]}"
        token = str(storage.token(STORAGE_ACCOUNT)["access_token"])
        return {"BRAINSTEM_TEST_STORAGE": storage.url, "BRAINSTEM_TEST_STORAGE_TOKEN": token}

    def run(self, *asked: tuple[str, int, bool]) -> list[Outcome]:
        """Run kinds, each killed at a step, and return what came of it."""
        runs = [Run(self.name(), kind, at, self.family, self.free_port(), soon) for kind, at, soon in asked]
        orders = Orders(self.folder, runs, AT_ONCE, self.upstream.url, self.settings, self.waiting)
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(msgspec.json.encode(orders) + b"\n")
        self.process.stdin.flush()
        lines = iter(self.process.stdout.readline, b"\n")
        return [msgspec.json.decode(line, type=Outcome) for line in lines]

    def name(self) -> str:
        self.names += 1
        return f"r{os.getpid()}-{self.names}"

    def free_port(self) -> int:
        """A port below those that the system gives away, so that it is still free when it is listened at."""
        while True:
            self.port += 1
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", self.port)) != 0:
                    return self.port

    def paid(self) -> Counter[str]:
        """How many embeddings each run was given."""
        requests = self.upstream.asked("embeddings")
        return Counter(request.headers["authorization"].removeprefix("Bearer sk-") for request in requests)


@contextmanager
def world_of(family: str, upstream: Upstream, request: pytest.FixtureRequest) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(upstream, family, stack, request)


def chosen(kind: str, steps: int, family: str) -> Iterator[tuple[str, int, bool]]:
    """The steps of a kind that are to be the last, and whether another process takes over at once."""
    if FULL:
        yield from ((kind, at, soon) for at in range(1, steps + 1) for soon in (False, True))
        return
    every = EVERY[family]
    first = (datetime.now(UTC).toordinal() + len(kind)) % every
    yield from ((kind, at, at % 4 == 0) for at in range(1 + first, steps + 1, every))


def lost(steps: Sequence[str]) -> int:
    """How many paid calls a process made that it did not live to put on record: at most the one that was under way."""
    return steps.count("after embedder.embed") - steps.count("after documents.commit calls")


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_process_may_die_at_any_step_of_any_kind_of_job(
    family: str, upstream: Upstream, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    with world_of(family, upstream, request) as world:
        counted = world.run(*[(kind, 0, False) for kind in KINDS])
        assert {outcome.run.kind: outcome.error for outcome in counted} == dict.fromkeys(KINDS, "")
        assert {outcome.status for outcome in counted} == {0}
        asked = [one for outcome in counted for one in chosen(outcome.run.kind, len(outcome.steps), family)]
        outcomes = world.run(*asked)
        paid = world.paid()
    wrong = [(one.run.kind, one.run.kill_at, one.steps[-1:], one.error) for one in outcomes if one.error]
    assert not wrong, wrong
    kills = Counter(outcome.run.kind for outcome in outcomes if outcome.status == -9)
    assert kills.total() == len(outcomes) == len(asked)
    for outcome in [*counted, *outcomes]:
        assert lost(outcome.steps) in (0, 1)
        assert paid[outcome.run.name] == outcome.rows + lost(outcome.steps), outcome
    swept = sum(outcome.swept for outcome in outcomes)
    with capsys.disabled():
        sys.stdout.write(f"\n{family}: {kills.total()} kills, {swept} swept up, {dict(kills)}\n")
    assert kills.total() >= FLOORS[family]
    assert set(kills) == set(KINDS)
    assert swept > 0
    assert sum(lost(outcome.steps) for outcome in outcomes) > 0 or not FULL
