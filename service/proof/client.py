"""A client over a real socket: what is sent goes out as it is written, and the whole answer is kept."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

TIMEOUT_SECONDS = 60
CHANGING = {"date", "x-request-id"}
"""Headers that differ from one answer to the next, whatever was asked."""

REQUEST_ID = re.compile(rb'"requestId":"[0-9a-f]*"')


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent: a body is JSON, or bytes whose type the headers give."""

    method: str
    path: str
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def text(self) -> str:
        """All that the client sees, headers and body."""
        lines = [f"{name}: {value}" for name, value in self.headers]
        return "\n".join([*lines, "", self.body.decode("utf-8", "replace")])

    @property
    def bare(self) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
        """The answer without what differs each time: two of them tell nothing apart."""
        kept = tuple((name, value) for name, value in self.headers if name.lower() not in CHANGING)
        return self.status, kept, REQUEST_ID.sub(b"", self.body)

    def header(self, name: str) -> str:
        return next((value for known, value in self.headers if known.lower() == name), "")

    def json(self) -> dict[str, object]:
        found = json.loads(self.body)
        return found if isinstance(found, dict) else {}


class Client:
    """Sends requests to one service, each thread on a connection of its own that is kept open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._local = threading.local()

    def send(self, request: Request, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request with headers beside its own; one whose kept connection was closed meanwhile is sent again."""
        given = {**(headers or {}), **request.headers}
        body = request.body
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        try:
            return self._exchange(request, body, given)
        except (http.client.HTTPException, ConnectionError):
            self._local.connection = None
            return self._exchange(request, body, given)

    def _exchange(self, request: Request, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_SECONDS)
            self._local.connection = connection
        connection.request(request.method, request.path, body, dict(headers))
        response = connection.getresponse()
        return Answer(response.status, tuple(response.getheaders()), response.read())
