"""How calls to a compatible endpoint end when we want it, and how they share connections."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from service.backends.interfaces import (
    Delta,
    Finish,
    LanguageModel,
    Message,
    ModelEvent,
)
from service.config import Settings
from service.errors import (
    Unavailable,
)
from tests.kit.certificates import certificate
from tests.kit.loop import Stream, events, run
from tests.kit.models import (
    REQUEST,
    Reader,
    answer,
    broken,
    eventually,
    impatient,
    model_of,
    text,
)
from tests.kit.upstream import (
    Gate,
    Hang,
    Repeat,
    Response,
    Upstream,
    faults,
)


@pytest.fixture
def settings(upstream: Upstream) -> Settings:
    return impatient(upstream)


@pytest.fixture
def model(settings: Settings) -> LanguageModel:
    return model_of(settings)


@pytest.fixture
def patient(settings: Settings) -> Settings:
    """Settings with which only `close` ends a call."""
    return replace(settings, first_byte_seconds=60, idle_seconds=60)


@pytest.mark.parametrize(
    ("fault", "came"),
    [
        (faults.hang(), []),
        (faults.stream(b": wait\n\n", Hang()), []),
        (faults.pings(0.01), []),
        (faults.stall("Half", " an"), [Delta("Half"), Delta(" an")]),
        (faults.stream("Half", Repeat(b" ", 0.01)), [Delta("Half")]),
    ],
)
def test_close_ends_a_blocked_reader_and_its_connection_at_once(
    patient: Settings, upstream: Upstream, fault: Response, came: list[ModelEvent]
) -> None:
    upstream.script(fault)
    reader = Reader(model_of(patient).stream(REQUEST))
    upstream.until(lambda: len(upstream.requests) == 1)
    eventually(lambda: reader.events == came)
    reader.assert_ends(upstream)
    assert (reader.events, upstream.disconnects) == (came, 1)


def test_close_ends_the_wait_for_another_attempt(patient: Settings, upstream: Upstream) -> None:
    upstream.always(faults.rate_limited(retry_after=3))
    reader = Reader(model_of(patient).stream(REQUEST))
    upstream.until(lambda: len(upstream.requests) == 1)
    time.sleep(0.05)
    reader.close()
    reader.join(1)
    assert reader.ended
    time.sleep(0.1)
    assert len(upstream.requests) == 1


def test_a_stream_that_is_read_twice_makes_one_call(model: LanguageModel, upstream: Upstream) -> None:
    stream = model.stream(REQUEST)
    assert Finish("stop") in list(events(stream))
    assert list(events(stream)) == []
    assert len(upstream.requests) == 1


def test_a_stream_that_is_closed_before_it_is_read_makes_no_call(model: LanguageModel, upstream: Upstream) -> None:
    stream = model.stream(REQUEST)
    run(stream.aclose())
    assert list(events(stream)) == []
    assert upstream.requests == []


def test_to_close_an_answer_that_was_read_leaves_its_connection_to_others(
    model: LanguageModel, upstream: Upstream
) -> None:
    first = model.stream(REQUEST)
    list(events(first))
    gate = Gate()
    upstream.enqueue("second", gate, " answer", usage=False)
    second = Reader(model.stream(REQUEST))
    assert gate.reached.wait(5)
    run(first.aclose())
    gate.open()
    second.join(5)
    assert second.events == [Delta("second"), Delta(" answer"), Finish("stop")]
    assert upstream.accepted == 1


def test_a_reader_that_stops_in_the_midst_ends_the_call(model: LanguageModel, upstream: Upstream) -> None:
    """Whether it closes the stream or forgets it."""

    async def first(stream: Stream) -> Sequence[ModelEvent]:
        return await anext(stream)

    for count, closed in ((1, True), (2, False)):
        upstream.script(faults.stall("Half"))
        stream = model.stream(REQUEST)
        assert run(first(stream)) == [Delta("Half")]
        if closed:
            run(stream.aclose())
        del stream
        upstream.until(partial(lambda n: upstream.disconnects == n, count), seconds=1)


def test_close_works_through_tls(patient: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, authority = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with Upstream(tls=server) as upstream:
        model = model_of(replace(patient, openai_base_url=upstream.url, connect_seconds=2))
        upstream.enqueue("Hello", usage=False)
        assert answer(model) == [Delta("Hello"), Finish("stop")]
        upstream.script(faults.stall("Half"))
        reader = Reader(model.stream(REQUEST))
        eventually(lambda: reader.events == [Delta("Half")])
        reader.assert_ends(upstream)
        upstream.script(faults.hang())
        unanswered = Reader(model.stream(REQUEST))
        upstream.until(lambda: len(upstream.requests) == 3)
        unanswered.assert_ends(upstream)


def test_a_certificate_that_nobody_vouches_for_is_no_provider(settings: Settings, tmp_path: Path) -> None:
    with Upstream(tls=certificate(tmp_path)[0]) as upstream:
        model = model_of(replace(settings, openai_base_url=upstream.url, connect_seconds=2))
        assert isinstance(broken(model)[1], Unavailable)
        assert upstream.requests == []


def test_an_adapter_that_is_dropped_leaves_no_connection(settings: Settings, upstream: Upstream) -> None:
    model = model_of(settings)
    answer(model)
    assert upstream.connections == 1
    del model
    upstream.until(lambda: upstream.connections == 0, seconds=1)


def test_many_answers_at_once_do_not_mix(settings: Settings, upstream: Upstream) -> None:
    model = model_of(settings)

    def ask(n: int) -> tuple[str, bool]:
        word = f"canary{n}"
        told = text(answer(model, replace(REQUEST, messages=(Message("user", word),))))
        return told, f" {word} " in told

    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(ask, range(200)))
    assert all(found for _, found in told)
    assert len({words for words, _ in told}) == 200


def test_the_sdk_is_imported_with_the_first_call_only() -> None:
    code = "import sys, service.backends.openai; sys.exit(not {'openai', 'httpx2', 'numpy'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
