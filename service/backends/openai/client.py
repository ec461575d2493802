"""The HTTP client of the streams: one connection pool per event loop, and calls whose deadlines only progress moves.

It asks for no compression and takes none, follows nothing, knows no proxy and no cookie, and reads no more than `MAX_BODY_BYTES`.
Imported only when the first call is made, for it imports what reads HTTP and what knows the certificates that are trusted.
"""

from __future__ import annotations

import asyncio
import weakref
from base64 import b64encode
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote, unquote, urlsplit

import httpcore2
from httptools import HttpParserError, HttpParserUpgrade

from service import __version__
from service.backends.openai.connection import Answer, Lost, Pool, Unreached
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
TOO_MUCH = "The model's provider sent an answer that is too long."
HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": f"brainstem/{__version__}",
}
SENT_AS_THEY_ARE = "/%:@!$&'()*+,;="
"""What else may be in the path of an address (RFC 3986, section 3.3)."""


class Refused(Exception):
    """The provider answered something else than 2xx. It has no text: a refusal's words may hold the key."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self.refusal = refusal


MEANINGS: tuple[tuple[type[Exception], type[BrainstemError], str], ...] = (
    (Unreached, Unavailable, UNREACHABLE),
    (Lost, UpstreamInterrupted, BROKEN_OFF),
    (HttpParserError, UpstreamProtocol, UNREADABLE),
    (HttpParserUpgrade, UpstreamProtocol, UNREADABLE),
    (TimeoutError, DeadlineExceeded, TOO_SLOW),
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


@dataclass(frozen=True, slots=True)
class Address:
    """Where requests go, and what is the same in the head of each: `credentials` are those of the address itself, if it has any."""

    host: str
    port: int
    tls: bool
    head: str
    credentials: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read an `http` or `https` address; raises `ValueError` for one that no request can go to."""
        parts = urlsplit(url)
        tls, host = parts.scheme == "https", parts.hostname or ""
        if not host.isascii():
            host = host.encode("idna").decode()
        named = f"[{host}]" if ":" in host else host
        authority = named if parts.port in (None, 443 if tls else 80) else f"{named}:{parts.port}"
        path = quote(parts.path or "/", safe=SENT_AS_THEY_ARE)
        target = f"{path}?{quote(parts.query, safe=SENT_AS_THEY_ARE + '?')}" if parts.query else path
        lines = [f"POST {target} HTTP/1.1", f"Host: {authority}", *(f"{name}: {HEADERS[name]}" for name in HEADERS)]
        words = ":".join(unquote(word or "") for word in (parts.username, parts.password))
        credentials = f"Basic {b64encode(words.encode()).decode()}" if words != ":" else ""
        return cls(host, parts.port or (443 if tls else 80), tls, "".join(f"{line}\r\n" for line in lines), credentials)

    def request(self, body: bytes, key: str) -> bytes:
        # An address with a name and password in it is asked with those.
        authorization = self.credentials or f"Bearer {sendable(key)}"
        head = f"{self.head}Authorization: {authorization}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode("ascii") + body


class Client:
    """Asks one address, from whatever loop; a loop's connections end with it or with this, whichever comes first."""

    def __init__(self, url: str, connect_seconds: float) -> None:
        """Read the certificates that are trusted, which takes a moment: not on a loop."""
        self._url = url
        self._connect_seconds = connect_seconds
        self._tls = httpcore2.default_ssl_context()
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}

    async def post(self, body: bytes, key: str) -> Answer:
        """Send a request and return its answer, of which nothing has come yet."""
        request = self._address.request(body, key)
        pool = self._pools.get(asyncio.get_running_loop()) or await self._open()
        return await pool.ask(request)

    @cached_property
    def _address(self) -> Address:
        return Address.parse(self._url)

    async def _open(self) -> Pool:
        loop, address = asyncio.get_running_loop(), self._address
        for gone in [other for other in self._pools if other.is_closed()]:
            del self._pools[gone]
        tls = self._tls if address.tls else None
        pool = self._pools[loop] = Pool(address.host, address.port, tls, self._connect_seconds)
        lifetime = lasting(pool)
        weakref.finalize(self, end, loop, lifetime).atexit = False
        await anext(lifetime)
        return pool


def sendable(key: str) -> str:
    """Return a key that a header can hold; raises `UpstreamConfig` for any other, without a word of it."""
    if not key.isascii() or not key.isprintable() or key != key.strip():
        raise UpstreamConfig(UNSENDABLE)
    return key


async def lasting(pool: Pool) -> AsyncGenerator[None, None]:
    """Close a pool at the end: a loop that shuts down ends its generators."""
    try:
        yield
    finally:
        pool.close()


def end(loop: asyncio.AbstractEventLoop, lifetime: AsyncGenerator[None, None]) -> None:
    if not loop.is_closed():
        asyncio.run_coroutine_threadsafe(lifetime.aclose(), loop)


class Call:
    """One call, with all its attempts, on the loop that it is made on."""

    def __init__(self, client: Client, seconds: float) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._deadline = self._began + seconds
        self._timer: asyncio.TimerHandle | None = None
        self._answer: Answer | None = None
        self._waiting = False
        self._size = 0

    async def open(self, body: bytes, key: str, retries: Retries) -> None:
        """Send a request until it is answered with 2xx or no attempt may help; raises one of `FAILURES`."""
        async with asyncio.timeout_at(self._deadline):
            attempt = 0
            while True:
                try:
                    return await self._ask(body, key)
                except FAILURES as exc:
                    refusal = exc.refusal if isinstance(exc, Refused) else None
                    if not refusal and not another_connection(exc, attempt):
                        raise
                    pause = retries.pause(refusal, attempt, self._loop.time() - self._began)
                    if pause is None:
                        raise
                await asyncio.sleep(pause)
                attempt += 1

    async def read(self) -> bytes:
        """Return what has come of the answer since, empty once it has ended; raises one of `FAILURES`."""
        assert self._answer
        self._waiting = True
        try:
            data = await self._answer.read()
        finally:
            self._waiting = False
        self._size += len(data)
        if self._size > MAX_BODY_BYTES:
            raise UpstreamProtocol(TOO_MUCH)
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
        if self._answer:
            self._answer.close()

    async def _ask(self, body: bytes, key: str) -> None:
        self._answer = answer = await self._client.post(body, key)
        try:
            await answer.head()
            see_encoding(answer)
            if not answer.is_well:
                raise refused(answer, await beginning(answer))
        except BaseException:
            self.close()
            raise
        self._set()

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
            assert self._answer
            self._answer.fail(TimeoutError())
            self.close()


def see_encoding(answer: Answer) -> None:
    if answer.headers.get(b"content-encoding", b"identity") != b"identity":
        raise UpstreamProtocol("The model's provider compressed its answer, though it was asked not to.")


def refused(answer: Answer, told: bytes) -> Refused:
    return Refused(Refusal.parse(answer.status, told, answer.headers.get(b"retry-after", b"").decode("latin-1")))


async def beginning(answer: Answer) -> bytes:
    """Return the beginning of an error, which alone is of interest."""
    told = bytearray()
    while len(told) < MAX_ERROR_BYTES and (data := await answer.read()):
        told += data
    return bytes(told[:MAX_ERROR_BYTES])


def another_connection(exc: Exception, attempt: int) -> bool:
    """Whether nothing reached the provider: no connection, or one that it had closed after an earlier call."""
    if isinstance(exc, Unreached):
        # Where it took all the time there is to connect, twice is enough.
        return attempt == 0 or not exc.slowly
    return isinstance(exc, Lost) and exc.stale
