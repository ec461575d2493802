"""JSON Web Tokens as Firebase and Google sign them: proved strictly, with keys that are ready to use.

Sources: RFC 7515 and 7519; "Verify ID tokens using a third-party JWT library" and "Verify App Check tokens from a custom backend"
in the Firebase documentation; "Validate an ID token" in Google's identity documentation. What an SDK leaves open or stumbles over
(unknown `crit`, repeated keys, JSON nested a thousand levels deep, times that are no whole numbers, base64 with bits to spare) is
refused. No error holds any part of a token.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from service.errors import InvalidToken

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    Keys: TypeAlias = Callable[[str], RSAPublicKey]
    """Gives the key of an id; raises `InvalidToken` for an id that is unknown, `Unavailable` if that cannot be told."""

Claims: TypeAlias = dict[str, object]

SKEW_SECONDS = 10
MAX_TOKEN_CHARACTERS = 8192
MAX_UID_CHARACTERS = 128
ALGORITHM: Literal["RS256"] = "RS256"
COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
UNSIGNED = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.")

USER_ISSUER = "https://securetoken.google.com/"
APP_ISSUER = "https://firebaseappcheck.googleapis.com/"
SERVICE_ISSUERS = ("https://accounts.google.com", "accounts.google.com")

NO_TOKEN = "The token is no JSON Web Token."  # noqa: S105  # it says that there is none
UNKNOWN_KEY = "The token is signed with an unknown key."


class Proof(NamedTuple):
    """The claims of a token, and the key that signed it under its id."""

    claims: Claims
    kid: str
    key: RSAPublicKey


def proved(token: str, keys: Keys, *, typed: bool = False) -> Proof:
    """Prove that one of the keys signed a token; `typed` demands that its header says what it is."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    header, payload, signature = segments(token, COMPACT)
    kid = key_id(parse(decoded(header)), typed=typed)
    key = keys(kid)
    try:
        key.verify(decoded(signature), f"{header}.{payload}".encode(), PKCS1v15(), SHA256())
    except InvalidSignature:
        raise InvalidToken("The token's signature does not hold.") from None
    return Proof(parse(decoded(payload)), kid, key)


def unsigned(token: str) -> Claims:
    """Return the claims of a token as the Auth emulator makes it: of no algorithm, and with nothing for a signature."""
    header, payload, _ = segments(token, UNSIGNED)
    said = parse(decoded(header))
    require(said.get("alg") == "none" and "kid" not in said, "The token is none of the Auth emulator's.")
    check_header(said, typed=False)
    return parse(decoded(payload))


def check_user(claims: Claims, project: str) -> Mapping[str, object]:
    """Check that the claims are those of an ID token of a project's user, and return them, to be read only."""
    require(claims.get("iss") == USER_ISSUER + project, "The token has another issuer.")
    require(claims.get("aud") == project, "The token is meant for another project.")
    check_times(claims)
    require(len(text(claims, "sub")) <= MAX_UID_CHARACTERS, "The token names no valid user.")
    return MappingProxyType(claims)


def check_app(claims: Claims, project: str) -> str:
    """Check that the claims are those of an App Check token of a project, and return the Firebase app id.

    The issuer ends in the project's number, which is not known here; but the audience has the project by number and by id.
    """
    issuer, audience = claims.get("iss"), claims.get("aud")
    if not isinstance(issuer, str) or not issuer.startswith(APP_ISSUER):
        raise InvalidToken("The App Check token has another issuer.")
    if not isinstance(audience, list) or not {f"projects/{project}", f"projects/{issuer[len(APP_ISSUER) :]}"} <= {
        each for each in audience if isinstance(each, str)
    }:
        raise InvalidToken("The App Check token is meant for another project.")
    check_times(claims)
    return text(claims, "sub")


def check_service(claims: Claims, audience: str) -> str:
    """Check that the claims are those of an account that signed in to `audience`, and return its proved e-mail address."""
    require(claims.get("iss") in SERVICE_ISSUERS, "The token has another issuer.")
    require(bool(audience) and claims.get("aud") == audience, "The token is meant for another service.")
    check_times(claims)
    text(claims, "sub")
    require(claims.get("email_verified") is True, "The token proves no e-mail address.")
    return text(claims, "email")


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InvalidToken(otherwise)


def segments(token: str, shape: re.Pattern[str]) -> list[str]:
    require(0 < len(token) <= MAX_TOKEN_CHARACTERS, "The token is empty or too long.")
    require(shape.fullmatch(token) is not None, NO_TOKEN)
    return token.split(".")


def decoded(segment: str) -> bytes:
    """Decode base64url, of which only one spelling counts."""
    try:
        content = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error:
        raise InvalidToken(NO_TOKEN) from None
    require(base64.urlsafe_b64encode(content).rstrip(b"=") == segment.encode(), NO_TOKEN)
    return content


def parse(content: bytes) -> Claims:
    """Read a JSON object without repeated keys, in UTF-8."""
    try:
        value = json.loads(content.decode(), object_pairs_hook=distinct, parse_constant=no_json)
    except (ValueError, RecursionError):
        raise InvalidToken(NO_TOKEN) from None  # the cause would hold the token
    require(isinstance(value, dict), NO_TOKEN)
    return value  # type: ignore[no-any-return]


def distinct(pairs: list[tuple[str, object]]) -> Claims:
    found = dict(pairs)
    require(len(found) == len(pairs), "The token says one thing twice.")
    return found


def no_json(constant: str) -> None:
    raise ValueError(constant)  # NaN, Infinity


def key_id(header: Claims, *, typed: bool) -> str:
    """Check the header of a signed token, and return the id of the key that it names."""
    require(header.get("alg") == ALGORITHM, "The token is not signed with RS256.")
    check_header(header, typed=typed)
    kid = header.get("kid")
    if not isinstance(kid, str):
        raise InvalidToken(UNKNOWN_KEY)
    return kid


def check_header(header: Claims, *, typed: bool) -> None:
    require(header.get("typ", None if typed else "JWT") == "JWT", NO_TOKEN)
    require(not {"crit", "b64"} & header.keys(), "The token demands an unknown extension.")


def check_times(claims: Mapping[str, object]) -> None:
    now = time.time()
    require(whole(claims.get("exp")) > now - SKEW_SECONDS, "The token has expired.")
    require(whole(claims.get("iat")) <= now + SKEW_SECONDS, "The token was issued in the future.")
    require(whole(claims.get("nbf", 0)) <= now + SKEW_SECONDS, "The token is not valid yet.")


def span(claims: Mapping[str, object]) -> tuple[int, int]:
    """Return from when until when a token says that it holds, by a clock that is the issuer's."""
    return max(whole(claims.get("iat")), whole(claims.get("nbf", 0))), whole(claims.get("exp"))


def whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidToken("The token's times are not whole numbers.")
    return value


def text(claims: Claims, name: str) -> str:
    """Return a claim that must be text that UTF-8 can hold, and not empty."""
    value = claims.get(name)
    if not isinstance(value, str) or not value or not is_text(value):
        raise InvalidToken("The token names nobody who could have it.")
    return value


def is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
