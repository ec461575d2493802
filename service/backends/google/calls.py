"""The gRPC calls to Secret Manager and Cloud Tasks: their channel, how long one may take, and what a failure means.

The calls go through bare stubs with the SDKs' own messages: the SDKs' clients log requests and replies, secrets too, where the level is
DEBUG. Imported with the first call, for it imports gRPC. Google's words are not passed on: they name resources and may repeat the request.
"""

from __future__ import annotations

import random
import time
import weakref
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import google.auth
import grpc
from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError, RetryError
from google.api_core.grpc_helpers import wrap_errors
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.auth.transport.grpc import secure_authorized_channel
from google.auth.transport.requests import Request
from grpc import StatusCode

from service.errors import Unavailable

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
OPTIONS = (
    ("grpc.enable_retries", 0),
    # A connection that died while the processor was taken away is noticed, not waited for.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)

ATTEMPT_SECONDS = 1.6
TRYING_SECONDS = 3.2
"""No attempt begins later than so, and a call with all its attempts takes less than 5 seconds."""
MOST_ATTEMPTS = 4

FAILURES: tuple[type[Exception], ...] = (GoogleAPIError, GoogleAuthError)
PASSING = {
    StatusCode.UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.INTERNAL,
    StatusCode.UNKNOWN,
    StatusCode.CANCELLED,
    StatusCode.ABORTED,
    StatusCode.RESOURCE_EXHAUSTED,
}

UNREACHABLE = "it cannot be reached"
NONSENSE = "it refuses the request"
TOO_SLOW = "it does not answer in time"
NO_CREDENTIALS = (
    "there are no Application Default Credentials; run as a service account or `gcloud auth application-default login`"
)
NOT_ACCEPTED = "it does not accept our credentials; set up Application Default Credentials"
REASONS = {
    StatusCode.UNAVAILABLE: UNREACHABLE,
    StatusCode.INTERNAL: UNREACHABLE,
    StatusCode.UNKNOWN: UNREACHABLE,
    StatusCode.CANCELLED: UNREACHABLE,
    StatusCode.DATA_LOSS: UNREACHABLE,
    StatusCode.ABORTED: UNREACHABLE,
    StatusCode.DEADLINE_EXCEEDED: TOO_SLOW,
    StatusCode.RESOURCE_EXHAUSTED: "a quota of it is used up",
    StatusCode.UNAUTHENTICATED: NOT_ACCEPTED,
    StatusCode.INVALID_ARGUMENT: NONSENSE,
    StatusCode.OUT_OF_RANGE: NONSENSE,
    StatusCode.ALREADY_EXISTS: NONSENSE,
    StatusCode.UNIMPLEMENTED: NONSENSE,
}


@dataclass(frozen=True, slots=True)
class Service:
    """What is called, and what to look at when it refuses: the role that we need, and the settings that name its resource."""

    name: str
    role: str
    settings: str


SECRETS = Service("Secret Manager", "roles/secretmanager.secretAccessor", "GOOGLE_CLOUD_PROJECT")
TASKS = Service(
    "Cloud Tasks",
    "roles/cloudtasks.enqueuer, roles/iam.serviceAccountUser on TASKS_SERVICE_ACCOUNT",
    "GOOGLE_CLOUD_PROJECT, GOOGLE_CLOUD_REGION and TASKS_QUEUE",
)


class Connection:
    """One service of Google's, on a channel that all threads share; raises `FAILURES`, here and in `call`."""

    def __init__(self, server: str, service: str, emulator: str) -> None:
        self._service = service
        self._channel = channel(emulator, f"{server}:443")
        # Nothing closes an adapter, so its channel ends with it.
        weakref.finalize(self, self._channel.close)

    def call(self, method: str, request: Any, answer: Any, *, names: str) -> Any:
        """Call a method that may be called twice without harm, and return its answer; `names` is the field with the resource."""
        stub = self._channel.unary_unary(
            f"/{self._service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        ask = wrap_errors(stub)  # type: ignore[no-untyped-call]
        routing = [("x-goog-request-params", f"{names}={quote(getattr(request, names))}")]
        began, attempt = time.monotonic(), 1
        while True:
            try:
                return ask(request, timeout=ATTEMPT_SECONDS, metadata=routing)
            except FAILURES as exc:
                pause = random.uniform(0.05, 0.1) * 2**attempt  # noqa: S311  # it spreads attempts and guards nothing
                late = time.monotonic() - began + pause > TRYING_SECONDS
                if late or attempt == MOST_ATTEMPTS or not may_pass(exc):
                    raise
            time.sleep(pause)
            attempt += 1


def may_pass(exc: Exception) -> bool:
    """Whether the same call may succeed at another attempt; none of ours does harm when it is made twice."""
    return status(exc) in PASSING


def status(exc: Exception) -> StatusCode | None:
    code = exc.grpc_status_code if isinstance(exc, GoogleAPICallError) else None
    return code if isinstance(code, StatusCode) else None


def is_answer(exc: Exception) -> bool:
    """Whether Secret Manager told us that we may not have a secret: it is not there, has no enabled version, or is not for us."""
    if isinstance(exc, GoogleAPICallError) and exc.reason in ("SERVICE_DISABLED", "CONSUMER_INVALID"):
        return False
    return status(exc) in (StatusCode.NOT_FOUND, StatusCode.FAILED_PRECONDITION, StatusCode.PERMISSION_DENIED)


def channel(emulator: str, server: str) -> grpc.Channel:
    """Open the channel to an emulator, or to Google with Application Default Credentials; raises Google's errors."""
    if emulator:
        return grpc.insecure_channel(emulator, [*OPTIONS, ("grpc.enable_http_proxy", 0)])
    credentials, _ = google.auth.default(scopes=SCOPES)
    return secure_authorized_channel(credentials, Request(), server, options=OPTIONS)  # type: ignore[no-untyped-call]


def refused(service: Service) -> Unavailable:
    return Unavailable(f"{service.name} cannot be used: {refusal(service)}.")


def mapped(exc: Exception, service: Service) -> Unavailable:
    """Return our error for a failed call."""
    return Unavailable(f"{service.name} cannot be used: {reason(exc, service)}.")


def reason(exc: Exception, service: Service) -> str:
    if isinstance(exc, RetryError) and isinstance(exc.cause, Exception):
        return reason(exc.cause, service)
    if isinstance(exc, GoogleAuthError):
        return NO_CREDENTIALS if isinstance(exc, DefaultCredentialsError) else NOT_ACCEPTED
    match status(exc):
        case StatusCode.PERMISSION_DENIED:
            return refusal(service)
        case StatusCode.NOT_FOUND | StatusCode.FAILED_PRECONDITION:
            return f"it does not find what we ask for; check {service.settings}"
        case StatusCode() as code:
            return REASONS[code]
    return UNREACHABLE


def refusal(service: Service) -> str:
    return f"it refuses us; the service account needs {service.role} and the project the {service.name} API"
