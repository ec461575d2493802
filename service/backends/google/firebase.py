"""Tokens of Firebase users, of apps by App Check, and of Google service accounts, proved with Google's public keys.

An ID token is held to firebase-admin's rules and to those that it leaves out. The SDK itself is asked for one thing only: whether
a sign-in was revoked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

from service.backends import jwts
from service.backends.google.key_formats import certificates, jwks
from service.backends.google.keys import FETCH_SECONDS, KeySet
from service.backends.google.users import Users
from service.backends.interfaces import Secrets
from service.backends.seen import SeenTokens
from service.config import Settings

USER_KEYS = "https://www.googleapis.com/robot/v1/metadata/x509/securetoken@system.gserviceaccount.com"
APP_KEYS = "https://firebaseappcheck.googleapis.com/v1/jwks"
SERVICE_KEYS = "https://www.googleapis.com/oauth2/v3/certs"


class FirebaseTokens:
    """Proves tokens by Google's keys, but an ID token of the Auth emulator, which signs none, by its claims alone."""

    def __init__(
        self,
        settings: Settings,
        secrets: Secrets,
        *,
        clock: Callable[[], float] = time.monotonic,
        seconds: float = FETCH_SECONDS,
    ) -> None:
        settings.require("The Firebase adapter", "google_cloud_project")
        self._project = settings.google_cloud_project
        self._emulated = bool(settings.firebase_auth_emulator_host)
        self._users = Users(settings, seconds=seconds) if settings.check_revoked else None
        host = settings.google_keys_emulator_host
        self._user_keys = KeySet(at(USER_KEYS, host), certificates, clock=clock, seconds=seconds)
        self._service_keys = KeySet(at(SERVICE_KEYS, host), jwks, clock=clock, seconds=seconds)
        app_keys = KeySet(at(APP_KEYS, host), jwks, clock=clock, seconds=seconds)
        self._seen_users = SeenTokens(self._user_keys.get, partial(jwts.check_user, project=self._project))
        self._seen_apps = SeenTokens(app_keys.get, partial(jwts.check_app, project=self._project), typed=True)

    def verify(self, token: str) -> Mapping[str, object]:
        if self._emulated:
            claims = jwts.check_user(jwts.unsigned(token), self._project)
        else:
            claims = self._seen_users.prove(token)
        if self._users:
            self._users.check(claims)  # of a token seen too: it may have been revoked since
        return claims

    def verify_app(self, token: str) -> str:
        return self._seen_apps.prove(token)

    def verify_service(self, token: str, audience: str) -> str:
        return jwts.check_service(jwts.proved(token, self._service_keys.get).claims, audience)

    def check(self) -> None:
        """The keys of apps and service accounts are not asked for: many a project has no token of either."""
        if not self._emulated:
            self._user_keys.check()


def at(url: str, host: str) -> str:
    """Return an address of Google's, or the same path of the host that stands in for it."""
    return f"http://{host}/{url.split('/', 3)[3]}" if host else url
