"""What the tests of the OpenAI adapters share: a request, settings, and ways to read an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, wait

from service.backends.interfaces import (
    Delta,
    Embedder,
    Finish,
    LanguageModel,
    Message,
    ModelEvent,
    ModelRequest,
)
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.openai import OpenAIEmbedder, OpenAIModel
from service.config import Settings
from service.errors import (
    BrainstemError,
)
from tests.kit.loop import Stream, begin, events
from tests.kit.upstream import (
    Upstream,
)

KEY = "sk-canary-OWN-KEY-4711"
PROMPT = "canary-prompt-0815"
REQUEST = ModelRequest(model="gpt-5-mini", messages=(Message("user", PROMPT),), question=PROMPT)


def impatient(upstream: Upstream) -> Settings:
    """Settings for the scripted provider, with which no test waits long."""
    return Settings(
        openai_base_url=upstream.url,
        openai_api_key=KEY,
        connect_seconds=0.3,
        first_byte_seconds=1.5,
        idle_seconds=0.3,
    )


def model_of(settings: Settings) -> LanguageModel:
    return OpenAIModel(settings, EnvironmentSecrets(settings))


def embedder_of(settings: Settings) -> Embedder:
    return OpenAIEmbedder(settings, EnvironmentSecrets(settings))


def answer(model: LanguageModel, request: ModelRequest = REQUEST) -> list[ModelEvent]:
    return list(events(model.stream(request)))


def text(told: list[ModelEvent]) -> str:
    return "".join(event.text for event in told if isinstance(event, Delta))


def broken(model: LanguageModel) -> tuple[str, BrainstemError]:
    """Return the text that came of an answer, and the error that it ended with."""
    came: list[ModelEvent] = []
    try:
        for event in events(model.stream(REQUEST)):
            came.append(event)
    except BrainstemError as error:
        assert not any(isinstance(event, Finish) for event in came)
        return text(came), error
    raise AssertionError("the answer did not break off")


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.005)


class Reader:
    """Reads an answer on the loop, as the service does, until it ends or is closed."""

    def __init__(self, stream: Stream) -> None:
        self.events: list[ModelEvent] = []
        self.errors: list[BaseException] = []
        self.task: Future[None] = begin(self.read(stream))

    async def read(self, stream: Stream) -> None:
        try:
            async for together in stream:
                self.events.extend(together)
        except asyncio.CancelledError:
            raise
        except BaseException as exc:  # noqa: BLE001  # the test looks at it
            self.errors.append(exc)

    def close(self) -> None:
        """Cancel whoever reads, which ends the call."""
        self.task.cancel()

    def join(self, seconds: float) -> None:
        wait([self.task], seconds)

    @property
    def ended(self) -> bool:
        return self.task.done()

    def assert_ends(self, upstream: Upstream) -> None:
        began = time.monotonic()
        self.close()
        assert time.monotonic() - began < 0.2
        upstream.until(lambda: upstream.connections == 0, seconds=1)
        self.join(1)
        assert self.ended
        assert not self.errors
