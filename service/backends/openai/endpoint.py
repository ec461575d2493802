"""One endpoint: where it is, and with which key it is asked."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from service.backends.interfaces import Secrets
from service.backends.openai.refusals import UNREACHABLE
from service.config import Settings
from service.errors import ConfigError, Unavailable, UpstreamConfig

OPENAI = "https://api.openai.com/v1"
KEY_SECONDS = 5.0
"""How long a secret is kept here, so that not each call goes to the store: much less than the store itself keeps it."""


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


class Key(Protocol):
    """What a call is authorised with."""

    def at_hand(self) -> str | None:
        """Return the key if that takes no time."""

    def get(self) -> str:
        """Return the key, however long that takes; raises `UpstreamConfig` if there is none, `Unavailable` if none is had now."""


class StoredKey:
    """The key of the settings, or of the secrets: asked for anew every few seconds, for a secret may have been replaced."""

    def __init__(self, settings: Settings, secrets: Secrets, *, clock: Callable[[], float] = time.monotonic) -> None:
        # A client wants one, and servers of one's own look at none.
        self._given = settings.openai_api_key or ("none" if settings.openai_base_url else "")
        self._secrets = secrets
        self._clock = clock
        self._kept = ("", 0.0)

    def at_hand(self) -> str | None:
        key, until = self._kept
        return self._given or (key if self._clock() < until else None)

    def get(self) -> str:
        if self._given:
            return self._given
        try:
            key = self._secrets.get("OPENAI_API_KEY")
        except ConfigError:
            raise UpstreamConfig("No key for the model's provider is set: set OPENAI_API_KEY.") from None
        self._kept = key, self._clock() + KEY_SECONDS
        return key


class Endpoint:
    """OpenAI, or whoever speaks its protocol at `OPENAI_BASE_URL`."""

    def __init__(self, settings: Settings, key: Key) -> None:
        self.connect_seconds = settings.connect_seconds
        self.key = key
        self.url = settings.openai_base_url.strip() or OPENAI
        self._address = address(self.url)
        self.is_openai = self._address[0].endswith("api.openai.com")

    def check(self) -> None:
        """See that there is a key and that the endpoint takes connections; no call is made, for calls cost."""
        try:
            self.key.get()
            socket.create_connection(self._address, self.connect_seconds).close()
        except UpstreamConfig as exc:
            raise Unavailable(exc.detail) from exc
        except OSError as exc:
            raise Unavailable(UNREACHABLE) from exc
