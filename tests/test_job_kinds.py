"""Jobs that are asked for over HTTP: who may, what each kind takes, and one job for one key."""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile

import pytest
from flask import Flask

from service.jobs.slices import Slice
from service.models import Scope
from service.proof.planting import plant_made
from tests.kit.client import Json, User
from tests.kit.upstream import Upstream


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


# Export


def downloaded(user: User, job: Json) -> list[zipfile.ZipFile]:
    """The files that a job made, opened."""
    found = []
    for artifact in job["artifacts"]:
        link = user.get(f"jobs/{job['id']}/artifact?name={artifact['name']}").json["url"]
        content = user.http.get(link.replace("http://localhost", ""), buffered=True).data
        assert hashlib.sha256(content).hexdigest() == artifact["sha256"]
        found.append(zipfile.ZipFile(io.BytesIO(content)))
    return found


def fill(user: User, upstream: Upstream, chats: int) -> Json:
    for n in range(chats):
        upstream.enqueue(f"Reply {n} to {user.name}")
        assert user.ask(f"c{n}", f"Question {n} of {user.name}").status_code == 200
    assert user.call("PUT", "data/profile", json={"likes": "<b>zebras</b>"}).status_code == 200
    return user.add("../<i>über</i> us.txt", f"The secret of {user.name}.".encode())


def test_an_export_is_everything_of_its_user_as_files(ada: User, flask: Flask, upstream: Upstream) -> None:
    document, _ = fill(ada, upstream, 3), fill(User(flask, "bob", "alpha"), upstream, 1)
    services = flask.extensions["brainstem"]
    plant_made(services, Scope("alpha", "ada"), "made", "what a job made")
    services.backends.blobs.put(Scope("alpha", "ada"), "uploads/new.txt", io.BytesIO(b"not read yet"), "text/plain")
    job = ended(ada, ada.post("jobs", json={"kind": "export"}).json["id"])
    assert job["status"] == "COMPLETED", job
    [whole] = downloaded(ada, job)
    assert whole.testzip() is None
    read = {name: whole.read(name).decode() for name in whole.namelist()}
    chat = json.loads(read["chats/c1.json"])
    assert [(turn["prompt"], turn["reply"]) for turn in chat["messages"]] == [("Question 1 of ada", "Reply 1 to ada")]
    assert json.loads(read["data/profile.json"])["data"] == {"likes": "<b>zebras</b>"}
    folder = f"documents/{document['id']}"
    assert json.loads(read[f"{folder}/document.json"])["sha256"] == document["sha256"]
    [original] = [name for name in read if name.startswith(f"{folder}/original/")]
    assert read[original] == "The secret of ada."
    assert read["jobs/made/report.txt"] == "what a job made"
    assert read["uploads/new.txt"] == "not read yet"
    calls = json.loads(read["calls/00000000.json"])["calls"]
    assert {"answer", "embedding"} <= {call["kind"] for call in calls}
    assert len(calls) == ada.get("usage").json["calls"]
    assert not [name for name, text in read.items() if "bob" in text]
    assert not [name for name in read if name.startswith("/") or ".." in name.split("/")]
    index = read["index.html"]
    assert "Question 1 of ada" in index
    assert "<i>" not in index
    assert job["output"]["files"] | {"jobs": 0} == {
        "chats": 3,
        "documents": 1,
        "data": 1,
        "calls": len(calls),
        "jobs": 0,
    }
    # Another export holds no export.
    again = ended(ada, ada.post("jobs", json={"kind": "export", "input": {}}).json["id"])
    assert not [name for name in downloaded(ada, again)[0].namelist() if name.endswith(".zip")]


def test_a_long_export_is_made_in_parts_and_goes_on_behind_the_last(
    ada: User, flask: Flask, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = flask.extensions["brainstem"]
    fill(ada, upstream, 6)
    services.asked.exports.part_bytes = 700
    monkeypatch.setattr(Slice.__init__, "__defaults__", (0.0,))
    job = ended(ada, ada.post("jobs", json={"kind": "export"}).json["id"])
    assert job["status"] == "COMPLETED", job
    parts = downloaded(ada, job)
    assert len(parts) >= 4
    assert job["attempts"] >= len(parts)  # each ended with a part, and the next went on
    names = [name for part in parts for name in part.namelist() if name != "index.html"]
    assert len(names) == len(set(names))
    assert {f"chats/c{n}.json" for n in range(6)} <= set(names)
    assert all("index.html" in part.namelist() for part in parts)
    assert [artifact["name"] for artifact in job["artifacts"]] == [f"export-{n + 1}.zip" for n in range(len(parts))]


def test_an_export_that_is_cancelled_leaves_no_file(flask: Flask) -> None:
    services, scope = flask.extensions["brainstem"], Scope("alpha", "ada")
    services.backends.queue.stop()
    ada = User(flask, "ada", "alpha")
    job = ada.post("jobs", json={"kind": "export"}).json["id"]
    services.backends.blobs.put(scope, f"jobs/{job}/1/export-1.zip", io.BytesIO(b"x"), "application/zip")
    services.backends.blobs.put(scope, "jobs/other/1/export-1.zip", io.BytesIO(b"x"), "application/zip")
    assert ada.post(f"jobs/{job}/cancel").json["status"] == "CANCELLED"
    assert list(services.backends.blobs.names(scope)) == ["jobs/other/1/export-1.zip"]
