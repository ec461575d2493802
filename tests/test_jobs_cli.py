"""`brainstem jobs` as an operator uses it, on the data of a laptop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.backends import registry
from service.backends.interfaces import Set
from service.config import Settings
from service.models import Job, JobStatus, timestamp
from service.records import to_record
from service.scope import of_job
from tests.kit.apps import write_app
from tests.kit.server import ROOT


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


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in the folder of the test; what it says is in `stdout` and `stderr`."""
    command = [sys.executable, "-m", "service", "jobs", *arguments]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


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
