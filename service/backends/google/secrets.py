"""Secrets in Secret Manager, kept in memory for minutes. The SDK is imported with the first call: 0.25 s of CPU alone."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING

from service.config import Settings, variable
from service.errors import ConfigError, Unavailable
from service.logging import event

if TYPE_CHECKING:
    from service.backends.google.calls import Connection

SERVER, SERVICE = "secretmanager.googleapis.com", "google.cloud.secretmanager.v1.SecretManagerService"
FRESH_SECONDS = 300.0
"""How long a value is believed; a rotation is seen after so long at most."""
OUTLIVE_SECONDS = 3600.0
"""How long a value outlives that while Secret Manager cannot be asked: an hour without it stops nothing."""
PAUSE_SECONDS = 10.0
"""Between two attempts to read a secret anew while its old value serves."""

NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
PROBE = "brainstem-ready"


class Kept:
    """What was last read of one secret. It has no representation that shows the value."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value: str | None = None
        self.fresh_until = 0.0
        self.usable_until = 0.0
        self.failed: tuple[float, str] | None = None
        """When the last attempt without an old value failed, and in which words."""


class SecretManager:
    """The newest version of each secret of the project.

    A secret setting that the environment gives, such as OPENAI_API_KEY, is taken from there. A secret that is gone or disabled is so
    once its value is no longer fresh; one that cannot be asked for serves on for `OUTLIVE_SECONDS`.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        settings.require("The Secret Manager adapter", "google_cloud_project")
        self._settings = {variable(f): str(getattr(settings, f.name)) for f in fields(settings) if f.metadata["secret"]}
        self._parent = f"projects/{settings.google_cloud_project}/secrets"
        self._emulator = settings.secret_manager_emulator_host
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, Kept] = {}
        self._connection: Connection | None = None

    def get(self, name: str) -> str:
        """Return a secret's text, without the line end that `echo` put there; raises as the Protocol says, or `Unavailable`."""
        if given := self._settings.get(name):
            return given
        if not NAME.fullmatch(name):
            raise ConfigError(f"{name!r} is no name of a secret: letters, digits, `_` and `-` make one.")
        with self._lock:
            kept = self._kept.setdefault(name, Kept())
        now, value = self._clock(), kept.value
        if value is not None and now < kept.fresh_until:
            return value
        # Whoever finds an old value while another thread reads it anew need not wait.
        usable = value if now < kept.usable_until else None
        if not kept.lock.acquire(blocking=usable is None):
            assert usable is not None
            return usable
        try:
            return self._renewed(name, kept, now)
        finally:
            kept.lock.release()

    def check(self) -> None:
        """Ask for a secret that need not be there, which shows that Secret Manager answers us."""
        from service.backends.google import calls

        try:
            self._read(PROBE)
        except calls.FAILURES as exc:
            if not calls.is_answer(exc):
                raise calls.mapped(exc, calls.SECRETS) from None

    def _renewed(self, name: str, kept: Kept, asked: float) -> str:
        """Read a secret anew unless another thread has just done so, or has just failed to."""
        if kept.value is not None and self._clock() < kept.fresh_until:
            return kept.value
        if kept.failed and kept.failed[0] > asked:
            raise Unavailable(kept.failed[1])
        try:
            kept.value = self._fetch(name)
        except ConfigError:
            kept.value = None
            raise
        except Unavailable as exc:
            return self._old(name, kept, exc)
        kept.fresh_until = self._clock() + FRESH_SECONDS
        kept.usable_until = kept.fresh_until + OUTLIVE_SECONDS
        kept.failed = None
        return kept.value

    def _old(self, name: str, kept: Kept, error: Unavailable) -> str:
        now = self._clock()
        if kept.value is None or now >= kept.usable_until:
            kept.value, kept.failed = None, (now, error.detail)
            raise error
        kept.fresh_until = now + PAUSE_SECONDS
        event("secret_not_renewed", logging.WARNING, error, secret=name)
        return kept.value

    def _fetch(self, name: str) -> str:
        from service.backends.google import calls

        try:
            content = self._read(name)
        except calls.FAILURES as exc:
            if calls.is_answer(exc):
                raise ConfigError(
                    f"The secret {name} is not to be had. Add an enabled version with `gcloud secrets versions add {name}`, and"
                    " give the service account roles/secretmanager.secretAccessor on it."
                ) from None
            raise calls.mapped(exc, calls.SECRETS) from None
        try:
            value = content.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise ConfigError(f"The secret {name} is no text in UTF-8.") from None
        if not value:
            raise ConfigError(f"The secret {name} is empty.")
        return value

    def _read(self, name: str) -> bytes:
        """Return what the newest version holds; raises Google's errors, or `Unavailable` if it was damaged on its way."""
        import google_crc32c
        from google.cloud.secretmanager_v1.types import AccessSecretVersionRequest, AccessSecretVersionResponse

        request = AccessSecretVersionRequest.pb()(name=f"{self._parent}/{name}/versions/latest")
        answer = self._open().call("AccessSecretVersion", request, AccessSecretVersionResponse.pb(), names="name")
        content: bytes = answer.payload.data
        if answer.payload.HasField("data_crc32c") and answer.payload.data_crc32c != google_crc32c.value(content):
            raise Unavailable("Secret Manager cannot be used: it gave another content than it has stored.")
        return content

    def _open(self) -> Connection:
        from service.backends.google.calls import Connection

        with self._lock:
            if self._connection is None:
                self._connection = Connection(SERVER, SERVICE, self._emulator)
            return self._connection
