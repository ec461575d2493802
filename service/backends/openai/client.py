"""The HTTP client of the streams: one connection pool per event loop, and calls whose deadlines only progress moves.

It asks for no compression and takes none, follows nothing, knows no proxy and no cookie, and reads no more than `MAX_BODY_BYTES`.
Imported only when the first call is made, for it imports aiohttp.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import weakref
from collections.abc import AsyncGenerator
from contextvars import ContextVar

import aiohttp
import httpcore2
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from service import __version__
from service.backends.openai.refusals import (
    BROKEN_OFF,
    TOO_SLOW,
    UNREACHABLE,
    UNREADABLE,
    UNSENDABLE,
    Refusal,
    Retries,
)
from service.errors import (
    BrainstemError,
    DeadlineExceeded,
    Unavailable,
    UpstreamConfig,
    UpstreamInterrupted,
    UpstreamProtocol,
)

MAX_BODY_BYTES = 64_000_000
MAX_ERROR_BYTES = 100_000
KEEP_ALIVE_SECONDS = 30.0


class Refused(Exception):
    """The provider answered something else than 2xx. It has no text: a refusal's words may hold the key."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self.refusal = refusal


MEANINGS: tuple[tuple[type[Exception], type[BrainstemError], str], ...] = (
    (aiohttp.ConnectionTimeoutError, Unavailable, UNREACHABLE),
    (aiohttp.ClientConnectorError, Unavailable, UNREACHABLE),
    (aiohttp.ServerFingerprintMismatch, Unavailable, UNREACHABLE),
    (aiohttp.ClientHttpProxyError, Unavailable, UNREACHABLE),
    (aiohttp.InvalidURL, UpstreamConfig, UNSENDABLE),
    (aiohttp.NonHttpUrlClientError, UpstreamConfig, UNSENDABLE),
    (aiohttp.ClientPayloadError, UpstreamInterrupted, BROKEN_OFF),
    (aiohttp.UploadAbortedError, UpstreamInterrupted, BROKEN_OFF),
    (aiohttp.EofStream, UpstreamInterrupted, BROKEN_OFF),
    (aiohttp.WebSocketError, UpstreamProtocol, UNREADABLE),
    (aiohttp.WSMessageTypeError, UpstreamProtocol, UNREADABLE),
    (TimeoutError, DeadlineExceeded, TOO_SLOW),
    (aiohttp.ClientConnectionError, UpstreamInterrupted, BROKEN_OFF),
    (aiohttp.ClientError, UpstreamProtocol, UNREADABLE),
    (HttpProcessingError, UpstreamProtocol, UNREADABLE),
    (OSError, Unavailable, UNREACHABLE),
    # What an address or a text makes of a request, before anything is sent: half a surrogate pair, say.
    (ValueError, UpstreamConfig, UNSENDABLE),
)
FAILURES: tuple[type[Exception], ...] = (BrainstemError, Refused, *(failure for failure, _, _ in MEANINGS))


def mapped(exc: Exception) -> BrainstemError:
    """Return our error for a failure of a call."""
    if isinstance(exc, BrainstemError):
        return exc
    if isinstance(exc, Refused):
        return exc.refusal.error()
    for failure, error, detail in MEANINGS:
        if isinstance(exc, failure):
            return error(detail)
    raise exc


class Reached:
    """Whether a request reached the provider on a connection that was made for it, for otherwise that had served another."""

    new = False


reaching: ContextVar[Reached] = ContextVar("reaching")


class Client:
    """Asks one address, from whatever loop; a loop's connections end with it or with this, whichever comes first."""

    def __init__(self, url: str, connect_seconds: float) -> None:
        """Read the certificates that are trusted, which takes a moment: not on a loop."""
        self._url = url
        self._connect_seconds = connect_seconds
        self._tls = httpcore2.default_ssl_context()
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}
        # At lower levels they log addresses, bodies and headers, whatever the environment says.
        for name in ("aiohttp.client", "aiohttp.internal"):
            logging.getLogger(name).setLevel(logging.WARNING)

    async def post(self, body: bytes, key: str, reached: Reached) -> aiohttp.ClientResponse:
        """Send a request and return its answer, unread."""
        reaching.set(reached)
        session, url = await self._session(), URL(self._url)
        # An address with a name and password in it is asked with those.
        headers = {} if url.user else {"Authorization": f"Bearer {sendable(key)}"}
        return await session.post(url, data=body, headers=headers, allow_redirects=False)

    async def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            for gone in [other for other in self._sessions if other.is_closed()]:
                del self._sessions[gone]
            session = self._sessions[loop] = self._open()
            lifetime = lasting(session)
            weakref.finalize(self, end, loop, lifetime).atexit = False
            await anext(lifetime)
        return self._sessions[loop]

    def _open(self) -> aiohttp.ClientSession:
        # No limit of its own: there are as many calls as the service has streams.
        connector = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS, ssl=self._tls, socket_factory=connect
        )
        return aiohttp.ClientSession(
            connector=connector,
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
                "User-Agent": f"brainstem/{__version__}",
            },
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_seconds),
            auto_decompress=False,
            trust_env=False,
        )


def sendable(key: str) -> str:
    """Return a key that a header can hold; raises `UpstreamConfig` for any other, without a word of it."""
    if not key.isascii() or not key.isprintable() or key != key.strip():
        raise UpstreamConfig(UNSENDABLE)
    return key


async def lasting(session: aiohttp.ClientSession) -> AsyncGenerator[None, None]:
    """Close a session at the end: a loop that shuts down ends its generators."""
    try:
        yield
    finally:
        await session.close()


def end(loop: asyncio.AbstractEventLoop, lifetime: AsyncGenerator[None, None]) -> None:
    if not loop.is_closed():
        asyncio.run_coroutine_threadsafe(lifetime.aclose(), loop)


def connect(address: aiohttp.AddrInfoType) -> socket.socket:
    reaching.get().new = True
    return socket.socket(*address[:3])


class Call:
    """One call, with all its attempts, on the loop that it is made on."""

    def __init__(self, client: Client, seconds: float) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._deadline = self._began + seconds
        self._timer: asyncio.TimerHandle | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._lost: asyncio.Future[None] | None = None
        self._waiting = False
        self._size = 0

    async def open(self, body: bytes, key: str, retries: Retries) -> None:
        """Send a request until it is answered with 2xx or no attempt may help; raises one of `FAILURES`."""
        async with asyncio.timeout_at(self._deadline):
            attempt = 0
            while True:
                reached = Reached()
                try:
                    return await self._ask(body, key, reached)
                except FAILURES as exc:
                    refusal = exc.refusal if isinstance(exc, Refused) else None
                    if not refusal and not another_connection(exc, attempt, reused=not reached.new):
                        raise
                    pause = retries.pause(refusal, attempt, self._loop.time() - self._began)
                    if pause is None:
                        raise
                await asyncio.sleep(pause)
                attempt += 1

    async def read(self) -> bytes:
        """Return what has come of the answer since, empty once it has ended; raises one of `FAILURES`."""
        assert self._response is not None
        content = self._response.content
        self._waiting = True
        try:
            data = await content.readany()
        except FAILURES:
            # A failure is told before the bytes that had come earlier, and nothing public gives those then.
            data = content._read_nowait(-1)
            if not data:
                raise
        finally:
            self._waiting = False
        self._size += len(data)
        if self._size > MAX_BODY_BYTES:
            raise UpstreamProtocol("The model's provider sent an answer that is too long.")
        return data

    def allow(self, seconds: float) -> None:
        """Give the call so many seconds from now until its next progress."""
        self._deadline = self._loop.time() + seconds
        # A timer that rings too early is set anew then: so the many chunks of an answer set one timer.
        if self._timer is None or self._timer.when() > self._deadline:
            self._set()

    def close(self) -> None:
        """End the call now, and its connection with it unless the answer has ended."""
        if self._timer:
            self._timer.cancel()
        if self._lost:
            self._lost.remove_done_callback(self._broken)
        if self._response and not self._response.closed:
            connection = self._response.connection
            # To close it would wait for the other side where there is TLS.
            if connection and connection.transport:
                connection.transport.abort()
            self._response.close()

    async def _ask(self, body: bytes, key: str, reached: Reached) -> None:
        response = await self._client.post(body, key, reached)
        self._response = response
        self._watch(response)
        try:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise UpstreamProtocol("The model's provider compressed its answer, though it was asked not to.")
            if not 200 <= response.status < 300:
                told = await beginning(response.content)
                raise Refused(Refusal.parse(response.status, told, response.headers.get("Retry-After", "")))
        except BaseException:
            self.close()
            raise
        self._set()

    def _watch(self, response: aiohttp.ClientResponse) -> None:
        """See that what breaks HTTP ends the call: aiohttp then closes the connection, but lets whoever reads it wait."""
        protocol = response.connection.protocol if response.connection else None
        self._lost = None if protocol is None else protocol.closed
        if self._lost is None:
            self._broken()
        else:
            self._lost.remove_done_callback(retrieved)
            self._lost.add_done_callback(retrieved)
            self._lost.add_done_callback(self._broken)

    def _broken(self, lost: asyncio.Future[None] | None = None) -> None:
        assert self._response is not None
        content = self._response.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(UpstreamProtocol(UNREADABLE))

    def _set(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        # The time that whoever reads us takes is not the provider's: `allow` begins anew when they come back.
        if not self._waiting:
            return
        if self._loop.time() < self._deadline:
            self._set()
        else:
            assert self._response is not None
            self._response.content.set_exception(aiohttp.SocketTimeoutError())
            self.close()


async def beginning(content: aiohttp.StreamReader) -> bytes:
    """Return the beginning of an error, which alone is of interest."""
    told = bytearray()
    while len(told) < MAX_ERROR_BYTES and (data := await content.readany()):
        told += data
    return bytes(told[:MAX_ERROR_BYTES])


def retrieved(closed: asyncio.Future[None]) -> None:
    """Look at why a connection was lost, which asyncio complains of where nobody does."""
    if not closed.cancelled():
        closed.exception()


def another_connection(exc: Exception, attempt: int, *, reused: bool) -> bool:
    """Whether nothing reached the provider: no connection, or one that it had closed after an earlier call."""
    if isinstance(exc, aiohttp.ConnectionTimeoutError):
        # It took all the time there is to connect; twice is enough.
        return attempt == 0
    if isinstance(exc, aiohttp.ClientConnectorError):
        return True
    return reused and isinstance(exc, aiohttp.ClientConnectionError)
