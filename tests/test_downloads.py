"""Downloads of local files over HTTP: whose URL holds, what headers guard the browser, how long it is."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.app import create_app
from service.backends.interfaces import BlobStore
from service.config import Settings
from service.models import Scope

CONTENT = b"<script>alert(1)</script> and more"
ADA = Scope("alpha", "ada")


@pytest.fixture
def blobs(flask: Flask) -> BlobStore:
    found: BlobStore = flask.extensions["brainstem"].backends.blobs
    found.put(ADA, "documents/d1/original", io.BytesIO(CONTENT), "text/html")
    return found


@pytest.fixture
def client(flask: Flask) -> FlaskClient:
    return flask.test_client()


def sign(blobs: BlobStore, seconds: int = 60, filename: str = "page.html") -> str:
    return blobs.sign(ADA, "documents/d1/original", seconds=seconds, filename=filename)


def test_a_download_can_run_nothing_in_a_browser(blobs: BlobStore, client: FlaskClient) -> None:
    with client.get(sign(blobs)) as answer:
        assert (answer.status_code, answer.data) == (200, CONTENT)
        assert answer.headers["Content-Security-Policy"].startswith("sandbox;")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Content-Disposition"] == "attachment; filename=page.html"


@pytest.mark.parametrize("filename", ['a"\r\nSet-Cookie: x=1\r\n.html', "../../etc/passwd", "ä \u202e.html"])
def test_a_file_name_adds_no_header(blobs: BlobStore, client: FlaskClient, filename: str) -> None:
    with client.get(sign(blobs, filename=filename)) as answer:
        assert answer.status_code == 200
        assert "Set-Cookie" not in answer.headers
        assert answer.headers["Content-Disposition"].startswith("attachment")


def test_a_url_that_does_not_hold_is_a_404(
    blobs: BlobStore, client: FlaskClient, served: Settings, tmp_path: Path
) -> None:
    good = sign(blobs)
    token = good.removeprefix("/local/blobs/")
    body, _, seal = token.partition(".")
    other = create_app(replace(served, data_dir=tmp_path / "other"))
    foreign = other.extensions["brainstem"].backends.blobs
    foreign.put(ADA, "documents/d1/original", io.BytesIO(b"other"), "text/plain")
    other.extensions["brainstem"].backends.queue.stop()
    bad = {
        "tampered": f"/local/blobs/{body[:-2]}{'A' if body[-2] != 'A' else 'B'}{body[-1]}.{seal}",
        "cut": good[:-1],
        "unsigned": f"/local/blobs/{body}.",
        "expired": sign(blobs, seconds=-1),
        "foreign": sign(foreign),
        "nothing": "/local/blobs/x",
    }
    for name, url in bad.items():
        answer = client.get(url)
        assert (answer.status_code, answer.content_type) == (404, "application/problem+json"), name
        assert CONTENT not in answer.data


@pytest.mark.parametrize(
    "asked", ["bytes=8-12", "bytes=900-", "bytes=x", "bytes=5-1", "bytes=0-0,2-2,4-4", "lines=1-2"]
)
def test_whoever_asks_for_a_part_gets_the_whole_file(blobs: BlobStore, client: FlaskClient, asked: str) -> None:
    with client.get(sign(blobs), headers={"Range": asked}) as answer:
        assert (answer.status_code, answer.data) == (200, CONTENT)
        assert answer.headers["Content-Length"] == str(len(CONTENT))
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_head_is_the_headers_alone(blobs: BlobStore, client: FlaskClient) -> None:
    with client.head(sign(blobs)) as answer:
        assert (answer.status_code, answer.data) == (200, b"")
        assert answer.headers["Content-Length"] == str(len(CONTENT))
        assert answer.headers["Content-Security-Policy"].startswith("sandbox;")
