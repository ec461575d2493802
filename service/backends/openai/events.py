"""The stream of a chat completion, bytes in and events out, without I/O.

The form is that of https://platform.openai.com/docs/api-reference/chat-streaming, read as widely as compatible servers differ and no
wider: what breaks it is `UpstreamProtocol`, and memory is bounded whatever comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

import msgspec

from service.backends.interfaces import Delta, Finish, ModelEvent, Usage
from service.errors import BrainstemError, ContextTooLong, UpstreamBusy, UpstreamInterrupted, UpstreamProtocol

MAX_LINE_BYTES = 1_000_000
MAX_ANSWER_CHARACTERS = 2_000_000
BUSY = frozenset({"rate_limit_exceeded", "rate_limit_error", "insufficient_quota", "overloaded_error", "429", "503"})

Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]


class Part(msgspec.Struct):
    text: str | None = None


class Content(msgspec.Struct):
    content: str | list[Part] | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        """What a person is to read; where the model refuses, its refusal is the answer."""
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content)
        return self.content or self.refusal or ""


class Choice(msgspec.Struct):
    index: int | None = None
    delta: Content | None = None
    finish_reason: str | None = None


class CachedTokens(msgspec.Struct):
    cached_tokens: Count | None = None


class Counts(msgspec.Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: CachedTokens | None = None


class Failure(msgspec.Struct):
    code: str | int | None = None
    type: str | None = None


class Chunk(msgspec.Struct):
    """One event. Fields that are not listed are ignored; those that are must have the type that they are listed with."""

    choices: list[Choice] | None = None
    usage: Counts | None = None
    error: Failure | str | None = None
    object: str | None = None
    code: str | int | None = None


decode = msgspec.json.Decoder(Chunk).decode


class Lines:
    """Splits a body into its lines, none of which may be endless."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES or any(len(line) > MAX_LINE_BYTES for line in lines):
            raise UpstreamProtocol("The model's provider sent a line that is too long.")
        return lines


class Decoder:
    """Turns the body of a streamed completion into events; `begun` once there was text, `finished` once the model ended.

    Usage is given once, at the end, for some servers count anew in every chunk.
    """

    def __init__(self) -> None:
        self._lines = Lines()
        self._data: list[bytes] = []
        self.usage: Usage | None = None
        self._characters = 0
        self.chunks = 0
        self.begun = False
        self.finished = False
        self.done = False

    def feed(self, data: bytes) -> Iterator[ModelEvent]:
        for line in self._lines.feed(data):
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                yield from self._event()

    def end(self) -> Iterator[ModelEvent]:
        """What is left when the body has ended; a body without a single chunk was no stream of a completion."""
        if self._data:
            yield from self._event()
        if not self.chunks:
            raise UpstreamProtocol("The model's provider answered with something else than a stream of events.")
        if self.usage:
            yield self.usage

    def _event(self) -> Iterator[ModelEvent]:
        data, self._data = b"\n".join(self._data), []
        if self.done:
            return
        if data.strip() == b"[DONE]":
            self.done = True
            return
        try:
            chunk = decode(data)
        except (ValueError, RecursionError):
            # The text of the error would quote the provider's.
            raise UpstreamProtocol("The model's provider sent an event that cannot be read.") from None
        self.chunks += 1
        yield from self._chunk(chunk)

    def _chunk(self, chunk: Chunk) -> Iterator[ModelEvent]:
        if chunk.error is not None or chunk.object == "error":
            raise failure(chunk)
        if chunk.usage:
            self.usage = counted(chunk.usage)
        for choice in chunk.choices or ():
            if not choice.index and not self.finished:
                yield from self._choice(choice)

    def _choice(self, choice: Choice) -> Iterator[ModelEvent]:
        text = choice.delta.text if choice.delta else ""
        if text:
            self._characters += len(text)
            if self._characters > MAX_ANSWER_CHARACTERS:
                raise UpstreamProtocol("The model's provider sent an answer that is too long.")
            self.begun = True
            yield Delta(text)
        if choice.finish_reason:
            finish = Finish(reason(choice.finish_reason))
            self.finished = True
            yield finish


def reason(text: str) -> str:
    """Let an identifier through, as `stop` or `length`, and nothing else: it is stored and shown."""
    if not re.fullmatch(r"[A-Za-z_]{1,32}", text):
        raise UpstreamProtocol("The model's provider gave a finish reason that is none.")
    return text.lower()


def counted(counts: Counts) -> Usage:
    cached = counts.prompt_tokens_details.cached_tokens if counts.prompt_tokens_details else 0
    return Usage(counts.prompt_tokens or 0, counts.completion_tokens or 0, cached or 0)


def failure(chunk: Chunk) -> BrainstemError:
    """Tell what an error within the stream means, by its code and type alone."""
    error = chunk.error if isinstance(chunk.error, Failure) else Failure(code=chunk.code)
    codes = {str(error.code), str(error.type)}
    if "context_length_exceeded" in codes:
        return ContextTooLong("The chat is longer than the model can read.")
    if codes & BUSY:
        return UpstreamBusy("The model's provider is overloaded, or its quota is used up.")
    return UpstreamInterrupted("The model's provider reported an error in the midst of the answer.")
