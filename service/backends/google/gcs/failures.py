"""What a failed call to Cloud Storage means to Brainstem. Imported with the first call, for it imports the SDK.

Of what Cloud Storage says nothing is passed on, for it names objects; our errors are raised in our words.
Source: "HTTP status and error codes for JSON" in the Cloud Storage documentation.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import requests
import urllib3
from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError, RetryError
from google.api_core.retry import Retry
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse  # type: ignore[import-untyped]

from service.errors import BrainstemError, NotFound, TooLarge, Unavailable

BROKEN: tuple[type[Exception], ...] = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError)
"""What a connection that breaks raises, in the layers that it passes; all that `requests` raises are OSErrors."""

FAILURES: tuple[type[Exception], ...] = (GoogleAPIError, GoogleAuthError, InvalidResponse, DataCorruption, *BROKEN)
PASSING = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}

UNREACHABLE = "it cannot be reached"
NO_BUCKET = "there is no such bucket; check STORAGE_BUCKET"
NO_CREDENTIALS = (
    "there are no Application Default Credentials; run as a service account or `gcloud auth application-default login`"
)
NO_SIGNATURE = (
    "IAM signs no URL for it; give its service account roles/iam.serviceAccountTokenCreator on itself"
    " and the project the IAM Service Account Credentials API"
)
REASONS: dict[int, str] = {
    HTTPStatus.BAD_REQUEST: "it refuses the request, or the content changed on its way",
    HTTPStatus.UNAUTHORIZED: "it does not accept our credentials; set up Application Default Credentials",
    HTTPStatus.FORBIDDEN: "it refuses us; the service account needs roles/storage.objectUser on the bucket STORAGE_BUCKET",
    HTTPStatus.PRECONDITION_FAILED: "others keep changing the same file",
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "the file changed while it was read",
    HTTPStatus.TOO_MANY_REQUESTS: "it is asked too often",
    HTTPStatus.NOT_IMPLEMENTED: "it does not know what it is asked; check STORAGE_EMULATOR_HOST",
}


def policy(seconds: float) -> Retry:
    """Try a call again while it may help; no attempt begins later than so many seconds after the first."""
    return Retry(predicate=may_pass, initial=0.1, maximum=1.0, multiplier=2.0, timeout=seconds)


def may_pass(exc: Exception) -> bool:
    if isinstance(exc, TransportError):  # of a token that could not be had
        return True
    if isinstance(exc, requests.exceptions.InvalidJSONError):  # of a network that answers in Google's stead
        return False
    code = status(exc)
    return isinstance(exc, BROKEN) if code is None else code in PASSING


def status(exc: Exception) -> int | None:
    if isinstance(exc, GoogleAPICallError):
        return exc.code
    if isinstance(exc, InvalidResponse):
        return getattr(exc.response, "status_code", None)
    return None


@contextmanager
def mapping() -> Iterator[None]:
    """Raise ours for Google's errors."""
    try:
        yield
    except FAILURES as exc:
        raise mapped(exc) from None


def mapped(exc: Exception) -> BrainstemError:
    """Return our error for a failed call."""
    if isinstance(exc, RetryError):
        return mapped(exc.cause) if isinstance(exc.cause, Exception) else unavailable(UNREACHABLE)
    if isinstance(exc, DefaultCredentialsError):
        return unavailable(NO_CREDENTIALS)
    if isinstance(exc, GoogleAuthError):
        return unavailable("no token can be had for its service account")
    code = status(exc)
    if code == HTTPStatus.NOT_FOUND:
        return NotFound() if is_absence(exc) else unavailable(NO_BUCKET)
    if code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return TooLarge("Cloud Storage does not take a file of this size.")
    if isinstance(exc, requests.Timeout):
        return unavailable("it does not answer in time")
    return unavailable(REASONS.get(code or 0, UNREACHABLE))


def unsigned(exc: Exception) -> BrainstemError:
    """Return our error for a signature that IAM did not give."""
    refused = status(exc) in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
    return unavailable(NO_SIGNATURE) if refused else mapped(exc)


def is_absence(exc: Exception) -> bool:
    """Whether a 404 speaks of the object, not of the bucket."""
    return "bucket does not exist" not in str(exc)


def unavailable(reason: str) -> Unavailable:
    return Unavailable(f"Cloud Storage cannot be used: {reason}.")
