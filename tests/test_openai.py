"""The language model of a compatible endpoint, against a scripted one: what is sent, and what each way of failing becomes."""

from __future__ import annotations

import logging
import time
import traceback
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from service.backends.interfaces import (
    Delta,
    Finish,
    LanguageModel,
    Message,
    ModelRequest,
    Usage,
)
from service.config import Settings
from service.errors import (
    BrainstemError,
    ConfigError,
    ContextTooLong,
    DeadlineExceeded,
    Unavailable,
    UpstreamBusy,
    UpstreamConfig,
    UpstreamInterrupted,
    UpstreamProtocol,
    UpstreamQuota,
)
from tests.kit.loop import events
from tests.kit.models import (
    KEY,
    PROMPT,
    REQUEST,
    Reader,
    answer,
    broken,
    impatient,
    model_of,
    text,
)
from tests.kit.upstream import (
    Close,
    Gate,
    Hang,
    Pause,
    Raw,
    Repeat,
    Response,
    Upstream,
    blackhole,
    faults,
)


@pytest.fixture
def settings(upstream: Upstream) -> Settings:
    return impatient(upstream)


@pytest.fixture
def model(settings: Settings) -> LanguageModel:
    return model_of(settings)


# What is sent


def test_an_answer_is_streamed_with_its_end_and_its_usage(model: LanguageModel, upstream: Upstream) -> None:
    upstream.enqueue("Hello", " wörld 🌍", usage=(12, 3))
    assert answer(model) == [Delta("Hello"), Delta(" wörld 🌍"), Finish("stop"), Usage(12, 3)]


def test_each_delta_comes_when_it_is_sent(model: LanguageModel, upstream: Upstream) -> None:
    gate = Gate()
    upstream.enqueue("first", gate, "second")
    told = events(model.stream(REQUEST))
    assert next(told) == Delta("first")
    gate.open()
    assert next(told) == Delta("second")


def test_the_request_says_what_was_asked_and_nothing_else(model: LanguageModel, upstream: Upstream) -> None:
    messages = (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hi."),
        Message("user", "?"),
    )
    answer(model, ModelRequest(model="llama3", messages=messages, question="?", max_output_tokens=77, temperature=0.5))
    (request,) = upstream.requests
    assert request.json == {
        "model": "llama3",
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "max_tokens": 77,
        "temperature": 0.5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["accept-encoding"] == "identity"


def test_a_request_without_a_model_gets_the_settings_one(settings: Settings, upstream: Upstream) -> None:
    model = model_of(replace(settings, chat_model="qwen3"))
    answer(model, replace(REQUEST, model=""))
    assert model.name == upstream.requests[-1].json["model"] == "qwen3"
    assert "temperature" not in upstream.requests[-1].json


def test_a_server_without_keys_gets_a_placeholder(settings: Settings, upstream: Upstream) -> None:
    answer(model_of(replace(settings, openai_api_key="")))
    assert upstream.requests[-1].headers["authorization"] == "Bearer none"


def test_without_key_and_address_it_says_what_to_set(settings: Settings) -> None:
    model = model_of(replace(settings, openai_api_key="", openai_base_url=""))
    with pytest.raises(UpstreamConfig, match="OPENAI_API_KEY"):
        answer(model)
    with pytest.raises(Unavailable, match="OPENAI_API_KEY"):
        model.check()


@pytest.mark.parametrize("option", ["stream_options", "max_tokens"])
def test_an_option_that_a_server_does_not_know_is_left_out_from_then_on(
    model: LanguageModel, upstream: Upstream, option: str
) -> None:
    upstream.script(faults.option_refused(option))
    assert Finish("stop") in answer(model)
    assert Finish("stop") in answer(model)
    told, again, later = (request.json for request in upstream.requests)
    assert option in told
    assert option not in again
    assert option not in later
    # An answer is never asked for without a limit.
    assert (again.get("max_tokens") or again.get("max_completion_tokens")) == REQUEST.max_output_tokens


def test_an_option_whose_value_is_refused_is_not_left_out(model: LanguageModel, upstream: Upstream) -> None:
    upstream.script(faults.status(400, {"message": "max_tokens is too large: 90000.", "param": "max_tokens"}))
    with pytest.raises(UpstreamConfig):
        answer(model)
    assert len(upstream.requests) == 1


def test_connections_are_used_again(model: LanguageModel, upstream: Upstream) -> None:
    for _ in range(5):
        answer(model)
    assert (upstream.accepted, len(upstream.requests)) == (1, 5)


def test_the_environment_of_proxies_changes_nothing(
    model: LanguageModel, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert Finish("stop") in answer(model)


# What is understood


def test_what_compatible_servers_send_besides_is_tolerated(model: LanguageModel, upstream: Upstream) -> None:
    sent = [
        b": a comment\r\n\r\n",
        b"event: message\nid: 7\nretry: 10\n\n",
        b'data: {"choices": []}\n\n',
        b'data: {"choices": null, "x_extra": {"deep": [1, 2.5, null]}, "usage": null}\n\n',
        b'data: {"choices": [{"delta": null, "finish_reason": null}]}\n\n',
        b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": null, "reasoning_content": "hm"}}]}\n\n',
        b'data:{"choices": [{"index": 0, "delta": {"content": "no space, "}, "finish_reason": ""}]}\r\n\r\n',
        b'data: {"choices": [{"delta": {"content": [{"type": "text", "text": "a part, "}]}}]}\n\n',
        b'data: {"choices": [{"index": 1, "delta": {"content": "another choice"}}]}\n\n',
        b'data: {"choices":\ndata: [{"delta": {"content": "two lines, "}}]}\n\n',
        b'data: {"choices": [{"delta": {"refusal": "no."}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}\n\n',
        b'data: {"choices": [{"delta": {"content": "after the end"}, "finish_reason": "stop"}]}\n\n',
        b'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4, '
        b'"prompt_tokens_details": {"cached_tokens": 5}}}\n\n',
        b"data: [DONE]\n\n",
        b"data: not even JSON\n\n",
    ]
    upstream.script(faults.stream(*sent))
    told = answer(model)
    assert text(told) == "no space, a part, two lines, no."
    assert told[-2:] == [Finish("stop"), Usage(9, 4, 5)]


def test_an_event_may_come_in_pieces(model: LanguageModel, upstream: Upstream) -> None:
    whole = 'data: {"choices": [{"delta": {"content": "ä€🌍"}, "finish_reason": "stop"}]}\n\ndata: [DONE]'.encode()
    upstream.script(faults.stream(*(whole[n : n + 1] for n in range(len(whole))), b"\n"))
    assert answer(model) == [Delta("ä€🌍"), Finish("stop")]


@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls"])
def test_the_finish_reason_is_passed_on(model: LanguageModel, upstream: Upstream, reason: str) -> None:
    upstream.enqueue("Hi", finish=reason, usage=False)
    assert answer(model) == [Delta("Hi"), Finish(reason)]


def test_a_prompt_that_the_filter_refuses_ends_the_answer(model: LanguageModel, upstream: Upstream) -> None:
    upstream.script(faults.status(400, {"code": "content_filter"}))
    assert answer(model) == [Finish("content_filter")]


def test_an_answer_that_has_ended_is_whole_though_the_connection_breaks(
    model: LanguageModel, upstream: Upstream
) -> None:
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    for after in (Raw(b"ff\r\nda"), b"data: {\n\n"):
        upstream.script(faults.stream("Hello", end, after, Close()))
        assert answer(model) == [Delta("Hello"), Finish("stop")]


def test_without_finish_reason_there_is_no_finish(model: LanguageModel, upstream: Upstream) -> None:
    upstream.script(faults.no_finish("Half", " an"))
    upstream.enqueue("Half", " an", finish=None, usage=False)
    assert answer(model) == answer(model) == [Delta("Half"), Delta(" an")]


# What goes wrong before the first byte


def test_a_busy_provider_is_asked_twice_more(model: LanguageModel, upstream: Upstream) -> None:
    upstream.script(faults.status(503))
    upstream.script(faults.rate_limited(retry_after=0.2))
    upstream.enqueue("There", usage=False)
    assert answer(model) == [Delta("There"), Finish("stop")]
    first, second, third = (request.at for request in upstream.requests)
    assert third - second >= 0.2
    assert second > first


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_provider_that_stays_busy_is_busy(settings: Settings, upstream: Upstream, status: int) -> None:
    upstream.always(faults.status(status))
    assert broken(model_of(replace(settings, first_byte_seconds=30)))[1].code == "upstream_busy"
    assert len(upstream.requests) == 3


def test_a_date_to_come_back_at_is_passed_on_and_a_senseless_one_is_not(
    model: LanguageModel, upstream: Upstream
) -> None:
    for said, expected in ((format_datetime(datetime.now(UTC) + timedelta(seconds=30)), 30), ("Mon, 01 Jan 9e9", None)):
        upstream.always(Response([b"{}"], 503, {"retry-after": said}, framing="length"))
        retry_after = broken(model)[1].retry_after
        assert retry_after == expected or (expected and retry_after in (expected - 1, expected))


def test_an_error_page_is_an_error_like_any_other(model: LanguageModel, upstream: Upstream) -> None:
    upstream.always(faults.html(503))
    assert broken(model)[1].code == "upstream_busy"
    assert len(upstream.requests) == 3


@pytest.mark.parametrize(
    ("fault", "error", "retry_after"),
    [
        (faults.insufficient_quota(), UpstreamQuota, None),
        (faults.status(402), UpstreamQuota, None),
        (faults.rate_limited(retry_after=3600), UpstreamBusy, 60),
        (faults.status(503, retry_after=20), UpstreamBusy, 20),
        (faults.key_leak(401), UpstreamConfig, None),
        (faults.key_leak(403), UpstreamConfig, None),
        (faults.unknown_model(), UpstreamConfig, None),
        (faults.status(400), UpstreamConfig, None),
        (faults.status(418), UpstreamConfig, None),
        (faults.context_too_long(), ContextTooLong, None),
        (faults.status(413), ContextTooLong, None),
        (faults.status(400, {"message": "This model's maximum context length is 4096 tokens."}), ContextTooLong, None),
        (faults.status(400, {"message": "the request exceeds the available context size"}), ContextTooLong, None),
        (faults.html(), UpstreamProtocol, None),
        (faults.json_for_stream(), UpstreamProtocol, None),
        (faults.empty(), UpstreamProtocol, None),
        (faults.stream(b"data: [DONE]\n\n"), UpstreamProtocol, None),
        (faults.gzip_bomb(50_000_000), UpstreamProtocol, None),
        (faults.stream(b'data: {"x": ' + b"[" * 100_000 + b"\n\n"), UpstreamProtocol, None),
        (faults.stream(b'data: {"choices": {"a": 1}}\n\n'), UpstreamProtocol, None),
        (faults.stream({"choices": [{"delta": {}, "finish_reason": "<b>not a reason</b>"}]}), UpstreamProtocol, None),
        (faults.stream({"object": "error", "message": "overloaded", "code": 503}), UpstreamBusy, None),
        (faults.stream({"error": {"code": "context_length_exceeded"}}), ContextTooLong, None),
        (faults.stream({"error": "out of memory"}), UpstreamInterrupted, None),
        (faults.stream(Raw(b"no chunk size\r\n")), UpstreamProtocol, None),
        (Response([Raw(b"")], headers={"x-broken\x00": "1"}), UpstreamProtocol, None),
        (Response([Close()]), UpstreamInterrupted, None),
    ],
)
def test_a_refusal_or_nonsense_is_not_tried_again(
    settings: Settings, upstream: Upstream, fault: Response, error: type[BrainstemError], retry_after: int | None
) -> None:
    upstream.always(fault)
    began = time.monotonic()
    came, caught = broken(model_of(replace(settings, first_byte_seconds=30)))
    assert (came, type(caught), caught.retry_after) == ("", error, retry_after)
    assert len(upstream.requests) == 1
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "fault", [faults.key_leak(), faults.unknown_model(), faults.error_event("a"), faults.malformed()]
)
def test_no_word_of_the_provider_and_no_key_gets_out(
    model: LanguageModel, upstream: Upstream, fault: Response, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    upstream.always(fault)
    error = broken(model)[1]
    assert not [
        record for record in caplog.records if record.name.startswith(("openai", "httpx2", "httpcore2", "asyncio"))
    ]
    said = "".join(traceback.format_exception(error)) + repr(error) + caplog.text
    for secret in (faults.LEAKED_KEY, KEY, PROMPT, "Incorrect", "choices"):
        assert secret not in said


def test_a_key_that_no_header_can_hold_is_not_shown_either(settings: Settings) -> None:
    for key in (f"{KEY}\n", f"{KEY}\u00e9", f"{KEY}\x00"):
        error = broken(model_of(replace(settings, openai_api_key=key)))[1]
        assert isinstance(error, UpstreamConfig)
        assert KEY not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "url", ["localhost:11434", "ftp://127.0.0.1/v1", "http://[::1", "http://127.0.0.1:99999/v1", "?"]
)
def test_an_address_that_is_none_keeps_the_service_from_starting(settings: Settings, url: str) -> None:
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL"):
        model_of(replace(settings, openai_base_url=url))


def test_a_redirect_is_not_followed(model: LanguageModel, upstream: Upstream) -> None:
    with Upstream() as evil:
        upstream.always(faults.redirect(f"{evil.url}/chat/completions"))
        assert broken(model)[1].code == "upstream_config"
        assert evil.accepted == 0


def test_a_closed_port_fails_fast(settings: Settings) -> None:
    with Upstream() as gone:
        url = gone.url
    model = model_of(replace(settings, openai_base_url=url))
    began = time.monotonic()
    assert broken(model)[1].code == "unavailable"
    assert time.monotonic() - began < 2
    with pytest.raises(Unavailable):
        model.check()


def test_an_address_that_swallows_connections_is_given_up_after_two_attempts(settings: Settings) -> None:
    answer(model_of(settings))
    with blackhole() as port:
        url = f"http://127.0.0.1:{port}/v1"
        model = model_of(replace(settings, openai_base_url=url, connect_seconds=0.8, first_byte_seconds=30))
        began = time.monotonic()
        assert isinstance(broken(model)[1], Unavailable)
        assert 2 * 0.8 <= time.monotonic() - began < 3 * 0.8


def test_a_host_that_nobody_knows_is_unavailable(settings: Settings) -> None:
    model = model_of(replace(settings, openai_base_url="http://no-such-host.invalid/v1"))
    assert broken(model)[1].code == "unavailable"


def test_a_connection_that_the_provider_closed_meanwhile_is_made_anew(model: LanguageModel, upstream: Upstream) -> None:
    """The provider reads the request on a connection that is in use again, and closes it unanswered."""
    answer(model)
    upstream.script(Response([Close()]))
    assert Finish("stop") in answer(model)
    assert upstream.accepted == 2


def test_a_provider_that_never_answers_is_waited_for_until_the_first_byte_is_due(
    settings: Settings, upstream: Upstream
) -> None:
    upstream.always(faults.hang())
    began = time.monotonic()
    assert broken(model_of(replace(settings, first_byte_seconds=0.4)))[1].code == "deadline_exceeded"
    assert 0.4 <= time.monotonic() - began < 1.4
    assert len(upstream.requests) == 1
    upstream.until(lambda: upstream.connections == 0, seconds=1)


@pytest.mark.parametrize("fault", [faults.pings(0.02), faults.drip(0.02), faults.stream({"choices": []}, Hang())])
def test_comments_and_drips_are_no_first_answer(settings: Settings, upstream: Upstream, fault: Response) -> None:
    upstream.always(fault)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        answer(model_of(replace(settings, first_byte_seconds=0.3)))
    assert time.monotonic() - began < 1


# What goes wrong in the midst of an answer


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.reset_after("Half", " an"), UpstreamInterrupted),
        (faults.truncated_chunk("Half", " an"), UpstreamInterrupted),
        (faults.error_event("Half", " an"), UpstreamInterrupted),
        (faults.error_event("Half", " an", code="rate_limit_exceeded"), UpstreamBusy),
        (faults.stall("Half", " an"), UpstreamInterrupted),
        (faults.pings(0.02, "Half", " an"), UpstreamInterrupted),
        (faults.malformed("Half", " an"), UpstreamProtocol),
        (faults.bad_utf8("Half", " an"), UpstreamProtocol),
        (faults.stream("Half", " an", b'data: {"choices": [{"delta": {"content": "\\ud83d"}}]}\n\n'), UpstreamProtocol),
    ],
)
def test_an_answer_that_breaks_keeps_what_came_and_is_not_asked_for_again(
    model: LanguageModel, upstream: Upstream, fault: Response, error: type[BrainstemError]
) -> None:
    # A provider that goes on all the same, for one that has ended leaves a connection of use.
    upstream.always(replace(fault, steps=(*fault.steps, Hang())))
    came, caught = broken(model)
    assert (came, type(caught)) == ("Half an", error)
    assert len(upstream.requests) == 1
    upstream.until(lambda: upstream.connections == 0, seconds=1)


def test_usage_that_was_told_before_the_break_is_told(model: LanguageModel, upstream: Upstream) -> None:
    counted = {"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 1}}
    upstream.script(faults.stream("Half", counted, Pause(0.05), Raw(b"ff\r\n"), Close()))
    reader = Reader(model.stream(REQUEST))
    reader.join(5)
    assert reader.events == [Delta("Half"), Usage(8, 1)]
    assert isinstance(reader.errors[0], UpstreamInterrupted)


def test_a_slow_reader_is_not_taken_for_a_slow_provider(model: LanguageModel, upstream: Upstream) -> None:
    upstream.enqueue("a", "b", "c", usage=False)
    told = []
    for event in events(model.stream(REQUEST)):
        time.sleep(0.35)
        told.append(event)
    assert told == [Delta("a"), Delta("b"), Delta("c"), Finish("stop")]


ENDLESS = [
    faults.huge_line(),
    faults.huge_answer(),
    faults.gzip_bomb(50_000_000),
    faults.stream(Repeat(b": ping\n\n" * 9_000)),
]


@pytest.mark.parametrize("fault", ENDLESS)
def test_endless_answers_take_bounded_memory(model: LanguageModel, upstream: Upstream, fault: Response) -> None:
    answer(model)
    upstream.script(fault)
    tracemalloc.start()
    try:
        assert isinstance(broken(model)[1], UpstreamProtocol | DeadlineExceeded)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    upstream.until(lambda: upstream.connections == 0, seconds=1)
