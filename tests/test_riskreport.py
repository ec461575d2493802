"""The app `riskreport` as it is shipped: what it takes, what it rests on, and what it hands out."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from service.app import create_app
from service.apps import load
from service.config import Settings
from tests.kit.client import User
from tests.kit.server import ROOT
from tests.kit.upstream import Upstream

APP = ROOT / "apps" / "riskreport"
ANSWER = {
    "level": "high",
    "summary": "Its owner is under sanctions.",
    "findings": [{"finding": "Pelican Nominees is on the list.", "weight": "high", "source": "sanctions"}],
    "unchecked": [],
    "advice": "Do not trade with it.",
}
FINCH = {"name": "Harrow & Finch Trading Ltd", "country": "GB", "number": "09876543"}


@pytest.fixture
def shipped(settings: Settings, tmp_path: Path) -> Settings:
    shutil.copytree(APP, tmp_path / "apps" / "riskreport")
    return replace(settings, apps_dir=tmp_path / "apps")


@pytest.fixture
def flask(shipped: Settings, upstream: Upstream) -> Iterator[Flask]:
    app = create_app(replace(shipped, openai_base_url=upstream.url, openai_api_key="sk-canary-key"))
    yield app
    app.extensions["brainstem"].backends.queue.stop()
    app.extensions["brainstem"].loop.stop()


def report(user: User, given: object) -> Any:
    """The job of a report once it has ended."""
    answer = user.post("flows/company", json=given)
    assert answer.status_code == 202, answer.text
    end = time.monotonic() + 60
    while time.monotonic() < end:
        job = user.get(f"jobs/{answer.json['id']}", headers={"Prefer": "wait=5"}).json
        if job["status"] not in ("PENDING", "PROCESSING"):
            return job
    raise AssertionError(job)


def test_a_company_is_judged_by_three_sources_and_its_report_is_there(flask: Flask, upstream: Upstream) -> None:
    ada = User(flask, "ada", "riskreport")
    upstream.enqueue(json.dumps(ANSWER))
    job = report(ada, FINCH)
    assert (job["status"], job["output"], job["title"]) == (
        "COMPLETED",
        ANSWER,
        "Risk report: Harrow & Finch Trading Ltd",
    )
    [asked] = [request.json for request in upstream.requests if request.path.endswith("/chat/completions")]
    prompt = asked["messages"][1]["content"]
    for told in (
        "Lantern Invoice Finance",
        "Held shares for persons under sanctions",
        "Suppliers wait for their money",
    ):
        assert told in prompt
    assert asked["response_format"]["json_schema"]["strict"] is True
    assert [artifact["name"] for artifact in job["artifacts"]] == ["report.html", "report.pdf"]
    link = ada.get(f"jobs/{job['id']}/artifact?name=report.html").json["url"]
    with flask.test_client().get(link) as answer:
        page = answer.get_data(as_text=True)
    assert "Pelican Nominees is on the list." in page
    assert "sources/registry/GB/09876543.json" in page


def test_a_company_without_press_is_told_as_such(flask: Flask, upstream: Upstream) -> None:
    upstream.enqueue(json.dumps(ANSWER))
    given = {"name": "Alpenglut Werkzeuge AG", "country": "CH", "number": "CHE123456789"}
    assert report(User(flask, "ada", "riskreport"), given)["status"] == "COMPLETED"
    prompt = upstream.requests[-1].json["messages"][1]["content"]
    assert 'The press says: {"empty": "There is nothing at this source."}' in prompt


@pytest.mark.parametrize(
    ("country", "good", "bad"),
    [
        ("AT", "FN56247t", "FN56247"),
        ("CH", "CHE123456789", "CHE-123.456.789"),
        ("DE", "HRB71234", "HRB 71234"),
        ("FR", "732829320", "73282932"),
        ("GB", "SC123456", "SC12345"),
        ("IE", "104547", "1045470"),
        ("NL", "27312152", "2731215"),
        ("US", "12-3456789", "123456789"),
    ],
)
def test_a_number_is_checked_by_its_country(country: str, good: str, bad: str) -> None:
    schema = load(APP).flows["company"].input
    assert schema.faults({"name": "Acme", "country": country, "number": good}) == []
    [fault] = schema.faults({"name": "Acme", "country": country, "number": bad})
    assert fault.path == "$.number"
    assert fault.problem.startswith("must match the pattern")


def test_a_country_that_is_not_known_is_refused(flask: Flask) -> None:
    answer = User(flask, "ada", "riskreport").post("flows/company", json={**FINCH, "country": "XX"})
    assert (answer.status_code, [each["path"] for each in answer.json["problems"]]) == (422, ["$.country"])


def test_without_a_model_the_report_says_that_none_wrote_it(shipped: Settings) -> None:
    flask = create_app(shipped)
    job = report(User(flask, "ada", "riskreport"), FINCH)
    assert (job["status"], job["note"]) == ("COMPLETED", "Answered by a stand-in: no language model is set up")
    assert job["output"]["summary"] == "No language model is set up."
    flask.extensions["brainstem"].backends.queue.stop()
    flask.extensions["brainstem"].loop.stop()


def test_the_app_is_no_longer_than_a_page_or_two() -> None:
    files = [APP / "app.toml", *APP.glob("prompts/*"), *APP.glob("schemas/*")]
    assert sum(len(file.read_text("utf-8").splitlines()) for file in files) < 150
