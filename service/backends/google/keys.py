"""Google's public keys: fetched over HTTP, validated before they are believed, and kept while Google cannot be reached.

Sources: "Verify ID tokens using a third-party JWT library" (max-age of the certificates) and "Verify App Check tokens from a custom
backend" (six hours at most) in the Firebase documentation.
"""

from __future__ import annotations

import http.client
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from service.backends.jwts import UNKNOWN_KEY
from service.errors import InvalidToken, Unavailable
from service.logging import event

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from service.backends.google.key_formats import PublicKeys

FETCH_SECONDS = 3.0
"""What one fetch may take in all, and so what a request waits at most."""
UNKNOWN_KEY_SECONDS = 10.0
"""Between two fetches while there are keys, however many tokens name others."""
NO_KEYS_SECONDS = 1.0
"""Between two fetches while there are none, and every request fails."""
LEAST_SECONDS, USUAL_SECONDS, MOST_SECONDS = 60.0, 3600.0, 6 * 3600.0
"""How long keys count as fresh: what the answer says, within limits."""
OUTLIVE_SECONDS = 12 * 3600.0
"""How long keys outlive that if no others can be had. For so long, at most, a key that Google withdrew is still believed."""

MAX_BYTES = 256 * 1024
UNAVAILABLE = "The keys that prove tokens cannot be had."


class KeySet:
    """The keys that one address publishes. A fetch runs in a thread of its own, so that nobody waits for it who has keys."""

    def __init__(
        self,
        url: str,
        read: Callable[[bytes], PublicKeys],
        *,
        clock: Callable[[], float] = time.monotonic,
        seconds: float = FETCH_SECONDS,
    ) -> None:
        self.url = url
        self._read = read
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._published: tuple[PublicKeys, float] = ({}, 0.0)
        """The keys, and until when they are fresh: replaced as one, so that it can be read without the lock."""
        self._attempted: float | None = None
        self._failed = False
        self._running: threading.Event | None = None

    def get(self, kid: str) -> RSAPublicKey:
        """Return a key; raises `InvalidToken` if Google has no such key, `Unavailable` if that cannot be found out now."""
        published, fresh_until = self._published
        key = published.get(kid)
        if key and self._clock() < fresh_until:
            return key
        with self._lock:
            key = self._usable().get(kid)
            running = self._refresh()
        if key:
            return key
        self._wait(running)
        with self._lock:
            keys, failed = self._usable(), self._failed or self._running is not None
        if kid in keys:
            return keys[kid]
        # A key that is not among ours may be a new one that we failed to hear of.
        if failed or not keys:
            raise self._unavailable()
        raise InvalidToken(UNKNOWN_KEY)

    def check(self) -> None:
        """Raise `Unavailable` if there is no key to prove a token with."""
        with self._lock:
            running = None if self._usable() else self._refresh()
        self._wait(running)
        with self._lock:
            if not self._usable():
                raise self._unavailable()

    def _unavailable(self) -> Unavailable:
        return Unavailable(UNAVAILABLE, retry_after=int(self._pause()))

    def _wait(self, running: threading.Event | None) -> None:
        """Wait for a fetch, though not beyond the time that it may take, whenever it began."""
        if running and self._attempted is not None:
            running.wait(max(0.0, self._attempted + self._seconds - self._clock()))

    def _usable(self) -> PublicKeys:
        keys, fresh_until = self._published
        return keys if self._clock() < fresh_until + OUTLIVE_SECONDS else {}

    def _pause(self) -> float:
        return UNKNOWN_KEY_SECONDS if self._usable() else NO_KEYS_SECONDS

    def _refresh(self) -> threading.Event | None:
        """Return what is set when the fetch under way has ended; one is begun if the last one is long enough ago."""
        now = self._clock()
        if self._running is None and (self._attempted is None or now - self._attempted >= self._pause()):
            ended = threading.Event()
            try:
                threading.Thread(target=self._fetch, args=(ended,), name="keys", daemon=True).start()
            except RuntimeError:  # there are too many threads; whoever has keys goes on with them
                self._failed = True
                return None
            self._running, self._attempted = ended, now
        return self._running

    def _fetch(self, ended: threading.Event) -> None:
        found: PublicKeys = {}
        fresh = 0.0
        try:
            content, fresh = fetch(self.url, self._seconds)
            found = self._read(content)
        except (OSError, http.client.HTTPException, ValueError) as error:
            event("keys_not_fetched", logging.WARNING, error, url=self.url)
        finally:
            with self._lock:
                self._failed, self._running = not found, None
                if found:
                    self._published = found, self._clock() + fresh
            ended.set()


def fetch(url: str, seconds: float) -> tuple[bytes, float]:
    """Return what an address serves and for how many seconds it is fresh; raises `OSError`, `HTTPException` or `ValueError`.

    A socket's own timeout begins anew with each byte that drips in, so a timer ends the connection when the time is over.
    """
    parts = urlsplit(url)
    connection = connect(parts.scheme, parts.netloc, seconds)
    with closing(connection):
        connection.connect()
        over = threading.Event()
        timer = threading.Timer(seconds, end, (connection.sock, over))
        timer.start()
        try:
            connection.request("GET", parts.path, headers={"Accept": "application/json", "User-Agent": "brainstem"})
            response = connection.getresponse()
            content = response.read(MAX_BYTES + 1)
        finally:
            timer.cancel()
        if over.is_set():
            raise TimeoutError
        if response.status != 200 or len(content) > MAX_BYTES:
            raise ValueError(response.status)
        return content, freshness(response.headers.get("Cache-Control", ""), response.headers.get("Age", ""))


def connect(scheme: str, host: str, seconds: float) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(host, timeout=seconds, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, timeout=seconds)


def end(connected: socket.socket, over: threading.Event) -> None:
    """Wake the thread that reads: it takes the plain socket's method, for a TLS socket's would take away its state."""
    over.set()
    with suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


def freshness(cache_control: str, age: str) -> float:
    """Return for how many seconds an answer is fresh (RFC 9111, section 4.2), within our limits."""
    stated = re.search(r"(?:^|[\s,])max-age=(\d{1,9})", cache_control, re.IGNORECASE)
    passed = int(age) if re.fullmatch(r"\d{1,9}", age) else 0
    seconds = int(stated[1]) - passed if stated else USUAL_SECONDS
    return min(max(seconds, LEAST_SECONDS), MOST_SECONDS)
