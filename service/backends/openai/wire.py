"""The one door to providers: an HTTP transport below the SDK's client, whose connections obey their call.

It asks for no compression and takes none, follows nothing, knows no proxy, and reads no more than `MAX_BODY_BYTES`.
Imported only when the first call is made, for it imports the SDK's HTTP client.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from typing import Any

import httpcore2
import httpx2

from service.backends.openai.calls import Call, current
from service.errors import UpstreamProtocol

MAX_BODY_BYTES = 64_000_000
MAX_ERROR_BYTES = 100_000
IDLE_CONNECTIONS = 64
KEEP_ALIVE_SECONDS = 30.0


class Transport(httpx2.BaseTransport):
    """A pool of connections that serve one call at a time."""

    def __init__(self) -> None:
        self._pool = httpcore2.ConnectionPool(
            # No limit of its own: there are as many calls as the service has threads.
            max_connections=None,
            max_keepalive_connections=IDLE_CONNECTIONS,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
            network_backend=Backend(),
            ssl_context=httpcore2.default_ssl_context(),
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        assert isinstance(request.stream, httpx2.SyncByteStream)
        url = request.url
        response = self._pool.handle_request(
            httpcore2.Request(
                request.method,
                httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        answer = httpx2.Response(
            response.status, headers=response.headers, stream=Body(response, current()), extensions=response.extensions
        )
        if answer.headers.get("content-encoding", "identity") != "identity":
            answer.close()
            raise UpstreamProtocol("The model's provider compressed its answer, though it was asked not to.")
        return answer

    def close(self) -> None:
        self._pool.close()


class Body(httpx2.SyncByteStream):
    """A response's body, up to a limit; once it is closed, its line serves another call."""

    def __init__(self, response: httpcore2.Response, call: Call | None) -> None:
        self._response = response
        self._call = call

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for data in self._response.iter_stream():
            size += len(data)
            # Of an error only the beginning is of interest.
            if self._response.status >= 300 and size > MAX_ERROR_BYTES:
                return
            if size > MAX_BODY_BYTES:
                raise UpstreamProtocol("The model's provider sent an answer that is too long.")
            yield data

    def close(self) -> None:
        if self._call and self._call.line:
            self._call.line.reused = True
        self._response.close()


class Line(httpcore2.NetworkStream):
    """A connection. It serves the call that wrote to it last."""

    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner
        self._call: Call | None = None
        self.reused = False

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._call = current()
        if self._call:
            self._call.line, self._call.eof = self, False
        self._inner.write(buffer, self._allowed(timeout))

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._inner.read(max_bytes, self._allowed(timeout))
        if self._call and not data:
            self._call.eof = True
        return data

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return Line(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def _allowed(self, timeout: float | None) -> float | None:
        if self._call is None:
            return timeout
        left = self._call.left
        if left <= 0:
            raise httpcore2.ReadTimeout
        return left


class Backend(httpcore2.NetworkBackend):
    """Connects, within the time allowed for all addresses of a host together."""

    def __init__(self) -> None:
        self._inner = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        failure: httpcore2.NetworkError | httpcore2.TimeoutException = httpcore2.ConnectError()
        addresses = resolved(host, port)
        end = time.monotonic() + (timeout or 0)
        for n, address in enumerate(addresses):
            # Each address gets its share, so that one that swallows connections leaves time for the next.
            share = max(0.01, end - time.monotonic()) / (len(addresses) - n)
            try:
                return Line(self._inner.connect_tcp(address, port, share, local_address, socket_options))
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as exc:
                failure = exc
        raise failure


def resolved(host: str, port: int) -> list[str]:
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError as exc:
        raise httpcore2.ConnectError from exc
