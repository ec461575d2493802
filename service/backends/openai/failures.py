"""What each failure of a call through the SDK means to us. Imported only when the first call is made, for it imports the SDK."""

from __future__ import annotations

import httpcore2
import httpx2
import openai

from service.backends.openai.calls import Call
from service.backends.openai.refusals import BROKEN_OFF, TOO_SLOW, UNREACHABLE, UNREADABLE, UNSENDABLE, Refusal
from service.errors import (
    BrainstemError,
    DeadlineExceeded,
    Unavailable,
    UpstreamBusy,
    UpstreamConfig,
    UpstreamInterrupted,
    UpstreamProtocol,
)

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


def mapped(exc: Exception, *, eof: bool = False) -> BrainstemError:
    """Return our error for a failure of a call; `eof` tells that the provider had closed the connection."""
    if isinstance(exc, BrainstemError):
        return exc
    if refused := refusal(exc):
        return refused.error()
    if eof and isinstance(exc, httpcore2.RemoteProtocolError):
        return UpstreamInterrupted(BROKEN_OFF)
    for failure, error, detail in MEANINGS:
        if isinstance(exc, failure):
            return error(detail)
    raise exc


def refusal(exc: Exception) -> Refusal | None:
    """Return what the provider answered, if that is the failure."""
    if not isinstance(exc, openai.APIStatusError):
        return None
    return Refusal.parse(exc.status_code, exc.response.content, exc.response.headers.get("retry-after", ""))


def another_connection(exc: Exception, call: Call, attempt: int) -> bool:
    """Whether nothing reached the provider: no connection, or one that it had closed after an earlier call."""
    if isinstance(exc, httpcore2.ConnectTimeout):
        # It took all the time there is to connect; twice is enough.
        return attempt == 0
    if isinstance(exc, httpcore2.ConnectError):
        return True
    closed = isinstance(exc, httpcore2.NetworkError) or (isinstance(exc, httpcore2.RemoteProtocolError) and call.eof)
    return closed and call.line is not None and call.line.reused
