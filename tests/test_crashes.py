"""`kill -9` at every step of every kind of job: another process takes over, and nothing is lost or doubled.

A step is a moment just before or just after a call of an adapter: of the document store, the files, the index, the embedder, the queue,
and a delivery with its acknowledgement. A run without a kill counts them; each kill is a run of its own, in processes of its own.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from service.proof.loopback import LoopbackServer
from tests.kit.cloud_tasks import ACCOUNT, TasksServer
from tests.kit.crash_flows import ANSWER
from tests.kit.crash_kinds import KINDS
from tests.kit.crash_runs import Orders, Outcome, Run
from tests.kit.emulators import Emulators
from tests.kit.firestore_proxy import warm
from tests.kit.gcs import ACCOUNT as STORAGE_ACCOUNT
from tests.kit.gcs import BUCKET, StorageServer
from tests.kit.keys import KeyServer
from tests.kit.server import ROOT
from tests.kit.upstream import Answer, Upstream

FULL = os.environ.get("BRAINSTEM_TEST_EVERY_STEP") == "1"
"""Whether every step is the last one once, and once more with another process that takes over at once."""

FAMILIES = ["local", "google"]
EVERY = {"local": 4, "google": 10}
"""Each how many'th step is the last one otherwise; another share of them every day."""

FLOORS = {"local": 1200, "google": 600} if FULL else {"local": 150, "google": 55}
"""So many processes are killed at least."""

MISSED = 0.05
"""The share of the planned steps that may not come. Cloud Tasks delivers while there is no room yet, now once more and now once less."""

ROUNDS = 5
"""After so many every planned run has killed its process, if at an earlier step."""

CALLS = re.compile(r"(before|after) (embedder.embed|model.stream) .*")
RECORDS = re.compile(r"(before|after) documents.commit ([^ ]+\+)?calls(\+[^ ]+)? .*")
AT_ONCE = {"local": 10, "google": 8}
SECONDS = 3600 if FULL else 600


class Asked(NamedTuple):
    """A run of a kind, its last step, and whether another process takes over at once."""

    kind: str
    last: str = ""
    soon: bool = False


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
            cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0,
        )  # fmt: skip
        stack.enter_context(self.process)
        stack.callback(os.killpg, self.process.pid, signal.SIGKILL)  # with the runs of a test that broke off
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

    def run(self, *asked: Asked) -> list[Outcome]:
        """Run kinds, each killed at a step, and return what came of it."""
        runs = [Run(self.name(), *one[:2], self.family, self.free_port(), one.soon) for one in asked]
        orders = Orders(self.folder, runs, AT_ONCE[self.family], self.upstream.url, self.settings, self.waiting)
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
        """How many embeddings and answers each run was given."""
        requests = [*self.upstream.asked("embeddings"), *self.upstream.asked("chat")]
        return Counter(request.headers["authorization"].removeprefix("Bearer sk-") for request in requests)


@contextmanager
def world_of(family: str, upstream: Upstream, request: pytest.FixtureRequest) -> Iterator[World]:
    with ExitStack() as stack:
        upstream.always(Answer([ANSWER]))
        yield World(upstream, family, stack, request)


def chosen(kind: str, steps: Sequence[str], family: str) -> Iterator[Asked]:
    """The steps of a kind that are to be the last; in full every one, on the local backends both ways."""
    if FULL and family == "local":
        yield from (Asked(kind, step, soon) for step in steps for soon in (False, True))
        return
    every = 1 if FULL else EVERY[family]
    first = (datetime.now(UTC).toordinal() + len(kind)) % every
    yield from (Asked(kind, step, n % 3 == 0) for n, step in enumerate(steps[first::every]))


def fired(outcome: Outcome) -> bool:
    """Whether a process died at the step that was to be its last."""
    return outcome.status == -9 and outcome.steps[-1:] == [outcome.run.last]


def kill(world: World, asked: Sequence[Asked], steps: Mapping[str, Sequence[str]]) -> list[Outcome]:
    """Carry the runs out; one whose last step did not come is repeated with an earlier one."""
    outcomes: list[Outcome] = []
    for _ in range(ROUNDS):
        done = world.run(*asked) if asked else []
        outcomes += done
        asked = [earlier(outcome, steps[outcome.run.kind]) for outcome in done if outcome.status == 0]
    return outcomes


def earlier(missed: Outcome, steps: Sequence[str]) -> Asked:
    """The same with the last step before the one that did not come, of those that did."""
    run = missed.run
    came = [step for step in steps[: steps.index(run.last)] if step in missed.steps]
    return Asked(run.kind, came[-1], run.at_once)


def unrecorded(steps: Sequence[str]) -> tuple[int, int]:
    """How many paid calls a process made that it did not live to put on record: from so many to so many.

    It is not known of what was under way in one thread while another took the last step.
    """
    made = [count(steps, CALLS, moment) for moment in ("after", "before")]
    recorded = [count(steps, RECORDS, moment) for moment in ("after", "before")]
    return made[0] - recorded[1], made[1] - recorded[0]


def count(steps: Sequence[str], what: re.Pattern[str], moment: str) -> int:
    """How many calls of a kind had begun (`before`) or ended (`after`); one that was to begin with the last step had not."""
    begun = steps[:-1] if moment == "before" else steps
    return sum(bool(what.fullmatch(step)) for step in begun if step.startswith(moment))


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_process_may_die_at_any_step_of_any_kind_of_job(
    family: str, upstream: Upstream, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    with world_of(family, upstream, request) as world:
        counted = world.run(*[Asked(kind) for kind in KINDS])
        assert {outcome.run.kind: outcome.error for outcome in counted} == dict.fromkeys(KINDS, "")
        assert {outcome.status for outcome in counted} == {0}
        steps = {outcome.run.kind: outcome.steps for outcome in counted}
        asked = [one for kind in KINDS for one in chosen(kind, steps[kind], family)]
        random.shuffle(asked)  # no kind's steps all at once, for some are much longer than others
        outcomes = kill(world, asked, steps)
        paid = world.paid()
    wrong = [(one.run.kind, one.run.last, one.run.at_once, one.error) for one in outcomes if one.error]
    assert not wrong, wrong
    kills = Counter(outcome.run.kind for outcome in outcomes if fired(outcome))
    missed = [(outcome.run.kind, outcome.run.last) for outcome in outcomes if outcome.status == 0]
    assert kills.total() == len(asked) == len(outcomes) - len(missed)
    for outcome in [*counted, *outcomes]:
        least, most = unrecorded(outcome.steps)
        assert max(least, 0) <= paid[outcome.run.name] - outcome.rows <= min(most, 1), outcome
    swept = sum(outcome.swept for outcome in outcomes)
    with capsys.disabled():
        figures = (
            f"{kills.total()} kills in {time.monotonic() - started:.0f} s, {swept} swept up, missed: {missed or 'none'}"
        )
        sys.stdout.write(f"\n{family}: {figures}, {dict(kills)}\n")
    assert kills.total() >= FLOORS[family]
    assert set(kills) == set(KINDS)
    assert len(missed) <= MISSED * len(asked)
    assert swept > 0
    assert not FULL or sum(paid[outcome.run.name] - outcome.rows for outcome in outcomes) > 0
