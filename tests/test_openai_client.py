"""How the streams of a compatible endpoint share an event loop: nothing blocks it, nothing is lost, nothing is left behind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from service.backends.interfaces import Delta, Finish, LanguageModel, ModelEvent
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.openai import OpenAIModel
from service.backends.openai.endpoint import KEY_SECONDS, StoredKey
from service.config import Settings
from service.errors import (
    ConfigError,
    DeadlineExceeded,
    Unavailable,
    UpstreamConfig,
    UpstreamInterrupted,
    UpstreamProtocol,
)
from tests.kit.loop import Stream, loop, run
from tests.kit.models import KEY, REQUEST, Reader, answer, broken, eventually, impatient, model_of
from tests.kit.server import ROOT
from tests.kit.upstream import Close, Gate, Hang, Pause, Raw, Repeat, Reset, Response, Upstream, faults
from tests.kit.upstream.script import event

FINISH = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


@pytest.fixture
def settings(upstream: Upstream) -> Settings:
    return impatient(upstream)


@pytest.fixture
def model(settings: Settings) -> LanguageModel:
    return model_of(settings)


@pytest.fixture
def patient(settings: Settings) -> LanguageModel:
    """A model that no deadline ends."""
    return model_of(replace(settings, first_byte_seconds=60, idle_seconds=60))


# The loop


def test_what_a_first_answer_imports_is_not_imported_on_the_loop(upstream: Upstream) -> None:
    code = f"""
import asyncio, sys, threading
from service.backends.interfaces import Finish, Message, ModelRequest
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.openai import OpenAIModel
from service.config import Settings

class Watch:
    def find_spec(self, name, path=None, target=None):
        (here if threading.current_thread() is threading.main_thread() else elsewhere).add(name)

settings = Settings(openai_base_url={upstream.url!r})
model = OpenAIModel(settings, EnvironmentSecrets(settings))
here, elsewhere = set(), set()

async def main():
    sys.meta_path.insert(0, Watch())
    told = [event async for together in model.stream(ModelRequest(model="m", messages=(), question="")) for event in together]
    assert Finish("stop") in told

asyncio.run(main())
assert "httptools" in elsewhere
heavy = [name for name in here if name.partition(".")[0] in ("httptools", "aiohappyeyeballs", "httpcore2", "openai", "ssl", "service")]
assert not heavy, heavy
assert "openai" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_who_is_ready_has_imported_what_an_answer_takes(upstream: Upstream) -> None:
    code = f"""
import sys
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.openai import OpenAIModel
from service.config import Settings

settings = Settings(openai_base_url={upstream.url!r})
model = OpenAIModel(settings, EnvironmentSecrets(settings))
assert "httptools" not in sys.modules
model.check()
assert "httptools" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert upstream.requests == []


class SlowKey:
    """A key that takes its time, and is at hand from then on."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def at_hand(self) -> str | None:
        return KEY if self.threads else None

    def get(self) -> str:
        time.sleep(0.3)
        self.threads.append(threading.get_ident())
        return KEY


def test_a_key_that_must_be_fetched_holds_up_no_other_stream(settings: Settings, upstream: Upstream) -> None:
    key = SlowKey()
    model = OpenAIModel(settings, EnvironmentSecrets(settings), key=key)
    for _ in range(3):
        assert Finish("stop") in answer(model)

    async def own() -> int:
        return threading.get_ident()

    assert len(key.threads) == 1
    assert key.threads[0] != run(own())
    assert {request.headers["authorization"] for request in upstream.requests} == {f"Bearer {KEY}"}


def test_a_secret_is_asked_for_anew_after_some_seconds() -> None:
    now, asked = [100.0], ["first", "second"]

    class Rotated:
        def get(self, name: str) -> str:
            assert name == "OPENAI_API_KEY"
            if not asked:
                raise ConfigError("gone")
            return asked.pop(0)

        def check(self) -> None: ...

    key = StoredKey(Settings(), Rotated(), clock=lambda: now[0])
    assert key.at_hand() is None
    assert key.get() == key.at_hand() == "first"
    now[0] += KEY_SECONDS
    assert key.at_hand() is None
    assert key.get() == key.at_hand() == "second"
    with pytest.raises(UpstreamConfig, match="OPENAI_API_KEY"):
        key.get()


def test_a_thousand_streams_share_the_loop(upstream: Upstream, settings: Settings) -> None:
    model = model_of(replace(settings, connect_seconds=20, first_byte_seconds=60, idle_seconds=60))
    upstream.script(faults.stall("Half"), times=1000)
    threads = threading.active_count()
    readers = [Reader(model.stream(REQUEST)) for _ in range(1000)]
    eventually(lambda: all(reader.events == [Delta("Half")] for reader in readers), seconds=60)
    assert threading.active_count() <= threads + 5
    for reader in readers:
        reader.close()
    upstream.until(lambda: upstream.connections == 0, seconds=10)


def test_a_loop_that_ends_takes_its_connections_along(model: LanguageModel, upstream: Upstream) -> None:
    async def whole() -> list[ModelEvent]:
        return [event async for together in model.stream(REQUEST) for event in together]

    for count in (1, 2):
        assert Finish("stop") in asyncio.run(whole())
        upstream.until(lambda: upstream.connections == 0, seconds=1)
        assert upstream.accepted == count


# What comes


def test_what_came_together_is_given_together(model: LanguageModel, upstream: Upstream) -> None:
    gate = Gate()
    upstream.script(faults.stream(event("a") + event("b") + event("c"), gate, event("d") + event(FINISH)))

    async def told() -> list[Sequence[ModelEvent]]:
        stream = model.stream(REQUEST)
        first = await anext(stream)
        gate.open()
        return [first, *[together async for together in stream]]

    assert run(told()) == [[Delta("a"), Delta("b"), Delta("c")], [Delta("d"), Finish("stop")]]


def test_events_that_came_with_what_breaks_them_off_are_given_first(model: LanguageModel, upstream: Upstream) -> None:
    upstream.script(faults.stream(event("Half") + event(" an") + b"data: {\n\n"))
    came, error = broken(model)
    assert (came, type(error)) == ("Half an", UpstreamProtocol)


async def slowly(stream: Stream, came: list[ModelEvent]) -> None:
    """Read as whoever has a slow client does: the rest comes, and breaks off, in the meantime."""
    came.extend(await anext(stream))
    await asyncio.sleep(0.4)
    async for together in stream:
        came.extend(together)


@pytest.mark.parametrize("end", [Close(), Reset(), Raw(b"no chunk size\r\n")])
def test_a_slow_reader_gets_all_that_came_before_a_break(
    patient: LanguageModel, upstream: Upstream, end: Close | Reset | Raw
) -> None:
    upstream.script(faults.stream("a", Pause(0.05), "b", Pause(0.05), "c", Pause(0.05), end))
    came: list[ModelEvent] = []
    with pytest.raises(UpstreamProtocol if isinstance(end, Raw) else UpstreamInterrupted):
        run(slowly(patient.stream(REQUEST), came))
    assert came == [Delta("a"), Delta("b"), Delta("c")]


def test_an_answer_that_ended_before_the_break_is_whole_to_a_slow_reader(
    patient: LanguageModel, upstream: Upstream
) -> None:
    upstream.script(faults.stream("a", Pause(0.05), "b", FINISH, Pause(0.05), Reset()))
    came: list[ModelEvent] = []
    run(slowly(patient.stream(REQUEST), came))
    assert came == [Delta("a"), Delta("b"), Finish("stop")]


def test_what_is_no_http_any_more_ends_an_answer_at_once(patient: LanguageModel, upstream: Upstream) -> None:
    upstream.script(faults.stream("Half", Pause(0.05), Raw(b"no chunk size\r\n"), Hang()))
    began = time.monotonic()
    came, error = broken(patient)
    assert (came, type(error)) == ("Half", UpstreamProtocol)
    assert time.monotonic() - began < 1
    upstream.until(lambda: upstream.connections == 0, seconds=1)


def test_an_error_that_is_no_http_is_not_waited_for(patient: LanguageModel, upstream: Upstream) -> None:
    upstream.script(Response([b"{", Pause(0.05), Raw(b"no chunk size\r\n"), Hang()], 400))
    began = time.monotonic()
    assert type(broken(patient)[1]) is UpstreamProtocol
    assert time.monotonic() - began < 1


def test_a_body_shorter_than_announced_is_interrupted(model: LanguageModel, upstream: Upstream) -> None:
    upstream.script(Response([event("Half"), Close(), event("never sent")], framing="length"))
    came, error = broken(model)
    assert (came, type(error)) == ("Half", UpstreamInterrupted)


# Deadlines


def test_progress_moves_the_deadline(settings: Settings, upstream: Upstream) -> None:
    upstream.script(faults.stream(*[step for n in range(12) for step in (f"{n} ", Pause(0.1))], FINISH))
    assert Finish("stop") in answer(model_of(replace(settings, idle_seconds=0.4)))


def test_after_the_last_event_the_end_of_the_body_is_not_waited_for(patient: LanguageModel, upstream: Upstream) -> None:
    upstream.script(faults.stream("Hi", FINISH, b"data: [DONE]\n\n", Hang()))
    began = time.monotonic()
    assert answer(patient) == [Delta("Hi"), Finish("stop")]
    assert time.monotonic() - began < 1
    upstream.until(lambda: upstream.connections == 0, seconds=1)


@pytest.mark.parametrize("status", [200, 400, 503])
def test_an_error_that_drips_is_given_up_in_time(settings: Settings, upstream: Upstream, status: int) -> None:
    upstream.always(Response([Repeat(b" ", 0.02)], status))
    began = time.monotonic()
    assert type(broken(model_of(replace(settings, first_byte_seconds=0.4)))[1]) is DeadlineExceeded
    assert time.monotonic() - began < 1.4
    upstream.until(lambda: upstream.connections == 0, seconds=1)


def test_of_an_endless_error_only_the_beginning_is_read(patient: LanguageModel, upstream: Upstream) -> None:
    upstream.always(Response([Repeat(b"no! " * 10_000)], 400))
    assert type(broken(patient)[1]) is UpstreamConfig
    upstream.until(lambda: upstream.connections == 0, seconds=1)


@pytest.mark.parametrize("url", ["http://exa mple/v1", "http://-\u2028-/v1", "http://127.1/v1", "http://a..b/v1"])
def test_an_address_that_no_request_can_go_to_is_an_error_of_ours(settings: Settings, url: str) -> None:
    error = broken(model_of(replace(settings, openai_base_url=url)))[1]
    assert isinstance(error, UpstreamConfig | Unavailable)


# What is kept


def test_no_cookie_is_kept(model: LanguageModel, upstream: Upstream) -> None:
    upstream.script(Response([event("Hi")], headers={"set-cookie": "canary=1; Path=/"}))
    for _ in range(2):
        answer(model)
    assert "cookie" not in upstream.requests[1].headers


def test_an_idle_connection_that_the_provider_resets_makes_no_noise(
    model: LanguageModel, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.script(Response([event("Hi"), event(FINISH), Raw(b"0\r\n\r\n"), Pause(0.1), Reset()]))
    assert Finish("stop") in answer(model)
    upstream.until(lambda: upstream.connections == 0)
    assert Finish("stop") in answer(model)
    del model
    run(asyncio.sleep(0.05))
    assert loop().is_running()
    assert not [record for record in caplog.records if record.name == "asyncio"]
