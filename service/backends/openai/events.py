"""The stream of a chat completion, bytes in and events out, without I/O.

The form is that of https://platform.openai.com/docs/api-reference/chat-streaming, read as widely as compatible servers differ and no
wider: what breaks it is `UpstreamProtocol`, and memory is bounded whatever comes.
"""

from __future__ import annotations

import re
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


BLANK = (b"", b"\r")

decode = msgspec.json.Decoder(Chunk).decode


class Decoder:
    """Turns the body of a streamed completion into events; `begun` once there was text, `finished` once the model ended.

    Usage is given once, at the end, for some servers count anew in every chunk. Where a piece of the body holds events and what
    breaks them off, the events are returned and `error` tells of the break; where it holds the break alone, that is raised.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._characters = 0
        self.usage: Usage | None = None
        self.error: BrainstemError | None = None
        self.chunks = 0
        self.begun = False
        self.finished = False
        self.done = False

    def feed(self, data: bytes) -> list[ModelEvent]:
        """Return the events that a piece of the body completes."""
        whole = self._rest + data if self._rest else data
        *lines, self._rest = whole.split(b"\n")
        events: list[ModelEvent] = []
        try:
            # Only what is long as a whole can hold a line that is too long.
            if len(whole) > MAX_LINE_BYTES and max(map(len, [*lines, self._rest])) > MAX_LINE_BYTES:
                raise UpstreamProtocol("The model's provider sent a line that is too long.")
            for line in lines:
                if line.startswith(b"data:"):
                    self._data.append(line[5:])
                elif self._data and line in BLANK:
                    self._event(events)
        except BrainstemError as exc:
            self._break(exc, events)
        return events

    def end(self) -> list[ModelEvent]:
        """Return what is left when the body has ended; one without a single chunk was no stream of a completion."""
        events: list[ModelEvent] = []
        try:
            if self._data:
                self._event(events)
            if not self.chunks:
                raise UpstreamProtocol("The model's provider answered with something else than a stream of events.")
            if self.usage:
                events.append(self.usage)
        except BrainstemError as exc:
            self._break(exc, events)
        return events

    def _break(self, error: BrainstemError, events: list[ModelEvent]) -> None:
        if not events:
            raise error
        self.error = error

    def _event(self, events: list[ModelEvent]) -> None:
        # What surrounds it, a space or the `\r` of a line's end, is white space to JSON as well.
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        if self.done:
            return
        try:
            chunk = decode(data)
        except (ValueError, RecursionError):
            if data.strip() == b"[DONE]":
                self.done = True
                return
            # The text of the error would quote the provider's.
            raise UpstreamProtocol("The model's provider sent an event that cannot be read.") from None
        self.chunks += 1
        if chunk.error is not None or chunk.object == "error":
            raise failure(chunk)
        if chunk.usage:
            self.usage = counted(chunk.usage)
        for choice in chunk.choices or ():
            if not choice.index and not self.finished:
                self._choice(choice, events)

    def _choice(self, choice: Choice, events: list[ModelEvent]) -> None:
        text = choice.delta.text if choice.delta else ""
        if text:
            self._characters += len(text)
            if self._characters > MAX_ANSWER_CHARACTERS:
                raise UpstreamProtocol("The model's provider sent an answer that is too long.")
            self.begun = True
            events.append(Delta(text))
        if choice.finish_reason:
            events.append(Finish(reason(choice.finish_reason)))
            self.finished = True


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
