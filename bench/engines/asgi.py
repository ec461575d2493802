"""`gunicorn --worker-class asgi bench.engines.asgi:app`: streams native, everything else by Flask in threads."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask

from bench.engines.relay import EVENT_STREAM, Relay, flask_app

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

THREADS = ThreadPoolExecutor(64)


class Engine:
    """The ASGI application; made at its first request, when there is a loop."""

    def __init__(self) -> None:
        self._made: tuple[Relay, Flask] | None = None

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        if scope["type"] != "http":
            return
        if self._made is None:
            relay = Relay(asyncio.get_running_loop())
            self._made = relay, flask_app(relay)
        relay, flask = self._made
        asked, more = b"", True
        while more:
            message = await receive()
            asked, more = asked + message.get("body", b""), message.get("more_body", False)
        status, headers, body = await relay.loop.run_in_executor(THREADS, call, flask, scope, asked)
        if dict(headers).get(b"content-type", b"").startswith(EVENT_STREAM.encode()):
            headers = [(name, value) for name, value in headers if name != b"content-length"]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            async for piece in relay.pieces(asked):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        else:
            await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def call(flask: Flask, scope: Message, asked: bytes) -> tuple[int, Headers, bytes]:
    """Call a WSGI application, and return the status, headers and body that it answers."""
    told: list[tuple[int, Headers]] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: object) -> Callable[[bytes], object]:
        told.append((int(status[:3]), [(name.lower().encode(), value.encode()) for name, value in headers]))
        return sys.stderr.buffer.write

    sent = {f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode() for name, value in scope["headers"]}
    host, port = scope["server"]
    environ = {
        **sent,
        "REQUEST_METHOD": scope["method"],
        "PATH_INFO": scope["path"],
        "QUERY_STRING": scope["query_string"].decode(),
        "CONTENT_TYPE": sent.get("HTTP_CONTENT_TYPE", ""),
        "CONTENT_LENGTH": str(len(asked)),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": io.BytesIO(asked),
        "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
    }
    body = b"".join(flask(environ, start_response))
    return *told[0], body


app = Engine()
