"""Tokens of Firebase's and Google's shape, signed with a key of this machine and proved by the same rules."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING

from service.backends import jwts
from service.backends.interfaces import Secrets
from service.backends.local.folder import key
from service.backends.seen import SeenTokens
from service.config import Settings
from service.errors import BadRequest, Unavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

OURS = {"iss", "aud", "sub", "user_id", "auth_time", "iat", "exp", "firebase"}


class LocalTokens:
    """Mints and proves tokens; the 2048-bit key lies in the data folder and is made on first use."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self._data_dir = settings.data_dir
        self._project = settings.google_cloud_project
        self._users = SeenTokens(self._public, partial(jwts.check_user, project=self._project))
        self._apps = SeenTokens(self._public, partial(jwts.check_app, project=self._project), typed=True)

    def verify(self, token: str) -> Mapping[str, object]:
        return self._users.prove(token)

    def verify_app(self, token: str) -> str:
        return self._apps.prove(token)

    def verify_service(self, token: str, audience: str) -> str:
        return jwts.check_service(jwts.proved(token, self._public).claims, audience)

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
        if not 0 < len(uid) <= jwts.MAX_UID_CHARACTERS:
            raise BadRequest("A user id must have 1 to 128 characters.")
        if taken := OURS.intersection(claims or {}):
            raise BadRequest(f"These claims are the issuer's to set: {', '.join(sorted(taken))}.")
        signed_in = int(time.time() if now is None else now)
        return self._sign(
            {
                **(claims or {}),
                "iss": jwts.USER_ISSUER + self._project,
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
        project = f"projects/{self._project}"
        return self._sign(
            {
                "sub": app_id,
                "aud": [project],
                "iss": jwts.APP_ISSUER + self._project,
                "iat": issued,
                "exp": issued + lifetime,
            }
        )

    def mint_service(self, email: str, audience: str, *, lifetime: int = 3600, now: float | None = None) -> str:
        """Return an OIDC token of a service account, as Google signs it for an audience; `lifetime` is in seconds."""
        issued = int(time.time() if now is None else now)
        return self._sign(
            {
                "iss": jwts.SERVICE_ISSUERS[0],
                "aud": audience,
                "azp": email,
                "sub": email,
                "email": email,
                "email_verified": True,
                "iat": issued,
                "exp": issued + lifetime,
            }
        )

    def check(self) -> None:
        _ = self._keys

    def _sign(self, claims: dict[str, object]) -> str:
        import jwt

        private, _, kid = self._keys
        return jwt.encode(claims, private, jwts.ALGORITHM, {"kid": kid})

    def _public(self, kid: str) -> RSAPublicKey:
        _, public, ours = self._keys
        jwts.require(kid == ours, jwts.UNKNOWN_KEY)
        return public

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
