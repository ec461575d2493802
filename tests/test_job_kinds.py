"""Jobs that are asked for over HTTP: who may, what each kind takes, and one job for one key."""

from __future__ import annotations

import time

import pytest
from flask import Flask

from tests.kit.client import Json, User


def ended(user: User, job: str, where: str = "jobs") -> Json:
    """Wait until a job has ended, and return it."""
    for _ in range(600):
        found = user.get(f"{where}/{job}").json
        if found["status"] in ("COMPLETED", "FAILED", "CANCELLED"):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{job} is still {found['status']}")


@pytest.fixture
def admin(flask: Flask) -> User:
    return User(flask, "root", "alpha", "admin")


def test_a_kind_that_is_not_there_is_told_those_that_are(ada: User, admin: User) -> None:
    for user, where, known in ((ada, "jobs", "erasure"), (admin, "shared/jobs", "erasure")):
        for kind in ("nothing", "ingest", "", "x" * 64):
            refused = user.post(where, json={"kind": kind, "input": {}})
            assert (refused.status_code, refused.json["code"]) == (422, "unprocessable")
            assert f"`{known}`" in refused.json["detail"]
            assert "ingest" not in refused.json["detail"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"kind": "erasure", "input": {}}, 422, "unprocessable"),
        ({"kind": "erasure"}, 422, "unprocessable"),
        ({"kind": "erasure", "input": {"confirm": "alpha", "user": "bob"}}, 422, "unknown_field"),
        ({"kind": "erasure", "input": {"confirm": 1}}, 422, "unprocessable"),
        ({"kind": "erasure", "input": {"confirm": "beta"}}, 422, "unprocessable"),
        ({"kind": "erasure", "input": []}, 422, "unprocessable"),
        ({"kind": 1, "input": {}}, 422, "unprocessable"),
        ({"kind": "erasure", "input": {"confirm": "alpha"}, "user": "bob"}, 422, "unknown_field"),
        ({}, 422, "unprocessable"),
    ],
)
def test_an_input_is_checked_by_its_kind(ada: User, body: Json, status: int, code: str) -> None:
    refused = ada.post("jobs", json=body)
    assert (refused.status_code, refused.json["code"]) == (status, code)
    assert ada.get("jobs").json["jobs"] == []


def test_the_apps_jobs_are_its_admins(ada: User, admin: User, flask: Flask) -> None:
    body = {"kind": "erasure", "input": {"user": "nobody", "confirm": "nobody"}}
    assert ada.post("shared/jobs", json=body).status_code == 403
    assert ada.get("shared/jobs").status_code == 403
    posted = admin.post("shared/jobs", json=body)
    assert posted.status_code == 202
    job = ended(admin, posted.json["id"], "shared/jobs")
    assert (job["status"], posted.headers["Location"]) == ("COMPLETED", f"/v1/apps/alpha/shared/jobs/{job['id']}")
    assert [one["id"] for one in admin.get("shared/jobs").json["jobs"]] == [job["id"]]
    assert admin.get("jobs").json["jobs"] == []
    assert admin.get("shared/jobs?kind=other").json["jobs"] == []
    assert admin.get("shared/jobs?kind=erasure&status=COMPLETED").json["jobs"] == [job]
    for path in ("", "/cancel", "/retry", "/artifact"):
        method = "GET" if path in ("", "/artifact") else "POST"
        assert ada.call(method, f"shared/jobs/{job['id']}{path}").status_code == 403
        assert User(flask, "root", "beta", "admin").call(method, f"shared/jobs/{job['id']}{path}").status_code == 404
    assert admin.post(f"shared/jobs/{job['id']}/cancel").status_code == 409
    assert admin.get(f"shared/jobs/{job['id']}/artifact").status_code == 404


def test_one_key_is_one_job_and_takes_one_input(admin: User, flask: Flask) -> None:
    def post(user: User, who: str, key: str) -> Json:
        body = {"kind": "erasure", "input": {"user": who, "confirm": who}}
        return user.post("shared/jobs", json=body, headers={"Idempotency-Key": key})

    first, again = post(admin, "nobody", "k1"), post(admin, "nobody", "k1")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json["id"] == again.json["id"]
    ended(admin, first.json["id"], "shared/jobs")
    assert post(admin, "nobody", "k1").json["status"] == "COMPLETED"
    refused = post(admin, "somebody", "k1")
    assert (refused.status_code, refused.json["code"]) == (422, "idempotency_mismatch")
    assert post(admin, "nobody", "k2").json["id"] != first.json["id"]
    assert post(User(flask, "root", "beta", "admin"), "nobody", "k1").json["id"] != first.json["id"]
    assert post(admin, "nobody", "").status_code == 400
