"""HTTP as servers speak it: in what pieces an answer may come, when a connection is used again, and what is too much of it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.backends.interfaces import Delta, Finish, LanguageModel, Message, ModelEvent, ModelRequest
from service.backends.openai import connection
from service.config import Settings
from service.errors import BrainstemError, ContextTooLong, Unavailable, UpstreamInterrupted, UpstreamProtocol
from service.loop import new_event_loop
from tests.kit.certificates import certificate
from tests.kit.models import REQUEST, impatient, model_of
from tests.kit.upstream import Close, Gate, Hang, Pause, Repeat, Reset, Upstream, Verbatim, blackhole, faults
from tests.kit.upstream.script import Step, event

BODY = event("Hi") + event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
TOLD = [Delta("Hi"), Finish("stop")]
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = OK + LENGTH + b"\r\n" + BODY


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def bytewise(data: bytes) -> list[Step]:
    return [step for byte in data for step in (bytes([byte]), Pause(0.001))]


Ask = Callable[..., list[ModelEvent]]


@pytest.fixture(params=[asyncio.new_event_loop, new_event_loop], ids=["python", "service"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Python's own loop, and that of the service."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


@pytest.fixture
def ask(runner: asyncio.Runner) -> Ask:
    return lambda model, request=REQUEST: runner.run(told(model, request))


@pytest.fixture
def settings(upstream: Upstream) -> Settings:
    """With these no deadline ends a call."""
    return replace(impatient(upstream), connect_seconds=5, first_byte_seconds=60, idle_seconds=60)


@pytest.fixture
def model(settings: Settings) -> LanguageModel:
    return model_of(settings)


async def told(model: LanguageModel, request: ModelRequest = REQUEST) -> list[ModelEvent]:
    return [event async for together in model.stream(request) for event in together]


def broken(ask: Ask, model: LanguageModel) -> type[BrainstemError]:
    with pytest.raises(BrainstemError) as caught:
        ask(model)
    return type(caught.value)


# In what pieces an answer comes


@pytest.mark.parametrize("answer", [WHOLE, CHUNKED + chunk(BODY[:5]) + chunk(BODY[5:]) + b"0\r\n\r\n"])
def test_an_answer_may_come_byte_by_byte(ask: Ask, model: LanguageModel, upstream: Upstream, answer: bytes) -> None:
    upstream.script(Verbatim(bytewise(answer)))
    assert ask(model) == TOLD


@pytest.mark.parametrize("between", [b"", Pause(0.05)])
def test_what_a_server_says_before_its_answer_is_passed_over(
    ask: Ask, model: LanguageModel, upstream: Upstream, between: Step
) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\n\r\n"
    upstream.script(Verbatim([b"HTTP/1.1 100 Continue\r\n\r\n", between, early, between, WHOLE]))
    assert ask(model) == TOLD


@pytest.mark.parametrize(
    "answer",
    [
        WHOLE,
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + LENGTH + b"\r\n" + BODY,
        (OK + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + BODY,
        CHUNKED + b"".join(chunk(bytes([byte])) for byte in BODY) + b"0\r\n\r\n",
        CHUNKED + chunk(BODY).replace(b"\r\n", b"  \r\n", 1) + b"0\r\n\r\n",
        CHUNKED + chunk(BODY).replace(b"\r\n", b";a=b;c\r\n", 1) + b"000;last\r\n\r\n",
        CHUNKED + chunk(BODY) + b"0\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n",
    ],
)
def test_the_connection_of_an_answer_that_tells_its_end_is_used_again(
    ask: Ask, model: LanguageModel, upstream: Upstream, answer: bytes
) -> None:
    upstream.script(Verbatim([answer]), times=3)
    for _ in range(3):
        assert ask(model) == TOLD
    assert upstream.accepted == 1


@pytest.mark.parametrize(
    "steps",
    [
        [WHOLE + b"more"],
        [WHOLE + WHOLE],
        [WHOLE + b"HTTP/1.1 2"],
        [CHUNKED + chunk(BODY) + b"0\r\n\r\nmore"],
        [WHOLE, Pause(0.05), b"more"],
        [WHOLE, Pause(0.05), WHOLE],
        [OK + b"Connection: close\r\n" + LENGTH + b"\r\n" + BODY, Hang()],
        [b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\n" + BODY, Hang()],
        [OK + b"\r\n" + BODY, Close()],
        [b"HTTP/1.0 200 OK\r\n\r\n", *bytewise(BODY), Close()],
        [OK + b"Transfer-Encoding: identity\r\n\r\n" + BODY, Close()],
    ],
)
def test_any_other_answer_is_whole_and_its_connection_ends(
    ask: Ask, runner: asyncio.Runner, model: LanguageModel, upstream: Upstream, steps: list[Step]
) -> None:
    upstream.script(Verbatim(steps))
    assert ask(model) == TOLD
    runner.run(asyncio.sleep(0.1))
    upstream.until(lambda: upstream.connections == 0, seconds=1)
    upstream.script(Verbatim([WHOLE]))
    assert ask(model) == TOLD
    assert upstream.accepted == 2


def test_a_connection_is_not_used_again_before_it_has_taken_all_of_a_request(ask: Ask, settings: Settings) -> None:
    """The server answers what it has not read, and reads no more."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        model = model_of(replace(settings, openai_base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1"))
        accepted: list[socket.socket] = []

        def serve() -> None:
            for _ in range(2):
                accepted.append(listener.accept()[0])
                accepted[-1].recv(1000)
                accepted[-1].sendall(WHOLE)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        long = replace(REQUEST, messages=(Message("user", "word " * 4_000_000),))
        assert ask(model, long) == TOLD
        assert ask(model, REQUEST) == TOLD
        server.join(5)
        for one in accepted:
            one.close()
    assert len(accepted) == 2


def test_an_error_that_the_connection_ends_is_whole(ask: Ask, model: LanguageModel, upstream: Upstream) -> None:
    upstream.script(replace(faults.context_too_long(), framing="close"))
    assert broken(ask, model) is ContextTooLong


# What breaks off


def test_a_reset_is_no_end_of_a_body_that_the_connection_ends(
    ask: Ask, model: LanguageModel, upstream: Upstream
) -> None:
    upstream.script(Verbatim([OK + b"\r\n" + event("Half"), Pause(0.05), Reset()]))
    assert broken(ask, model) is UpstreamInterrupted


@pytest.mark.parametrize("end", [Close(), Reset()])
@pytest.mark.parametrize("begun", [b"HTTP/1.1 2", b"HTTP/1.1 100 Continue\r\n\r\n", OK + b"X-Half: "])
def test_what_a_server_has_begun_to_answer_is_not_asked_again(
    ask: Ask, model: LanguageModel, upstream: Upstream, begun: bytes, end: Close | Reset
) -> None:
    assert Finish("stop") in ask(model)
    upstream.script(Verbatim([begun, Pause(0.05), end]))
    assert broken(ask, model) is UpstreamInterrupted
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("end", [Close(), Reset()])
def test_what_a_new_connection_loses_is_not_asked_again(
    ask: Ask, model: LanguageModel, upstream: Upstream, end: Close | Reset
) -> None:
    upstream.always(Verbatim([end]))
    assert broken(ask, model) is UpstreamInterrupted
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("end", [Close(), Reset()])
def test_a_connection_that_ends_between_two_requests_is_made_anew(
    ask: Ask, runner: asyncio.Runner, model: LanguageModel, upstream: Upstream, end: Close | Reset
) -> None:
    upstream.script(Verbatim([WHOLE, Pause(0.02), end]))
    assert ask(model) == TOLD
    runner.run(asyncio.sleep(0.1))
    assert Finish("stop") in ask(model)
    # The next one is closed only when the request is there, which then is sent on another.
    upstream.script(Verbatim([end]))
    assert Finish("stop") in ask(model)
    assert (upstream.accepted, len(upstream.requests)) == (3, 4)


# What is too much


@pytest.mark.parametrize(
    "steps",
    [
        [Repeat(b"HTTP/1.1 200 ")],
        [OK + b"X-Long: ", Repeat(b"x" * 1_000)],
        [OK, Repeat(b"X-Many: x\r\n" * 100)],
        [Repeat(b"HTTP/1.1 100 Continue\r\n\r\n")],
        [CHUNKED + b"5;", Repeat(b"x" * 1_000)],
        [CHUNKED + b"0\r\nX-Long: ", Repeat(b"x" * 1_000)],
        [CHUNKED + b"0\r\n", Repeat(b"X-Many: x\r\n" * 100)],
    ],
)
def test_an_endless_head_or_trailer_is_no_answer(
    ask: Ask, model: LanguageModel, upstream: Upstream, steps: list[Step]
) -> None:
    upstream.script(Verbatim(steps))
    tracemalloc.start()
    try:
        assert broken(ask, model) is UpstreamProtocol
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
    upstream.until(lambda: upstream.connections == 0, seconds=1)


def test_no_more_is_read_than_whoever_reads_takes(
    runner: asyncio.Runner, model: LanguageModel, upstream: Upstream
) -> None:
    filled = Gate()
    pings = Repeat(b": ping\n\n" * 10_000, times=500)
    upstream.script(Verbatim([OK + b"\r\n" + event("Hi"), pings, filled, BODY, Close()]))

    async def slowly() -> list[ModelEvent]:
        stream = model.stream(REQUEST)
        came = list(await anext(stream))
        await asyncio.sleep(0.5)
        # What the sockets hold of 40 MB is all that has come.
        assert not filled.reached.is_set()
        filled.open()
        return came + [event async for together in stream for event in together]

    assert runner.run(slowly()) == [Delta("Hi"), *TOLD]


# Connections


def test_an_idle_connection_is_kept_for_a_while_only(
    ask: Ask, runner: asyncio.Runner, model: LanguageModel, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "KEEP_ALIVE_SECONDS", 0.2)
    for _ in range(4):
        assert Finish("stop") in ask(model)
        runner.run(asyncio.sleep(0.1))
    assert (upstream.accepted, upstream.connections) == (1, 1)
    runner.run(asyncio.sleep(0.3))
    upstream.until(lambda: upstream.connections == 0, seconds=1)
    assert Finish("stop") in ask(model)


def test_no_connection_outlives_its_loop(
    ask: Ask, runner: asyncio.Runner, model: LanguageModel, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    assert Finish("stop") in ask(model)
    del model
    runner.close()
    upstream.until(lambda: upstream.connections == 0, seconds=1)
    assert caplog.text == ""


def test_the_connection_that_was_used_last_is_used_again(
    ask: Ask, runner: asyncio.Runner, model: LanguageModel, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def both() -> None:
        await asyncio.gather(told(model), told(model))

    monkeypatch.setattr(connection, "KEEP_ALIVE_SECONDS", 0.3)
    runner.run(both())
    for _ in range(5):
        runner.run(asyncio.sleep(0.1))
        ask(model)
    # So the one that was too many has come of age.
    assert (upstream.accepted, upstream.connections) == (2, 1)


def test_the_next_address_of_a_name_is_tried_beside_one_that_swallows_connections(
    ask: Ask, runner: asyncio.Runner, settings: Settings, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved: list[str] = []
    resolve = runner.get_loop().getaddrinfo
    with blackhole() as swallowed:

        async def getaddrinfo(host: str, port: int, **options: Any) -> list[tuple[Any, ...]]:
            if host != "provider.example":
                return await resolve(host, port, **options)
            resolved.append(host)
            ports = (swallowed, upstream.port)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]

        monkeypatch.setattr(runner.get_loop(), "getaddrinfo", getaddrinfo)
        model = model_of(replace(settings, openai_base_url="http://provider.example/v1"))
        began = time.monotonic()
        for _ in range(2):
            upstream.script(Verbatim([OK + b"\r\n" + BODY, Close()]))
            assert ask(model) == TOLD
    assert time.monotonic() - began < 2
    assert upstream.requests[0].headers["host"] == "provider.example"
    assert resolved == ["provider.example"]


def test_a_server_that_swallows_the_greeting_of_tls_is_given_up(ask: Ask, settings: Settings) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
        began = time.monotonic()
        assert broken(ask, model_of(replace(settings, openai_base_url=url, connect_seconds=0.3))) is Unavailable
        assert time.monotonic() - began < 2
        for _ in range(2):
            with closing(listener.accept()[0]) as tried:
                tried.settimeout(1)
                while tried.recv(10_000):
                    pass


def test_an_answer_ends_with_its_connection_through_tls(
    ask: Ask, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, authority = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with Upstream(tls=server) as upstream:
        model = model_of(replace(settings, openai_base_url=upstream.url))
        for _ in range(2):
            upstream.script(Verbatim([WHOLE]))
            assert ask(model) == TOLD
        assert upstream.accepted == 1
        began = time.monotonic()
        upstream.script(Verbatim([OK + b"\r\n" + BODY, Close()]))
        assert ask(model) == TOLD
        upstream.script(Verbatim([CHUNKED + chunk(event("Half")), Close()]))
        assert broken(ask, model) is UpstreamInterrupted
        assert time.monotonic() - began < 1
        upstream.until(lambda: upstream.connections == 0, seconds=1)


def test_another_protocol_is_no_answer(ask: Ask, model: LanguageModel, upstream: Upstream) -> None:
    upstream.script(
        Verbatim([b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", Hang()])
    )
    assert broken(ask, model) is UpstreamProtocol
    upstream.until(lambda: upstream.connections == 0, seconds=1)
