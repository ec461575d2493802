"""Secret Manager on a socket: real gRPC with the messages that Google ships, versions with states, and faults to order."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

import google_crc32c
import grpc
from google.cloud.secretmanager_v1 import types
from google.rpc import status_pb2
from google.rpc.error_details_pb2 import ErrorInfo
from grpc import StatusCode
from grpc_status import rpc_status

from service.config import Settings
from service.proof.process import free_port

PROJECT = "demo-brainstem"
SERVICE = "google.cloud.secretmanager.v1.SecretManagerService"
SWITCHED_OFF = status_pb2.Status(code=7, message="Secret Manager API has not been used in project 1234567890 before.")
SWITCHED_OFF.details.add().Pack(ErrorInfo(reason="SERVICE_DISABLED", domain="googleapis.com"))
VERSION = re.compile(r"projects/([^/]+)/secrets/([A-Za-z0-9_-]{1,255})/versions/(latest|\d+)")


class SecretManagerServer:
    """`versions` holds each secret's values, oldest first, None for one that is disabled; `reads` the names that were asked for."""

    def __init__(self) -> None:
        self.versions: dict[str, list[bytes | None]] = {}
        self.denied: set[str] = set()
        self.reads: list[str] = []
        self.failures: list[StatusCode] = []
        """What the next calls end with, one each."""
        self.down: StatusCode | None = None
        """What every call ends with."""
        self.disabled = False
        """Whether the project has the API switched off."""
        self.damaged = False
        self.delay = 0.0
        self.fired = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self.host = f"127.0.0.1:{free_port()}"
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        method = grpc.unary_unary_rpc_method_handler(
            self._access,
            request_deserializer=types.AccessSecretVersionRequest.deserialize,
            response_serializer=types.AccessSecretVersionResponse.serialize,
        )
        handler = grpc.method_handlers_generic_handler(SERVICE, {"AccessSecretVersion": method})
        self._server.add_generic_rpc_handlers([handler])
        if not self._server.add_insecure_port(self.host):
            raise OSError(self.host)
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(None).wait()

    @property
    def settings(self) -> Settings:
        return Settings(google_cloud_project=PROJECT, secret_manager_emulator_host=self.host)

    def add(self, name: str, value: str | bytes) -> None:
        """Add a version, as a rotation does."""
        self.versions.setdefault(name, []).append(value.encode() if isinstance(value, str) else value)

    def _access(self, request: Any, context: grpc.ServicerContext) -> Any:
        match = VERSION.fullmatch(request.name)
        routing = dict(context.invocation_metadata()).get("x-goog-request-params", "")
        if unquote(routing) != f"name={request.name}":
            context.abort(StatusCode.INVALID_ARGUMENT, "the routing header does not name the resource")
        if not match or match[1] != PROJECT:
            context.abort(StatusCode.INVALID_ARGUMENT, "canary-of-google")
        name = match[2]
        with self._lock:
            self.reads.append(name)
            failure = self.failures.pop(0) if self.failures else self.down
            if failure or self.delay or self.damaged:
                self.fired += 1
        time.sleep(self.delay)
        if failure:
            context.abort(failure, f"canary-of-google {request.name}")
        if self.disabled:
            context.abort_with_status(rpc_status.to_status(SWITCHED_OFF))
        if name in self.denied:
            context.abort(StatusCode.PERMISSION_DENIED, f"Permission denied on {request.name} (or it may not exist).")
        if name not in self.versions:
            context.abort(StatusCode.NOT_FOUND, f"Secret [{request.name}] not found or has no versions.")
        content = self.versions[name][-1]
        if content is None:
            context.abort(StatusCode.FAILED_PRECONDITION, f"Secret Version [{request.name}] is in DISABLED state.")
        number = len(self.versions[name])
        checksum = google_crc32c.value(content)
        return types.AccessSecretVersionResponse(
            name=f"projects/{PROJECT}/secrets/{name}/versions/{number}",
            payload=types.SecretPayload(data=content[::-1] if self.damaged else content, data_crc32c=checksum),
        )
