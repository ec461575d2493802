"""Jobs end exactly once, whatever their handler does; run by hand here, as the queue would deliver them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest
from flask import Flask

from service.backends.interfaces import JobAddress
from service.backends.local.queue import ATTEMPTS, LocalQueue
from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
from service.errors import DocumentRejected, NotFound, Unavailable, UpstreamConfig
from service.jobs import MAX_ATTEMPTS, Handler, Jobs
from service.models import Job, JobStatus, Scope, timestamp
from service.records import from_record
from service.scope import of_job


class Scripted:
    """A handler that does what it is told, attempt after attempt."""

    def __init__(self, *acts: Exception | None) -> None:
        self.acts = list(acts)
        self.runs = 0
        self.failures: list[str] = []

    def run(self, scope: Scope, job: Job) -> None:
        self.runs += 1
        act = self.acts.pop(0) if self.acts else None
        if act:
            raise act

    def fail(self, scope: Scope, job: Job, reason: str) -> None:
        self.failures.append(reason)


class Silent:
    """A queue that only remembers what it was given."""

    def __init__(self) -> None:
        self.addresses: list[JobAddress] = []

    def enqueue(self, address: JobAddress, *, delay: float = 0.0) -> None:
        self.addresses.append(address)

    def start(self, run: Callable[[JobAddress], None]) -> None: ...

    def stop(self) -> None: ...

    def check(self) -> None: ...


def submitted(flask: Flask, handler: Scripted) -> tuple[Jobs, JobAddress]:
    queue = Silent()
    store = flask.extensions["brainstem"].backends.documents
    jobs = Jobs(store, queue, {"test": Handler(handler.run, handler.fail)})
    now = timestamp()
    job = Job(id="j1", kind="test", status=JobStatus.PENDING, input={}, created=now, updated=now)
    jobs.submit(of_job("alpha", "ada"), job)
    address, again = queue.addresses
    assert address == again
    return jobs, address


def stored(flask: Flask, address: JobAddress) -> Job:
    [found] = flask.extensions["brainstem"].backends.documents.get(address.scope, ("jobs", address.id))
    return from_record(Job, found.data)


def test_a_job_is_completed_once_however_often_it_is_delivered(flask: Flask) -> None:
    handler = Scripted()
    jobs, address = submitted(flask, handler)
    jobs.run(address)
    jobs.run(address)
    assert handler.runs == 1
    assert stored(flask, address).status is JobStatus.COMPLETED


def test_a_dependency_that_fails_is_tried_again(flask: Flask) -> None:
    handler = Scripted(Unavailable(), Unavailable())
    jobs, address = submitted(flask, handler)
    for _ in range(2):
        with pytest.raises(Unavailable):
            jobs.run(address)
        assert stored(flask, address).status is JobStatus.PROCESSING
    jobs.run(address)
    assert (stored(flask, address).status, stored(flask, address).attempts) == (JobStatus.COMPLETED, 3)


def test_what_cannot_succeed_fails_at_once_with_its_reason(flask: Flask) -> None:
    handler = Scripted(DocumentRejected("The PDF is encrypted."))
    jobs, address = submitted(flask, handler)
    jobs.run(address)
    assert stored(flask, address).status is JobStatus.FAILED
    assert stored(flask, address).error == "The PDF is encrypted."
    assert handler.failures == ["The PDF is encrypted."]


def test_a_dependency_that_is_not_set_up_is_not_tried_again(flask: Flask) -> None:
    handler = Scripted(UpstreamConfig())
    jobs, address = submitted(flask, handler)
    jobs.run(address)
    assert stored(flask, address).status is JobStatus.FAILED
    assert handler.failures == [UpstreamConfig.title]


@pytest.mark.parametrize("error", [Unavailable("secret"), ValueError("secret")])
def test_a_job_that_always_fails_ends_failed_without_its_error_text(flask: Flask, error: Exception) -> None:
    handler = Scripted(*[error] * 20)
    jobs, address = submitted(flask, handler)
    for _ in range(MAX_ATTEMPTS - 1):
        with pytest.raises(type(error)):
            jobs.run(address)
    jobs.run(address)
    assert stored(flask, address).status is JobStatus.FAILED
    assert handler.runs == MAX_ATTEMPTS
    assert len(handler.failures) == 1
    assert "secret" not in str(handler.failures)


def test_a_job_that_kills_its_worker_runs_out_of_attempts(flask: Flask) -> None:
    class Killed(BaseException):
        pass

    handler = Scripted(*[Killed() for _ in range(20)])  # type: ignore[arg-type]  # ends the run as a signal would
    jobs, address = submitted(flask, handler)
    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(Killed):
            jobs.run(address)
    jobs.run(address)
    assert stored(flask, address).status is JobStatus.FAILED
    assert handler.runs == MAX_ATTEMPTS


def test_an_address_without_a_job_is_delivered_again(flask: Flask) -> None:
    jobs, address = submitted(flask, Scripted())
    with pytest.raises(NotFound):
        jobs.run(JobAddress(address.scope, "nothing"))


def test_an_address_whose_job_was_never_recorded_is_given_up(flask: Flask, settings: Settings) -> None:
    jobs, address = submitted(flask, Scripted())
    asked: list[str] = []
    queue = LocalQueue(
        replace(settings, data_dir=settings.data_dir / "alone"), EnvironmentSecrets(settings), backoff=0.01
    )

    def run(delivered: JobAddress) -> None:
        asked.append(delivered.id)
        jobs.run(delivered)

    queue.start(run)
    queue.enqueue(JobAddress(address.scope, "refused"))
    with closing(sqlite3.connect(settings.data_dir / "alone" / "jobs.sqlite3")) as rows:
        deadline = time.monotonic() + 15
        while rows.execute("SELECT count(*) FROM jobs").fetchone()[0] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert rows.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
    queue.stop()
    assert asked == ["refused"] * ATTEMPTS
