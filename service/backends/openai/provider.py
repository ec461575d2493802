"""One endpoint: the SDK's client for it, made on first use and shared by all threads, and the loop that tries a call again."""

from __future__ import annotations

import logging
import socket
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from service.backends.interfaces import Secrets
from service.backends.openai.calls import Call
from service.config import Settings
from service.errors import ConfigError, Unavailable, UpstreamConfig

if TYPE_CHECKING:
    import openai

    from service.backends.openai.failures import Retries

T = TypeVar("T")

OPENAI = "https://api.openai.com/v1"


def address(url: str) -> tuple[str, int]:
    """Return the host and port of a base URL; raises `ConfigError` if it is none."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("OPENAI_BASE_URL must be an address such as http://127.0.0.1:11434/v1.")
    return parts.hostname, port


class Provider:
    """OpenAI, or whoever speaks its protocol at `OPENAI_BASE_URL`."""

    def __init__(self, settings: Settings, secrets: Secrets, *, key: Callable[[], str] | None = None) -> None:
        self._connect_seconds = settings.connect_seconds
        self._key = key or partial(stored_key, settings, secrets)
        self._lock = threading.Lock()
        self._sdk: openai.OpenAI | None = None
        self.url = settings.openai_base_url.strip() or OPENAI
        self._address = address(self.url)
        self.is_openai = self._address[0].endswith("api.openai.com")

    def send(self, call: Call, request: Callable[[openai.OpenAI], T], retries: Retries) -> T:
        """Send a request until it is answered or no attempt may help; raises the SDK's errors, for the caller to map."""
        from service.backends.openai.failures import FAILURES

        attempt = 0
        while True:
            try:
                with call.running():
                    return request(self.sdk())
            except FAILURES as exc:
                pause = retries.pause(exc, call, attempt)
                if pause is None or call.ended.wait(pause):
                    raise
                attempt += 1

    def sdk(self) -> openai.OpenAI:
        with self._lock:
            if self._sdk is None:
                self._sdk = self._build()
            return self._sdk

    def check(self) -> None:
        """See that there is a key and that the endpoint takes connections; no call is made, for calls cost."""
        try:
            self._key()
            socket.create_connection(self._address, self._connect_seconds).close()
        except UpstreamConfig as exc:
            raise Unavailable(exc.detail) from exc
        except OSError as exc:
            raise Unavailable("The model's provider cannot be reached.") from exc

    def _build(self) -> openai.OpenAI:
        import httpx2
        import openai

        from service.backends.openai.wire import Transport

        # At lower levels they log addresses, bodies and headers, whatever the environment says.
        for name in ("openai", "httpx2", "httpcore2"):
            logging.getLogger(name).setLevel(logging.WARNING)
        client = httpx2.Client(
            transport=Transport(),
            headers={"accept-encoding": "identity"},
            timeout=httpx2.Timeout(None, connect=self._connect_seconds),
            follow_redirects=False,
            trust_env=False,
        )
        # Nothing closes an adapter, so its connections end with it.
        weakref.finalize(self, client.close)
        return openai.OpenAI(api_key=self._key, base_url=self.url, max_retries=0, http_client=client)


def stored_key(settings: Settings, secrets: Secrets) -> str:
    """Return the key; asked for each call anew, for a secret may have been replaced meanwhile."""
    if settings.openai_api_key:
        return settings.openai_api_key
    if settings.openai_base_url:
        # The SDK wants one, and servers of one's own look at none.
        return "none"
    try:
        return secrets.get("OPENAI_API_KEY")
    except ConfigError:
        raise UpstreamConfig("No key for the model's provider is set: set OPENAI_API_KEY.") from None
