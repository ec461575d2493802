"""What each failure of a call means to us, and whether another attempt may help.

A provider's words are read here to tell one refusal from another, and go no further: they may hold the key or the prompt. So
errors of ours are raised `from None`, in our words. Imported only when the first call is made, for it imports the SDK.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpcore2
import httpx2
import openai

from service.backends.openai.calls import Call
from service.errors import (
    BrainstemError,
    ContextTooLong,
    DeadlineExceeded,
    Unavailable,
    UpstreamBusy,
    UpstreamConfig,
    UpstreamInterrupted,
    UpstreamProtocol,
    UpstreamQuota,
)

UNREACHABLE = "The model's provider cannot be reached."
UNSENDABLE = "The request cannot be sent: check OPENAI_API_KEY and OPENAI_BASE_URL."
UNREADABLE = "The model's provider answered what cannot be read."
BROKEN_OFF = "The connection to the model's provider broke off."
TOO_SLOW = "The model's provider did not answer in time."

MEANINGS: tuple[tuple[type[Exception], type[BrainstemError], str], ...] = (
    (httpcore2.ConnectTimeout, Unavailable, UNREACHABLE),
    (httpcore2.ConnectError, Unavailable, UNREACHABLE),
    (httpcore2.PoolTimeout, UpstreamBusy, "Too many calls to the model's provider wait already."),
    (httpcore2.TimeoutException, DeadlineExceeded, TOO_SLOW),
    (httpcore2.NetworkError, UpstreamInterrupted, BROKEN_OFF),
    (httpcore2.LocalProtocolError, UpstreamConfig, UNSENDABLE),
    (httpcore2.ProtocolError, UpstreamProtocol, UNREADABLE),
    (httpcore2.ProxyError, Unavailable, UNREACHABLE),
    (httpcore2.ConnectionNotAvailable, Unavailable, UNREACHABLE),
    (httpcore2.UnsupportedProtocol, UpstreamConfig, UNSENDABLE),
    (httpx2.ConnectTimeout, Unavailable, UNREACHABLE),
    (httpx2.ConnectError, Unavailable, UNREACHABLE),
    (httpx2.PoolTimeout, UpstreamBusy, "Too many calls to the model's provider wait already."),
    (httpx2.TimeoutException, DeadlineExceeded, TOO_SLOW),
    (httpx2.NetworkError, UpstreamInterrupted, BROKEN_OFF),
    (httpx2.LocalProtocolError, UpstreamConfig, UNSENDABLE),
    (httpx2.ProxyError, Unavailable, UNREACHABLE),
    (httpx2.UnsupportedProtocol, UpstreamConfig, UNSENDABLE),
    (httpx2.InvalidURL, UpstreamConfig, UNSENDABLE),
    (httpx2.HTTPError, UpstreamProtocol, UNREADABLE),
    (httpx2.CookieConflict, UpstreamProtocol, UNREADABLE),
    (httpx2.StreamError, UpstreamInterrupted, BROKEN_OFF),
    (openai.APITimeoutError, DeadlineExceeded, TOO_SLOW),
    (openai.APIConnectionError, Unavailable, UNREACHABLE),
    (openai.APIError, UpstreamProtocol, UNREADABLE),
    (openai.LengthFinishReasonError, UpstreamProtocol, UNREADABLE),
    (openai.ContentFilterFinishReasonError, UpstreamProtocol, UNREADABLE),
    (openai.WebSocketConnectionClosedError, UpstreamInterrupted, BROKEN_OFF),
    (openai.WebSocketQueueFullError, UpstreamBusy, "Too many calls to the model's provider wait already."),
    (openai.InvalidWebhookSignatureError, UpstreamProtocol, UNREADABLE),
    (openai.OpenAIError, UpstreamConfig, UNSENDABLE),
    (OSError, Unavailable, UNREACHABLE),
    # What a key or an address makes of a request, before anything is sent: letters that no header can hold, say.
    (ValueError, UpstreamConfig, UNSENDABLE),
)
FAILURES: tuple[type[Exception], ...] = (BrainstemError, *(failure for failure, _, _ in MEANINGS))

TOO_LONG = re.compile(
    r"context[ _](length|window|size)|maximum (context|input)|(prompt|input) is too long|token count|maximum number of tokens",
    re.IGNORECASE,
)
UNKNOWN = re.compile(r"unrecogni|unsupported|not supported|unknown|unexpected|not permitted|not allowed", re.IGNORECASE)
FILTERED = frozenset({"content_filter", "content_policy_violation"})
NO_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
# 408, 409 and 425 ask for another attempt just as the rest does; a provider without money left (402) is one without quota.
BUSY = frozenset({402, 408, 409, 425, 429})
ANOTHER_ATTEMPT = frozenset({429, 500, 502, 503, 504})
LONGEST_RETRY_AFTER = 60


def mapped(exc: Exception, *, eof: bool = False) -> BrainstemError:
    """Return our error for a failure of a call; `eof` tells that the provider had closed the connection."""
    if isinstance(exc, BrainstemError):
        return exc
    if isinstance(exc, openai.APIStatusError):
        return refusal(exc)
    if eof and isinstance(exc, httpcore2.RemoteProtocolError):
        return UpstreamInterrupted(BROKEN_OFF)
    for failure, error, detail in MEANINGS:
        if isinstance(exc, failure):
            return error(detail)
    raise exc


def refusal(exc: openai.APIStatusError) -> BrainstemError:
    status = exc.status_code
    if too_long(exc):
        return ContextTooLong("The chat is longer than the model can read.")
    if without_quota(exc):
        return UpstreamQuota("Our quota at the model's provider is used up.")
    if status in BUSY or status >= 500:
        wait = min(math.ceil(retry_after(exc) or 0), LONGEST_RETRY_AFTER)
        return UpstreamBusy(f"The model's provider is overloaded or failing ({status}).", retry_after=wait or None)
    if status in (401, 403):
        return UpstreamConfig(f"The model's provider refuses our key ({status}): check OPENAI_API_KEY.")
    if status == 404:
        return UpstreamConfig("The model's provider knows no such model or path: check its name and OPENAI_BASE_URL.")
    if 300 <= status < 400:
        return UpstreamConfig("The model's provider redirects, which is not followed: check OPENAI_BASE_URL.")
    return UpstreamConfig(f"The model's provider refuses the request ({status}).")


def codes(exc: openai.APIStatusError) -> set[str]:
    return {str(exc.code), str(exc.type)}


def too_long(exc: openai.APIStatusError) -> bool:
    """Compatible servers have no common code for it, so their words decide."""
    if exc.status_code == 413 or "context_length_exceeded" in codes(exc):
        return True
    return exc.status_code in (400, 422) and bool(TOO_LONG.search(exc.response.text))


def without_quota(exc: openai.APIStatusError) -> bool:
    return exc.status_code == 402 or (exc.status_code == 429 and bool(codes(exc) & NO_QUOTA))


def filtered(exc: Exception) -> bool:
    """Whether a provider's filter refused the prompt, which is an end of the answer and no fault of anybody's set-up."""
    return isinstance(exc, openai.APIStatusError) and bool(codes(exc) & FILTERED)


def refused_option(exc: Exception, options: Collection[str]) -> str | None:
    """Return the option that a server says it does not know, if that is why it refuses."""
    if not isinstance(exc, openai.APIStatusError) or exc.status_code not in (400, 422) or too_long(exc):
        return None
    words = f"{exc.param} {exc.message[:1000]}"
    if not UNKNOWN.search(words):
        return None
    return next((option for option in options if re.search(rf"\b{option}\b", words)), None)


def retry_after(exc: openai.APIStatusError) -> float | None:
    """Return the seconds that a provider asks to wait (RFC 9110, section 10.2.3)."""
    text: str = exc.response.headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is tried again, within how many seconds, and how long it waits at most when it is asked to."""

    times: int
    seconds: float
    longest: float

    def pause(self, exc: Exception, call: Call, attempt: int) -> float | None:
        """Return the seconds to wait before another attempt, or None where none is made."""
        asked = 0.0
        if isinstance(exc, openai.APIStatusError):
            if exc.status_code not in ANOTHER_ATTEMPT or without_quota(exc):
                return None
            asked = retry_after(exc) or 0.0
        elif not another_connection(exc, call, attempt):
            return None
        # Chance spreads the attempts of many calls; it guards nothing.
        pause: float = max(asked, random.uniform(0.1, 0.4) * 2**attempt)  # noqa: S311
        if attempt >= self.times or asked > self.longest or call.age + pause > self.seconds:
            return None
        return pause


def another_connection(exc: Exception, call: Call, attempt: int) -> bool:
    """Whether nothing reached the provider: no connection, or one that it had closed after an earlier call."""
    if isinstance(exc, httpcore2.ConnectTimeout):
        # It took all the time there is to connect; twice is enough.
        return attempt == 0
    if isinstance(exc, httpcore2.ConnectError):
        return True
    closed = isinstance(exc, httpcore2.NetworkError) or (isinstance(exc, httpcore2.RemoteProtocolError) and call.eof)
    return closed and call.line is not None and call.line.reused
