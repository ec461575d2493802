"""Google's public keys in the proof's own hand: certificates and key sets over HTTP, so that Firebase's verifier checks real signatures."""

from __future__ import annotations

import base64
import json
from http.server import BaseHTTPRequestHandler

from service.proof.credentials import Mint
from service.proof.loopback import Loopback

CERTIFICATES = "/robot/v1/metadata/x509/"
RSA_ENCRYPTION = bytes.fromhex("06092a864886f70d0101010500")
SHA256_WITH_RSA = bytes.fromhex("06092a864886f70d01010b0500")
COMMON_NAME = bytes.fromhex("0603550403")


class Keys(Loopback):
    """A server of one public key, the mint's, wherever Google's are asked for."""

    def __init__(self, mint: Mint) -> None:
        certificates = json.dumps({mint.kid: certificate(*mint.public)}).encode()
        sets = json.dumps({"keys": [jwk(mint.kid, *mint.public)]}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = certificates if self.path.startswith(CERTIFICATES) else sets
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "public, max-age=3600")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        super().__init__(Handler, "keys")


def jwk(kid: str, n: int, e: int) -> dict[str, str]:
    """The key as RFC 7517 writes it."""
    return {
        "kty": "RSA",
        "alg": "RS256",
        "use": "sig",
        "kid": kid,
        "n": base64url(unsigned(n)),
        "e": base64url(unsigned(e)),
    }


def certificate(n: int, e: int) -> str:
    """An X.509 certificate of the key (RFC 5280) in PEM. Nobody has signed it: whoever asks Google for keys trusts the address."""
    name = sequence(tagged(0x31, sequence(COMMON_NAME, tagged(0x0C, b"proof"))))
    validity = sequence(tagged(0x17, b"200101000000Z"), tagged(0x17, b"491231235959Z"))
    algorithm = sequence(SHA256_WITH_RSA)
    key = sequence(sequence(RSA_ENCRYPTION), bits(sequence(integer(n), integer(e))))
    version = tagged(0xA0, integer(2))
    body = sequence(version, integer(1), algorithm, name, validity, name, key)
    der = base64.encodebytes(sequence(body, algorithm, bits(b"\0" * 256))).decode()
    return f"-----BEGIN CERTIFICATE-----\n{der}-----END CERTIFICATE-----\n"


def tagged(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def sequence(*parts: bytes) -> bytes:
    return tagged(0x30, b"".join(parts))


def integer(value: int) -> bytes:
    return tagged(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def bits(content: bytes) -> bytes:
    return tagged(0x03, b"\0" + content)


def unsigned(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
