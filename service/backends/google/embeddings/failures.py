"""What each failure of a call to Vertex AI means to us. Imported with the first call, for it imports the SDK.

Of what Vertex AI says nothing is passed on, for it may repeat a text; our errors are raised in our words.
"""

from __future__ import annotations

import http.client
import math
import re

import google.auth.exceptions
import requests
import urllib3

from service.errors import (
    BrainstemError,
    DeadlineExceeded,
    Unavailable,
    UpstreamBusy,
    UpstreamConfig,
    UpstreamInterrupted,
    UpstreamProtocol,
)

UNREACHABLE = "Vertex AI cannot be reached."
UNREADABLE = "Vertex AI answered what cannot be read."
BROKEN_OFF = "The connection to Vertex AI broke off."
TOO_SLOW = "Vertex AI did not answer in time."
UNSENDABLE = "The request to Vertex AI cannot be sent: check GOOGLE_CLOUD_REGION and GOOGLE_CLOUD_PROJECT."
SIGN_IN_DOWN = "Google's sign-in cannot be reached."
NO_CREDENTIALS = "There are no credentials that Google accepts: run as a service account, or `gcloud auth application-default login`."
REFUSED = "Vertex AI refuses us ({}): the service account needs the role roles/aiplatform.user."
UNKNOWN = "Vertex AI knows no such model there: check VERTEX_EMBEDDING_MODEL and GOOGLE_CLOUD_REGION."


class Refused(Exception):
    """An answer with another status than 200."""

    def __init__(self, status: int, retry_after: str) -> None:
        super().__init__(str(status))
        self.status = status
        self.retry_after = float(retry_after) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", retry_after) else 0.0


MEANINGS: tuple[tuple[type[Exception], type[BrainstemError], str], ...] = (
    (google.auth.exceptions.TransportError, Unavailable, SIGN_IN_DOWN),
    (google.auth.exceptions.TimeoutError, Unavailable, SIGN_IN_DOWN),
    (google.auth.exceptions.ResponseError, Unavailable, SIGN_IN_DOWN),
    (google.auth.exceptions.GoogleAuthError, UpstreamConfig, NO_CREDENTIALS),
    (requests.ConnectTimeout, Unavailable, UNREACHABLE),
    (requests.Timeout, DeadlineExceeded, TOO_SLOW),
    (requests.ConnectionError, Unavailable, UNREACHABLE),
    (requests.exceptions.ChunkedEncodingError, UpstreamInterrupted, BROKEN_OFF),
    (requests.exceptions.InvalidURL, UpstreamConfig, UNSENDABLE),
    (requests.exceptions.InvalidSchema, UpstreamConfig, UNSENDABLE),
    (requests.exceptions.MissingSchema, UpstreamConfig, UNSENDABLE),
    (requests.exceptions.InvalidHeader, UpstreamConfig, UNSENDABLE),
    (requests.RequestException, UpstreamProtocol, UNREADABLE),
    (urllib3.exceptions.HTTPError, UpstreamProtocol, UNREADABLE),
    (http.client.HTTPException, UpstreamProtocol, UNREADABLE),
    (OSError, Unavailable, UNREACHABLE),
    (ValueError, UpstreamConfig, UNSENDABLE),
)
FAILURES: tuple[type[Exception], ...] = (BrainstemError, Refused, *(failure for failure, _, _ in MEANINGS))
LIMITED = 429
LONGEST_RETRY_AFTER = 60
ANOTHER_ATTEMPT = frozenset({429, 500, 502, 503, 504})


def mapped(exc: Exception) -> BrainstemError:
    """Return our error for a failure of a call."""
    if isinstance(exc, BrainstemError):
        return exc
    if isinstance(exc, Refused):
        return refusal(exc)
    if isinstance(exc, google.auth.exceptions.GoogleAuthError) and exc.retryable:
        return Unavailable(SIGN_IN_DOWN)
    return next(error(detail) for failure, error, detail in MEANINGS if isinstance(exc, failure))


def refusal(exc: Refused) -> BrainstemError:
    if exc.status in (408, 409, 429) or exc.status >= 500:
        wait = min(math.ceil(exc.retry_after), LONGEST_RETRY_AFTER)
        words = f"Vertex AI is overloaded or failing ({exc.status})."
        return UpstreamBusy(words, retry_after=wait or None, limited=exc.status == LIMITED)
    if exc.status in (401, 403):
        return UpstreamConfig(REFUSED.format(exc.status))
    if exc.status == 404:
        return UpstreamConfig(UNKNOWN)
    if exc.status < 400:
        return UpstreamProtocol(UNREADABLE)
    return UpstreamConfig(
        f"Vertex AI refuses the request ({exc.status}): check VERTEX_EMBEDDING_MODEL and EMBEDDING_DIMENSIONS."
    )


def pause_before_another(exc: Exception, *, wait: bool) -> float | None:
    """Return the seconds to wait at least before another attempt, or None where none helps, or nobody is to `wait` for a limit.

    To embed a text twice changes nothing, so a connection that broke is tried again too; time that is up is up.
    """
    if isinstance(exc, Refused):
        if exc.status == LIMITED and not wait:
            return None
        return exc.retry_after if exc.status in ANOTHER_ATTEMPT else None
    again = isinstance(mapped(exc), Unavailable | UpstreamInterrupted)
    return 0.0 if again and not isinstance(exc, BrainstemError) else None
