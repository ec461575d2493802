from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from service.backends.interfaces import JobAddress, JobQueue
from service.errors import BadRequest
from service.models import QueueName, Scope
from service.queues import QUEUES

SOON = 10.0
"""Seconds that a delivery may take on a busy machine; a test waits no longer than it needs."""


in_this_process = pytest.mark.parametrize("queue", ["local"], indirect=True)
"""Of a queue that delivers by itself. Cloud Tasks delivers elsewhere, and cannot tell an address that waits from one under way, so
that each enqueue brings a delivery: tests/test_google_tasks.py says what holds there instead."""


class Worker:
    """Notes what is delivered; `behave` does the job."""

    def __init__(self, behave: Callable[[JobAddress], object] = lambda address: None) -> None:
        self.delivered: list[JobAddress] = []
        self._behave = behave
        self._changed = threading.Condition()

    def __call__(self, address: JobAddress) -> None:
        with self._changed:
            self.delivered.append(address)
            self._changed.notify_all()
        self._behave(address)

    def wait_for(self, count: int, seconds: float = SOON) -> list[JobAddress]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.delivered) >= count, seconds), self.delivered
            return list(self.delivered)


@pytest.fixture
def job(ada: Scope) -> JobAddress:
    return JobAddress(ada, "j1")


def settle(worker: Worker, queue: JobQueue, ada: Scope, count: int) -> list[JobAddress]:
    """Return what was delivered once a later job has passed too, so that nothing more is on its way."""
    last = JobAddress(ada, "last")
    queue.enqueue(last)
    deadline = time.monotonic() + SOON
    while last not in worker.delivered and time.monotonic() < deadline:
        time.sleep(0.01)
    delivered = [address for address in worker.delivered if address != last]
    assert len(delivered) >= count
    return delivered


def test_a_job_is_delivered(queue: JobQueue, job: JobAddress) -> None:
    worker = Worker()
    queue.start(worker)
    queue.enqueue(job)
    assert worker.wait_for(1) == [job]


def test_what_waited_before_the_start_is_delivered(queue: JobQueue, job: JobAddress) -> None:
    queue.enqueue(job)
    worker = Worker()
    queue.start(worker)
    assert worker.wait_for(1) == [job]


@in_this_process
def test_nothing_is_delivered_before_the_start(queue: JobQueue, job: JobAddress) -> None:
    before = threading.active_count()
    queue.enqueue(job)
    queue.check()
    assert threading.active_count() == before


def test_a_job_that_is_done_is_not_delivered_again(queue: JobQueue, job: JobAddress, ada: Scope) -> None:
    worker = Worker()
    queue.start(worker)
    queue.enqueue(job)
    worker.wait_for(1)
    time.sleep(1.5)  # longer than its lease
    assert settle(worker, queue, ada, 1) == [job]


def test_a_job_that_raises_is_delivered_again(queue: JobQueue, job: JobAddress, ada: Scope) -> None:
    def fail_twice(address: JobAddress) -> None:
        if len(worker.delivered) < 3:
            raise RuntimeError("not yet")

    worker = Worker(fail_twice)
    queue.start(worker)
    queue.enqueue(job)
    assert worker.wait_for(3) == [job] * 3
    assert settle(worker, queue, ada, 3) == [job] * 3


def test_a_job_that_fails_keeps_no_other_waiting(queue: JobQueue, ada: Scope) -> None:
    def fail_some(address: JobAddress) -> None:
        if address.id.startswith("bad"):
            raise RuntimeError("always")

    worker = Worker(fail_some)
    for n in range(3):
        queue.enqueue(JobAddress(ada, f"bad{n}"))
        queue.enqueue(JobAddress(ada, f"good{n}"))
    queue.start(worker)
    good = {JobAddress(ada, f"good{n}") for n in range(3)}
    deadline = time.monotonic() + SOON
    while not good <= set(worker.delivered) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert good <= set(worker.delivered)


def test_a_delayed_job_waits(queue: JobQueue, job: JobAddress) -> None:
    worker = Worker()
    queue.start(worker)
    started = time.monotonic()
    queue.enqueue(job, delay=0.7)
    worker.wait_for(1)
    assert time.monotonic() - started > 0.6


@in_this_process
def test_a_job_that_waits_is_there_once(queue: JobQueue, job: JobAddress, ada: Scope) -> None:
    for _ in range(3):
        queue.enqueue(job)
    worker = Worker()
    queue.start(worker)
    worker.wait_for(1)
    assert settle(worker, queue, ada, 1) == [job]


def test_a_job_may_be_enqueued_again_when_it_is_done(queue: JobQueue, job: JobAddress) -> None:
    worker = Worker()
    queue.start(worker)
    for count in range(1, 4):
        queue.enqueue(job)
        assert worker.wait_for(count) == [job] * count
        time.sleep(0.05)


@in_this_process
def test_a_job_that_is_enqueued_while_it_runs_is_delivered_once_more(
    queue: JobQueue, job: JobAddress, ada: Scope
) -> None:
    proceed = threading.Event()
    worker = Worker(lambda address: proceed.wait(SOON))
    queue.start(worker)
    queue.enqueue(job)
    worker.wait_for(1)
    queue.enqueue(job)
    queue.enqueue(job)
    proceed.set()
    worker.wait_for(2)
    assert settle(worker, queue, ada, 2) == [job] * 2


def test_a_long_job_is_delivered_once(queue: JobQueue, job: JobAddress, ada: Scope) -> None:
    worker = Worker(lambda address: time.sleep(2.5 if address.id == "j1" else 0))
    queue.start(worker)
    queue.enqueue(job)
    worker.wait_for(1)
    time.sleep(2.5)
    assert settle(worker, queue, ada, 1) == [job]


def test_jobs_run_side_by_side(queue: JobQueue, ada: Scope) -> None:
    meeting = threading.Barrier(2)
    met: list[int] = []
    worker = Worker(lambda address: met.append(meeting.wait(SOON)))
    queue.start(worker)
    queue.enqueue(JobAddress(ada, "a"), queue="interactive")
    queue.enqueue(JobAddress(ada, "b"), queue="interactive")
    worker.wait_for(2)
    deadline = time.monotonic() + SOON
    while len(met) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(met) == [0, 1]


@pytest.mark.parametrize("name", QUEUES)
def test_each_queue_delivers(queue: JobQueue, job: JobAddress, name: QueueName) -> None:
    worker = Worker()
    queue.start(worker)
    queue.enqueue(job, queue=name)
    assert worker.wait_for(1) == [job]


@pytest.mark.parametrize("long", ["ingest", "batch"])
def test_a_queue_that_is_long_keeps_no_other_waiting(queue: JobQueue, ada: Scope, long: QueueName) -> None:
    """All that may run of it at once runs on and on, and more of it waits."""
    proceed = threading.Event()
    worker = Worker(lambda address: proceed.wait(2 * SOON) if address.id.startswith("long") else None)
    queue.start(worker)
    for n in range(20):
        queue.enqueue(JobAddress(ada, f"long{n}"), queue=long)
    worker.wait_for(1)
    for n in range(10):
        queue.enqueue(JobAddress(ada, f"quick{n}"), queue="interactive")
    deadline = time.monotonic() + SOON
    quick = {JobAddress(ada, f"quick{n}") for n in range(10)}
    while not quick <= set(worker.delivered) and time.monotonic() < deadline:
        time.sleep(0.01)
    proceed.set()
    assert quick <= set(worker.delivered)


def test_stop_ends_the_deliveries_and_a_start_resumes_them(queue: JobQueue, ada: Scope) -> None:
    first, second = Worker(), Worker()
    queue.start(first)
    queue.enqueue(JobAddress(ada, "a"))
    first.wait_for(1)
    queue.stop()
    queue.enqueue(JobAddress(ada, "b"))
    time.sleep(0.6)
    assert first.delivered == [JobAddress(ada, "a")]
    queue.start(second)
    assert second.wait_for(1) == [JobAddress(ada, "b")]


def test_what_was_under_way_at_the_stop_is_delivered_again(queue: JobQueue, job: JobAddress) -> None:
    proceed = threading.Event()

    def be_cut_short(address: JobAddress) -> None:
        proceed.wait(SOON)
        raise RuntimeError("cut short")

    first, second = Worker(be_cut_short), Worker()
    queue.start(first)
    queue.enqueue(job)
    first.wait_for(1)
    started = time.monotonic()
    queue.stop()
    assert time.monotonic() - started < 2
    queue.start(second)
    assert second.wait_for(1) == [job]
    proceed.set()


def test_stopping_twice_or_before_the_start_is_no_error(queue: JobQueue) -> None:
    queue.stop()
    queue.start(Worker())
    queue.stop()
    queue.stop()


def test_jobs_of_all_scopes_are_told_apart(queue: JobQueue, scopes: list[Scope]) -> None:
    jobs = {JobAddress(scope, job) for scope in scopes for job in ("j1", "J1", "j/1")}
    for address in jobs:
        queue.enqueue(address)
    worker = Worker()
    queue.start(worker)
    delivered = worker.wait_for(len(jobs))
    assert len(delivered) == len(jobs)
    assert set(delivered) == jobs


@pytest.mark.parametrize(
    "address",
    [
        JobAddress(Scope("recipes", "ada"), ""),
        JobAddress(Scope("", "ada"), "j"),
        JobAddress(Scope("recipes", "\ud800"), "j"),
    ],
)
def test_an_address_that_no_store_takes_is_refused(queue: JobQueue, address: JobAddress) -> None:
    with pytest.raises(BadRequest):
        queue.enqueue(address)


def test_no_job_is_lost_when_many_threads_enqueue(queue: JobQueue, ada: Scope) -> None:
    worker = Worker()
    queue.start(worker)

    def enqueue(n: int) -> None:
        for m in range(25):
            queue.enqueue(JobAddress(ada, f"{n}-{m}"))

    threads = [threading.Thread(target=enqueue, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    delivered = worker.wait_for(200)
    assert len(set(delivered)) == 200


def test_it_is_ready(queue: JobQueue) -> None:
    queue.check()
