"""`gunicorn --worker-class bench.engines.handed.Worker bench.engines.handed:app`: the socket is handed to the loop for a stream."""

from __future__ import annotations

import asyncio
import errno
import io
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import cache
from typing import TYPE_CHECKING, Any

import uvloop
from flask import Flask
from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]  # nothing of gunicorn has types

from bench.engines.relay import EVENT_STREAM, Relay, flask_app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

HANDED = object()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Taken(BrokenPipeError):
    """A stream was asked for; an error, so that gunicorn does nothing more with the connection."""

    def __init__(self, asked: bytes) -> None:
        super().__init__(errno.EPIPE, "")
        self.asked = asked


@cache
def made() -> tuple[Relay, Flask]:
    """Start the loop's thread, after the fork."""
    relay = Relay(uvloop.new_event_loop())
    threading.Thread(target=relay.loop.run_forever, daemon=True).start()
    return relay, flask_app(relay)


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    asked = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    told: list[tuple[str, str]] = []

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Callable[[bytes], object]:
        told[:] = headers
        return start_response(status, headers, *rest)

    body = made()[1](environ | {"wsgi.input": io.BytesIO(asked)}, start)
    if dict(told).get("Content-Type", "").startswith(EVENT_STREAM):
        raise Taken(asked)
    return body


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's threaded worker, which gives a connection away and takes it back when its stream has ended."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._thread = threading.local()

    def handle(self, conn: TConn) -> object:
        self._thread.handed = False
        stays: object = super().handle(conn)
        return HANDED if self._thread.handed else stays

    def handle_request(self, req: Any, conn: TConn) -> bool:
        try:
            stays: bool = super().handle_request(req, conn)
        except Taken as taken:
            self._thread.handed = True
            conn.sock.setblocking(False)
            asyncio.run_coroutine_threadsafe(self._pump(conn, taken.asked), made()[0].loop)
            return False
        return stays

    async def _pump(self, conn: TConn, asked: bytes) -> None:
        relay, stays = made()[0], True
        try:
            await relay.loop.sock_sendall(conn.sock, HEAD)
            async for piece in relay.pieces(asked):
                await relay.loop.sock_sendall(conn.sock, b"%x\r\n%s\r\n" % (len(piece), piece))
            await relay.loop.sock_sendall(conn.sock, b"0\r\n\r\n")
        except OSError:
            stays = False
        self.method_queue.defer(self._take_back, conn, stays)

    def _take_back(self, conn: TConn, stays: bool) -> None:
        result: Future[bool] = Future()
        result.set_result(stays)
        super().finish_request(conn, result)

    def finish_request(self, conn: TConn, fs: Future[object]) -> None:
        if fs.cancelled() or fs.exception() or fs.result() is not HANDED:
            super().finish_request(conn, fs)
