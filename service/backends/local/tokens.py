"""Tokens of Firebase's shape, signed with a key of this machine and proved by Firebase's rules.

Sources: "Verify ID tokens using a third-party JWT library" and "Verify App Check tokens from a custom backend" in the
Firebase documentation. What an SDK leaves open or stumbles over (unknown `crit`, repeated keys, JSON nested a thousand
levels deep, times that are no whole numbers, base64 with bits to spare) is refused. No error holds any part of a token.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from service.backends.interfaces import Secrets
from service.backends.local.folder import key
from service.config import Settings
from service.errors import BadRequest, InvalidToken, Unavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

SKEW_SECONDS = 10
MAX_TOKEN_CHARACTERS = 8192
MAX_UID_CHARACTERS = 128
ALGORITHM: Literal["RS256"] = "RS256"
COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
OURS = {"iss", "aud", "sub", "user_id", "auth_time", "iat", "exp", "firebase"}


class LocalTokens:
    """Mints and proves tokens; the 2048-bit key lies in the data folder and is made on first use."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self._data_dir = settings.data_dir
        self._project = settings.google_cloud_project
        self._issuer = f"https://securetoken.google.com/{self._project}"
        self._app_issuer = f"https://firebaseappcheck.googleapis.com/{self._project}"
        self._app_audience = [f"projects/{self._project}"]

    def verify(self, token: str) -> Mapping[str, object]:
        claims = self._prove(token)
        require(claims.get("iss") == self._issuer, "The token has another issuer.")
        require(claims.get("aud") == self._project, "The token is meant for another project.")
        check_times(claims)
        subject = check_subject(claims)
        require(len(subject) <= MAX_UID_CHARACTERS, "The token names no valid user.")
        return claims

    def verify_app(self, token: str) -> str:
        claims = self._prove(token)
        require(claims.get("iss") == self._app_issuer, "The App Check token has another issuer.")
        require(claims.get("aud") == self._app_audience, "The App Check token is meant for another project.")
        check_times(claims)
        return check_subject(claims)

    def mint(
        self,
        uid: str,
        *,
        claims: Mapping[str, object] | None = None,
        provider: str = "custom",
        lifetime: int = 3600,
        now: float | None = None,
    ) -> str:
        """Return an ID token for a user, with custom claims beside those that Firebase sets; `lifetime` is in seconds."""
        if not 0 < len(uid) <= MAX_UID_CHARACTERS:
            raise BadRequest("A user id must have 1 to 128 characters.")
        if taken := OURS.intersection(claims or {}):
            raise BadRequest(f"These claims are the issuer's to set: {', '.join(sorted(taken))}.")
        signed_in = int(time.time() if now is None else now)
        return self._sign(
            {
                **(claims or {}),
                "iss": self._issuer,
                "aud": self._project,
                "auth_time": signed_in,
                "user_id": uid,
                "sub": uid,
                "iat": signed_in,
                "exp": signed_in + lifetime,
                "firebase": {"identities": {}, "sign_in_provider": provider},
            }
        )

    def mint_app(self, app_id: str, *, lifetime: int = 3600, now: float | None = None) -> str:
        """Return an App Check token for a Firebase app id; `lifetime` is in seconds."""
        issued = int(time.time() if now is None else now)
        audience = self._app_audience
        return self._sign(
            {"sub": app_id, "aud": audience, "iss": self._app_issuer, "iat": issued, "exp": issued + lifetime}
        )

    def check(self) -> None:
        _ = self._keys

    def _sign(self, claims: dict[str, object]) -> str:
        import jwt

        private, _, kid = self._keys
        return jwt.encode(claims, private, ALGORITHM, {"kid": kid})

    def _prove(self, token: str) -> dict[str, object]:
        """Return the claims of a token that our key signed."""
        import jwt

        require(0 < len(token) <= MAX_TOKEN_CHARACTERS, "The token is empty or too long.")
        require(COMPACT.fullmatch(token) is not None, "The token is no JSON Web Token.")
        _, public, kid = self._keys
        check_header(header_of(token), kid)
        try:
            content: bytes = jwt.PyJWS().decode_complete(token, public, [ALGORITHM])["payload"]
        except jwt.PyJWTError as exc:
            raise InvalidToken("The token's signature does not hold.") from exc
        return parse(content)

    @cached_property
    def _keys(self) -> tuple[RSAPrivateKey, RSAPublicKey, str]:
        """The private key, its public half and the key id."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

        pem = key(self._data_dir, "tokens.pem", make_key)
        try:
            private = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as exc:
            raise Unavailable(DAMAGED) from exc
        if not isinstance(private, RSAPrivateKey):
            raise Unavailable(DAMAGED)
        public = private.public_key()
        return private, public, key_id(public)


DAMAGED = "The signing key `keys/tokens.pem` in the data folder is damaged. Remove it to have a new one made."


def make_key() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def key_id(public: RSAPublicKey) -> str:
    from cryptography.hazmat.primitives import serialization

    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()[:16]


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InvalidToken(otherwise)


def header_of(token: str) -> dict[str, object]:
    segment = token.partition(".")[0]
    try:
        return parse(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except binascii.Error as exc:
        raise InvalidToken("The token is no JSON Web Token.") from exc


def parse(content: bytes) -> dict[str, object]:
    """Read a JSON object without repeated keys, in UTF-8."""
    try:
        value = json.loads(content.decode(), object_pairs_hook=distinct, parse_constant=no_json)
    except (ValueError, RecursionError):
        raise InvalidToken("The token is no JSON Web Token.") from None  # the cause would hold the token
    require(isinstance(value, dict), "The token is no JSON Web Token.")
    return value  # type: ignore[no-any-return]


def distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    require(len(found) == len(pairs), "The token says one thing twice.")
    return found


def no_json(constant: str) -> None:
    raise ValueError(constant)  # NaN, Infinity


def check_header(header: Mapping[str, object], kid: str) -> None:
    require(header.get("alg") == ALGORITHM, "The token is not signed with RS256.")
    require(header.get("kid") == kid, "The token is signed with an unknown key.")
    require(header.get("typ", "JWT") == "JWT", "The token is no JSON Web Token.")
    require(not {"crit", "b64"} & header.keys(), "The token demands an unknown extension.")


def check_times(claims: Mapping[str, object]) -> None:
    now = time.time()
    require(whole(claims.get("exp")) > now - SKEW_SECONDS, "The token has expired.")
    require(whole(claims.get("iat")) <= now + SKEW_SECONDS, "The token was issued in the future.")
    require(whole(claims.get("nbf", 0)) <= now + SKEW_SECONDS, "The token is not valid yet.")


def whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidToken("The token's times are not whole numbers.")
    return value


def check_subject(claims: Mapping[str, object]) -> str:
    """Return `sub`, which must be text that UTF-8 can hold."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject or not is_text(subject):
        raise InvalidToken("The token names no valid user.")
    return subject


def is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
