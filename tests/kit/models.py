"""What the tests of the OpenAI adapters share: a request, settings, and ways to read an answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from service.backends.interfaces import (
    Delta,
    Embedder,
    Finish,
    LanguageModel,
    Message,
    ModelEvent,
    ModelRequest,
    ModelStream,
)
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.openai import OpenAIEmbedder, OpenAIModel
from service.config import Settings
from service.errors import (
    BrainstemError,
)
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
    return list(model.stream(request))


def text(events: list[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def broken(model: LanguageModel) -> tuple[str, BrainstemError]:
    """Return the text that came of an answer, and the error that it ended with."""
    came: list[ModelEvent] = []
    try:
        for event in model.stream(REQUEST):
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


@dataclass
class Reader:
    """Reads an answer in a thread of its own, as the service does."""

    stream: ModelStream
    events: list[ModelEvent] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        try:
            self.events.extend(self.stream)
        except BaseException as exc:  # noqa: BLE001  # the test looks at it
            self.errors.append(exc)

    def assert_ends(self, upstream: Upstream) -> None:
        began = time.monotonic()
        self.stream.close()
        assert time.monotonic() - began < 0.2
        upstream.until(lambda: upstream.connections == 0, seconds=1)
        self.thread.join(1)
        assert not self.thread.is_alive()
        assert not self.errors
