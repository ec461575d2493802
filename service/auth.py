"""From a token to a principal: who is calling, proved."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from service.backends.interfaces import TokenVerifier
from service.errors import Forbidden, InvalidToken
from service.models import Principal

SKEW_SECONDS = 10
LIFETIME_SECONDS = 3600


def authenticate(verifier: TokenVerifier, authorization: str | None, app_check: str | None) -> Principal:
    """Prove the caller by `Authorization: Bearer` and, if sent, `X-Firebase-AppCheck`; raises `InvalidToken`."""
    claims = verifier.verify(bearer(authorization))
    check_times(claims)
    return Principal(
        uid=text(claims, "sub"),
        provider=provider(claims),
        claims=claims,
        tenant=tenant(claims),
        firebase_app=verifier.verify_app(app_check) if app_check else None,
    )


def authenticate_service(
    verifier: TokenVerifier, authorization: str | None, audience: str, callers: Collection[str]
) -> str:
    """Prove a calling service account by its OIDC token, and return its e-mail address.

    Google signs such tokens for any service account in the world, so `callers` lists ours. Raises `InvalidToken`, or
    `Forbidden` for an account that is not one of them.
    """
    token = bearer(authorization)
    if not audience or not callers:
        raise InvalidToken("This service takes no internal calls: SERVICE_URL and INTERNAL_CALLERS are not both set.")
    email = verifier.verify_service(token, audience)
    if email not in callers:
        raise Forbidden("This service account may not call here.")
    return email


def bearer(authorization: str | None) -> str:
    if authorization is None:
        raise InvalidToken("Send your ID token as `Authorization: Bearer …`.")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token or not token.isascii() or "," in token or " " in token:
        raise InvalidToken("The Authorization header must hold one bearer token.")
    return token


def check_times(claims: Mapping[str, object]) -> None:
    """Check what the SDK leaves open: when the user signed in, and for how long the token claims to hold.

    Source: "Verify ID tokens using a third-party JWT library" in Firebase's documentation demands a past `auth_time`.
    """
    issued, expires, signed_in = (number(claims, name) for name in ("iat", "exp", "auth_time"))
    if signed_in > time.time() + SKEW_SECONDS:
        raise InvalidToken("The token's sign-in lies in the future.")
    if expires - issued > LIFETIME_SECONDS + SKEW_SECONDS:
        raise InvalidToken("The token claims to hold for too long.")


def number(claims: Mapping[str, object], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidToken("The token's times are not whole numbers.")
    return value


def text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 128:
        raise InvalidToken("The token names no user.")
    return value


def firebase_claim(claims: Mapping[str, object]) -> Mapping[str, object]:
    firebase = claims.get("firebase")
    if not isinstance(firebase, Mapping):
        raise InvalidToken("The token is not one of this project's users.")
    return firebase


def provider(claims: Mapping[str, object]) -> str:
    value = firebase_claim(claims).get("sign_in_provider")
    if not isinstance(value, str):
        raise InvalidToken("The token does not say how its user signed in.")
    return value


def tenant(claims: Mapping[str, object]) -> str | None:
    firebase = firebase_claim(claims)
    if "tenant" not in firebase:
        return None
    value = firebase["tenant"]
    if not isinstance(value, str) or not value:
        raise InvalidToken("The token names no valid tenant.")
    return value
