"""The language model of an OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from service.backends.interfaces import Finish, ModelEvent, ModelRequest, OutputSchema, Secrets
from service.backends.openai.endpoint import Endpoint, Key, StoredKey
from service.backends.openai.events import Decoder
from service.backends.openai.refusals import Retries
from service.config import Settings
from service.errors import BrainstemError, DeadlineExceeded, UpstreamInterrupted

if TYPE_CHECKING:
    from service.backends.openai.client import Call, Client

# OpenAI's newer models know only the first, most other servers only the second.
LIMITS = ("max_completion_tokens", "max_tokens")
# Once the model has ended there is only its usage to wait for, and after `[DONE]` only the end of the body.
USAGE_SECONDS = 3.0
END_SECONDS = 0.2


class OpenAIModel:
    """Streams chat completions. What a server once refused to know (`stream_options`, say) it is not asked for again."""

    def __init__(self, settings: Settings, secrets: Secrets, *, key: Key | None = None) -> None:
        self.name = settings.chat_model
        self._settings = settings
        self._endpoint = Endpoint(settings, key or StoredKey(settings, secrets))
        self._refused: frozenset[str] = frozenset()
        self._unstructured: frozenset[tuple[str, OutputSchema]] = frozenset()
        self._lock = threading.Lock()
        self._client: Client | None = None

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent], None]:
        """Until its first text an answer has `first_byte_seconds` from one event to the next, then `idle_seconds`."""
        client = self._client
        if client is None:
            client = await asyncio.to_thread(self._build)
        from service.backends.openai.client import FAILURES, Call

        call, decoder = Call(client, self._settings.first_byte_seconds), Decoder()
        try:
            await self._open(call, request)
            while data := await call.read():
                chunks = decoder.chunks
                if events := decoder.feed(data):
                    yield events
                    if decoder.error:
                        raise decoder.error
                # The time that whoever reads us takes is not the provider's, so it counts from here.
                if decoder.chunks > chunks or decoder.done:
                    call.allow(self._patience(decoder))
            if events := decoder.end():
                yield events
                if decoder.error:
                    raise decoder.error
        except FAILURES as exc:
            events, error = self._broken(exc, decoder)
            if events:
                yield events
            if error:
                raise error from None
        finally:
            call.close()

    def check(self) -> None:
        """As the endpoint is checked; and what the first answer would have to import is there from then on."""
        self._endpoint.check()
        self._build()

    @property
    def dispensable(self) -> set[str]:
        """The options that a request can do without, or with another one; an answer is never asked for without a limit."""
        return {"stream_options"} - self._refused | (set() if self._refused & set(LIMITS) else set(LIMITS))

    def arguments(self, request: ModelRequest) -> dict[str, Any]:
        limits = LIMITS if self._endpoint.is_openai else LIMITS[::-1]
        arguments: dict[str, Any] = {
            "model": request.model or self.name,
            "messages": request.messages,
            next(limit for limit in limits if limit not in self._refused): request.max_output_tokens,
            "stream": True,
        }
        if "stream_options" not in self._refused:
            arguments["stream_options"] = {"include_usage": True}
        if request.temperature is not None:
            arguments["temperature"] = request.temperature
        if request.schema:
            arguments["response_format"] = response_format(request.schema)
        return arguments

    def told(self, error: BrainstemError) -> BrainstemError:
        """Return an error in the words of this endpoint's settings."""
        return error

    async def _open(self, call: Call, request: ModelRequest) -> None:
        """Make the call, without the options that are refused."""
        from service.backends.openai.client import Refused

        retries = Retries(times=2, seconds=self._settings.first_byte_seconds, longest=3.0)
        key = self._endpoint.key.at_hand()
        if key is None:
            key = await asyncio.to_thread(self._endpoint.key.get)
        refused = None
        if request.schema and (request.model, request.schema) in self._unstructured:
            request = replace(request, schema=None)
        while True:
            try:
                await call.open(msgspec.json.encode(self.arguments(request)), key, retries)
                break
            except Refused as exc:
                if option := exc.refusal.option(self.dispensable):
                    self._refused |= {option}
                elif request.schema and exc.refusal.unstructured:
                    refused, request = request.schema, replace(request, schema=None)
                else:
                    raise
        if refused:
            # Of another model, or another schema, it may take it.
            self._unstructured |= {(request.model, refused)}

    def _build(self) -> Client:
        from service.backends.openai.client import Client

        with self._lock:
            if self._client is None:
                self._client = Client(
                    f"{self._endpoint.url.rstrip('/')}/chat/completions", self._endpoint.connect_seconds
                )
            return self._client

    def _patience(self, decoder: Decoder) -> float:
        if decoder.done:
            return END_SECONDS
        if decoder.finished:
            return USAGE_SECONDS
        return self._settings.idle_seconds if decoder.begun else self._settings.first_byte_seconds

    def _broken(self, exc: Exception, decoder: Decoder) -> tuple[list[ModelEvent], BrainstemError | None]:
        """What a failure leaves to tell, and the error that it is: none once the model has ended."""
        from service.backends.openai.client import Refused, mapped

        filtered = isinstance(exc, Refused) and exc.refusal.filtered
        events: list[ModelEvent] = [Finish("content_filter")] if filtered else []
        if decoder.usage:
            events.append(decoder.usage)
        if decoder.finished or filtered:
            return events, None
        error = mapped(exc)
        if decoder.begun and isinstance(error, DeadlineExceeded):
            error = UpstreamInterrupted("The model's provider fell silent in the midst of the answer.")
        return events, self.told(error)


def response_format(schema: OutputSchema) -> dict[str, Any]:
    """Source: "Structured model outputs" in OpenAI's documentation."""
    told = {"name": schema.name, "schema": msgspec.Raw(schema.text.encode()), "strict": schema.strict}
    return {"type": "json_schema", "json_schema": told}
