"""The image's recipe and the pipeline, checked by the tools that will read them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from service.config import Settings
from tests.kit.required import left_out
from tests.kit.server import ROOT

# gcloud's own reading of a build's configuration, in gcloud's own Python.
LOAD = """
import json, sys
from googlecloudsdk.api_lib.cloudbuild import cloudbuild_util, config
build = config.LoadCloudbuildConfigFromPath(sys.argv[1], cloudbuild_util.GetMessagesModule(), params={})
print(json.dumps({step.id: [step.name, step.entrypoint, *step.args] for step in build.steps}))
"""


@pytest.fixture
def gcloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of Google's SDK, with a configuration of this test's own."""
    found = shutil.which("gcloud")
    if found is None:
        left_out("gcloud", "gcloud is not on this machine")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CORE_DISABLE_USAGE_REPORTING", "true")
    return Path(found).resolve().parent.parent


@pytest.fixture
def steps(gcloud: Path) -> dict[str, list[str]]:
    environ = {**os.environ, "PYTHONPATH": f"{gcloud / 'lib'}:{gcloud / 'lib' / 'third_party'}"}
    python = gcloud / "platform" / "bundledpythonunix" / "bin" / "python3"
    command = [str(python if python.exists() else sys.executable), "-c", LOAD, str(ROOT / "cloudbuild.yaml")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_the_dockerfile_has_no_known_fault() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_copies_only_what_the_build_sends() -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+) ", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sent = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert {*copied, "Dockerfile"} == set(sent)
    assert all((ROOT / name).exists() for name in sent)


def test_gcloud_reads_the_pipeline_and_it_tests_before_it_deploys(steps: dict[str, list[str]]) -> None:
    assert list(steps) == ["test", "build", "push", "deploy"]
    assert "make test" in steps["test"][-1]


def test_gcloud_knows_every_option_of_the_deployment(gcloud: Path, steps: dict[str, list[str]]) -> None:
    def lint(*options: str) -> dict[str, Any]:
        words = ["gcloud", *steps["deploy"][2:], *options]
        command = [
            str(gcloud / "bin" / "gcloud"),
            "meta",
            "lint-gcloud-commands",
            "--command-string",
            shlex.join(words),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        [result] = json.loads(done.stdout)
        found: dict[str, Any] = result
        return found

    assert lint()["success"], lint()["error_message"]
    assert not lint("--concurency=1")["success"]


@cache
def names() -> set[str]:
    return {field.name.upper() for field in fields(Settings)}


def test_what_the_pipeline_and_the_image_set_are_settings(steps: dict[str, list[str]]) -> None:
    [variables] = [arg for arg in steps["deploy"] if arg.startswith("--set-env-vars=")]
    given = {pair.partition("=")[0] for pair in variables.removeprefix("--set-env-vars=^|^").split("|")}
    assert given >= {"GOOGLE_CLOUD_PROJECT", "STORAGE_BUCKET", "SERVICE_URL"}
    assert given <= names()
    image = re.search(r"^ENV (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert image is not None
    assert {pair.partition("=")[0] for pair in image[1].split()} - names() == {
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONUNBUFFERED",
    }
