"""`brainstem jobs` as an operator uses it, on the data of a laptop."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from service.backends import registry
from service.backends.interfaces import Set
from service.config import Settings
from service.models import Job, JobStatus, timestamp
from service.records import to_record
from service.scope import of_job
from service.services import Services, assemble
from tests.kit.apps import write_app
from tests.kit.server import ROOT
from tests.kit.upstream import Gate, Response, Upstream, faults


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for app in ("alpha", "beta"):
        write_app(tmp_path / "apps", app)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plant(folder: Path, app: str, user: str | None, name: str, status: JobStatus, code: str | None = None) -> None:
    """Store a job as it may stand, with its dead letter if it has a code."""
    backends = registry.build(Settings(data_dir=folder / ".brainstem"))
    now = timestamp()
    job = Job(
        id=name, kind="test", status=status, input={}, created=now, updated=now, code=code, error=code and "It failed."
    )
    scope = of_job(app, user)
    writes = [Set(("jobs", name), to_record(job))]
    if code:
        writes.append(Set(("deadLetters", name), {"created": now, "kind": "test", "code": code}))
    backends.documents.commit(scope, writes)


COMMAND = [sys.executable, "-m", "service", "jobs"]


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in the folder of the test; what it says is in `stdout` and `stderr`."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
    return subprocess.run([*COMMAND, *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_jobs_are_listed_shown_and_cancelled(folder: Path) -> None:
    plant(folder, "alpha", "ada", "j1", JobStatus.PENDING)
    plant(folder, "alpha", None, "j2", JobStatus.PENDING)
    assert [job["id"] for job in json.loads(run("list", "alpha", "--user", "ada", "--json").stdout)] == ["j1"]
    assert "j2" in run("list", "alpha", "--shared").stdout
    assert run("cancel", "alpha", "j1", "--user", "ada").stdout == "j1 is CANCELLED.\n"
    assert json.loads(run("show", "alpha", "j1", "--user", "ada", "--json").stdout)["status"] == "CANCELLED"
    for command in ("show", "cancel", "retry"):
        refused = run(command, "alpha", "j1", "--user", "bob")
        assert refused.returncode == 1
        assert "There is no job `j1`" in refused.stderr
    assert "no app `gamma`" in run("list", "gamma").stderr


def test_dead_letters_are_found_and_driven_again_by_app_kind_and_reason(folder: Path) -> None:
    plant(folder, "alpha", "ada", "j1", JobStatus.FAILED, "upstream_config")
    plant(folder, "alpha", "bob", "j2", JobStatus.FAILED, "crashed")
    plant(folder, "beta", "ada", "j3", JobStatus.FAILED, "crashed")

    def dead(*options: str) -> list[str]:
        return [one["job"]["id"] for one in json.loads(run("dead", *options, "--json").stdout)]

    assert (dead("alpha"), dead("beta")) == (["j1", "j2"], ["j3"])
    assert dead("alpha", "--kind", "other") == []
    assert dead("alpha", "--reason", "crashed") == ["j2"]
    # This installation knows no jobs of that kind, and says so of each.
    driven = run("redrive", "alpha", "--reason", "crashed")
    assert "no such kind of job" in driven.stderr
    assert "0 of 1 dead letters wait for a server to run them." in driven.stdout
    assert dead("alpha") == ["j1", "j2"]


def submit(folder: Path, upstream: Upstream, text: str) -> tuple[Services, Job]:
    """Have a document of ada's wait for its ingestion, with an embedder that is the scripted provider."""
    settings = Settings(data_dir=folder / ".brainstem", apps_dir=folder / "apps")
    settings = replace(settings, openai_api_key="sk-test", openai_base_url=upstream.url)
    services = assemble(settings, registry.build(settings))
    received = services.ingestion.receive(of_job("alpha", "ada"), io.BytesIO(text.encode()), "notes.txt", "text/plain")
    services.ingestions.submit(of_job("alpha", "ada"), received)
    return services, services.jobs.job(of_job("alpha", "ada"), received.document.job)[0]


def test_a_job_is_run_to_its_end_by_a_command(folder: Path, upstream: Upstream) -> None:
    services, job = submit(folder, upstream, "Leeks grow in winter.")
    keys = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": upstream.url}
    upstream.script(faults.status(503), times=6, on="embeddings")
    done = run("run", "alpha", job.id, "--user", "ada", "--json", **keys)
    ended = json.loads(done.stdout)
    assert (done.returncode, ended["status"]) == (0, "COMPLETED")
    assert ended["attempts"] > 1, "the fault did not fire"
    assert services.ingestion.documents(of_job("alpha", "ada"), 10)[0].status is JobStatus.COMPLETED
    assert "COMPLETED" in run("run", "alpha", job.id, "--user", "ada", **keys).stdout
    assert "There is no job" in run("run", "alpha", "j9", "--user", "ada", **keys).stderr


def test_a_job_whose_command_is_stopped_is_left_to_others_at_once(folder: Path, upstream: Upstream) -> None:
    services, job = submit(folder, upstream, "Leeks grow in winter.")
    gate = Gate()
    upstream.script(Response([gate]), on="embeddings")
    keys = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": upstream.url}
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **keys}
    with subprocess.Popen([*COMMAND, "run", "alpha", job.id, "--user", "ada"], env=environ) as process:
        assert gate.reached.wait(30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130
    left, _ = services.jobs.job(of_job("alpha", "ada"), job.id)
    assert (left.status, left.lease, left.failures) == (JobStatus.PROCESSING, 0.0, 0)
