"""REST calls with Google's credentials: several at once, each tried again while it may help, all within one deadline."""

from __future__ import annotations

import random
import socket
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from service.backends import vertex_ai
from service.config import Settings
from service.errors import DeadlineExceeded, Unavailable, UpstreamProtocol

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.auth.transport.requests import AuthorizedSession

AT_ONCE = 32
"""Requests of this process under way at once."""

ATTEMPTS = 4
LONGEST_PAUSE = 20.0
MAX_BODY_BYTES = 64_000_000
TOO_SLOW = "Vertex AI did not answer in time."


class Calls:
    """Posts JSON to one address. Its session and its threads are made with the first call."""

    def __init__(self, settings: Settings, url: str, credentials: Credentials | None) -> None:
        self._settings = settings
        self._url = url
        self._credentials = credentials
        self._lock = threading.Lock()
        self._session: AuthorizedSession | None = None
        self._threads = ThreadPoolExecutor(AT_ONCE, "vertex-embeddings")

    def post(self, bodies: Sequence[bytes], *, wait: bool = True) -> list[bytes]:
        """Return the answer to each body; raises `DependencyError` of the first that fails, or when time is up.

        With `wait=False` a call is not tried again where Vertex AI says that we ask too much.
        """
        deadline = time.monotonic() + self._settings.first_byte_seconds
        calls = [self._threads.submit(self._post, body, deadline, wait) for body in bodies]
        # A server that lets headers drip is never silent: then its thread waits on, and whoever asked does not.
        _, late = wait_for(calls, max(0.0, deadline - time.monotonic()))
        for call in late:
            call.cancel()
        failed = [error for call in calls if call not in late and (error := call.exception())]
        if failed or late:
            raise failed[0] if failed else DeadlineExceeded(TOO_SLOW)
        return [call.result() for call in calls]

    def check(self) -> None:
        """See that there are credentials and that the server takes connections; no call is made, for calls cost."""
        from service.backends.google.embeddings.failures import FAILURES, mapped

        parts = urlsplit(self._url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            self._open()
            socket.create_connection((parts.hostname or "", port), self._settings.connect_seconds).close()
        except FAILURES as exc:
            raise Unavailable(mapped(exc).detail) from None

    def _post(self, body: bytes, deadline: float, wait: bool) -> bytes:
        from service.backends.google.embeddings.failures import FAILURES, mapped, pause_before_another

        attempt = 0
        while True:
            try:
                return self._send(body, deadline)
            except FAILURES as exc:
                pause = pause_before_another(exc, wait=wait)
                attempt += 1
                if pause is None or attempt == ATTEMPTS or pause > LONGEST_PAUSE:
                    raise mapped(exc) from None
                # Chance spreads the attempts of many calls; it guards nothing.
                pause = max(pause, random.uniform(0.1, 0.4) * 2**attempt)  # noqa: S311
                if time.monotonic() + pause > deadline:
                    raise mapped(exc) from None
                time.sleep(pause)

    def _send(self, body: bytes, deadline: float) -> bytes:
        from service.backends.google.embeddings.failures import Refused

        left = max(0.01, deadline - time.monotonic())
        response = self._open().post(
            self._url,
            data=body,
            headers={"content-type": "application/json"},
            timeout=(min(left, self._settings.connect_seconds), left),
            allow_redirects=False,
            stream=True,
        )
        with response:
            if response.status_code != 200:
                raise Refused(response.status_code, response.headers.get("retry-after", ""))
            content = bytearray()
            for data in response.iter_content(65_536):
                content += data
                if len(content) > MAX_BODY_BYTES:
                    raise UpstreamProtocol("Vertex AI sent an answer that is too long.")
                if time.monotonic() > deadline:
                    raise DeadlineExceeded(TOO_SLOW)
            return bytes(content)

    def _open(self) -> AuthorizedSession:
        with self._lock:
            if self._session is None:
                self._session = self._sign_in()
                # Nothing closes an adapter, so its connections end with it.
                weakref.finalize(self, self._session.close)
            # One thread fetches a token for all; left to the session, each request under way would.
            vertex_ai.refresh(self._session.credentials, self._settings.connect_seconds)
            return self._session

    def _sign_in(self) -> AuthorizedSession:
        import requests
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import AuthorizedSession

        from service.backends.google.embeddings.failures import mapped

        try:
            credentials = self._credentials or vertex_ai.credentials(self._settings)
        except GoogleAuthError as exc:
            raise mapped(exc) from None
        # It would sign in anew at a 401, and leave that answer's connection open; ours is renewed before it ends.
        session = AuthorizedSession(credentials, refresh_status_codes=())  # type: ignore[no-untyped-call]
        session.trust_env = False
        for scheme in ("https://", "http://"):
            session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=AT_ONCE))
        return session
