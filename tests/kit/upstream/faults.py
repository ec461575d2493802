"""The ways in which upstreams fail, ready to be scripted: `upstream.script(faults.status(503), times=3)`."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tests.kit.upstream.replies import Answer
from tests.kit.upstream.script import (
    Close,
    Gate,
    Hang,
    Pause,
    Raw,
    Repeat,
    Reset,
    Response,
    Step,
    choice,
    chunk,
    json_response,
)

LEAKED_KEY = "sk-test-LEAKED-0123456789"


def status(code: int, error: Mapping[str, Any] | None = None, retry_after: float | None = None) -> Response:
    """An error in OpenAI's form; give `error` its fields, such as `code`."""
    told = {"message": "Scripted failure.", "type": "scripted", "param": None, "code": None, **(error or {})}
    return json_response({"error": told}, code, {} if retry_after is None else {"retry-after": str(retry_after)})


def rate_limited(retry_after: float | None = None) -> Response:
    return status(429, {"type": "requests", "code": "rate_limit_exceeded"}, retry_after)


def insufficient_quota() -> Response:
    return status(429, {"type": "insufficient_quota", "code": "insufficient_quota"})


def key_leak(code: int = 401) -> Response:
    """A refusal that repeats a part of the key, as OpenAI's does."""
    return status(code, {"message": f"Incorrect API key provided: {LEAKED_KEY}.", "code": "invalid_api_key"})


def unknown_model() -> Response:
    return status(404, {"message": f"No such model, says {LEAKED_KEY}.", "code": "model_not_found"})


def context_too_long() -> Response:
    return status(400, {"type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"})


def option_refused(name: str) -> Response:
    """A server that does not know an option of the request, such as `stream_options`."""
    return status(400, {"message": f"Unrecognized request argument supplied: {name}", "param": name})


def html(code: int = 200) -> Response:
    return Response([b"<html><h1>Welcome to the proxy</h1></html>"], code, media_type="text/html", framing="length")


def json_for_stream() -> Response:
    """A whole completion with status 200 where a stream was asked for."""
    return Answer(["Hello"]).whole({"model": "scripted", "messages": []})


def empty(media_type: str = "text/event-stream") -> Response:
    return Response([], media_type=media_type, framing="length")


def redirect(location: str) -> Response:
    return Response([], 307, {"location": location}, framing="length")


def stream(*steps: Step, media_type: str = "text/event-stream") -> Response:
    """A stream of exactly these steps: no role chunk before, no finish, usage or `[DONE]` after."""
    return Response(steps, media_type=media_type)


def no_finish(*deltas: str) -> Response:
    """A stream that just ends: no finish reason, no `[DONE]`, a closed connection."""
    return Response(deltas, media_type="text/event-stream", framing="close")


def reset_after(*deltas: str) -> Response:
    return stream(*deltas, Pause(0.05), Reset())


def truncated_chunk(*deltas: str) -> Response:
    """A connection that closes within a chunk of the transfer encoding."""
    return stream(*deltas, Raw(b"ff\r\ndata: "), Close())


def malformed(*deltas: str) -> Response:
    return stream(*deltas, b'data: {"choices": [{"delta": \n\n')


def bad_utf8(*deltas: str) -> Response:
    return stream(*deltas, b'data: {"choices": [{"index": 0, "delta": {"content": "\xff\xfe"}}]}\n\n')


def error_event(*deltas: str, code: str = "server_error") -> Response:
    """An error object in the midst of a stream of status 200."""
    return stream(*deltas, {"error": {"message": f"It broke: {LEAKED_KEY}", "type": code, "code": code}})


def hang() -> Response:
    """A request that is accepted and never answered."""
    return stream(Hang())


def stall(*deltas: str, gate: Gate | None = None) -> Response:
    """A stream that stops after some deltas, until the gate opens or for good."""
    return stream(*deltas, gate or Hang(), chunk("scripted", [choice({}, "stop")]), b"data: [DONE]\n\n")


def pings(pause: float, *deltas: str) -> Response:
    """A stream that sends nothing but comments, without end."""
    return stream(*deltas, Repeat(b": ping\n\n", pause))


def drip(pause: float) -> Response:
    """One event that comes byte by byte, without end."""
    return stream(b"data: ", Repeat(b" ", pause))


def huge_line(size: int = 20_000_000) -> Response:
    """One line of many bytes that never becomes an event."""
    return stream(b"data: ", Repeat(b"x" * 65_536, 0, size // 65_536), b"\n\n")


def huge_answer(size: int = 20_000_000) -> Response:
    """Well-formed deltas without end."""
    told = b"data: " + json.dumps(chunk("scripted", [choice({"content": "x" * 4_096})])).encode() + b"\n\n"
    return stream(Repeat(told, 0, size // 4_096))


def gzip_bomb(size: int = 200_000_000) -> Response:
    """A small compressed body that inflates to `size` bytes."""
    return Response([compressed(size)], 200, {"content-encoding": "gzip"}, "text/event-stream", "length")


@lru_cache(maxsize=4)
def compressed(size: int) -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    return b"".join(packer.compress(b"\n" * 1_000_000) for _ in range(size // 1_000_000)) + packer.flush()
