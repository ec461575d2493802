"""The language model of an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from service.backends.interfaces import Finish, ModelEvent, ModelRequest, Secrets
from service.backends.openai.calls import Call
from service.backends.openai.events import Decoder
from service.backends.openai.provider import Provider
from service.config import Settings
from service.errors import DeadlineExceeded, UpstreamInterrupted

if TYPE_CHECKING:
    import httpx2
    import openai

# OpenAI's newer models know only the first, most other servers only the second.
LIMITS = ("max_completion_tokens", "max_tokens")
# Once the model has ended there is only its usage to wait for, and after `[DONE]` only the end of the body.
USAGE_SECONDS = 3.0
END_SECONDS = 0.2


class OpenAIModel:
    """Streams chat completions. What a server once refused to know (`stream_options`, say) it is not asked for again."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self.name = settings.chat_model
        self._settings = settings
        self._provider = Provider(settings, secrets)
        self._refused: frozenset[str] = frozenset()

    def stream(self, request: ModelRequest) -> ChatStream:
        """Return the answer to come; the call is made when it is iterated, so that it can be closed from the start."""
        return ChatStream(self, request, self._settings)

    def check(self) -> None:
        self._provider.check()

    def open(self, call: Call, request: ModelRequest, stack: ExitStack) -> httpx2.Response:
        """Make the call and return its response, unread; raises the SDK's errors."""
        from service.backends.openai.failures import FAILURES, Retries, refused_option

        def enter(sdk: openai.OpenAI) -> httpx2.Response:
            create = sdk.chat.completions.with_streaming_response.create
            response: httpx2.Response = stack.enter_context(create(**self.arguments(request))).http_response
            return response

        retries = Retries(times=2, seconds=self._settings.first_byte_seconds, longest=3.0)
        while True:
            try:
                return self._provider.send(call, enter, retries)
            except FAILURES as exc:
                option = refused_option(exc, self.dispensable)
                if option is None:
                    raise
                self._refused |= {option}

    @property
    def dispensable(self) -> set[str]:
        """The options that a request can do without, or with another one; an answer is never asked for without a limit."""
        return {"stream_options"} - self._refused | (set() if self._refused & set(LIMITS) else set(LIMITS))

    def arguments(self, request: ModelRequest) -> dict[str, Any]:
        limits = LIMITS if self._provider.is_openai else LIMITS[::-1]
        arguments: dict[str, Any] = {
            "model": request.model or self.name,
            "messages": [],
            # What is given here is sent as it is; as an argument, each message would first be walked through for 0.2 ms.
            "extra_body": {"messages": [{"role": told.role, "content": told.content} for told in request.messages]},
            next(limit for limit in limits if limit not in self._refused): request.max_output_tokens,
            "stream": True,
        }
        if "stream_options" not in self._refused:
            arguments["stream_options"] = {"include_usage": True}
        if request.temperature is not None:
            arguments["temperature"] = request.temperature
        return arguments


class ChatStream:
    """One answer. Until its first text it has `first_byte_seconds` from one event to the next, then `idle_seconds`."""

    def __init__(self, model: OpenAIModel, request: ModelRequest, settings: Settings) -> None:
        self._model = model
        self._request = request
        self._settings = settings
        self._call = Call(settings.first_byte_seconds)
        self._begun = False

    def __iter__(self) -> Iterator[ModelEvent]:
        """Make the call and yield what comes; there is nothing to iterate a second time."""
        if self._begun:
            return iter(())
        self._begun = True
        return self._run()

    def close(self) -> None:
        self._call.close()

    def _run(self) -> Iterator[ModelEvent]:
        from service.backends.openai.failures import FAILURES

        decoder = Decoder()
        try:
            yield from self._read(decoder)
        except FAILURES as exc:
            yield from self._break(exc, decoder)

    def _read(self, decoder: Decoder) -> Iterator[ModelEvent]:
        self._call.allow(self._settings.first_byte_seconds)
        with ExitStack() as stack:
            for data in self._model.open(self._call, self._request, stack).iter_raw():
                chunks = decoder.chunks
                yield from decoder.feed(data)
                # The time that whoever reads us takes is not the provider's, so it counts from here.
                if decoder.chunks > chunks or decoder.done:
                    self._call.allow(self._patience(decoder))
        yield from decoder.end()

    def _patience(self, decoder: Decoder) -> float:
        if decoder.done:
            return END_SECONDS
        if decoder.finished:
            return USAGE_SECONDS
        return self._settings.idle_seconds if decoder.begun else self._settings.first_byte_seconds

    def _break(self, exc: Exception, decoder: Decoder) -> Iterator[ModelEvent]:
        """What a failure leaves to tell: nothing once the call is closed, no error once the model has ended."""
        from service.backends.openai.failures import filtered, mapped

        if self._call.ended.is_set():
            return
        if filtered(exc):
            yield Finish("content_filter")
        if decoder.usage:
            yield decoder.usage
        if decoder.finished or filtered(exc):
            return
        error = mapped(exc, eof=self._call.eof)
        if decoder.begun and isinstance(error, DeadlineExceeded):
            raise UpstreamInterrupted("The model's provider fell silent in the midst of the answer.") from None
        raise error from None
