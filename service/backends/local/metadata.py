"""The metadata server of this machine: gives functions in the emulator the tokens that Google's gives them in the cloud.

The key for them is published where the service looks for Google's. Source: "About VM metadata" in the Compute Engine documentation.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from service.backends import jwts
from service.backends.interfaces import Secrets
from service.backends.local.tokens import LocalTokens
from service.config import Settings

HOST = "127.0.0.1"
KEYS = "/oauth2/v3/certs"


class LocalMetadata(LocalTokens):
    """Answers on a free port of 127.0.0.1, while it is entered, as the service account `functions@PROJECT…`."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        super().__init__(settings, secrets)
        self.email = f"functions@{settings.google_cloud_project}.iam.gserviceaccount.com"
        self._server = ThreadingHTTPServer((HOST, 0), self._handler())
        self.host = f"{HOST}:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, asks_google: bool) -> tuple[str, str] | None:
        """Return the content type and the body of a path; None for a token asked for as a web page can ask."""
        where = urlsplit(path)
        if where.path == KEYS:
            return "application/json", json.dumps({"keys": [self._published()]})
        if not asks_google:
            return None
        if where.path.endswith("/identity"):
            audience = parse_qs(where.query).get("audience", [""])[0]
            return "application/text", self.mint_service(self.email, audience)
        return "application/json", json.dumps({"email": self.email, "scopes": [], "aliases": ["default"]})

    def _published(self) -> dict[str, object]:
        from jwt.algorithms import RSAAlgorithm

        _, public, kid = self._keys
        return {**RSAAlgorithm.to_jwk(public, as_dict=True), "kid": kid, "alg": jwts.ALGORITHM, "use": "sig"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = answer(self.path, self.headers.get("Metadata-Flavor") == "Google")
                kind, body = found or ("text/plain", "")
                self.send_response(200 if found else 403)
                self.send_header("Content-Type", kind)
                self.send_header("Metadata-Flavor", "Google")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: the terminal is the service's."""

        return Handler
