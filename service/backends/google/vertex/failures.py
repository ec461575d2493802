"""What each failure of a call to Vertex AI means to us, and whether another attempt may help.

Google's words are not passed on: they name projects and may repeat the request. Imported only when the first call is made, for
it imports gRPC.
"""

from __future__ import annotations

import google.auth.exceptions
import grpc

from service.errors import Unavailable

UNREACHABLE = "The search index cannot be reached."
TOO_SLOW = "The search index did not answer in time."
BUSY = "The search index is overloaded, or a quota of Vertex AI is used up."
FORBIDDEN = "Vertex AI refuses this service's account: it needs the role `roles/aiplatform.user`."
UNKNOWN = (
    "Vertex AI knows no such index or endpoint: check VERTEX_INDEX, VERTEX_INDEX_ENDPOINT and VERTEX_DEPLOYED_INDEX."
)
REFUSED = "The search index refuses the request. It must have been made for vectors of the embedder's length."
NOT_STREAMED = (
    "The search index takes no single changes: make one with `indexUpdateMethod: STREAM_UPDATE`, and deploy it."
)
NO_CREDENTIALS = (
    "No Google credentials: run `gcloud auth application-default login`, or give Cloud Run a service account."
)

MEANINGS: dict[grpc.StatusCode, str] = {
    grpc.StatusCode.CANCELLED: UNREACHABLE,
    grpc.StatusCode.UNKNOWN: UNREACHABLE,
    grpc.StatusCode.INVALID_ARGUMENT: REFUSED,
    grpc.StatusCode.DEADLINE_EXCEEDED: TOO_SLOW,
    grpc.StatusCode.NOT_FOUND: UNKNOWN,
    grpc.StatusCode.ALREADY_EXISTS: REFUSED,
    grpc.StatusCode.PERMISSION_DENIED: FORBIDDEN,
    grpc.StatusCode.UNAUTHENTICATED: FORBIDDEN,
    grpc.StatusCode.RESOURCE_EXHAUSTED: BUSY,
    grpc.StatusCode.FAILED_PRECONDITION: NOT_STREAMED,
    grpc.StatusCode.ABORTED: UNREACHABLE,
    grpc.StatusCode.OUT_OF_RANGE: REFUSED,
    grpc.StatusCode.UNIMPLEMENTED: UNKNOWN,
    grpc.StatusCode.INTERNAL: UNREACHABLE,
    grpc.StatusCode.UNAVAILABLE: UNREACHABLE,
    grpc.StatusCode.DATA_LOSS: UNREACHABLE,
}
ANOTHER_ATTEMPT = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
    }
)
FAILURES: tuple[type[Exception], ...] = (
    grpc.RpcError,
    grpc.FutureTimeoutError,
    grpc.FutureCancelledError,
    google.auth.exceptions.GoogleAuthError,
)


def mapped(exc: Exception) -> Unavailable:
    """Return our error for a failure of a call."""
    if isinstance(exc, google.auth.exceptions.GoogleAuthError):
        return Unavailable(NO_CREDENTIALS)
    if isinstance(exc, grpc.FutureTimeoutError):
        return Unavailable(TOO_SLOW)
    status = code(exc)
    return Unavailable(UNREACHABLE if status is None else MEANINGS[status])


def may_pass(exc: Exception) -> bool:
    """Whether the same call may succeed at another attempt; none of ours does harm when it is made twice."""
    return code(exc) in ANOTHER_ATTEMPT


def is_missing(exc: Exception) -> bool:
    return code(exc) is grpc.StatusCode.NOT_FOUND


def code(exc: Exception) -> grpc.StatusCode | None:
    return exc.code() if isinstance(exc, grpc.Call) else None
