"""Queues are fair: an app that posts ten thousand jobs keeps no other app's waiting, on both backends, and none of them is lost."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import jwt
import pytest
from click.testing import CliRunner
from flask import Flask

from service.backends.google.cloud_tasks import CloudTasks
from service.backends.interfaces import Delete, JobAddress, JobQueue, Query
from service.backends.local.queue import LocalQueue
from service.backends.local.secrets import EnvironmentSecrets
from service.cli import main
from service.config import Settings
from service.errors import Conflict, Unavailable, UpstreamBusy
from service.jobs import BUSY_SECONDS, MAX_FAILURES, Attempt, Handler, Jobs, Result
from service.models import Job, JobStatus, QueueName, Scope, from_now, timestamp
from service.proof.process import free_port
from service.queues import QUEUES, caps, gcloud
from service.scope import of_job, shared
from tests.kit.cloud_tasks import Receiver, TasksServer
from tests.kit.tokens import new_key
from tests.test_jobs import World

ALPHA, BETA = of_job("alpha", "ada"), of_job("beta", "bob")
MANY = 10_000 if os.environ.get("BRAINSTEM_TEST_EVERY_JOB") else 300
WINDOW = 4
SOON = 20.0


class Delivered:
    """Jobs whose kinds do next to nothing, on a queue that delivers them; `order` lists who had their turn."""

    def __init__(self, flask: Flask, queue: JobQueue) -> None:
        self.store = flask.extensions["brainstem"].backends.documents
        self.most = 2 * WINDOW
        """How many of another app a job may wait behind: those that its queue had, and what ends between the look and the commit."""
        self.order: list[tuple[str, str]] = []
        self.poisoned: list[str] = []
        kinds: dict[str, Handler] = {name: Handler(self.work, queue=name) for name in QUEUES}
        self.jobs = Jobs(self.store, queue, kinds, windows=dict.fromkeys(QUEUES, WINDOW))

    def work(self, attempt: Attempt) -> Result:
        if attempt.job.id.startswith("poison"):
            self.poisoned.append(attempt.job.id)
            raise Unavailable
        self.order.append((attempt.scope.app, attempt.job.id))
        return Result()

    def submit(self, scope: Scope, name: str, kind: QueueName = "batch") -> None:
        submit(self.jobs, scope, name, kind)

    def until(self, holds: Callable[[], bool], seconds: float = SOON) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, self.order[-5:]
            time.sleep(0.01)


def submit(jobs: Jobs, scope: Scope, name: str, kind: str) -> None:
    now = timestamp()
    jobs.submit(scope, Job(id=name, kind=kind, status=JobStatus.PENDING, input={}, created=now, updated=now))


@pytest.fixture(params=["local", "google"])
def delivered(request: pytest.FixtureRequest, flask: Flask, settings: Settings) -> Iterator[Delivered]:
    """One worker for each queue, on both backends."""
    if request.param == "local":
        one_each = Settings(data_dir=settings.data_dir / "own", interactive_workers=1, ingest_workers=1)
        local = LocalQueue(one_each, EnvironmentSecrets(settings), backoff=0.05)
        found = Delivered(flask, local)
        local.start(found.jobs.run)
        yield found
        local.stop()
        return
    key = new_key()
    with TasksServer(lambda claims: jwt.encode(claims, key, "RS256")) as tasks:
        tasks.behaviour.concurrent = dict.fromkeys(QUEUES, 1)
        tasks.behaviour.duplicate, tasks.behaviour.shuffled = 0.1, True
        port = free_port()
        found = Delivered(flask, CloudTasks(tasks.settings(f"http://127.0.0.1:{port}"), EnvironmentSecrets(settings)))
        # Of the few that it has, the queue draws one by chance: that it passes over one so often happens once in a million times.
        found.most = 16 * WINDOW
        receiver = Receiver(port, found.jobs.run)
        yield found
        receiver.end()


@pytest.mark.timeout(3600 if MANY > 1000 else 120)
def test_an_app_that_posts_thousands_of_jobs_keeps_no_other_waiting(delivered: Delivered) -> None:
    for n in range(MANY):
        delivered.submit(ALPHA, f"a{n:05}")
    before = len(delivered.order)
    assert before + delivered.most < MANY - 2 * WINDOW, "there is nothing to wait behind"
    delivered.submit(BETA, "b")
    delivered.until(lambda: ("beta", "b") in delivered.order)
    assert delivered.order.index(("beta", "b")) - before <= delivered.most
    delivered.until(lambda: len(set(delivered.order)) == MANY + 1, 3600 if MANY > 1000 else 60)
    ended = [name for app, name in delivered.order if app == "alpha"]
    # The oldest first: none is further ahead of its turn than a queue of so few can shuffle it.
    assert max(int(name[1:]) - place for place, name in enumerate(dict.fromkeys(ended))) <= 2 * WINDOW
    assert left(delivered.jobs, delivered.store) == []


def test_poison_in_one_app_keeps_no_other_waiting(delivered: Delivered) -> None:
    for n in range(10):
        delivered.submit(ALPHA, f"poison{n}")
    delivered.until(lambda: len(delivered.poisoned) >= 2)
    for n in range(10):
        delivered.submit(BETA, f"b{n}")
    delivered.until(lambda: len(delivered.order) >= 10)
    delivered.until(lambda: len(delivered.jobs.letters(shared(ALPHA))) == 10, 60)
    assert left(delivered.jobs, delivered.store) == []


def left(jobs: Jobs, store: object) -> list[str]:
    """What is still to be delivered, of both apps, once those who end have taken it out."""
    names: list[str] = []
    for _ in range(200):
        names = [
            "/".join(found.path)
            for app in ("alpha", "beta")
            for collection, order in (("outbox", "place"), ("waiting", "place"))
            for found in store.query(of_job(app, None), Query((collection,), order, of_every_user=True))  # type: ignore[attr-defined]
        ]
        if not names:
            break
        time.sleep(0.05)
    return names


# By hand, as a queue would deliver them.


def test_a_queue_is_given_a_few_of_an_app_and_the_others_follow_in_order(flask: Flask) -> None:
    world = World(flask)
    addresses = [world.submit(name=f"j{n:02}") for n in range(10)]
    assert world.queue.addresses == addresses[:WINDOW]
    assert (len(world.outbox()), world.waiting()) == (WINDOW, [f"j{n:02}" for n in range(WINDOW, 10)])
    for n, address in enumerate(addresses):
        assert world.queue.addresses == addresses[: WINDOW + n]
        world.jobs.run(address)
    assert (world.outbox(), world.waiting()) == ([], [])


def test_each_queue_has_a_window_of_its_own_and_so_have_what_an_app_shares_and_other_apps(flask: Flask) -> None:
    world = World(flask)
    for n in range(WINDOW + 1):
        world.submit(name=f"j{n}")
    assert world.waiting() == [f"j{WINDOW}"]
    world.submit(name="quick", kind="quick")
    world.submit(of_job("alpha", None), name="shared")
    world.submit(of_job("beta", "ada"), name="other")
    world.submit(of_job("alpha", "bob"), name="late")  # of the same app, whoever's it is
    assert [address.id for address in world.queue.addresses[WINDOW:]] == ["quick", "shared", "other"]
    assert world.queue.queues[WINDOW:] == ["interactive", "batch", "batch"]
    assert world.waiting(of_job("alpha", "bob")) == ["late"]


def test_whoever_comes_later_does_not_pass_those_who_wait(flask: Flask) -> None:
    world = World(flask)
    addresses = [world.submit(name=f"j{n}") for n in range(WINDOW + 2)]
    # As if one had just ended, and who ended it had not looked yet who follows.
    world.store.commit(ALPHA, [Delete(("outbox", "j0"))])
    last = world.submit(name="last")
    assert world.queue.addresses == addresses[: WINDOW + 1]
    assert world.waiting() == [addresses[-1].id, last.id]


def test_a_job_that_waits_is_cancelled_and_one_that_is_cancelled_makes_room(flask: Flask) -> None:
    world = World(flask)
    addresses = [world.submit(name=f"j{n}") for n in range(WINDOW + 2)]
    world.jobs.cancel(ALPHA, f"j{WINDOW}")
    assert world.waiting() == [f"j{WINDOW + 1}"]
    world.jobs.cancel(ALPHA, "j0")
    assert (world.waiting(), world.queue.addresses[-1]) == ([], addresses[-1])


def test_a_failed_job_makes_room(flask: Flask) -> None:
    world = World(flask, *[ValueError()] * MAX_FAILURES)
    addresses = [world.submit(name=f"j{n}") for n in range(WINDOW + 1)]
    for _ in range(MAX_FAILURES):
        with suppress(ValueError):
            world.jobs.run(addresses[0])
    assert world.stored(addresses[0]).status is JobStatus.FAILED
    assert world.queue.addresses == addresses


def test_the_sweep_has_follow_what_a_process_that_died_left_waiting(flask: Flask) -> None:
    world = World(flask)
    addresses = [world.submit(name=f"j{n}") for n in range(2 * WINDOW)]
    for address in addresses[:WINDOW]:  # they ended, and nobody had the others follow
        world.store.commit(ALPHA, [Delete(("outbox", address.id))])
    world.jobs.sweep(of_job("alpha", None))
    assert (world.queue.addresses, world.waiting()) == (addresses, [])


def test_a_queue_that_is_down_loses_nothing_of_what_follows(flask: Flask) -> None:
    world = World(flask)
    addresses = [world.submit(name=f"j{n}") for n in range(WINDOW + 1)]
    world.queue.down = True
    world.jobs.run(addresses[0])
    assert world.stored(addresses[0]).status is JobStatus.COMPLETED
    world.queue.down = False
    world.past_due(addresses[-1])
    assert world.jobs.sweep(of_job("alpha", None)) == 1
    assert world.queue.addresses[-1] == addresses[-1]


def test_none_is_lost_and_hardly_more_are_given_where_many_submit_and_end_at_once(flask: Flask) -> None:
    """Without any sweep: of those who look at the same moment one always sees the other."""
    world = World(flask)
    processes, most, stopping = [world.process(), world.process()], [0], threading.Event()
    seen: set[str] = set()

    def post(n: int) -> None:
        for m in range(20):
            submit(processes[n % 2], ALPHA, f"{n}-{m}", "test")

    def deliver(n: int) -> None:
        while not stopping.is_set():
            most[0] = max(most[0], len(world.outbox()))
            for address in [a for a in list(world.queue.addresses) if a.id not in seen]:
                with suppress(Conflict):
                    processes[n % 2].run(address)
                    seen.add(address.id)
            time.sleep(0.002)

    threads = [threading.Thread(target=post, args=(n,)) for n in range(4)]
    workers = [threading.Thread(target=deliver, args=(n,)) for n in range(3)]
    for thread in [*threads, *workers]:
        thread.start()
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + SOON
    while len(seen) < 80 and time.monotonic() < deadline:
        time.sleep(0.01)
    stopping.set()
    for thread in workers:
        thread.join()
    assert len(seen) == 80, world.waiting()
    assert (world.outbox(), world.waiting()) == ([], [])
    assert most[0] <= WINDOW + 6


# Who is busy.


def test_who_is_busy_uses_up_no_attempts_within_a_day(flask: Flask) -> None:
    world = World(flask, *[UpstreamBusy(retry_after=7)] * 12)
    address = world.submit()
    for _ in range(3 * MAX_FAILURES):
        with pytest.raises(UpstreamBusy):
            world.jobs.run(address)
    assert world.stored(address).failures == 0
    world.jobs.run(address)
    assert (world.stored(address).status, world.handler.runs) == (JobStatus.COMPLETED, 3 * MAX_FAILURES + 1)


def test_after_a_day_it_counts(flask: Flask) -> None:
    world = World(flask, *[UpstreamBusy()] * MAX_FAILURES)
    created = from_now(-BUSY_SECONDS - 1)
    old = Job(id="old", kind="test", status=JobStatus.PENDING, input={}, created=created, updated=created)
    world.jobs.submit(ALPHA, old)
    for _ in range(MAX_FAILURES):
        with suppress(UpstreamBusy):
            world.jobs.run(JobAddress(ALPHA, "old"))
    job = world.stored(JobAddress(ALPHA, "old"))
    assert (job.status, job.code) == (JobStatus.FAILED, "upstream_busy")


# Caps.


def test_no_more_are_begun_in_a_second_than_may_be(settings: Settings) -> None:
    slow = Settings(data_dir=settings.data_dir, ingest_per_second=20, ingest_workers=4)
    queue, times = LocalQueue(slow, EnvironmentSecrets(slow)), list[float]()
    for n in range(60):
        queue.enqueue(JobAddress(ALPHA, f"j{n}"), queue="ingest")
    queue.start(lambda address: times.append(time.monotonic()))
    deadline = time.monotonic() + SOON
    while len(times) < 60 and time.monotonic() < deadline:
        time.sleep(0.01)
    queue.stop()
    assert len(times) == 60
    assert times[-1] - times[0] > 1.9  # 20 at once after a rest, then 20 in a second


def test_cloud_tasks_is_set_up_with_the_same_caps() -> None:
    settings = Settings(tasks_queue="mine", instances=5, ingest_workers=2, ingest_per_second=7.5)
    commands = dict(zip(QUEUES, gcloud(settings), strict=True))
    update, create = commands["ingest"].split(" || ")
    assert update.split()[:5] == ["gcloud", "tasks", "queues", "update", "mine-ingest"]
    assert create == update.replace("update", "create")
    assert {"--max-concurrent-dispatches=10", "--max-dispatches-per-second=7.5", "--max-attempts=10"} <= {
        *update.split()
    }
    assert caps(settings)["ingest"].window == 20


def test_the_queues_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_WORKERS", "3")
    printed = CliRunner().invoke(main, ["queues"]).output
    assert [line.split()[0] for line in printed.splitlines()[1:]] == [*QUEUES]
    assert CliRunner().invoke(main, ["queues", "--gcloud"]).output.count("gcloud tasks queues create brainstem-") == 3
    assert '"workers": 3' in CliRunner().invoke(main, ["queues", "--json"]).output
