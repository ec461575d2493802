"""Credentials that hold: tokens of users, Firebase apps and service accounts, signed with the key that the service believes."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from service.backends import jwts
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.tokens import LocalTokens
from service.config import Settings

GONE = object()
"""As a claim's value: leave it out."""

Claims = dict[str, object]


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who calls: the headers that they show, and the owners whose canaries may reach them."""

    name: str
    headers: Mapping[str, str]
    sees: frozenset[str] = field(default_factory=frozenset)
    app: str = ""
    user: str = ""


class Mint(LocalTokens):
    """Signs whatever it is given, in the name of the service's project."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, EnvironmentSecrets(settings))
        self.project = settings.google_cloud_project
        self.audience = settings.service_url

    @property
    def kid(self) -> str:
        return self._keys[2]

    @property
    def public(self) -> tuple[int, int]:
        """The public key's modulus and exponent."""
        numbers = self._keys[1].public_numbers()
        return numbers.n, numbers.e

    def sign(self, claims: Claims) -> str:
        return self._sign({name: value for name, value in claims.items() if value is not GONE})

    def user(
        self,
        uid: str,
        changes: Mapping[str, object] | None = None,
        *,
        apps: object = GONE,
        provider: str = "custom",
        tenant: object = GONE,
    ) -> str:
        """Return a user's ID token; `apps` is the claim of that name, and `changes` are made to all claims at last."""
        now = int(time.time())
        firebase: Claims = {"identities": {}, "sign_in_provider": provider}
        if tenant is not GONE:
            firebase["tenant"] = tenant
        claims: Claims = {
            "iss": jwts.USER_ISSUER + self.project,
            "aud": self.project,
            "auth_time": now - 60,
            "user_id": uid,
            "sub": uid,
            "iat": now - 60,
            "exp": now + 3500,
            "firebase": firebase,
            "apps": apps,
        }
        return self.sign({**claims, **(changes or {})})

    def app(self, app_id: str, /, **changes: object) -> str:
        """Return an App Check token of a Firebase app."""
        now = int(time.time())
        claims: Claims = {
            "iss": jwts.APP_ISSUER + self.project,
            "aud": [f"projects/{self.project}"],
            "sub": app_id,
            "iat": now - 60,
            "exp": now + 3500,
        }
        return self.sign({**claims, **changes})

    def service(self, email: str, /, **changes: object) -> str:
        """Return a service account's OIDC token for the service."""
        now = int(time.time())
        claims: Claims = {
            "iss": jwts.SERVICE_ISSUERS[0],
            "aud": self.audience,
            "sub": "1234567890",
            "email": email,
            "email_verified": True,
            "iat": now - 60,
            "exp": now + 3500,
        }
        return self.sign({**claims, **changes})


def bearer(token: str, app_check: str | None = None) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {token}"}
    return headers if app_check is None else {**headers, "X-Firebase-AppCheck": app_check}


def tampered(token: str) -> str:
    """The same token with one bit of its signature turned."""
    head, signature = token.rsplit(".", 1)
    return f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def grafted(token: str, other: str) -> str:
    """What one token says, under the signature of another."""
    return ".".join([*token.split(".")[:2], other.rsplit(".", 1)[1]])


def unsigned(token: str) -> str:
    """What a token says, with no algorithm and no signature."""
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).rstrip(b"=").decode()
    return f"{head}.{token.split('.')[1]}."
