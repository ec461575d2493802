"""Google's key servers in one: three sets of public keys over real HTTP, which rotate, fail and count who asks."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from service.proof.loopback import LoopbackServer
from tests.kit.tokens import TokenFactory, base64url, new_key

CertificateKey: TypeAlias = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey
Fault: TypeAlias = Callable[["Handler", threading.Event], None]
"""Answers a request in the keys' stead; the event is set when the server ends."""


MIRROR = "/mirror"
"""Below it good keys lie, for those who follow a redirection."""


@cache
def key(n: int) -> RSAPrivateKey:
    """One of the keys that every key server uses; to make one takes a while."""
    return new_key()


class Published:
    """One set of keys at one path. `factory` signs with its newest key, which is named like those of no other set."""

    def __init__(self, path: str, name: str, first: int, project: str, body: Callable[[Published], bytes]) -> None:
        self.path = path
        self.name = name
        self.project = project
        self.max_age: int | None = 3600
        self.age = 0
        self.fault: Fault | None = None
        self.fetches = 0
        self.hits = 0
        self.followed = 0
        self._first = first
        self._made = 0
        self._body = body
        self.factories: list[TokenFactory] = []
        self.rotate()

    @property
    def factory(self) -> TokenFactory:
        return self.factories[-1]

    def rotate(self, keep: int = 1) -> TokenFactory:
        """Publish another key beside the newest `keep` ones."""
        made = TokenFactory(key(self._first + self._made % 3), f"{self.name}-{self._made}", self.project)
        self._made += 1
        self.factories = [*self.factories[len(self.factories) - keep :], made]
        return made

    @property
    def body(self) -> bytes:
        return self._body(self)


class KeyServer:
    """The server on a free port of 127.0.0.1: `users` signs ID tokens, `apps` App Check's, `services` OIDC's."""

    def __init__(self, project: str = "demo-brainstem") -> None:
        users = "/robot/v1/metadata/x509/securetoken@system.gserviceaccount.com"
        self.users = Published(users, "user", 0, project, certificates)
        self.apps = Published("/v1/jwks", "app", 3, project, jwks)
        self.services = Published("/oauth2/v3/certs", "service", 6, project, jwks)
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self.server = Listener(("127.0.0.1", 0), Handler)
        self.server.keys = self  # type: ignore[attr-defined]
        self.host = f"127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), name="key server", daemon=True)

    @property
    def sets(self) -> tuple[Published, ...]:
        return self.users, self.apps, self.services

    def find(self, path: str) -> Published | None:
        """Count a request for a set of keys, and return it."""
        with self._lock:
            for each in self.sets:
                if path == each.path:
                    each.fetches += 1
                    each.hits += each.fault is not None
                    return each
                if path == MIRROR + each.path:
                    each.followed += 1
                    return each
        return None

    def __enter__(self) -> KeyServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join(5)


class Listener(LoopbackServer):
    request_queue_size = 128  # many ask at once


@contextmanager
def faulty(published: Published, fault: Fault) -> Iterator[None]:
    """Have a set of keys fail meanwhile, and prove that it did."""
    before = published.hits
    published.fault = fault
    try:
        yield
    finally:
        published.fault = None
    assert published.hits > before, "the fault did not fire"


class Handler(BaseHTTPRequestHandler):
    published: Published

    def do_GET(self) -> None:
        server: KeyServer = self.server.keys  # type: ignore[attr-defined]
        found = server.find(self.path)
        with suppress(OSError):  # who asked may be gone
            if not found:
                self.answer(404, b"{}")
                return
            self.published = found
            if found.fault and self.path == found.path:
                found.fault(self, server.ended)
            else:
                self.publish()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def publish(self) -> None:
        headers = {"Age": str(self.published.age)}
        if self.published.max_age is not None:
            headers["Cache-Control"] = f"public, max-age={self.published.max_age}, must-revalidate, no-transform"
        self.answer(200, self.published.body, headers)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    return lambda handler, ended: handler.answer(code, body, headers)


def garbage(body: bytes, seconds: float = 0.0) -> Fault:
    """Whatever is no set of keys, served as if it were, to be kept for a day."""

    def answer(handler: Handler, ended: threading.Event) -> None:
        ended.wait(seconds)
        handler.answer(200, body, {"Cache-Control": "max-age=86400"})

    return answer


def hang(handler: Handler, ended: threading.Event) -> None:
    ended.wait(30)


def hang_up(handler: Handler, ended: threading.Event) -> None:
    handler.connection.close()


def redirect(handler: Handler, ended: threading.Event) -> None:
    handler.answer(302, b"", {"Location": MIRROR + handler.path})


def cut_off(handler: Handler, ended: threading.Event) -> None:
    body = handler.published.body
    handler.answer(200, body[: len(body) // 2], {"Content-Length": str(len(body))})


def late(seconds: float) -> Fault:
    """The good answer, after a while."""

    def answer(handler: Handler, ended: threading.Event) -> None:
        ended.wait(seconds)
        handler.publish()

    return answer


def drip(content: Iterable[bytes], seconds: float = 0.2) -> Fault:
    """Send some bytes now and then, so that no single read ever takes long."""

    def send(handler: Handler, ended: threading.Event) -> None:
        for part in content:
            handler.wfile.write(part)
            handler.wfile.flush()
            if ended.wait(seconds):
                return

    return send


def certificates(published: Published) -> bytes:
    return json.dumps({each.kid: certificate(each.private) for each in published.factories}).encode()


def jwks(published: Published) -> bytes:
    return json.dumps({"keys": [jwk(each.private, each.kid) for each in published.factories]}).encode()


def jwk(private: RSAPrivateKey, kid: object) -> dict[str, object]:
    numbers = private.public_key().public_numbers()
    modulus = base64url(numbers.n.to_bytes(private.key_size // 8, "big"))
    return {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid, "n": modulus, "e": "AQAB"}


@cache
def certificate(private: CertificateKey) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "securetoken.system.gserviceaccount.com")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
    dated = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=16))
    hashed = None if isinstance(private, Ed25519PrivateKey) else hashes.SHA256()
    return dated.sign(private, hashed).public_bytes(Encoding.PEM).decode()
