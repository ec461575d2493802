"""What the local queue promises beyond the contract: crashes, several processes, and when it gives up."""

from __future__ import annotations

import logging
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise

import pytest

from service.backends.interfaces import JobAddress
from service.backends.local.queue import LocalQueue
from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
from service.errors import Unavailable, UpstreamBusy
from service.models import Scope
from service.queues import ATTEMPTS
from tests.kit.processes import freeze, line, python

JOB = JobAddress(Scope("recipes", "ada"), "j1")
SOON = 15.0

WORKER = """
    queue = LocalQueue(settings, secrets, lease=0.5)
    def run(address):
        say("running", address.id)
        {run}
    queue.start(run)
    time.sleep(60)
"""


@pytest.fixture
def queue(settings: Settings) -> Iterator[LocalQueue]:
    queue = LocalQueue(settings, EnvironmentSecrets(settings), lease=1.0, backoff=0.01)
    yield queue
    queue.stop()


@pytest.fixture
def events() -> Iterator[list[logging.LogRecord]]:
    """What is logged during a test, whatever the logger is set to."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[assignment]
    logger = logging.getLogger("brainstem")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def rows(settings: Settings) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(settings.data_dir / "queues.sqlite3")) as connection:
        return connection.execute("SELECT address, attempts FROM jobs").fetchall()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_job_of_a_worker_that_was_killed_is_delivered_again(settings: Settings, queue: LocalQueue) -> None:
    queue.enqueue(JOB)
    with python(WORKER.format(run="time.sleep(60)"), settings.data_dir) as process:
        assert line(process) == "running j1"
        process.kill()
    delivered = threading.Event()
    queue.start(lambda address: delivered.set())
    assert delivered.wait(SOON)
    wait_until(lambda: rows(settings) == [])


def test_a_job_that_is_acknowledged_survives_kill_9(settings: Settings, queue: LocalQueue) -> None:
    code = """
        queue = LocalQueue(settings, secrets)
        for n in range(10_000):
            queue.enqueue(JobAddress(ada, str(n)))
            say(n)
    """
    with python(code, settings.data_dir) as process:
        for _ in range(50):
            last = int(line(process))
        process.kill()
    seen: set[str] = set()
    queue.start(lambda address: seen.add(address.id))
    wait_until(lambda: {str(n) for n in range(last + 1)} <= seen)


def test_a_job_of_another_process_is_seen_within_half_a_second(settings: Settings, queue: LocalQueue) -> None:
    arrived: list[float] = []
    queue.start(lambda address: arrived.append(time.time()))
    code = """
        queue = LocalQueue(settings, secrets)
        for n in sys.stdin:
            queue.enqueue(JobAddress(ada, n))
            say(time.time())
    """
    delays = []
    with python(code, settings.data_dir) as process:
        assert process.stdin is not None
        for n in range(5):
            process.stdin.write(f"{n}\n")
            process.stdin.flush()
            enqueued = float(line(process))
            wait_until(lambda n=n: len(arrived) > n)  # type: ignore[misc]
            delays.append(arrived[-1] - enqueued)
    assert sorted(delays)[2] < 0.5  # the machine may be busy once or twice


def test_a_job_of_this_process_is_seen_at_once(queue: LocalQueue) -> None:
    arrived: list[float] = []
    queue.start(lambda address: arrived.append(time.monotonic()))
    time.sleep(0.1)
    delays = []
    for n in range(1, 8):
        started = time.monotonic()
        queue.enqueue(JobAddress(JOB.scope, str(n)))
        wait_until(lambda n=n: len(arrived) == n)  # type: ignore[misc]
        delays.append(arrived[-1] - started)
    assert sorted(delays)[3] < 0.1


def test_a_worker_that_slept_through_its_lease_cannot_touch_the_next_delivery(
    settings: Settings, queue: LocalQueue
) -> None:
    queue.enqueue(JOB)
    with python(WORKER.format(run="sys.stdin.readline(); say('finished')"), settings.data_dir) as zombie:
        assert line(zombie) == "running j1"
        freeze(zombie, settings.data_dir / "queues.sqlite3")
        deliveries: list[int] = []
        proceed = threading.Event()

        def run(address: JobAddress) -> None:
            deliveries.append(len(deliveries))
            if len(deliveries) == 1:
                proceed.wait(SOON)
                raise RuntimeError("to be tried again")

        queue.start(run)
        wait_until(lambda: len(deliveries) == 1)
        zombie.send_signal(signal.SIGCONT)
        assert zombie.stdin is not None
        zombie.stdin.write("\n")
        zombie.stdin.flush()
        assert line(zombie) == "finished"
        time.sleep(0.2)  # it now tries to remove the job
        assert len(rows(settings)) == 1
        proceed.set()
        wait_until(lambda: len(deliveries) == 2)
    wait_until(lambda: rows(settings) == [])


def test_after_ten_attempts_a_job_is_dropped_and_logged(settings: Settings, events: list[logging.LogRecord]) -> None:
    queue = LocalQueue(settings, EnvironmentSecrets(settings), backoff=0.001)
    attempts: list[JobAddress] = []

    def run(address: JobAddress) -> None:
        attempts.append(address)
        raise ValueError("secret text of a user")

    queue.start(run)
    queue.enqueue(JOB)
    wait_until(lambda: len(attempts) == ATTEMPTS and rows(settings) == [])
    time.sleep(0.3)
    queue.stop()
    assert attempts == [JOB] * ATTEMPTS
    (dropped,) = [record for record in events if record.levelno == logging.ERROR]
    assert dropped.getMessage() == "job.dropped"
    fields = vars(dropped)["fields"]
    assert (fields["app"], fields["job"], fields["attempts"], fields["error"]) == (
        "recipes",
        "j1",
        ATTEMPTS,
        "ValueError",
    )
    assert "secret text" not in repr([vars(record) for record in events])


def test_a_job_enqueued_while_it_runs_comes_again_at_once_with_new_attempts(
    settings: Settings,
) -> None:
    queue = LocalQueue(settings, EnvironmentSecrets(settings), lease=600, backoff=0.001)
    attempts: list[JobAddress] = []

    def run(address: JobAddress) -> None:
        attempts.append(address)
        if len(attempts) != ATTEMPTS:
            raise RuntimeError
        queue.enqueue(JOB)

    queue.enqueue(JOB)
    queue.start(run)
    wait_until(lambda: len(attempts) >= 2 * ATTEMPTS and rows(settings) == [])
    queue.stop()
    assert len(attempts) == 2 * ATTEMPTS


def test_a_job_that_kills_its_process_is_dropped_too(settings: Settings, queue: LocalQueue) -> None:
    queue.enqueue(JOB)
    for attempt in range(1, ATTEMPTS + 1):
        with python(WORKER.format(run="import os; os._exit(1)"), settings.data_dir) as process:
            assert line(process) == "running j1"
            process.wait(SOON)
        assert [attempts for _, attempts in rows(settings)] == [attempt]
    further: list[JobAddress] = []
    queue.start(further.append)
    wait_until(lambda: rows(settings) == [])
    assert further == []


def test_a_pause_between_attempts_grows(settings: Settings) -> None:
    queue = LocalQueue(settings, EnvironmentSecrets(settings), backoff=0.2)
    times: list[float] = []

    def run(address: JobAddress) -> None:
        times.append(time.monotonic())
        if len(times) < 4:
            raise RuntimeError

    queue.enqueue(JOB)
    queue.start(run)
    wait_until(lambda: len(times) == 4)
    queue.stop()
    pauses = [later - earlier for earlier, later in pairwise(times)]
    for pause, longest in zip(pauses, (0.2, 0.4, 0.8), strict=True):
        assert longest / 2 <= pause


def test_a_job_says_when_it_wants_to_be_tried_again(settings: Settings, queue: LocalQueue) -> None:
    times: list[float] = []

    def run(address: JobAddress) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            raise UpstreamBusy(retry_after=2)

    queue.enqueue(JOB)
    queue.start(run)
    wait_until(lambda: len(times) == 2)
    assert 2 <= times[1] - times[0] < 4


def test_an_attempt_that_stop_cuts_short_does_not_count(settings: Settings, queue: LocalQueue) -> None:
    running, proceed = threading.Event(), threading.Event()

    def run(address: JobAddress) -> None:
        running.set()
        proceed.wait(SOON)

    queue.enqueue(JOB)
    queue.start(run)
    assert running.wait(SOON)
    assert [attempts for _, attempts in rows(settings)] == [1]
    started = time.monotonic()
    queue.stop()
    assert time.monotonic() - started < 2
    assert [attempts for _, attempts in rows(settings)] == [0]
    proceed.set()


def test_a_waiting_job_is_brought_forward_but_never_put_off(queue: LocalQueue) -> None:
    delivered = threading.Event()
    queue.start(lambda address: delivered.set())
    queue.enqueue(JOB, delay=600)
    queue.enqueue(JOB, delay=900)
    assert not delivered.wait(0.3)
    queue.enqueue(JOB)
    assert delivered.wait(SOON)


def test_deliveries_resume_when_the_file_can_be_used_again(
    settings: Settings, queue: LocalQueue, events: list[logging.LogRecord]
) -> None:
    blocked = settings.data_dir / "queues.sqlite3"
    blocked.mkdir(parents=True)
    delivered = threading.Event()
    with pytest.raises(Unavailable, match="The job queue cannot be used"):
        queue.enqueue(JOB)
    queue.start(lambda address: delivered.set())
    wait_until(lambda: "queue.unavailable" in [record.getMessage() for record in events])
    blocked.rmdir()
    queue.enqueue(JOB)
    assert delivered.wait(SOON)


def test_a_process_without_workers_only_enqueues(settings: Settings, queue: LocalQueue) -> None:
    nobody = Settings(data_dir=settings.data_dir, interactive_workers=0, ingest_workers=0, batch_workers=0)
    idle = LocalQueue(nobody, EnvironmentSecrets(settings))
    delivered = threading.Event()
    idle.start(lambda address: delivered.set())
    idle.enqueue(JOB)
    assert not delivered.wait(0.6)
    idle.stop()
    queue.start(lambda address: delivered.set())
    assert delivered.wait(SOON)
