"""Cloud Storage on a socket, as far as its client goes: uploads, downloads, metadata and signed URLs, with real signatures.

Beside it, on the same port, what signs in and signs in Google's cloud: the token endpoint of service accounts, a virtual machine's
metadata server, and IAM's `signBlob`. Faults are ordered by operation.
"""

from __future__ import annotations

import base64
import contextlib
import email.parser
import json
import re
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from google.oauth2.service_account import Credentials

from service.config import Settings
from service.proof.loopback import LoopbackServer
from tests.kit.gcs.objects import Buckets, Refused, Stored
from tests.kit.gcs.signatures import Account, prove
from tests.kit.tokens import new_key

BUCKET = "brainstem-files"
ACCOUNT = "brainstem@demo-brainstem.iam.gserviceaccount.com"
PIECE = 64 * 1024


@cache
def key() -> RSAPrivateKey:
    """The account's key; to make one takes a while."""
    return new_key()


@dataclass
class Fault:
    """What the next request of an operation meets.

    `busy` 503, `denied` 403, `reset` before anything is done, `lost` the reply after it is done, `slow` waits `seconds` first, `cut`
    breaks a download off in the middle, `damaged` changes a byte of it, `nonsense` is a page of HTML.
    """

    operation: str
    kind: str
    seconds: float = 0.0
    status: int = 503
    then: Callable[[], object] = lambda: None
    """What happens once the reply is lost."""


class KeyFile(Credentials):
    """Credentials that ask nobody on the internet for the regions of their account."""

    def _is_regional_access_boundary_lookup_required(self) -> bool:
        return False


class StorageServer:
    """`requests` lists the operations asked for, `fired` the faults that were met."""

    def __init__(self) -> None:
        self.buckets = Buckets(BUCKET)
        self.accounts = {ACCOUNT: Account(ACCOUNT, key())}
        self.signs_for = {ACCOUNT}
        self.tokens: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.fired: list[Fault] = []
        self.requests: list[str] = []
        self.down: Fault | None = None
        """What every request meets."""
        self.now: Callable[[], datetime] | None = None
        self.longest_page = 7
        """Names on one page of a list."""
        self.lock = threading.Lock()

    def __enter__(self) -> Self:
        handler = type("Handler", (Handler,), {"kit": self})
        self._server = LoopbackServer(("127.0.0.1", 0), handler)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def settings(self) -> Settings:
        return Settings(storage_bucket=BUCKET)

    def credentials(self) -> Credentials:
        """Those of a key file, whose tokens this server gives."""
        from google.auth.crypt import RSASigner

        account = self.accounts[ACCOUNT]
        signer = RSASigner(account.key, "k1")  # type: ignore[no-untyped-call]
        scopes = ["https://www.googleapis.com/auth/cloud-platform"]
        return KeyFile(signer, account.email, f"{self.url}/token", scopes=scopes)  # type: ignore[no-untyped-call]

    def object(self, name: str) -> Stored:
        return self.buckets.objects[BUCKET, name]

    def fault(self, operation: str) -> Fault | None:
        with self.lock:
            self.requests.append(operation)
            found = next((fault for fault in self.faults if fault.operation == operation), None)
            if found:
                self.faults.remove(found)
            found = found or self.down
            if found:
                self.fired.append(found)
            return found

    def token(self, email: str) -> dict[str, Any]:
        token = f"ya29.{secrets.token_urlsafe(32)}"
        self.tokens[token] = email
        return {"access_token": token, "expires_in": 3599, "token_type": "Bearer"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    kit: StorageServer
    fault: Fault | None = None

    def do_GET(self) -> None:
        self.handle_one()

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815  # the names that http.server looks for

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_one(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        path, _, query = self.path.partition("?")
        self.query = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
        for method, pattern, operation in ROUTES:
            if method == self.command and (match := re.fullmatch(pattern, path)):
                with contextlib.suppress(OSError):
                    self.run(operation, [unquote(group) for group in match.groups()])
                return
        self.answer(404, {"error": {"code": 404, "message": "Not Found"}})

    def run(self, operation: str, ids: list[str]) -> None:
        if operation == "start" and self.query.get("uploadType") == "multipart":
            operation = "upload"
        self.fault = fault = self.kit.fault(operation)
        kind = fault.kind if fault else ""
        if fault:
            time.sleep(fault.seconds)
        if kind == "reset":
            self.reset()
            return
        try:
            if kind in ("busy", "denied"):
                assert fault
                raise Refused(403 if kind == "denied" else fault.status, "Fault by order.")
            if kind == "nonsense":
                self.answer(200, b"<html>Sign in to this network</html>", {"Content-Type": "text/html"})
                return
            if operation not in PUBLIC and self.caller() is None:
                raise Refused(401, "Invalid Credentials", "authError")
            getattr(self, f"do_{operation}")(*ids)
        except Refused as refused:
            self.refuse(operation, refused)

    def caller(self) -> str | None:
        return self.kit.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def refuse(self, operation: str, refused: Refused) -> None:
        if operation == "signed":
            text = (
                f"<?xml version='1.0'?><Error><Code>{refused.reason}</Code><Message>{refused.message}</Message></Error>"
            )
            self.answer(refused.status, text.encode(), {"Content-Type": "application/xml"})
            return
        if operation == "read":
            self.answer(refused.status, refused.message.encode(), {"Content-Type": "text/html"})
            return
        errors = [{"message": refused.message, "domain": "global", "reason": refused.reason}]
        self.answer(refused.status, {"error": {"code": refused.status, "message": refused.message, "errors": errors}})

    def answer(self, status: int, body: object = None, headers: Mapping[str, str] | None = None) -> None:
        if self.fault and self.fault.kind == "lost":
            self.fault.then()
            self.reset()
            return
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        for at in range(0, len(content), PIECE):
            if self.fault and self.fault.kind == "cut" and at >= len(content) // 2:
                self.fault.then()
                self.reset()
                return
            self.wfile.write(content[at : at + PIECE])

    def reset(self) -> None:
        """End the connection at once, as a process does that dies."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    # Objects

    def do_upload(self, bucket: str) -> None:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        boundary = self.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
        parts = (head + self.body).split(b"--" + boundary)[1:3]
        described, _, content = parts[1].partition(b"\r\n\r\n")
        metadata = json.loads(parts[0].partition(b"\r\n\r\n")[2])
        media_type = email.parser.BytesHeaderParser().parsebytes(described.lstrip())["Content-Type"]
        metadata.setdefault("contentType", media_type)
        stored = self.kit.buckets.write(bucket, metadata, content.removesuffix(b"\r\n"), self.precondition)
        self.answer(200, stored.resource)

    def do_start(self, bucket: str) -> None:
        metadata = {"contentType": self.headers["X-Upload-Content-Type"], **json.loads(self.body)}
        upload = self.kit.buckets.start(bucket, metadata, self.precondition)
        where = f"{self.kit.url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={upload}"
        self.answer(200, b"", {"Location": where, "X-GUploader-UploadID": upload})

    def do_piece(self, bucket: str) -> None:
        match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", self.headers["Content-Range"])
        assert match
        buckets, upload_id = self.kit.buckets, self.query["upload_id"]
        kept = len(buckets.uploads[upload_id].content) if upload_id in buckets.uploads else 0
        upload = buckets.append(upload_id, int(match[1] or kept), int(match[2]), self.body)
        if upload.done:
            self.answer(200, upload.done.resource)
        else:
            self.answer(308, b"", {"Range": f"bytes=0-{len(upload.content) - 1}"} if upload.content else {})

    def do_find(self, bucket: str, name: str) -> None:
        self.answer(200, self.kit.buckets.find(bucket, name).resource)

    def do_read(self, bucket: str, name: str) -> None:
        self.serve(self.kit.buckets.find(bucket, name, self.query.get("generation")), {})

    def do_remove(self, bucket: str, name: str) -> None:
        self.kit.buckets.remove(bucket, name, self.precondition)
        self.answer(204)

    def do_list(self, bucket: str) -> None:
        self.kit.buckets.demand(bucket)
        prefix, behind = self.query.get("prefix", ""), self.query.get("pageToken", "")
        most = min(int(self.query.get("maxResults", "1000")), self.kit.longest_page)
        objects = dict(self.kit.buckets.objects)
        names = sorted(name for held, name in objects if held == bucket and name.startswith(prefix) and name > behind)
        items = [objects[bucket, name].resource for name in names[:most]]
        more = {"nextPageToken": names[most - 1]} if len(names) > most else {}
        self.answer(200, {"kind": "storage#objects", "items": items, **more})

    def do_signed(self, bucket: str, name: str) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        now = self.kit.now() if self.kit.now else None
        query = prove(self.kit.accounts, self.command, self.path, headers, now)
        stored = self.kit.buckets.find(bucket, name)
        wanted = {
            "Content-Disposition": query.get("response-content-disposition", ""),
            "Content-Type": query.get("response-content-type", stored.metadata.get("contentType", "")),
        }
        self.serve(stored, {key: value for key, value in wanted.items() if value})

    def serve(self, stored: Stored, headers: Mapping[str, str]) -> None:
        content, status = stored.content, 200
        if "Range" in self.headers:
            first = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if first >= len(content):
                raise Refused(416, "Requested range not satisfiable", "requestedRangeNotSatisfiable")
            content, status = content[first:], 206
        if self.fault and self.fault.kind == "damaged":
            content = content[:-1] + bytes([content[-1] ^ 1])
        described = {
            "Content-Type": str(stored.metadata.get("contentType", "application/octet-stream")),
            "Cache-Control": str(stored.metadata.get("cacheControl", "private")),
            "X-Goog-Generation": str(stored.generation),
            "X-Goog-Hash": f"crc32c={stored.resource['crc32c']},md5={stored.resource['md5Hash']}",
            **({"Content-Encoding": "gzip"} if stored.metadata.get("contentEncoding") == "gzip" else {}),
        }
        self.answer(status, content, described | dict(headers))

    @property
    def precondition(self) -> str | None:
        return self.query.get("ifGenerationMatch")

    # Signing in, and signing

    def do_token(self) -> None:
        assertion = parse_qs(self.body.decode())["assertion"][0]
        email = str(jwt.decode(assertion, options={"verify_signature": False})["iss"])
        key = self.kit.accounts[email].key.public_key()
        jwt.decode(assertion, key, algorithms=["RS256"], audience="https://oauth2.googleapis.com/token")
        self.answer(200, self.kit.token(email))

    def do_metadata(self, path: str) -> None:
        if self.headers.get("Metadata-Flavor") != "Google":
            raise Refused(403, "Missing Metadata-Flavor.")
        flavor = {"Metadata-Flavor": "Google"}
        [account] = self.kit.accounts
        if path.endswith("/token"):
            self.answer(200, self.kit.token(account), flavor)
        elif path.endswith("/project-id"):
            self.answer(200, b"demo-brainstem", flavor | {"Content-Type": "application/text"})
        elif path.endswith("/universe-domain"):
            self.answer(404, b"", flavor)
        elif "/service-accounts/" in path:
            scopes = ["https://www.googleapis.com/auth/cloud-platform"]
            self.answer(200, {"aliases": ["default"], "email": account, "scopes": scopes}, flavor)
        else:
            self.answer(200, b"", flavor)

    def do_sign(self, email: str) -> None:
        if self.caller() != email or email not in self.kit.signs_for:
            raise Refused(403, "Permission 'iam.serviceAccounts.signBlob' denied.", "forbidden")
        payload = base64.b64decode(json.loads(self.body)["payload"])
        signed = base64.b64encode(self.kit.accounts[email].sign(payload)).decode()
        self.answer(200, {"keyId": "k1", "signedBlob": signed})


OBJECT = r"/storage/v1/b/([^/]+)/o/([^/]+)"
ROUTES = [
    ("POST", r"/upload/storage/v1/b/([^/]+)/o", "start"),
    ("PUT", r"/upload/storage/v1/b/([^/]+)/o", "piece"),
    ("GET", OBJECT, "find"),
    ("GET", f"/download{OBJECT}", "read"),
    ("DELETE", OBJECT, "remove"),
    ("GET", r"/storage/v1/b/([^/]+)/o", "list"),
    ("POST", r"/token", "token"),
    ("GET", r"/((?:computeMetadata/.*)?)", "metadata"),
    ("POST", r"/v1/projects/-/serviceAccounts/([^/:]+):signBlob", "sign"),
    *((method, r"/([^/]+)/(.+)", "signed") for method in ("GET", "PUT", "POST", "DELETE")),
]
PUBLIC = {"token", "metadata", "signed"}


def target(url: str) -> str:
    """The path and query of a URL, as a request has them."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"
