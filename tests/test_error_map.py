"""Every exception of the SDK and of the HTTP libraries has a meaning of ours; one that is new fails this test."""

from __future__ import annotations

import inspect
import json
import re
import ssl
import sys
from collections.abc import Iterator
from types import ModuleType

import httpcore2
import httptools
import httpx2
import openai
import pytest

from service.backends.openai import client, failures
from service.backends.openai.failures import mapped
from service.backends.openai.refusals import Refusal
from service.errors import (
    BrainstemError,
    ContextTooLong,
    DeadlineExceeded,
    DependencyError,
    Unavailable,
    UpstreamBusy,
    UpstreamConfig,
    UpstreamInterrupted,
    UpstreamProtocol,
)

SECRET = "sk-canary-of-the-provider"
URL = "https://provider.example/v1/chat/completions"

# What each class means, by name. A class that is not listed here is one that nobody has thought about.
TRANSPORT: dict[str, type[BrainstemError]] = {
    "TimeoutException": DeadlineExceeded,
    "ConnectTimeout": Unavailable,
    "ReadTimeout": DeadlineExceeded,
    "WriteTimeout": DeadlineExceeded,
    "PoolTimeout": UpstreamBusy,
    "NetworkError": UpstreamInterrupted,
    "ConnectError": Unavailable,
    "ReadError": UpstreamInterrupted,
    "WriteError": UpstreamInterrupted,
    "ProtocolError": UpstreamProtocol,
    "LocalProtocolError": UpstreamConfig,
    "RemoteProtocolError": UpstreamProtocol,
    "ProxyError": Unavailable,
    "UnsupportedProtocol": UpstreamConfig,
}
MEANINGS: dict[str, dict[str, type[BrainstemError]]] = {
    "httpcore2": {**TRANSPORT, "ConnectionNotAvailable": Unavailable},
    "httpx2": {
        **TRANSPORT,
        "CloseError": UpstreamInterrupted,
        "HTTPError": UpstreamProtocol,
        "RequestError": UpstreamProtocol,
        "TransportError": UpstreamProtocol,
        "DecodingError": UpstreamProtocol,
        "TooManyRedirects": UpstreamProtocol,
        "HTTPStatusError": UpstreamProtocol,
        "InvalidURL": UpstreamConfig,
        "CookieConflict": UpstreamProtocol,
        "SSEError": UpstreamProtocol,
        "StreamError": UpstreamInterrupted,
        "StreamConsumed": UpstreamInterrupted,
        "StreamClosed": UpstreamInterrupted,
        "ResponseNotRead": UpstreamInterrupted,
        "RequestNotRead": UpstreamInterrupted,
    },
    "openai": {
        "OpenAIError": UpstreamConfig,
        "SubjectTokenProviderError": UpstreamConfig,
        "_AmbiguousModuleClientUsageError": UpstreamConfig,
        "APIError": UpstreamProtocol,
        "APIResponseValidationError": UpstreamProtocol,
        "APIConnectionError": Unavailable,
        "APITimeoutError": DeadlineExceeded,
        "APIStatusError": UpstreamBusy,
        "BadRequestError": UpstreamConfig,
        "AuthenticationError": UpstreamConfig,
        "OAuthError": UpstreamConfig,
        "PermissionDeniedError": UpstreamConfig,
        "NotFoundError": UpstreamConfig,
        "ConflictError": UpstreamBusy,
        "UnprocessableEntityError": UpstreamConfig,
        "RateLimitError": UpstreamBusy,
        "InternalServerError": UpstreamBusy,
        "LengthFinishReasonError": UpstreamProtocol,
        "ContentFilterFinishReasonError": UpstreamProtocol,
        "InvalidWebhookSignatureError": UpstreamProtocol,
        "WebSocketConnectionClosedError": UpstreamInterrupted,
        "WebSocketQueueFullError": UpstreamBusy,
    },
    "httptools": {
        "HttpParserError": UpstreamProtocol,
        "HttpParserCallbackError": UpstreamProtocol,
        "HttpParserInvalidStatusError": UpstreamProtocol,
        "HttpParserInvalidMethodError": UpstreamProtocol,
        "HttpParserInvalidURLError": UpstreamProtocol,
        "HttpParserUpgrade": UpstreamProtocol,
    },
}
STATUSES = {
    "BadRequestError": 400,
    "AuthenticationError": 401,
    "OAuthError": 401,
    "PermissionDeniedError": 403,
    "NotFoundError": 404,
    "ConflictError": 409,
    "UnprocessableEntityError": 422,
    "RateLimitError": 429,
    "InternalServerError": 500,
    "APIStatusError": 529,
}


def exceptions(module: ModuleType) -> Iterator[type[Exception]]:
    """Yield the exception classes of a library, public or not."""
    parts = re.compile(rf"{module.__name__}\.(?!web)\w*exceptions")
    homes = [module, *(home for name, home in sys.modules.items() if parts.fullmatch(name))]
    found = {value for home in homes for _, value in inspect.getmembers(home, inspect.isclass)}
    for value in sorted(found, key=lambda value: value.__name__):
        own = value.__module__.split(".")[0] == module.__name__
        if own and issubclass(value, Exception) and not issubclass(value, Warning):
            yield value


CLASSES = [
    (module.__name__, error) for module in (httpcore2, httpx2, openai, httptools) for error in exceptions(module)
]


def instance(error: type[Exception]) -> Exception:
    """Make an exception as its library makes it, with words that must not get out."""
    name = error.__name__
    response = httpx2.Response(STATUSES.get(name, 200), text=SECRET, request=httpx2.Request("POST", URL))
    given = {
        "message": SECRET,
        "response": response,
        "request": response.request,
        "body": {"message": SECRET},
    }
    arguments = {name: value for name, value in given.items() if name in required(error)}
    if name == "LengthFinishReasonError":
        arguments["completion"] = openai.types.chat.ChatCompletion.model_construct(usage=None)
    if name == "WebSocketConnectionClosedError":
        arguments["unsent_messages"] = [SECRET]
    try:
        return error(**arguments)
    except TypeError:
        return error(SECRET)


def required(error: type[Exception]) -> set[str]:
    if not inspect.isfunction(error.__init__):
        return set()
    return {p.name for p in inspect.signature(error).parameters.values() if p.default is p.empty}


def test_the_libraries_were_looked_through() -> None:
    assert {library for library, _ in CLASSES} == set(MEANINGS)
    assert len(CLASSES) >= 70


@pytest.mark.parametrize(("library", "error"), CLASSES, ids=lambda value: getattr(value, "__name__", value))
def test_each_exception_has_the_meaning_that_is_written_down(library: str, error: type[Exception]) -> None:
    assert error.__name__ in MEANINGS[library], (
        f"{error} is new: decide what it means, here and in failures.py or client.py"
    )
    seam = client if library == "httptools" else failures
    assert issubclass(error, seam.FAILURES)
    meant = seam.mapped(instance(error))
    assert type(meant) is MEANINGS[library][error.__name__]
    assert SECRET not in f"{meant!r} {meant.detail}"


@pytest.mark.parametrize(("library", "listed"), MEANINGS.items())
def test_nothing_is_listed_that_is_gone(library: str, listed: dict[str, type[BrainstemError]]) -> None:
    assert set(listed) == {error.__name__ for name, error in CLASSES if name == library}


@pytest.mark.parametrize("status", range(300, 600))
def test_each_status_has_a_meaning(status: int) -> None:
    response = httpx2.Response(status, json={"error": {"message": SECRET}}, request=httpx2.Request("POST", URL))
    meant = mapped(openai.APIStatusError(SECRET, response=response, body={"message": SECRET}))
    same = client.mapped(client.Refused(Refusal.parse(status, response.content)))
    assert isinstance(meant, DependencyError | ContextTooLong)
    assert (type(same), same.detail, same.retry_after) == (type(meant), meant.detail, meant.retry_after)
    assert SECRET not in f"{meant!r} {meant.detail}"


@pytest.mark.parametrize(
    ("error", "meant"),
    [
        (ValueError(SECRET), UpstreamConfig),
        (UnicodeEncodeError("ascii", SECRET, 0, 1, SECRET), UpstreamConfig),
        (json.JSONDecodeError(SECRET, SECRET, 0), UpstreamConfig),
        (ConnectionResetError(SECRET), Unavailable),
        (ssl.SSLCertVerificationError(SECRET), Unavailable),
        (UpstreamInterrupted("ours"), UpstreamInterrupted),
    ],
)
@pytest.mark.parametrize("seam", [failures, client])
def test_what_python_itself_raises_below_has_a_meaning(
    seam: ModuleType, error: Exception, meant: type[BrainstemError]
) -> None:
    assert isinstance(error, seam.FAILURES)
    assert type(seam.mapped(error)) is meant
    assert SECRET not in repr(seam.mapped(error))


def test_a_connection_that_was_closed_is_no_breach_of_the_protocol() -> None:
    assert isinstance(mapped(httpcore2.RemoteProtocolError(SECRET), eof=True), UpstreamInterrupted)


def test_what_is_no_failure_of_a_call_is_raised_as_it_is() -> None:
    """A mistake of ours must not be taken for the provider's."""
    for seam in (failures, client):
        assert not issubclass(AttributeError, seam.FAILURES)
        with pytest.raises(AttributeError):
            seam.mapped(AttributeError())
