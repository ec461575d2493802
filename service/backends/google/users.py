"""Whether a user's sign-in still holds, asked of Firebase Authentication by its SDK."""

from __future__ import annotations

import logging
import math
import os
import re
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.config import Settings
from service.errors import BrainstemError, InvalidToken, Unavailable
from service.logging import event

if TYPE_CHECKING:
    from firebase_admin import App, auth  # type: ignore[import-untyped]

EMULATOR = "FIREBASE_AUTH_EMULATOR_HOST"
ENVIRON = threading.Lock()
SECONDS = 3.0
CALLS = 128
TENANTS = 256
TENANT = re.compile(r"[A-Za-z0-9-]{1,128}")

ENDED = "The sign-in was revoked, or the user is disabled or gone."
UNREACHABLE = "Firebase cannot tell now whether the sign-in was revoked."


class Users:
    """Asks about one user at a time. Each tenant has its users apart, and so a client of its own."""

    def __init__(self, settings: Settings, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._project = settings.google_cloud_project
        self._emulator = settings.firebase_auth_emulator_host
        self._lock = threading.Lock()
        self._app: App | None = None
        self._clients: dict[str | None, auth.Client] = {}
        self._calls = threading.BoundedSemaphore(CALLS)

    def check(self, claims: Mapping[str, object]) -> None:
        """Raise `InvalidToken` if the user whose claims these are was disabled, removed or signed out by an administrator."""
        issued = claims.get("iat")
        since = self._valid_since(str(claims["sub"]), tenant_of(claims))
        # Not `auth_time`: who changes their own password gets a new token, but has not signed in anew.
        if not isinstance(issued, int) or issued < since:
            raise InvalidToken(ENDED)

    def _valid_since(self, uid: str, tenant: str | None) -> float:
        """Ask in a thread of its own: the SDK limits each attempt and each read, but nothing limits them together."""
        if not self._calls.acquire(blocking=False):
            raise unavailable()
        answer: Future[float] = Future()
        try:
            threading.Thread(target=self._ask, args=(answer, uid, tenant), name="users", daemon=True).start()
        except RuntimeError:  # there are too many threads
            self._calls.release()
            raise unavailable() from None
        try:
            return answer.result(self._seconds)
        except TimeoutError:
            raise unavailable() from None

    def _ask(self, answer: Future[float], uid: str, tenant: str | None) -> None:
        """Find out since when a user's sign-ins hold, in seconds; those of a disabled user never do."""
        try:
            user = self._client(tenant).get_user(uid)
            answer.set_result(math.inf if user.disabled else user.tokens_valid_after_timestamp / 1000)
        except Exception as exc:  # noqa: BLE001  # the SDK stumbles over answers that are none in many ways
            error = mapped(exc)
            if isinstance(error, Unavailable):
                event("revocation_unknown", logging.WARNING, exc)
            answer.set_exception(error)
        finally:
            self._calls.release()

    def _client(self, tenant: str | None) -> auth.Client:
        with self._lock:
            if tenant not in self._clients:
                if len(self._clients) >= TENANTS:
                    self._clients.clear()
                self._clients[tenant] = self._connect(tenant)
            return self._clients[tenant]

    def _connect(self, tenant: str | None) -> auth.Client:
        from firebase_admin import App, auth, credentials

        if self._app is None:
            options = {"projectId": self._project, "httpTimeout": self._seconds}
            self._app = App("brainstem", credentials.ApplicationDefault(), options)
        with emulator(self._emulator):
            return auth.Client(self._app, tenant)


@contextmanager
def emulator(host: str) -> Iterator[None]:
    """Set the emulator's address where the SDK looks for it: in the environment, and only while a client is made."""
    with ENVIRON:
        before = os.environ.get(EMULATOR, "")
        try:
            replace(host)
            yield
        finally:
            replace(before)


def replace(host: str) -> None:
    """Set the variable, or take it away; what it is already stays untouched, as other threads may be reading it."""
    if host == os.environ.get(EMULATOR, ""):
        return
    if host:
        os.environ[EMULATOR] = host
    else:
        del os.environ[EMULATOR]


def tenant_of(claims: Mapping[str, object]) -> str | None:
    firebase = claims.get("firebase")
    tenant = firebase.get("tenant") if isinstance(firebase, dict) else None
    if tenant is not None and not (isinstance(tenant, str) and TENANT.fullmatch(tenant)):
        raise InvalidToken("The token names no valid tenant.")
    return tenant


def mapped(exc: Exception) -> BrainstemError:
    """Return our error for the SDK's: a user or tenant that is gone is the token's fault, all else is not."""
    from firebase_admin.auth import UserNotFoundError  # type: ignore[import-untyped]
    from firebase_admin.tenant_mgt import TenantNotFoundError  # type: ignore[import-untyped]

    gone = isinstance(exc, UserNotFoundError | TenantNotFoundError)
    return InvalidToken(ENDED) if gone else unavailable()


def unavailable() -> Unavailable:
    return Unavailable(UNREACHABLE, retry_after=1)
