"""The way to Google's hosts as a process in the cloud goes it, ending at a server here: TLS, a service account, a proxy."""

from __future__ import annotations

import json
import os
import socket
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from service.proof.loopback import LoopbackServer
from tests.kit.vertex import VertexServer

DOMAIN = "111.us-central1-222.vdb.vertexai.goog"
NAMES = ("*.googleapis.com", "*.us-central1-222.vdb.vertexai.goog")
API = "us-central1-aiplatform.googleapis.com"
TOKEN = "token-of-the-service"


class FrontDoor:
    """A server with Google's names, reached through a proxy that `environ` tells of; `connected` are the hosts asked for."""

    def __init__(self, folder: Path) -> None:
        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        certificate = sign(key)
        self.server = VertexServer(tls=grpc.ssl_server_credentials([(pem, certificate)]))
        self.connected: list[str] = []
        self._proxy = LoopbackServer(("127.0.0.1", 0), self._handler())
        address = f"http://127.0.0.1:{self._proxy.server_port}"
        account = {
            "type": "service_account",
            "project_id": "demo-brainstem",
            "client_email": "brainstem@demo-brainstem.iam.gserviceaccount.com",
            "private_key": pem.decode(),
            "token_uri": f"{address}/token",
        }
        (folder / "ca.pem").write_bytes(certificate)
        (folder / "account.json").write_text(json.dumps(account))
        self.environ = {
            "PATH": os.environ["PATH"],
            "https_proxy": address,
            "no_proxy": "127.0.0.1",
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(folder / "ca.pem"),
            "GOOGLE_APPLICATION_CREDENTIALS": str(folder / "account.json"),
        }

    def __enter__(self) -> Self:
        self.server.__enter__()
        self.server.endpoint.public_endpoint_domain_name = DOMAIN
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._proxy.shutdown()
        self._proxy.server_close()
        self.server.stop()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        door = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """Give the token for which a service account asks."""
                self.rfile.read(int(self.headers["Content-Length"]))
                answer = json.dumps({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def do_CONNECT(self) -> None:
                door.connected.append(self.path)
                targets = {f"{API}:443": door.server.host, f"{DOMAIN}:443": door.server.domain}
                if self.path not in targets:
                    # google-auth also asks for limits on the account, and goes on without an answer.
                    self.send_error(502)
                    return
                host, _, port = targets[self.path].partition(":")
                with socket.create_connection((host, int(port))) as upstream:
                    self.send_response(200)
                    self.end_headers()
                    back = threading.Thread(target=pump, args=(upstream, self.connection), daemon=True)
                    back.start()
                    pump(self.connection, upstream)
                    back.join()
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None: ...

        return Handler


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def sign(key: rsa.RSAPrivateKey) -> bytes:
    """Return a certificate for Google's names that vouches for itself."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "scripted")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
    )
    names = x509.SubjectAlternativeName([x509.DNSName(one) for one in NAMES])
    authority = x509.BasicConstraints(ca=True, path_length=None)
    signed = (
        builder.add_extension(names, critical=False).add_extension(authority, critical=True).sign(key, hashes.SHA256())
    )
    return signed.public_bytes(Encoding.PEM)
