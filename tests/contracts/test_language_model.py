"""What every `LanguageModel` keeps: the scripted provider behind the OpenAI adapter, and the offline stand-in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest

from service.backends.interfaces import (
    Delta,
    Finish,
    LanguageModel,
    Message,
    ModelEvent,
    ModelRequest,
    ModelStream,
    Usage,
)
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.stand_in import StandInModel
from service.backends.openai import OpenAIModel, VertexModel
from service.config import Settings
from service.models import Passage
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


@dataclass
class Reader:
    """Reads a stream in a thread of its own, and notes when the first event came."""

    stream: ModelStream

    def __post_init__(self) -> None:
        self.events: list[ModelEvent] = []
        self.began = threading.Event()
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        for event in self.stream:
            self.events.append(event)
            self.began.set()


def test_a_model_has_a_name(models: Models) -> None:
    assert models.quick.name


def test_an_answer_is_text_then_its_end_and_its_usage(models: Models) -> None:
    *deltas, last, usage = models.quick.stream(REQUEST)
    assert deltas
    assert all(isinstance(delta, Delta) and delta.text for delta in deltas)
    assert last == Finish("stop")
    assert isinstance(usage, Usage)
    assert usage.input_tokens > 0
    assert usage.output_tokens > 0


def test_an_answer_comes_in_pieces_before_it_is_whole(models: Models) -> None:
    stream = models.slow.stream(REQUEST)
    began = time.monotonic()
    assert isinstance(next(iter(stream)), Delta)
    assert time.monotonic() - began < 5
    stream.close()


def test_close_ends_an_answer_from_another_thread(models: Models) -> None:
    reader = Reader(models.slow.stream(REQUEST))
    assert reader.began.wait(5)
    reader.stream.close()
    reader.thread.join(1)
    assert not reader.thread.is_alive()
    assert not any(isinstance(event, Finish) for event in reader.events)


@pytest.mark.parametrize("when", ["before it is read", "after it was read"])
def test_close_may_come_at_any_time_and_twice(models: Models, when: str) -> None:
    stream = models.quick.stream(REQUEST)
    events = list(stream) if when.startswith("after") else []
    stream.close()
    stream.close()
    assert list(stream) == [] or events
    assert Finish("stop") in list(models.quick.stream(REQUEST))


def test_to_close_one_answer_leaves_the_others_alone(models: Models) -> None:
    closed, kept = Reader(models.slow.stream(REQUEST)), Reader(models.slow.stream(REQUEST))
    assert closed.began.wait(5)
    assert kept.began.wait(5)
    closed.stream.close()
    closed.thread.join(1)
    count = len(kept.events)
    wait_for(lambda: len(kept.events) > count)
    assert kept.thread.is_alive()
    kept.stream.close()
    kept.thread.join(1)


def test_many_threads_may_ask_at_once(models: Models) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: [*models.quick.stream(REQUEST)], range(32)))
    assert all(Finish("stop") in events for events in answers)


def test_check_passes_for_a_model_that_can_answer(models: Models) -> None:
    models.quick.check()


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)
