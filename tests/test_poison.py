"""A job that can never succeed, delivered by Cloud Tasks over HTTP to the service: it ends, is found, and hurts no other app."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
from werkzeug.serving import make_server

from service.app import create_flask
from service.backends import registry
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.tokens import LocalTokens
from service.jobs import MAX_FAILURES, Attempt, Handler, Jobs, Result
from service.jobs.kinds import kinds
from service.models import Job, JobStatus, Scope, timestamp
from service.proof.process import free_port
from service.scope import of_job
from service.services import Services, assemble
from tests.kit.apps import write_app
from tests.kit.cloud_tasks import PATHS, TasksServer

ALPHA, BETA = of_job("alpha", "ada"), of_job("beta", "bob")
SOON = 60.0


def raises(attempt: Attempt) -> Result:
    raise ValueError("canary")


def hangs(attempt: Attempt) -> Result:
    time.sleep(SOON)
    return Result()


KINDS = {"raises": Handler(raises), "hangs": Handler(hangs), "good": Handler(lambda attempt: Result(output="done"))}


@pytest.fixture
def tasks(tmp_path: Path) -> Iterator[TasksServer]:
    with TasksServer(lambda claims: "set by the service's fixture") as server:
        yield server


@pytest.fixture
def services(tasks: TasksServer, tmp_path: Path) -> Iterator[Services]:
    """The service at work on a port; an attempt may take a second."""
    for app in ("alpha", "beta"):
        write_app(tmp_path / "apps", app)
    port = free_port()
    settings = replace(
        tasks.settings(f"http://127.0.0.1:{port}"),
        data_dir=tmp_path / "data", apps_dir=tmp_path / "apps", backend_queue="google", batch_workers=4,
    )  # fmt: skip
    local = LocalTokens(settings, EnvironmentSecrets(settings))
    tasks.sign = lambda claims: local.mint_service(str(claims["email"]), str(claims["aud"]))
    with patch.multiple(
        "service.services",
        Jobs=partial(Jobs, lease=2.0, renew=0.3, longest=1.0),
        kinds=lambda *args, **kwargs: {**kinds(*args, **kwargs), **KINDS},
    ):
        made = assemble(settings, registry.build(settings))
    server = make_server("127.0.0.1", port, create_flask(made), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()
    made.loop.stop()


def submit(services: Services, scope: Scope, name: str, kind: str) -> None:
    now = timestamp()
    services.jobs.submit(scope, Job(id=name, kind=kind, status=JobStatus.PENDING, input={}, created=now, updated=now))


@pytest.mark.parametrize(("kind", "code"), [("raises", "crashed"), ("hangs", "deadline_exceeded")])
def test_poison_ends_as_a_dead_letter_and_slows_no_other_app(
    services: Services, tasks: TasksServer, kind: str, code: str
) -> None:
    tasks.behaviour.concurrent = {"batch": 4}
    for n in range(3):
        submit(services, ALPHA, f"poison{n}", kind)
    tasks.wait(lambda: bool(tasks.deliveries), SOON)
    for n in range(10):
        submit(services, BETA, f"good{n}", "good")
    tasks.wait(lambda: not tasks.tasks, SOON)
    statuses: dict[str, list[int]] = {}
    for delivery in tasks.deliveries:
        statuses.setdefault(json.loads(delivery.body)["job"], []).append(delivery.status)
    for n in range(3):
        job, _ = services.jobs.job(ALPHA, f"poison{n}")
        assert (job.status, job.code, job.failures, job.attempts) == (
            JobStatus.FAILED,
            code,
            MAX_FAILURES,
            MAX_FAILURES,
        )
        assert "canary" not in str(job)
        # Refused each time but the last, which is answered as done; nothing that slows all of the queue.
        assert (statuses[job.id][-1], len(statuses[job.id])) == (204, MAX_FAILURES)
        assert not {429, 503} & set(statuses[job.id])
    assert sorted(job.id for _, job in services.jobs.letters(ALPHA)) == ["poison0", "poison1", "poison2"]
    assert services.jobs.letters(BETA) == []
    assert all(services.jobs.job(BETA, f"good{n}")[0].attempts == 1 for n in range(10))
    assert tasks.throttles[PATHS["batch"]].gap == 0
    assert tasks.dropped == []
