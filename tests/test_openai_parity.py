"""Our client of the streams against OpenAI's SDK, at the same scripted endpoint: what is sent, what is understood, what fails and how."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from urllib.parse import quote

import openai
import pytest

from service.backends.interfaces import Delta, Finish, LanguageModel, Message, ModelEvent, ModelRequest, Usage
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.openai.calls import Call
from service.backends.openai.endpoint import Endpoint, StoredKey
from service.backends.openai.failures import mapped
from service.backends.openai.refusals import Refusal, Retries
from service.backends.openai.sdk import SDK
from service.config import Settings
from service.errors import UpstreamConfig
from tests.kit.models import answer, broken, impatient, model_of
from tests.kit.upstream import Request, Response, Upstream, faults, json_response

ONCE = Retries(times=0, seconds=5, longest=0)
REQUEST = ModelRequest(
    model="gpt-5-mini",
    messages=(
        Message("system", 'Be brief. \u2028 \U0001f30d <&> \x00 \\ "'),
        Message("user", "Où est le renard ?"),
        Message("assistant", ""),
    ),
    question="",
    max_output_tokens=77,
    temperature=0.25,
)


@pytest.fixture
def settings(upstream: Upstream) -> Settings:
    return replace(impatient(upstream), connect_seconds=2.0, first_byte_seconds=10.0)


@pytest.fixture
def model(settings: Settings) -> LanguageModel:
    return model_of(settings)


@pytest.fixture
def sdk(settings: Settings) -> SDK:
    return sdk_of(settings)


def sdk_of(settings: Settings) -> SDK:
    return SDK(Endpoint(settings, StoredKey(settings, EnvironmentSecrets(settings))))


def told_by(sdk: SDK, request: ModelRequest = REQUEST) -> list[ModelEvent]:
    """Return what the SDK makes of an answer, as our events."""
    stream = sdk.send(
        Call(10),
        lambda client: client.chat.completions.create(  # type: ignore[call-overload]
            model=request.model,
            messages=[{"role": told.role, "content": told.content} for told in request.messages],
            max_tokens=request.max_output_tokens,
            temperature=request.temperature,
            stream=True,
            stream_options={"include_usage": True},
        ),
        ONCE,
    )
    events: list[ModelEvent] = []
    for chunk in stream:
        for choice in chunk.choices:
            if choice.delta.content:
                events.append(Delta(choice.delta.content))
            if choice.finish_reason:
                events.append(Finish(choice.finish_reason))
        if chunk.usage:
            details = chunk.usage.prompt_tokens_details
            cached = details.cached_tokens if details else 0
            events.append(Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens, cached or 0))
    return events


def refused_by(sdk: SDK) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        told_by(sdk)
    return caught.value


def seen(request: Request) -> dict[str, object]:
    """What a provider can tell apart."""
    headers = ("host", "authorization", "accept", "accept-encoding", "content-type", "cookie", "openai-organization")
    return {
        "method": request.method,
        "path": request.path,
        "body": request.json,
        **{name: request.headers.get(name) for name in headers},
    }


@pytest.mark.parametrize("path", ["", "/", "/deep/er", "/sp%20ace", "/sp ace", "/a%2Fb", "/é", "/a;b=c,d"])
def test_the_same_request_is_sent(settings: Settings, upstream: Upstream, path: str) -> None:
    elsewhere = replace(settings, openai_base_url=f"{upstream.url}{path}")
    with suppress(UpstreamConfig):
        answer(model_of(elsewhere), REQUEST)
    with suppress(openai.NotFoundError):
        told_by(sdk_of(elsewhere))
    ours, theirs = upstream.requests
    assert seen(ours) == seen(theirs)
    assert ours.path == f"/v1{quote(path, safe='/%;=,').rstrip('/')}/chat/completions"


def test_nothing_else_is_told_of_us(model: LanguageModel, upstream: Upstream) -> None:
    answer(model, REQUEST)
    assert set(upstream.requests[0].headers) == {
        *("host", "authorization", "accept", "accept-encoding", "content-type", "content-length", "user-agent")
    }


@pytest.mark.parametrize("who", ["ada:pass%20word", "ada", "ada:", "%C3%A9:%3A%40", "é:ü"])
def test_a_name_and_password_in_the_address_are_shown(settings: Settings, upstream: Upstream, who: str) -> None:
    named = replace(settings, openai_base_url=upstream.url.replace("://", f"://{who}@"))
    answer(model_of(named), REQUEST)
    told_by(sdk_of(named))
    ours, theirs = upstream.requests
    assert ours.headers["authorization"].startswith("Basic ")
    assert seen(ours) == seen(theirs)


def test_the_same_answer_is_understood(model: LanguageModel, sdk: SDK, upstream: Upstream) -> None:
    for _ in range(2):
        upstream.enqueue("Hello", " wörld", " 🌍\n\n", "data: x", usage=(12, 3))
    assert answer(model, REQUEST) == told_by(sdk)


BODIES: list[object] = [
    {"error": {"message": "m", "type": "t", "param": "p", "code": "c"}},
    {"error": {"message": "m", "type": None, "param": None, "code": None}},
    {"error": {"message": "m", "code": "context_length_exceeded"}},
    {"error": {"message": "m", "type": "insufficient_quota", "code": "insufficient_quota"}},
    {"error": {"message": "m", "code": 429, "status": "RESOURCE_EXHAUSTED"}},
    {"message": "maximum context length is 8 tokens", "type": "BadRequestError", "param": None, "code": 400},
    {"error": "model 'x' not found"},
    {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]},
    {"error": {"message": "Unrecognized request argument supplied: stream_options", "param": "stream_options"}},
    {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.", "param": "max_tokens"}},
    [
        {
            "error": {
                "code": 400,
                "message": "The input token count (9) exceeds the maximum number of tokens",
                "status": "X",
            }
        }
    ],
    "text",
    7,
    None,
]
STATUSES = [300, 302, 400, 401, 402, 403, 404, 408, 409, 413, 418, 422, 425, 429, 500, 502, 503, 504]


@pytest.mark.parametrize("status", STATUSES)
def test_a_refusal_has_the_fields_and_the_meaning_that_the_sdk_gives_it(
    sdk: SDK, upstream: Upstream, status: int
) -> None:
    for body in BODIES:
        upstream.script(json_response(body, status, {"retry-after": "3"}))
        error = refused_by(sdk)
        ours = Refusal.parse(status, json.dumps(body).encode(), "3")
        assert (ours.code, ours.type, ours.param) == tuple(map(known, (error.code, error.type, error.param)))
        meant, same = mapped(error), ours.error()
        assert (type(meant), meant.detail, meant.retry_after) == (type(same), same.detail, same.retry_after)


def known(value: object) -> str:
    return "" if value is None else str(value)


@pytest.mark.parametrize(
    "fault",
    [
        faults.status(400),
        faults.key_leak(401),
        faults.key_leak(403),
        faults.unknown_model(),
        faults.status(408),
        faults.status(409),
        faults.status(413),
        faults.context_too_long(),
        faults.status(422, {"message": "The prompt is too long"}),
        faults.rate_limited(retry_after=20),
        faults.insufficient_quota(),
        faults.status(500),
        faults.status(503, retry_after=20),
        faults.html(404),
        faults.html(503),
        faults.redirect("http://127.0.0.1:1/"),
        Response([b"\xff\xfe"], 400, framing="length"),
        Response([b"[" * 90_000], 400, framing="length"),
    ],
)
def test_each_refusal_is_the_same_error_through_either(
    model: LanguageModel, sdk: SDK, upstream: Upstream, fault: Response
) -> None:
    upstream.always(fault)
    meant = mapped(refused_by(sdk))
    error = broken(model)[1]
    assert (type(error), error.detail, error.retry_after) == (type(meant), meant.detail, meant.retry_after)
