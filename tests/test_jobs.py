"""Jobs end exactly once, whatever becomes of their attempts; run by hand here, as the queue would deliver them."""

from __future__ import annotations

import io
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from service.backends.interfaces import Create, JobAddress, Query, Set
from service.backends.local.queue import LocalQueue
from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
from service.errors import (
    Conflict,
    DocumentRejected,
    NotFound,
    Superseded,
    Unavailable,
    UpstreamBusy,
    UpstreamConfig,
)
from service.jobs import MAX_FAILURES, Attempt, Handler, Jobs, Result, Unfinished
from service.jobs.sweeper import Sweeper
from service.models import Artifact, Job, JobStatus, QueueName, Scope, timestamp
from service.queues import ATTEMPTS, QUEUES
from service.records import to_record
from service.scope import of_job
from tests.kit.client import User

ADA = of_job("alpha", "ada")
LEASE = 1.0


class Scripted:
    """A handler that does what it is told, attempt after attempt: raises, calls, or returns."""

    def __init__(self, *acts: Exception | Callable[[Attempt], Result | None] | None) -> None:
        self.acts = list(acts)
        self.runs = 0
        self.failures: list[str] = []

    def run(self, attempt: Attempt) -> Result | None:
        self.runs += 1
        act = self.acts.pop(0) if self.acts else None
        if isinstance(act, BaseException):
            raise act
        return act(attempt) if act else None

    def fail(self, scope: Scope, job: Job, reason: str) -> None:
        self.failures.append(reason)


class Silent:
    """A queue that only remembers what it was given; it refuses what is in `refused`, and all if it is `down`."""

    def __init__(self) -> None:
        self.addresses: list[JobAddress] = []
        self.queues: list[QueueName] = []
        self.down = False
        self.refused: set[str] = set()
        self.asked = 0

    def enqueue(self, address: JobAddress, *, queue: QueueName = "batch", delay: float = 0.0) -> None:
        self.asked += 1
        if self.down or address.id in self.refused:
            raise Unavailable
        self.addresses.append(address)
        self.queues.append(queue)

    def start(self, run: Callable[[JobAddress], None]) -> None: ...

    def stop(self) -> None: ...

    def check(self) -> None: ...


class World:
    """Jobs of one scripted kind on the service's own store, and a queue that delivers nothing by itself."""

    def __init__(self, flask: Flask, *acts: Exception | Callable[[Attempt], Result | None] | None) -> None:
        self.handler = Scripted(*acts)
        self.queue = Silent()
        self.windows = dict.fromkeys(QUEUES, 4)
        self.store = flask.extensions["brainstem"].backends.documents
        self.jobs = self.process()

    def process(self, store: Any = None, **seconds: float) -> Jobs:
        """The same as another process has it, on a store that may have its own troubles."""
        kinds = {
            "test": Handler(self.handler.run, self.handler.fail),
            "quick": Handler(self.handler.run, self.handler.fail, queue="interactive"),
        }
        times = {"lease": LEASE, "renew": 0.2, "longest": 30.0, **seconds}
        return Jobs(store or self.store, self.queue, kinds, windows=self.windows, **times)

    def submit(self, scope: Scope = ADA, name: str = "j1", kind: str = "test") -> JobAddress:
        now = timestamp()
        self.jobs.submit(scope, Job(id=name, kind=kind, status=JobStatus.PENDING, input={}, created=now, updated=now))
        return JobAddress(scope, name)

    def stored(self, address: JobAddress) -> Job:
        return self.jobs.job(address.scope, address.id)[0]

    def outbox(self, scope: Scope = ADA) -> list[str]:
        return [found.path[-1] for found in self.store.query(scope, Query(("outbox",), "due"))]

    def waiting(self, scope: Scope = ADA) -> list[str]:
        return [found.path[-1] for found in self.store.query(scope, Query(("waiting",), "place"))]

    def past_due(self, address: JobAddress) -> None:
        """Make as if the job had been to be delivered a while ago."""
        self.store.commit(address.scope, [Set(("outbox", address.id), {"due": timestamp().replace("20", "19", 1)})])


def test_a_job_is_completed_once_however_often_it_is_delivered(flask: Flask) -> None:
    world = World(flask, lambda attempt: Result(output={"answer": 42}, input_tokens=7))
    address = world.submit()
    assert world.outbox() == ["j1"]
    world.jobs.run(address)
    world.jobs.run(address)
    job = world.stored(address)
    assert world.handler.runs == 1
    assert (job.status, job.output, job.input_tokens, job.attempts) == (JobStatus.COMPLETED, {"answer": 42}, 7, 1)
    assert job.created <= (job.started or "") <= (job.ended or "")
    assert world.outbox() == []


def test_a_dependency_that_fails_is_tried_again(flask: Flask) -> None:
    world = World(flask, Unavailable(), UpstreamBusy(retry_after=7))
    address = world.submit()
    with pytest.raises(Unavailable):
        world.jobs.run(address)
    with pytest.raises(UpstreamBusy) as raised:
        world.jobs.run(address)
    assert raised.value.retry_after == 7
    assert world.stored(address).status is JobStatus.PROCESSING
    world.jobs.run(address)
    assert (world.stored(address).status, world.stored(address).attempts) == (JobStatus.COMPLETED, 3)


def test_what_cannot_succeed_fails_at_once_with_its_reason(flask: Flask) -> None:
    world = World(flask, DocumentRejected("The PDF is encrypted."))
    address = world.submit()
    world.jobs.run(address)
    job = world.stored(address)
    assert (job.status, job.error, job.code) == (JobStatus.FAILED, "The PDF is encrypted.", "document_rejected")
    assert world.handler.failures == ["The PDF is encrypted."]
    assert world.jobs.letters(ADA) == []  # to try it again would change nothing


def test_a_dependency_that_is_not_set_up_is_not_tried_again(flask: Flask) -> None:
    world = World(flask, UpstreamConfig())
    address = world.submit()
    world.jobs.run(address)
    assert world.stored(address).status is JobStatus.FAILED
    assert world.handler.failures == [UpstreamConfig.title]
    assert [job.id for _, job in world.jobs.letters(ADA)] == ["j1"]


@pytest.mark.parametrize("error", [Unavailable("secret"), ValueError("secret")])
def test_a_job_that_always_fails_becomes_a_dead_letter_without_its_error_text(flask: Flask, error: Exception) -> None:
    world = World(flask, *[error] * 20)
    address = world.submit()
    for _ in range(MAX_FAILURES - 1):
        with pytest.raises(type(error)):
            world.jobs.run(address)
    world.jobs.run(address)
    assert world.stored(address).status is JobStatus.FAILED
    assert world.handler.runs == MAX_FAILURES
    assert len(world.handler.failures) == 1
    assert "secret" not in str(world.stored(address)) + str(world.handler.failures)
    assert [(scope, job.id) for scope, job in world.jobs.letters(ADA)] == [(ADA, "j1")]


def test_a_job_that_kills_its_worker_becomes_a_dead_letter(flask: Flask) -> None:
    class Killed(BaseException):
        pass

    world = World(flask, *[Killed() for _ in range(20)])  # type: ignore[arg-type]  # ends the run as a signal would
    address = world.submit()
    for _ in range(MAX_FAILURES):
        with pytest.raises(Killed):
            world.jobs.run(address)
        time.sleep(LEASE + 0.1)
    world.jobs.run(address)
    assert world.stored(address).status is JobStatus.FAILED
    assert world.handler.runs == MAX_FAILURES
    assert [job.id for _, job in world.jobs.letters(ADA)] == ["j1"]


def test_a_job_that_hangs_is_given_up_and_can_write_nothing_any_more(flask: Flask) -> None:
    proceed, ended, refused = threading.Event(), threading.Event(), []

    def hang(attempt: Attempt) -> None:
        proceed.wait(20)
        try:
            attempt.progress(1, 1, "late")
        except Superseded as error:
            refused.append(error)
        ended.set()

    world = World(flask, hang)
    address = world.submit()
    with pytest.raises(Exception, match="took too long"):
        world.process(longest=0.5).run(address)
    proceed.set()
    assert ended.wait(10)
    assert len(refused) == 1
    assert world.stored(address).note == ""
    world.jobs.run(address)
    assert (world.stored(address).status, world.handler.runs) == (JobStatus.COMPLETED, 2)


def test_a_job_that_is_worked_on_is_left_to_who_does_as_long_as_they_live(flask: Flask) -> None:
    running, proceed = threading.Event(), threading.Event()

    def work(attempt: Attempt) -> Result:
        running.set()
        proceed.wait(20)
        return Result(output="mine")

    world = World(flask, work)
    address = world.submit()
    thread = threading.Thread(target=world.jobs.run, args=(address,))
    thread.start()
    assert running.wait(10)
    time.sleep(2 * LEASE)  # it shows that it lives
    with pytest.raises(Conflict) as raised:
        world.process().run(address)
    assert 1 <= (raised.value.retry_after or 0) <= 2
    proceed.set()
    thread.join(10)
    assert (world.stored(address).output, world.handler.runs) == ("mine", 1)


def test_who_comes_back_after_another_took_the_job_over_writes_nothing(flask: Flask) -> None:
    """A process that was stopped for longer than its lease: it shows no life, and does not know that time passed."""
    running, proceed, seen = threading.Event(), threading.Event(), []

    def zombie(attempt: Attempt) -> Result:
        running.set()
        proceed.wait(20)
        try:
            attempt.save([Set(("data", "effect"), {"data": {"of": "zombie"}, "updated": timestamp()})], note="zombie")
        except Superseded as error:
            seen.append(error)
            raise
        return Result(output="zombie")

    def heir(attempt: Attempt) -> Result:
        attempt.save([Set(("data", "effect"), {"data": {"of": "heir"}, "updated": timestamp()})])
        return Result(output="heir")

    world = World(flask, zombie, heir)
    address = world.submit()
    stopped = threading.Thread(target=world.process(renew=60.0).run, args=(address,))
    stopped.start()
    assert running.wait(10)
    time.sleep(LEASE + 0.2)
    world.process().run(address)
    proceed.set()
    stopped.join(10)
    job = world.stored(address)
    [effect] = world.store.get(ADA, ("data", "effect"))
    assert len(seen) == 1
    assert (job.status, job.output, job.note, job.attempts) == (JobStatus.COMPLETED, "heir", "", 2)
    assert effect.data["data"] == {"of": "heir"}


class Doubtful:
    """A store of which the `nth` commit ends Unavailable, after it took effect (`late`) or before; `meanwhile` is done then."""

    def __init__(self, store: Any, nth: int, *, late: bool, meanwhile: Callable[[], object] = lambda: None) -> None:
        self._store, self._nth, self._late, self._meanwhile = store, nth, late, meanwhile
        self.commits = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, scope: Scope, writes: Any) -> Any:
        self.commits += 1
        if self.commits != self._nth:
            return self._store.commit(scope, writes)
        if self._late:
            self._store.commit(scope, writes)
        self._meanwhile()
        raise Unavailable("No reply.")


def stepwise(attempt: Attempt) -> Result:
    """A job with two effects, which are there as often as they are made."""
    for part in range(int(attempt.job.state or 0), 2):
        effect = Create(("data", f"{part}-{attempt.job.attempts}"), {"updated": timestamp()})
        attempt.save([effect], state=part + 1)
    return Result(output="done")


def parts(world: World) -> list[str]:
    return [found.path[-1][0] for found in world.store.query(ADA, Query(("data",), "updated"))]


@pytest.mark.parametrize("nth", range(1, 5))
def test_whose_commit_only_lost_its_reply_goes_on(flask: Flask, nth: int) -> None:
    """The claim, two effects, the end: none of them is a failure, for the attempt finds what it wrote."""
    world = World(flask, stepwise)
    address = world.submit()
    store = Doubtful(world.store, nth, late=True)
    world.process(store).run(address)
    job = world.stored(address)
    assert store.commits == 4, "the fault did not fire, or a commit was made twice"
    assert (job.status, job.attempts, job.failures, job.output) == (JobStatus.COMPLETED, 1, 0, "done")
    assert (parts(world), world.outbox()) == (["0", "1"], [])


@pytest.mark.parametrize("nth", range(1, 5))
def test_a_commit_that_came_to_nothing_is_made_by_another_attempt(flask: Flask, nth: int) -> None:
    world = World(flask, stepwise, stepwise)
    address = world.submit()
    with pytest.raises(Unavailable):
        world.process(Doubtful(world.store, nth, late=False)).run(address)
    time.sleep(LEASE + 0.1)
    world.jobs.run(address)
    assert (world.stored(address).status, parts(world)) == (JobStatus.COMPLETED, ["0", "1"])


def test_what_others_wrote_meanwhile_is_not_taken_for_ones_own(flask: Flask) -> None:
    world = World(flask, stepwise, stepwise)
    address, other = world.submit(), world.submit(name="j2")
    cancelled = Doubtful(world.store, 2, late=False, meanwhile=lambda: world.jobs.cancel(ADA, "j1"))
    world.process(cancelled).run(address)
    assert (world.stored(address).status, parts(world)) == (JobStatus.CANCELLED, [])
    claimed = Doubtful(world.store, 1, late=False, meanwhile=lambda: world.process().run(other))
    with pytest.raises(Conflict):
        world.process(claimed).run(other)
    assert (world.stored(other).status, world.stored(other).attempts) == (JobStatus.COMPLETED, 1)
    assert parts(world) == ["0", "1"]


def test_a_process_that_ends_leaves_its_jobs_to_others_at_once(flask: Flask) -> None:
    running, proceed, refused = threading.Event(), threading.Event(), []

    def work(attempt: Attempt) -> Result:
        running.set()
        proceed.wait(20)
        try:
            attempt.progress(1, 2)
        except Superseded as error:
            refused.append(error)
            raise
        return Result(output="mine")

    world = World(flask, work, lambda attempt: Result(output="theirs"))
    address = world.submit()
    ending = world.process(lease=60.0)
    asked_again = []

    def deliver() -> None:
        try:
            ending.run(address)
        except Conflict as error:
            asked_again.append(error)

    thread = threading.Thread(target=deliver)
    thread.start()
    assert running.wait(10)
    ending.release()
    world.process().run(address)
    proceed.set()
    thread.join(10)
    job = world.stored(address)
    assert (len(refused), len(asked_again)) == (1, 1)
    assert (job.status, job.output, job.attempts, job.failures) == (JobStatus.COMPLETED, "theirs", 2, 0)


def test_of_many_who_are_given_a_job_at_once_one_works_on_it(flask: Flask) -> None:
    outcomes: list[str] = []

    def work(attempt: Attempt) -> None:
        deadline = time.monotonic() + 20
        while len(outcomes) < 7 and time.monotonic() < deadline:
            time.sleep(0.01)

    world = World(flask, work)
    address = world.submit()
    barrier = threading.Barrier(8)

    def deliver() -> None:
        barrier.wait(10)
        try:
            world.jobs.run(address)
            outcomes.append("ran")
        except Conflict:
            outcomes.append("refused")

    threads = [threading.Thread(target=deliver) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(outcomes) == ["ran"] + ["refused"] * 7
    assert world.handler.runs == 1


def test_a_long_job_goes_on_in_slices_from_what_it_saved(flask: Flask) -> None:
    def slice_of(attempt: Attempt) -> Result | None:
        done = int(attempt.job.state or 0) + 1
        attempt.save(state=done, done=done, total=7, note=f"Part {done}")
        if done < 7:
            raise Unfinished
        return Result(output=done)

    world = World(flask, *[slice_of] * 7)
    address = world.submit()
    for expected in range(1, 8):
        assert len(world.queue.addresses) == expected
        world.jobs.run(address)
    job = world.stored(address)
    assert (job.status, job.output, job.done, job.attempts, job.failures) == (JobStatus.COMPLETED, 7, 7, 7, 0)


# The outbox.


def test_a_queue_that_is_down_delays_a_job_and_no_more(flask: Flask) -> None:
    world = World(flask)
    world.queue.down = True
    address = world.submit()
    assert (world.stored(address).status, world.outbox()) == (JobStatus.PENDING, ["j1"])
    world.queue.down = False
    assert world.jobs.sweep(of_job("alpha", None)) == 0  # not due yet: a queue may be long
    world.past_due(address)
    assert world.jobs.sweep(of_job("alpha", None)) == 1
    assert world.queue.addresses == [address]
    assert world.jobs.sweep(of_job("alpha", None)) == 0
    world.jobs.run(address)
    assert world.stored(address).status is JobStatus.COMPLETED


@pytest.mark.parametrize("scope", [ADA, of_job("alpha", None), of_job("alpha", "a/b")])
def test_a_job_whose_worker_died_is_delivered_again_once_its_lease_is_over(flask: Flask, scope: Scope) -> None:
    class Killed(BaseException):
        pass

    world = World(flask, Killed())  # type: ignore[arg-type]  # ends the run as a signal would
    address = world.submit(scope)
    world.queue.addresses.clear()
    with pytest.raises(Killed):
        world.process(lease=3.0).run(address)
    world.past_due(address)
    assert world.jobs.sweep(of_job("alpha", None)) == 0  # it may still live
    time.sleep(3.1)
    world.past_due(address)
    assert world.jobs.sweep(of_job("alpha", None)) == 1
    assert world.queue.addresses == [address]
    world.jobs.run(address)
    assert (world.stored(address).status, world.outbox(scope)) == (JobStatus.COMPLETED, [])


def test_an_end_whose_process_dies_before_its_handler_was_told_is_told_by_another_delivery(flask: Flask) -> None:
    class Killed(BaseException):
        pass

    def die(scope: Scope, job: Job, reason: str) -> None:
        raise Killed

    world = World(flask, DocumentRejected("The PDF is encrypted."))
    dying = Jobs(world.store, world.queue, {"test": Handler(world.handler.run, die)})
    rejected, cancelled = world.submit(name="rejected"), world.submit(name="cancelled")
    with pytest.raises(Killed):
        dying.run(rejected)
    with pytest.raises(Killed):
        dying.cancel(ADA, "cancelled")
    assert [world.stored(one).status for one in (rejected, cancelled)] == [JobStatus.FAILED, JobStatus.CANCELLED]
    world.queue.addresses.clear()
    for address in (rejected, cancelled):
        world.past_due(address)
    assert world.jobs.sweep(of_job("alpha", None)) == 2
    for address in [*world.queue.addresses, rejected, cancelled]:
        world.jobs.run(address)
    assert sorted(world.handler.failures) == ["It was cancelled.", "The PDF is encrypted."]
    assert (world.handler.runs, world.outbox()) == (1, [])


def test_a_job_that_cannot_be_swept_keeps_no_other_from_it(flask: Flask) -> None:
    world = World(flask)
    addresses = [world.submit(name=f"j{n}") for n in range(4)]
    for address in addresses:
        world.past_due(address)
    world.queue.addresses.clear()
    world.queue.refused = {"j0", "j2"}
    assert world.jobs.sweep(of_job("alpha", None)) == 2
    assert {address.id for address in world.queue.addresses} == {"j1", "j3"}
    world.queue.refused = set()
    assert world.jobs.sweep(of_job("alpha", None)) == 2


def test_a_sweep_past_a_queue_that_is_down_ends_soon(flask: Flask) -> None:
    world = World(flask)
    world.windows["batch"] = 20
    for n in range(20):
        world.past_due(world.submit(name=f"j{n}"))
    world.queue.down, world.queue.asked = True, 0
    with pytest.raises(Unavailable):
        world.jobs.sweep(of_job("alpha", None))
    assert world.queue.asked == 3


def test_a_process_sweeps_soon_after_it_began(flask: Flask) -> None:
    world = World(flask)
    world.past_due(world.submit())
    world.queue.addresses.clear()
    app = flask.extensions["brainstem"].apps.get("alpha")
    sweeper = Sweeper(world.jobs, lambda: [app], seconds=3600.0)
    sweeper.start()
    deadline = time.monotonic() + 20
    while not world.queue.addresses and time.monotonic() < deadline:
        time.sleep(0.05)
    sweeper.stop()
    assert world.queue.addresses == [JobAddress(ADA, "j1")]


def test_a_sweep_touches_no_other_app(flask: Flask) -> None:
    world = World(flask)
    for scope in (ADA, of_job("beta", "ada"), of_job("beta", None)):
        world.past_due(world.submit(scope))
    world.queue.addresses.clear()
    assert world.jobs.sweep(of_job("alpha", None)) == 1
    assert world.queue.addresses == [JobAddress(ADA, "j1")]
    assert world.jobs.sweep(of_job("beta", None)) == 2


def test_an_address_without_a_job_is_done(flask: Flask) -> None:
    world = World(flask)
    world.jobs.run(JobAddress(ADA, "nothing"))
    assert world.handler.runs == 0


def test_what_is_refused_each_time_is_given_up_by_the_queue(settings: Settings) -> None:
    asked: list[str] = []
    queue = LocalQueue(settings, EnvironmentSecrets(settings), backoff=0.001)

    def run(delivered: JobAddress) -> None:
        asked.append(delivered.id)
        raise RuntimeError

    queue.start(run)
    queue.enqueue(JobAddress(ADA, "refused"))
    with closing(sqlite3.connect(settings.data_dir / "queues.sqlite3")) as rows:
        deadline = time.monotonic() + 60
        while rows.execute("SELECT count(*) FROM jobs").fetchone()[0] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert rows.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
    queue.stop()
    assert asked == ["refused"] * ATTEMPTS


# Cancelling and retrying.


def test_a_job_that_is_cancelled_ends_so_whether_it_ran_or_not(flask: Flask) -> None:
    running, proceed, refused = threading.Event(), threading.Event(), []

    def work(attempt: Attempt) -> Result:
        running.set()
        proceed.wait(20)
        try:
            attempt.progress(1, 2)
        except Superseded as error:
            refused.append(error)
            raise
        return Result(output="done")

    world = World(flask, work)
    waiting, worked = world.submit(name="waiting"), world.submit(name="worked")
    thread = threading.Thread(target=world.jobs.run, args=(worked,))
    thread.start()
    assert running.wait(10)
    for address in (waiting, worked):
        assert world.jobs.cancel(address.scope, address.id).status is JobStatus.CANCELLED
        assert world.jobs.cancel(address.scope, address.id).status is JobStatus.CANCELLED
    proceed.set()
    thread.join(10)
    world.jobs.run(waiting)
    assert len(refused) == 1
    assert world.handler.runs == 1
    assert world.handler.failures == ["It was cancelled."] * 2
    assert [world.stored(address).status for address in (waiting, worked)] == [JobStatus.CANCELLED] * 2
    assert world.outbox() == []


def test_cancelling_and_completing_at_once_have_one_outcome(flask: Flask) -> None:
    world = World(flask, *[lambda attempt: time.sleep(0.01)] * 60)
    outcomes = set()
    for n in range(60):
        address = world.submit(name=f"j{n}")
        barrier = threading.Barrier(2)
        said: list[str] = []

        def cancel(address: JobAddress = address, barrier: threading.Barrier = barrier, said: list[str] = said) -> None:
            barrier.wait(10)
            time.sleep(0.001 * int(address.id[1:]))
            try:
                world.jobs.cancel(address.scope, address.id)
                said.append("CANCELLED")
            except Conflict:
                said.append("COMPLETED")

        thread = threading.Thread(target=cancel)
        thread.start()
        barrier.wait(10)
        with suppress(Conflict):  # it was cancelled when it was claimed
            world.jobs.run(address)
        thread.join(10)
        assert [world.stored(address).status] == said
        outcomes.update(said)
    assert outcomes == {"CANCELLED", "COMPLETED"}


def test_a_dead_letter_is_retried_as_one_other_job_however_often_it_is_asked_for(flask: Flask) -> None:
    world = World(flask, UpstreamConfig())
    address = world.submit()
    world.jobs.run(address)
    again = world.jobs.retry(ADA, "j1")
    assert (again.status, again.retry_of) == (JobStatus.PENDING, "j1")
    assert world.jobs.retry(ADA, "j1") == again
    assert world.jobs.letters(ADA) == []
    world.jobs.run(JobAddress(ADA, again.id))
    assert world.stored(JobAddress(ADA, again.id)).status is JobStatus.COMPLETED
    assert world.stored(address).status is JobStatus.FAILED  # what ended stays as it ended
    for ended in (again.id,):
        with pytest.raises(Conflict):
            world.jobs.retry(ADA, ended)
        with pytest.raises(Conflict):
            world.jobs.cancel(ADA, ended)
    for act in (world.jobs.retry, world.jobs.cancel):
        with pytest.raises(NotFound):
            act(ADA, "nothing")


def test_a_kind_that_this_version_does_not_know_fails(flask: Flask) -> None:
    world = World(flask)
    now = timestamp()
    world.jobs.submit(ADA, Job(id="x", kind="new", status=JobStatus.PENDING, input={}, created=now, updated=now))
    world.jobs.run(JobAddress(ADA, "x"))
    job = world.stored(JobAddress(ADA, "x"))
    assert (job.status, job.code) == (JobStatus.FAILED, "unknown_kind")


# Over HTTP.


def plant(flask: Flask, scope: Scope, name: str, **fields: object) -> Job:
    """Store a job as it may stand."""
    now = timestamp()
    job = replace(
        Job(id=name, kind="test", status=JobStatus.PENDING, input={}, created=now, updated=now),
        **fields,  # type: ignore[arg-type]  # field by field
    )
    flask.extensions["brainstem"].backends.documents.commit(scope, [Set(("jobs", name), to_record(job))])
    return job


def test_a_user_sees_the_jobs_of_their_documents(ada: User, flask: Flask) -> None:
    document = ada.add("z.md", b"# Z\n\nThe zebra secret is canary.", "text/markdown")
    [listed] = ada.get("jobs").json["jobs"]
    ada.get(
        f"jobs/{listed['id']}", headers={"Prefer": "wait=20"}
    )  # a document is searchable just before its job has ended
    [job] = ada.get("jobs").json["jobs"]
    assert (job["kind"], job["status"], job["attempts"]) == ("ingest", "COMPLETED", 1)
    assert job["done"] == job["total"] == document["chunks"]
    assert job["inputTokens"] > 0
    assert ada.get(f"jobs/{job['id']}").json == job
    bob = User(flask, "bob", "alpha")
    assert bob.get("jobs").json["jobs"] == []
    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry"), ("GET", "/artifact")):
        missing = bob.call(method, f"jobs/{job['id']}{path}")
        assert missing.status_code == 404


def test_jobs_are_listed_page_by_page(ada: User, flask: Flask) -> None:
    for n in range(5):
        plant(flask, ADA, f"j{n}")
    first = ada.get("jobs?limit=3").json
    rest = ada.get(f"jobs?limit=3&cursor={first['nextCursor']}").json
    assert [job["id"] for job in first["jobs"] + rest["jobs"]] == ["j4", "j3", "j2", "j1", "j0"]


def test_polling_costs_nothing_while_nothing_happens(ada: User, flask: Flask) -> None:
    job = plant(flask, ADA, "j1")
    first = ada.get("jobs/j1")
    tag = first.headers["ETag"]
    assert first.headers["Retry-After"] == "1"
    again = ada.get("jobs/j1", headers={"If-None-Match": tag})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    plant(flask, ADA, "j1", status=JobStatus.FAILED, error="Broken.", ended=job.created)
    changed = ada.get("jobs/j1", headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json["status"]) == (200, "FAILED")
    assert changed.headers["ETag"] != tag


def test_a_client_may_wait_for_the_end(ada: User, flask: Flask) -> None:
    plant(flask, ADA, "j1")
    ending = threading.Timer(1.0, lambda: plant(flask, ADA, "j1", status=JobStatus.COMPLETED))
    ending.start()
    start = time.monotonic()
    assert ada.get("jobs/j1", headers={"Prefer": "wait=20"}).json["status"] == "COMPLETED"
    assert 0.9 < time.monotonic() - start < 10


@pytest.mark.parametrize("prefer", ["wait=-1", "wait=abc", "wait=", "wait=1e9", "respond-async", "wait=" + "9" * 5000])
def test_a_preference_that_means_nothing_is_none(ada: User, flask: Flask, prefer: str) -> None:
    plant(flask, ADA, "j1")
    start = time.monotonic()
    assert ada.get("jobs/j1", headers={"Prefer": prefer}).status_code == 200
    assert time.monotonic() - start < 1


def test_a_job_is_cancelled_and_retried_over_http(ada: User, flask: Flask) -> None:
    plant(flask, ADA, "j1")
    assert ada.post("jobs/j1/cancel").json["status"] == "CANCELLED"
    plant(flask, ADA, "done", status=JobStatus.COMPLETED)
    refused = ada.post("jobs/done/cancel")
    assert (refused.status_code, refused.json["code"]) == (409, "conflict")
    assert ada.post("jobs/done/retry").status_code == 409


def test_a_file_that_a_job_made_is_downloaded_by_a_link(ada: User, flask: Flask) -> None:
    blobs = flask.extensions["brainstem"].backends.blobs
    made = []
    for name, content in (("report.html", b"<h1>canary</h1>"), ("data.csv", b"a,b")):
        blob = blobs.put(ADA, f"jobs/j1/1-{name}", io.BytesIO(content), "text/plain")
        made.append(
            Artifact(name=name, media_type="text/plain", bytes=blob.bytes, sha256=blob.sha256, blob=f"jobs/j1/1-{name}")
        )
    plant(flask, ADA, "j1", status=JobStatus.COMPLETED, artifacts=tuple(made))
    assert [one["name"] for one in ada.get("jobs/j1").json["artifacts"]] == ["report.html", "data.csv"]
    assert "jobs/j1/1-" not in ada.get("jobs/j1").text
    assert ada.get("jobs/j1/artifact").status_code == 400
    assert ada.get("jobs/j1/artifact?name=other").status_code == 404
    link = ada.get("jobs/j1/artifact?name=report.html").json
    assert ada.http.get(link["url"].replace("http://localhost", ""), buffered=True).data == b"<h1>canary</h1>"
    plant(flask, ADA, "j2", status=JobStatus.PROCESSING, artifacts=tuple(made))
    assert ada.get("jobs/j2/artifact?name=report.html").status_code == 404


def test_a_failed_ingestion_is_retried(ada: User, flask: Flask) -> None:
    """What a document was is kept until its new job has ingested it."""
    services = flask.extensions["brainstem"]
    document = ada.add("z.md", b"# Z\n\nThe zebra secret is canary.", "text/markdown")
    assert document["status"] == "COMPLETED"
    [job] = ada.get("jobs").json["jobs"]
    stored, _ = services.jobs.job(ADA, job["id"])
    plant(flask, ADA, stored.id, kind="ingest", input=stored.input, status=JobStatus.FAILED, error="Broken.")
    refused = ada.post(f"jobs/{job['id']}/retry")
    assert (refused.status_code, refused.json["detail"]) == (409, "This document is searchable already.")
