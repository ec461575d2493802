"""Service accounts with real keys, and the proof of V4 signatures.

Source: "Canonical requests" and "Signatures" in the Cloud Storage documentation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from tests.kit.gcs.objects import Refused

MOST_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class Account:
    email: str
    key: RSAPrivateKey

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message, PKCS1v15(), hashes.SHA256())

    def proves(self, message: bytes, signature: bytes) -> bool:
        try:
            self.key.public_key().verify(signature, message, PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True


def prove(
    accounts: Mapping[str, Account], method: str, target: str, headers: Mapping[str, str], now: datetime | None = None
) -> dict[str, str]:
    """Return the query of a signed request; raises `Refused` unless its signature holds for just this request, now."""
    path, _, query = target.partition("?")
    pairs = [tuple(pair.split("=", 1)) for pair in query.split("&") if "=" in pair]
    given = {unquote(name): unquote(value) for name, value in pairs}
    names = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
    if any(f"X-Goog-{name}" not in given for name in names):
        raise Refused(403, "Anonymous caller does not have storage.objects.get access.", "AccessDenied")
    email, _, scope = given["X-Goog-Credential"].partition("/")
    date = given["X-Goog-Date"]
    if given["X-Goog-Algorithm"] != "GOOG4-RSA-SHA256" or scope != f"{date[:8]}/auto/storage/goog4_request":
        raise Refused(400, "Invalid credential scope.", "AuthenticationQueryParametersError")
    signed = given["X-Goog-SignedHeaders"].split(";")
    if "host" not in signed or any(name not in headers for name in signed):
        raise Refused(403, "Signed headers are missing.", "SignatureDoesNotMatch")
    request = "\n".join(
        [
            method,
            path,
            "&".join(sorted("=".join(pair) for pair in pairs if pair[0] != "X-Goog-Signature")),
            *(f"{name}:{headers[name].strip()}" for name in signed),
            "",
            given["X-Goog-SignedHeaders"],
            "UNSIGNED-PAYLOAD",
        ]
    )
    message = "\n".join(["GOOG4-RSA-SHA256", date, scope, hashlib.sha256(request.encode()).hexdigest()])
    account = accounts.get(email)
    if account is None or not account.proves(message.encode(), decoded(given["X-Goog-Signature"])):
        raise Refused(403, "The request signature we calculated does not match.", "SignatureDoesNotMatch")
    seconds = int(given["X-Goog-Expires"])
    began = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if not 0 < seconds <= MOST_SECONDS:
        raise Refused(400, "X-Goog-Expires must be 1 to 604800.", "AuthenticationQueryParametersError")
    if ((now or datetime.now(UTC)) - began).total_seconds() >= seconds:
        raise Refused(400, "The provided token has expired.", "ExpiredToken")
    return dict(parse_qsl(query))


def decoded(signature: str) -> bytes:
    try:
        return bytes.fromhex(signature)
    except ValueError:
        return b""
