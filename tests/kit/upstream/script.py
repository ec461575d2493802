"""What a scripted response is made of: steps, in the order in which they are played."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, TypeAlias


class Gate:
    """A point in an answer that is passed only once the test opens it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._opened = threading.Event()

    def open(self) -> None:
        self._opened.set()

    @property
    def is_open(self) -> bool:
        return self._opened.is_set()


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is sent for some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hang:
    """Nothing is sent until the client leaves."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset."""


@dataclass(frozen=True, slots=True)
class Close:
    """The connection is closed in good order, in the midst of whatever was sent."""


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes on the socket, outside of the response's framing."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Repeat:
    """Body bytes sent again and again, until the client leaves or `times` is reached."""

    content: bytes
    pause: float = 0.0
    times: int | None = None


Step: TypeAlias = str | bytes | Mapping[str, Any] | Gate | Pause | Hang | Reset | Close | Raw | Repeat
"""A `str` is a delta, a mapping an event's JSON, `bytes` are body bytes as they are."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came in; header names in lower case, `at` by the monotonic clock."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Response:
    """Any response; "chunked" and "length" frame the body, "close" ends it with the connection."""

    steps: Sequence[Step] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"
    framing: Literal["chunked", "length", "close"] = "chunked"

    def head(self) -> bytes:
        headers = {"content-type": self.media_type, "x-request-id": "req_scripted", **self.headers}
        if self.framing == "chunked":
            headers["transfer-encoding"] = "chunked"
        elif self.framing == "length":
            headers["content-length"] = str(sum(len(step) for step in self.steps if isinstance(step, bytes)))
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}", *map(": ".join, headers.items())]
        return "\r\n".join([*lines, "", ""]).encode()

    def framed(self, content: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(content), content) if self.framing == "chunked" else content


@dataclass(frozen=True, slots=True)
class Verbatim(Response):
    """A response of which every byte is in its steps, its head as well."""

    framing: Literal["chunked", "length", "close"] = "length"

    def head(self) -> bytes:
        return b""


def chunk(model: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": model,
        "choices": choices,
    }


def choice(delta: Mapping[str, Any] | None, finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def event(content: str | Mapping[str, Any]) -> bytes:
    """Encode a delta, or an event's JSON, as a server-sent event."""
    told = chunk("scripted", [choice({"content": content})]) if isinstance(content, str) else content
    return b"data: " + json.dumps(told, ensure_ascii=False).encode() + b"\n\n"


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response([json.dumps(value).encode()], status, headers or {}, framing="length")
