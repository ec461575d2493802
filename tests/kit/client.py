"""A client of one app as one user, over Flask's test client: the whole service but the socket."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

Json = Any


@dataclass(frozen=True)
class Event:
    name: str
    data: Json


class User:
    """Somebody signed in, in one app."""

    def __init__(self, flask: Flask, name: str = "ada", app: str = "assistant", role: str = "member") -> None:
        self.http: FlaskClient = flask.test_client()
        self.name = name
        self.base = f"/v1/apps/{app}"
        answer = self.http.post("/local/sign-in", json={"user": name, "role": role})
        assert answer.status_code == 200, answer.text
        self.token: str = answer.json["token"]

    def call(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        where = path if path.startswith("/") else f"{self.base}/{path}"
        return self.http.open(where, method=method, headers=headers, **options)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.call("GET", path, **options)

    def post(self, path: str, **options: Any) -> TestResponse:
        return self.call("POST", path, **options)

    def ask(self, chat: str, text: str, **body: Any) -> TestResponse:
        return self.post(f"chats/{chat}/messages", json={"text": text, **body})

    def stream(self, chat: str, text: str, **body: Any) -> TestResponse:
        return self.post(
            f"chats/{chat}/messages",
            json={"text": text, **body},
            headers={"Accept": "text/event-stream"},
            buffered=False,
        )

    def upload(
        self, name: str, content: bytes, media_type: str = "text/plain", where: str = "documents"
    ) -> TestResponse:
        head = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: {media_type}\r\n\r\n'
        body = b"--kit\r\n" + head.encode() + content + b"\r\n--kit--\r\n"
        return self.post(where, data=body, headers={"Content-Type": "multipart/form-data; boundary=kit"})

    def add(self, name: str, content: bytes, media_type: str = "text/plain") -> Json:
        """Upload a file and wait until it is searchable or has failed; return its document."""
        answer = self.upload(name, content, media_type)
        assert answer.status_code in (200, 202), answer.text
        return self.wait(answer.json["id"])

    def wait(self, document: str, where: str = "documents") -> Json:
        for _ in range(600):
            found: Json = self.get(f"{where}/{document}").json
            if found["status"] in ("COMPLETED", "FAILED"):
                return found
            time.sleep(0.05)
        raise AssertionError(f"{document} is still {found['status']}")


def events(response: TestResponse) -> list[Event]:
    """The events of an answer that was streamed to its end; heartbeats are left out."""
    return list(parse_events(response.get_data(as_text=True)))


def parse_events(text: str) -> Iterator[Event]:
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            yield Event(fields["event"], json.loads(fields["data"]))
