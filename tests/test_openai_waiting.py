"""A question is embedded over a connection of our own, which its thread waits for: used again, given up, and asked as the SDK asks."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.backends.interfaces import Embedder
from service.backends.openai import embeddings
from service.backends.openai.refusals import Retries
from service.config import Settings
from service.errors import BrainstemError, DeadlineExceeded, Unavailable, UpstreamInterrupted, UpstreamProtocol
from tests.kit.certificates import certificate
from tests.kit.models import embedder_of, impatient
from tests.kit.upstream import (
    Close,
    Hang,
    Pause,
    Repeat,
    Request,
    Reset,
    Response,
    Upstream,
    Verbatim,
    faults,
    text_vector,
)
from tests.kit.upstream.script import Step

BODY = json.dumps({"data": [{"index": 0, "embedding": [0.6, 0.8]}], "usage": {"prompt_tokens": 7}}).encode()
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
WHOLE = OK + LENGTH + b"\r\n" + BODY
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


@pytest.fixture
def settings(upstream: Upstream) -> Settings:
    return replace(impatient(upstream), embedding_dimensions=2)


@pytest.fixture
def embedder(settings: Settings) -> Embedder:
    return embedder_of(settings)


def script(upstream: Upstream, *steps: Step, times: int = 1) -> None:
    upstream.script(Verbatim(list(steps)), times=times, on="embeddings")


def broken(embedder: Embedder, texts: Sequence[str] = ("a",)) -> BrainstemError:
    with pytest.raises(BrainstemError) as caught:
        embedder.embed(texts)
    return caught.value


@pytest.mark.parametrize("answer", [WHOLE, CHUNKED])
def test_a_connection_serves_one_question_after_the_other(
    embedder: Embedder, upstream: Upstream, answer: bytes
) -> None:
    script(upstream, answer, times=3)
    for _ in range(3):
        told = embedder.embed(["a"])
        assert (told.vectors[0] == pytest.approx([0.6, 0.8]), told.tokens) == (True, 7)
    assert (upstream.accepted, upstream.connections) == (1, 1)


@pytest.mark.parametrize(
    "steps",
    [
        [bytes([byte]) for byte in WHOLE],
        [b"HTTP/1.1 100 Continue\r\n\r\n", Pause(0.05), WHOLE],
        [OK + b"Connection: close\r\n" + LENGTH + b"\r\n" + BODY, Hang()],
        [OK + b"\r\n" + BODY, Close()],
        [WHOLE + b"more"],
        [WHOLE, Pause(0.02), Close()],
        [WHOLE, Pause(0.02), Reset()],
        [WHOLE, Pause(0.02), WHOLE],
    ],
)
def test_an_answer_is_whole_and_the_next_question_does_not_wait_for_its_connection(
    embedder: Embedder, upstream: Upstream, steps: list[Step]
) -> None:
    script(upstream, *steps)
    assert embedder.embed(["a"]).tokens == 7
    time.sleep(0.05)
    script(upstream, WHOLE)
    assert embedder.embed(["a"]).tokens == 7
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("end", [Close(), Reset()])
def test_a_connection_that_ends_as_the_question_comes_is_made_anew(
    embedder: Embedder, upstream: Upstream, end: Close | Reset
) -> None:
    script(upstream, WHOLE)
    script(upstream, end)
    script(upstream, WHOLE)
    for _ in range(2):
        assert embedder.embed(["a"]).tokens == 7
    assert (upstream.accepted, len(upstream.requests)) == (2, 3)


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ([Close()], UpstreamInterrupted),
        ([Reset()], UpstreamInterrupted),
        ([OK + b"Content-Length: 999\r\n\r\n" + BODY, Close()], UpstreamInterrupted),
        ([OK + b"\r\n" + BODY, Pause(0.05), Reset()], UpstreamInterrupted),
        ([b"no HTTP at all\r\n\r\n", Hang()], UpstreamProtocol),
        ([OK + b"X-Long: ", Repeat(b"x" * 1_000)], UpstreamProtocol),
        ([OK + b"Content-Encoding: gzip\r\n" + LENGTH + b"\r\n", Hang()], UpstreamProtocol),
        ([Hang()], DeadlineExceeded),
        ([OK + LENGTH + b"\r\n" + BODY[:9], Hang()], DeadlineExceeded),
        ([OK + b"X-Drip: ", *[step for _ in range(40) for step in (b"x", Pause(0.05))]], DeadlineExceeded),
    ],
)
def test_what_breaks_off_is_not_asked_again_and_leaves_no_connection(
    settings: Settings, upstream: Upstream, steps: list[Step], error: type[BrainstemError]
) -> None:
    embedder = embedder_of(replace(settings, first_byte_seconds=0.5))
    upstream.always(Verbatim(steps), on="embeddings")
    assert type(broken(embedder)) is error
    assert len(upstream.requests) == 1
    del embedder
    upstream.until(lambda: upstream.connections == 0, seconds=2)


@pytest.mark.parametrize(
    "fault",
    [
        faults.status(400),
        faults.key_leak(401),
        faults.status(413),
        faults.rate_limited(retry_after=3600),
        faults.insufficient_quota(),
        faults.html(404),
        faults.redirect("http://127.0.0.1:1/"),
        Response([b"\xff\xfe"], 400, framing="length"),
        Response([b"[" * 300_000], 400, framing="length"),
    ],
)
def test_a_refusal_is_the_same_error_as_in_a_batch(embedder: Embedder, upstream: Upstream, fault: Response) -> None:
    upstream.always(fault, on="embeddings")
    alone, batch = broken(embedder), broken(embedder, ["a", "b"])
    assert (type(alone), alone.detail, alone.retry_after) == (type(batch), batch.detail, batch.retry_after)


def test_a_question_is_sent_as_a_batch_is(settings: Settings, upstream: Upstream) -> None:
    text = 'Où est le "renard" ?\n\u2028 \U0001f30d <&> \x00 \\'
    embedder = embedder_of(settings)
    embedder.embed([text])
    embedder.embed([text, "b"])
    alone, batch = upstream.requests
    assert (alone.json["input"], batch.json["input"]) == ([text], [text, "b"])
    assert seen(alone) == seen(batch)


def seen(request: Request) -> dict[str, object]:
    """What a provider can tell apart, but for the texts."""
    headers = ("host", "authorization", "accept", "accept-encoding", "content-type", "cookie")
    return {
        "path": request.path,
        "body": request.json | {"input": None},
        **{name: request.headers.get(name) for name in headers},
    }


def test_each_attempt_has_all_of_the_time(settings: Settings, upstream: Upstream) -> None:
    embedder = embedder_of(replace(settings, first_byte_seconds=1.0))
    upstream.script(faults.rate_limited(retry_after=1.2), on="embeddings")
    script(upstream, Pause(0.3), WHOLE)
    assert embedder.embed(["a"]).tokens == 7
    assert len(upstream.requests) == 2


def test_who_cannot_be_reached_is_unavailable(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "RETRIES", Retries(times=1, seconds=5, longest=1))
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    assert type(broken(embedder_of(replace(settings, openai_base_url=url)))) is Unavailable


def test_a_question_goes_through_tls(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "RETRIES", Retries(times=0, seconds=5, longest=1))
    server, authority = certificate(tmp_path)
    with Upstream(tls=server) as upstream:
        elsewhere = replace(settings, openai_base_url=upstream.url)
        assert type(broken(embedder_of(elsewhere))) is Unavailable
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        embedder = embedder_of(elsewhere)
        for _ in range(3):
            assert embedder.embed(["a"]).vectors.shape == (1, 2)
        assert len(upstream.requests) == 3
        del embedder
        upstream.until(lambda: upstream.connections == 0, seconds=2)


def test_questions_of_many_threads_do_not_mix(settings: Settings, upstream: Upstream) -> None:
    embedder = embedder_of(replace(settings, embedding_dimensions=64, first_byte_seconds=30))
    texts = [f"word{n}" for n in range(100)]
    with ThreadPoolExecutor(8) as pool:
        told = [found.vectors[0] for found in pool.map(lambda text: embedder.embed([text]), texts)]
    np.testing.assert_allclose(told, [text_vector(text, 64) for text in texts], atol=1e-6)
    assert upstream.accepted <= 8
