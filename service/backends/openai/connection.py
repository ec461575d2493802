"""HTTP/1.1 as far as the streams need it: connections that are asked once at a time, what comes of an answer, and who waits idle.

llhttp reads the answers (RFC 9112), through httptools; deadlines are whoever's asks.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Protocol, cast

from aiohappyeyeballs import AddrInfoType, start_connection
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

KEEP_ALIVE_SECONDS = 30.0
ADDRESS_SECONDS = 10.0
"""How long the addresses of a name are kept."""

NEXT_ADDRESS_SECONDS = 0.25
"""How long one address is tried alone before the next is tried beside it (RFC 8305)."""

MAX_UNREAD_BYTES = 131_072
MAX_FRAMING_BYTES = 65_536
"""How much may come between two pieces of a body: heads, sizes of chunks, trailers."""

HEADERS = frozenset({b"content-encoding", b"content-length", b"retry-after", b"transfer-encoding"})


class Unreached(Exception):
    """No connection was made; `slowly` if that took all the time there is to connect."""

    def __init__(self, *, slowly: bool) -> None:
        super().__init__()
        self.slowly = slowly


class Lost(Exception):
    """The connection ended before the answer; `stale` if it had served another and nothing came, so that it ended before it was asked."""

    def __init__(self, *, stale: bool) -> None:
        super().__init__()
        self.stale = stale


class Answer:
    """What has come of an answer and is not read yet. One reader at a time."""

    def __init__(self, connection: Connection) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.ended = False
        self.failure: Exception | None = None
        self.unread = 0
        self._connection = connection
        self._parts: list[bytes] = []
        self._reader: asyncio.Future[None] | None = None

    async def head(self) -> None:
        """Wait for the status and the headers; raises what the answer failed with."""
        while not self.status:
            await self._more()

    async def read(self) -> bytes:
        """Return what has come since, empty once all has; what came before a failure is returned before that is raised."""
        while not self._parts and not self.ended:
            await self._more()
        data = self.take()
        if not self.ended:
            self._connection.resume()
        return data

    def take(self) -> bytes:
        """Return what has come since, without waiting."""
        data = b"".join(self._parts)
        self._parts.clear()
        self.unread = 0
        return data

    @property
    def is_well(self) -> bool:
        return 200 <= self.status < 300

    def close(self) -> None:
        """Want no more of it, which ends the connection unless the answer has ended: another may have that by now."""
        if not self.ended:
            self._connection.abort()

    def begin(self, status: int) -> None:
        self.status = status
        self._wake()

    def feed(self, data: bytes) -> None:
        self._parts.append(data)
        self.unread += len(data)
        self._wake()

    def end(self) -> None:
        self.ended = True
        self._wake()

    def fail(self, failure: Exception) -> None:
        self.failure = failure
        self._wake()

    async def _more(self) -> None:
        if self.failure:
            raise self.failure
        self._reader = asyncio.get_running_loop().create_future()
        await self._reader

    def _wake(self) -> None:
        if self._reader and not self._reader.done():
            self._reader.set_result(None)


class Keeper(Protocol):
    """Where connections wait for their next call."""

    def keep(self, connection: Connection) -> None: ...

    def forget(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """One connection: the parser calls its `on_…` with what it finds in the bytes that come."""

    def __init__(self, pool: Keeper) -> None:
        self._pool = pool
        self._answer: Answer | None = None
        self._parser: HttpResponseParser | None = None
        self._framing = 0
        self._kept = False
        self._used = False
        self._paused = False

    def ask(self, request: bytes) -> Answer:
        """Send a request; its answer fails with `Lost` or `HttpParserError`."""
        # A new one each time, for a trailer may leave the old one in a state of its own.
        self._parser = HttpResponseParser(self)
        # What many servers get wrong, and no reader can take for anything else.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._answer = answer = Answer(self)
        self._framing = 0
        self._transport.write(request)
        return answer

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """End the connection at once: to close it would wait for the other side where there is TLS."""
        self._answer = None
        self._paused = False
        self._pool.forget(self)
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have all that it says, but not its class.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None or self._parser is None:
            # Nobody asked: whoever asks next would take it for their answer.
            self.abort()
            return
        self._framing += len(data)
        try:
            self._parser.feed_data(data)
            if self._framing > MAX_FRAMING_BYTES:
                raise HttpParserError
        except (HttpParserError, HttpParserUpgrade):
            self.abort()
            # One that has ended is whole, whatever came behind it.
            answer.fail(HttpParserError())
            return
        if answer.ended:
            self._release()
        elif answer.unread > MAX_UNREAD_BYTES:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        self._end(whole=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(whole=exc is None)
        # It holds this, so that only the collector of cycles would find the two.
        self._parser = None

    def on_message_begin(self) -> None:
        if self._answer is None:
            raise HttpParserError("more than was asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        # Trailers come when there is a status.
        if name in HEADERS and self._answer and not self._answer.status:
            self._answer.headers[name] = value.strip()

    def on_headers_complete(self) -> None:
        assert self._answer
        assert self._parser
        status = self._parser.get_status_code()
        if status < 200:
            self._answer.headers.clear()
        else:
            self._answer.begin(status)
            self._kept = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        assert self._answer
        self._framing = 0
        self._answer.feed(data)

    def on_message_complete(self) -> None:
        assert self._answer
        if self._answer.status:
            self._answer.end()
            self._answer = None

    def _release(self) -> None:
        # A server that answers before it has read all of a request may not read the rest.
        if self._kept and not self._transport.is_closing() and not self._transport.get_write_buffer_size():
            self._used = True
            self.resume()
            self._pool.keep(self)
        else:
            self.abort()

    def _end(self, *, whole: bool) -> None:
        """Tell whoever waits that nothing more comes; `whole` unless the connection broke."""
        answer = self._answer
        self.abort()
        if answer is None:
            return
        if whole and answer.status and not framed(answer.headers):
            answer.end()
        else:
            answer.fail(Lost(stale=self._used and not self._framing and not answer.status))


def framed(headers: dict[bytes, bytes]) -> bool:
    """Whether a body tells its own end, which otherwise is that of the connection (RFC 9112, section 6.3)."""
    return b"content-length" in headers or headers.get(b"transfer-encoding", b"").lower().endswith(b"chunked")


class Pool:
    """The connections of one loop to one host, as many as there are calls at once; the last used is the first to be used again."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, connect_seconds: float) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._connect_seconds = connect_seconds
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Connection, asyncio.TimerHandle] = {}
        self._addresses: Sequence[AddrInfoType] = ()
        self._known_until = 0.0
        self._closed = False

    async def ask(self, request: bytes) -> Answer:
        """Send a request; raises `Unreached`."""
        if self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
        else:
            connection = await self._connect()
        return connection.ask(request)

    def keep(self, connection: Connection) -> None:
        if self._closed:
            connection.abort()
        else:
            self._idle[connection] = self._loop.call_later(KEEP_ALIVE_SECONDS, connection.abort)

    def forget(self, connection: Connection) -> None:
        if timer := self._idle.pop(connection, None):
            timer.cancel()

    def close(self) -> None:
        self._closed = True
        for connection in list(self._idle):
            connection.abort()

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(self._connect_seconds):
                # uvloop's own `create_connection` tries one address after the other.
                reached = await start_connection(await self._resolve(), happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
                name = self._host.rstrip(".") if self._tls else None
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self), sock=reached, ssl=self._tls, server_hostname=name
                )
        except OSError as exc:
            raise Unreached(slowly=isinstance(exc, TimeoutError)) from None
        return connection

    async def _resolve(self) -> Sequence[AddrInfoType]:
        if self._loop.time() >= self._known_until:
            self._addresses = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._known_until = self._loop.time() + ADDRESS_SECONDS
        return self._addresses
