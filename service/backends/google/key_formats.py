"""How Google publishes its keys: as X.509 certificates and as JWK Sets, read into keys that are ready to use.

What is not wholly such a set is refused, so that a page, half an answer or a weak key is never believed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from service.backends.jwts import ALGORITHM

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    PublicKeys: TypeAlias = Mapping[str, RSAPublicKey]

MAX_KEYS = 64
KEY_BITS = range(2048, 8192 + 1)


def certificates(content: bytes) -> PublicKeys:
    """Read X.509 certificates in PEM by key id; raises `ValueError` for whatever is no such set."""
    return valid((kid, certified(pem)) for kid, pem in members(content).items())


def jwks(content: bytes) -> PublicKeys:
    """Read a JWK Set (RFC 7517), of which keys for other algorithms are left out; raises `ValueError` for whatever is none."""
    listed = members(content).get("keys")
    if not isinstance(listed, list) or not all(isinstance(jwk, dict) for jwk in listed):
        refuse()
    return valid(
        (jwk.get("kid"), published(jwk))
        for jwk in listed
        if jwk.get("kty") == "RSA" and jwk.get("alg", ALGORITHM) == ALGORITHM and jwk.get("use", "sig") == "sig"
    )


def members(content: bytes) -> dict[str, object]:
    try:
        found = json.loads(content.decode())
    except RecursionError:
        refuse()
    return found if isinstance(found, dict) else refuse()


def valid(found: Iterator[tuple[object, object]]) -> PublicKeys:
    """Return keys that can prove a token; one that cannot, or none at all, spoils the set."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    keys: dict[str, RSAPublicKey] = {}
    for kid, key in found:
        if not isinstance(kid, str) or not kid or kid in keys:
            refuse()
        if not isinstance(key, RSAPublicKey) or key.key_size not in KEY_BITS:
            refuse()
        keys[kid] = key
    return keys if 0 < len(keys) <= MAX_KEYS else refuse()


def certified(pem: object) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.x509 import InvalidVersion, load_pem_x509_certificate

    try:
        return load_pem_x509_certificate(pem.encode()).public_key() if isinstance(pem, str) else refuse()
    except (UnsupportedAlgorithm, InvalidVersion):
        refuse()


def published(jwk: dict[str, object]) -> object:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    if "d" in jwk:  # somebody published a private key
        refuse()
    return RSAPublicNumbers(number(jwk.get("e")), number(jwk.get("n"))).public_key()


def number(value: object) -> int:
    if not isinstance(value, str):
        refuse()
    return int.from_bytes(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)), "big")


def refuse() -> NoReturn:
    raise ValueError("The answer is no set of keys.")
