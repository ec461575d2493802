"""The functions emulator, what its functions ask for tokens, and what may stand where the service is."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from service.proof.loopback import LoopbackServer
from tests.kit.emulators import Emulators, emulators
from tests.kit.required import left_out
from tests.kit.server import ROOT, Server
from tests.kit.tokens import TokenFactory

FUNCTIONS = ROOT / "functions"
CALLER = "brainstem-functions@demo-brainstem.iam.gserviceaccount.com"
REGION = "us-central1"
WAIT_SECONDS = 30.0


class Listener:
    """An HTTP server on a free port of 127.0.0.1 while it is entered."""

    def __init__(self) -> None:
        self.server = LoopbackServer(("127.0.0.1", 0), Answers)
        self.server.owner = self  # type: ignore[attr-defined]
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        raise NotImplementedError


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        owner: Listener = self.server.owner  # type: ignore[attr-defined]
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, body = owner.answer(self.path, dict(self.headers), content)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json" if body.startswith(b"{") else "text/plain")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  # the name that the base class calls

    def log_message(self, format: str, *args: object) -> None:
        pass


class Metadata(Listener):
    """The metadata server of a machine that runs as CALLER: it signs OIDC tokens for whatever audience is asked."""

    def __init__(self, factory: TokenFactory) -> None:
        super().__init__()
        self._factory = factory

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        where = urlsplit(path)
        if where.path.endswith("/identity"):
            return 200, service_token(self._factory, parse_qs(where.query)["audience"][0]).encode()
        if "/service-accounts/" in where.path:
            return 200, json.dumps({"email": CALLER, "scopes": [], "aliases": ["default"]}).encode()
        return 200, b"{}"


def service_token(factory: TokenFactory, audience: str, email: str = CALLER) -> str:
    """The token by which a service account signs in to an audience."""
    now = int(time.time())
    claims: dict[str, object] = {
        "iss": "https://accounts.google.com",
        "aud": audience,
        "azp": "104",
        "sub": "104",
        "email": email,
        "email_verified": True,
        "iat": now,
        "exp": now + 3600,
    }
    return factory.sign(claims)


@dataclass(frozen=True)
class Received:
    """A request that arrived."""

    path: str
    token: str
    body: Any


class Receiver(Listener):
    """Stands where the service is and answers what `answers` says next, else what the service `behind` says, else 204."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Received] = []
        self.answers: deque[int] = deque()
        self.behind: Server | None = None

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        self.requests.append(Received(path, token, json.loads(body)))
        if self.answers:
            return self.answers.popleft(), b""
        if self.behind is None:
            return 204, b""
        given = {name: headers[name] for name in ("Authorization", "Content-Type") if name in headers}
        return self.behind.request("POST", path, body, given)[0], b""

    def wait(self, path: str, body: object, times: int = 1) -> list[Received]:
        """Wait until a request has come so many times."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            found = [request for request in self.requests if (request.path, request.body) == (path, body)]
            if len(found) >= times:
                return found
            time.sleep(0.05)
        raise AssertionError(f"{path} {body} did not come; these did: {self.requests}")


@contextmanager
def functions_emulators(service_url: str, metadata: Metadata, membership: str) -> Iterator[Emulators]:
    """Run the project's functions, with a table of members of their own, beside the emulators that they listen to."""
    if not (FUNCTIONS / "venv" / "bin" / "python").exists():
        left_out("emulators", "functions/venv is missing: `make install-functions` makes it")

    def prepare(folder: Path) -> None:
        shutil.copytree(FUNCTIONS, folder / "functions", ignore=shutil.ignore_patterns("venv", "__pycache__", ".env*"))
        (folder / "functions" / "venv").symlink_to(FUNCTIONS / "venv")
        (folder / "functions" / ".env").write_text(f"SERVICE_URL={service_url}\nSWEEP_AFTER_MINUTES=0\n")
        (folder / "functions" / "membership.toml").write_text(membership)

    environ = {"GCE_METADATA_HOST": metadata.host, "GCE_METADATA_IP": metadata.host}
    source = {"source": "functions", "codebase": "default", "runtime": runtime()}
    names = ("auth", "firestore", "storage", "functions", "tasks", "eventarc")
    with emulators(*names, config={"functions": [source]}, environ=environ, prepare=prepare) as running:
        yield running


def runtime() -> str:
    """The Python that functions/venv is made of, as firebase-tools calls it."""
    [found] = (FUNCTIONS / "venv" / "lib").glob("python3.*")
    return found.name.replace(".", "")
