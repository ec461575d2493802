"""What every `LanguageModel` keeps: the scripted provider behind the OpenAI adapter, and the offline stand-in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import pytest
import uvloop

from service.backends.interfaces import (
    Delta,
    Finish,
    LanguageModel,
    Message,
    ModelEvent,
    ModelRequest,
    OutputSchema,
    Usage,
)
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.stand_in import StandInModel
from service.backends.openai import OpenAIModel, VertexModel
from service.config import Settings
from service.models import Passage
from tests.kit.loop import Stream, events, run
from tests.kit.models import Reader
from tests.kit.upstream import Answer, Upstream
from tests.kit.vertex_models import VertexModels

PASSAGE = Passage(document="d", chunk=0, title="Foxes", text="The red fox sleeps in the wood. It hunts at night.")
REQUEST = ModelRequest(
    model="",
    messages=(Message("system", "Be brief."), Message("user", "Where does the red fox sleep?")),
    question="Where does the red fox sleep?",
    passages=(PASSAGE,),
)


SLOW = Answer([f"word{n} " for n in range(300)], pause=0.2)


@dataclass(frozen=True)
class Models:
    """The same model twice: one that answers at once, and one that takes long."""

    quick: LanguageModel
    slow: LanguageModel


@pytest.fixture(params=["openai", "google", "stand-in"])
def models(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Models]:
    if request.param == "stand-in":
        secrets = EnvironmentSecrets(settings)
        yield Models(
            StandInModel(settings, secrets), StandInModel(replace(settings, stand_in_words_per_second=5), secrets)
        )
        return
    if request.param == "google":
        with VertexModels() as quick, VertexModels() as slow:
            slow.always(SLOW)
            chosen = [server.settings for server in (quick, slow)]
            yield Models(*(VertexModel(settings, EnvironmentSecrets(settings)) for settings in chosen))
        return
    with Upstream() as quick, Upstream() as slow:
        slow.always(SLOW)
        chosen = [replace(settings, openai_base_url=upstream.url) for upstream in (quick, slow)]
        yield Models(*(OpenAIModel(settings, EnvironmentSecrets(settings)) for settings in chosen))


def test_a_model_has_a_name(models: Models) -> None:
    assert models.quick.name


def test_an_answer_is_text_then_its_end_and_its_usage(models: Models) -> None:
    *deltas, last, usage = events(models.quick.stream(REQUEST))
    assert deltas
    assert all(isinstance(delta, Delta) and delta.text for delta in deltas)
    assert last == Finish("stop")
    assert isinstance(usage, Usage)
    assert usage.input_tokens > 0
    assert usage.output_tokens > 0


def test_a_request_with_a_schema_is_answered_to_its_end(models: Models) -> None:
    schema = OutputSchema(
        "risk", '{"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}', False
    )
    *deltas, last, usage = events(models.quick.stream(replace(REQUEST, schema=schema)))
    assert deltas
    assert last == Finish("stop")
    assert isinstance(usage, Usage)


def test_an_answer_comes_in_pieces_before_it_is_whole(models: Models) -> None:
    told = events(models.slow.stream(REQUEST))
    began = time.monotonic()
    assert isinstance(next(told), Delta)
    assert time.monotonic() - began < 5
    told.close()


def test_to_cancel_who_reads_ends_an_answer(models: Models) -> None:
    reader = Reader(models.slow.stream(REQUEST))
    wait_for(lambda: bool(reader.events))
    reader.close()
    reader.join(1)
    assert reader.ended
    assert not any(isinstance(event, Finish) for event in reader.events)


@pytest.mark.parametrize("when", ["before it is read", "in its midst", "after it was read"])
def test_close_may_come_at_any_time_and_twice(models: Models, when: str) -> None:
    stream = models.quick.stream(REQUEST)
    told = list(islice(events(stream), {"before": 0, "in": 1, "after": None}[when.split()[0]]))
    run(stream.aclose())
    run(stream.aclose())
    assert bool(told) == (not when.startswith("before"))
    assert list(events(stream)) == []
    assert Finish("stop") in list(events(models.quick.stream(REQUEST)))


def test_to_end_one_answer_leaves_the_others_alone(models: Models) -> None:
    closed, kept = Reader(models.slow.stream(REQUEST)), Reader(models.slow.stream(REQUEST))
    wait_for(lambda: bool(closed.events and kept.events))
    closed.close()
    closed.join(1)
    count = len(kept.events)
    wait_for(lambda: len(kept.events) > count)
    assert not kept.ended
    kept.close()
    kept.join(1)


def test_many_answers_come_at_once(models: Models) -> None:
    async def whole(stream: Stream) -> list[ModelEvent]:
        return [event async for together in stream for event in together]

    async def together() -> list[list[ModelEvent]]:
        return await asyncio.gather(*(whole(models.quick.stream(REQUEST)) for _ in range(200)))

    assert all(Finish("stop") in told for told in run(together()))


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_an_answer_comes_on_any_loop_and_leaves_nothing_behind(models: Models, kind: str) -> None:
    async def whole() -> list[ModelEvent]:
        return [event async for together in models.quick.stream(REQUEST) for event in together]

    new = uvloop.new_event_loop if kind == "uvloop" else asyncio.new_event_loop
    for _ in range(2):
        with asyncio.Runner(loop_factory=new) as runner:
            assert Finish("stop") in runner.run(whole())


def test_check_passes_for_a_model_that_can_answer(models: Models) -> None:
    models.quick.check()


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)
