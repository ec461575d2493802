"""What a failed call to Firestore means to Brainstem. Imported with the first call, for it imports gRPC.

Of what Firestore says nothing is passed on, for it names documents; our errors are raised in our words.
Source: google.rpc.Code, and "Error codes" in the Firestore documentation.
"""

from __future__ import annotations

import logging
import re

import grpc
from grpc import StatusCode

from service import logging as log
from service.backends.google.firestore.connection import LEAST_SECONDS, Failed
from service.errors import AlreadyExists, BadRequest, BrainstemError, PreconditionFailed, TooLarge, Unavailable

DOUBTFUL = {
    StatusCode.UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.INTERNAL,
    StatusCode.UNKNOWN,
    StatusCode.CANCELLED,
}
"""After these a commit may have been applied all the same."""

PASSING = DOUBTFUL | {StatusCode.ABORTED, StatusCode.RESOURCE_EXHAUSTED}
ATTEMPTS = 5
CONTENTION_SECONDS = 2.0
"""Documents that others keep changing are tried no longer when so much of the call's time is left."""

REFUSED = {
    StatusCode.ALREADY_EXISTS: (AlreadyExists, "This document exists already."),
    StatusCode.FAILED_PRECONDITION: (PreconditionFailed, "This document is gone or has changed."),
    StatusCode.NOT_FOUND: (PreconditionFailed, "This document is gone or has changed."),
}
"""What these codes say of a commit that names a precondition."""

UNREACHABLE = "it cannot be reached"
REASONS = {
    StatusCode.UNAVAILABLE: UNREACHABLE,
    StatusCode.INTERNAL: UNREACHABLE,
    StatusCode.UNKNOWN: UNREACHABLE,
    StatusCode.CANCELLED: UNREACHABLE,
    StatusCode.OK: UNREACHABLE,
    StatusCode.DEADLINE_EXCEEDED: "it does not answer in time",
    StatusCode.ABORTED: "others keep changing the same documents",
    StatusCode.RESOURCE_EXHAUSTED: "its quota is used up",
    StatusCode.DATA_LOSS: "it has lost data",
    StatusCode.UNIMPLEMENTED: "it does not know what it is asked; check FIRESTORE_EMULATOR_HOST",
    StatusCode.UNAUTHENTICATED: "it does not accept our credentials; set up Application Default Credentials",
    StatusCode.PERMISSION_DENIED: "it refuses us; the service account needs roles/datastore.user and the project the Firestore API",
    StatusCode.NOT_FOUND: "there is no such database; check GOOGLE_CLOUD_PROJECT and FIRESTORE_DATABASE",
    StatusCode.ALREADY_EXISTS: "it answers nonsense",
    StatusCode.FAILED_PRECONDITION: "it lacks an index or is in Datastore mode; deploy firestore.indexes.json",
}
UNACCEPTABLE = {StatusCode.INVALID_ARGUMENT, StatusCode.OUT_OF_RANGE}

LARGE = re.compile(r"maximum (?:entity|allowed|document) size|exceeds the maximum|too (?:big|large)", re.IGNORECASE)
NO_DATABASE = re.compile(r"^The database \S+ does not exist|Datastore Mode", re.IGNORECASE)


def read(exc: grpc.RpcError) -> tuple[StatusCode, str]:
    """Return the status and the words of what a call raised."""
    if not isinstance(exc, grpc.Call):
        return StatusCode.UNKNOWN, ""
    return exc.code(), exc.details() or ""


def another_attempt(code: StatusCode, attempt: int, left: float) -> bool:
    """Tell whether a call that failed so may be tried again, with so many seconds left then."""
    if code is StatusCode.ABORTED and left < CONTENTION_SECONDS:
        return False
    return code in PASSING and attempt + 1 < ATTEMPTS and left > LEAST_SECONDS


def mapped(failed: Failed, what: str, *, conditional: bool = False) -> BrainstemError:
    """Return our error for a failed call to `what`; `conditional` says that it was a commit with a precondition."""
    if conditional and failed.code in REFUSED and not NO_DATABASE.search(failed.details):
        refusal, detail = REFUSED[failed.code]
        return refusal(detail)
    if failed.code in UNACCEPTABLE:
        log.event("store_refused_request", logging.ERROR, code=failed.code.name)
        if LARGE.search(failed.details):
            return TooLarge("A stored document must not be larger than 1 MiB.")
        return BadRequest(f"{what} does not take this request.")
    return Unavailable(f"{what} cannot be used: {REASONS[failed.code]}.")


def no_credentials() -> Unavailable:
    reason = "there are no Application Default Credentials; run as a service account or `gcloud auth application-default login`"
    return Unavailable(f"Firestore cannot be used: {reason}.")
