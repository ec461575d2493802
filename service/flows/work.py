"""One run of a flow on the event loop: its sources, at most two calls to the model, and one commit of the result with what it cost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

from service import logging as log
from service.apps import Flow
from service.backends.interfaces import DocumentStore, LanguageModel, Message, ModelRequest, OutputSchema, Write
from service.errors import (
    BrainstemError,
    ContextTooLong,
    DeadlineExceeded,
    DependencyError,
    InvalidOutput,
    StoreError,
    UpstreamInterrupted,
)
from service.flows.asking import Asking
from service.flows.prompt import again, messages_of, read_output
from service.flows.runs import Begun, call_id
from service.flows.sources import Reading
from service.json_schema import Fault
from service.loop import Loop
from service.models import JSON, Call, FlowResult, Rate, Scope
from service.tokenizer import count_tokens
from service.usage import ledger_write

Outcome = FlowResult | BrainstemError
Keep = Callable[[Outcome | None, Sequence[Call]], None]
"""Commits the calls of a run with whatever belongs to its outcome; None is one that goes on."""

ASKED_AT_MOST = 2
SAVE_TRIES = 4
SAVE_PAUSE_SECONDS = 0.25

Readings = Mapping[str, Reading]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What goes into the commit that ends a run, besides its calls.

    `writes` makes it; `stored` tells whether it is there already, after a commit whose reply was lost; `lock` is held meanwhile.
    With `keep`, the calls are committed by that.
    """

    keep: Keep | None = None
    writes: Callable[[Outcome], Sequence[Write]] = lambda outcome: ()
    stored: Callable[[], bool] = lambda: False
    lock: AbstractContextManager[object] = field(default_factory=nullcontext)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A run that nothing refused. `rate` is what its model costs. `run` begins the ledger ids of its calls; `begun` is there if it has a key.

    Its prompt is made once its sources are read: `readings`, or None if they are to be asked yet.
    """

    scope: Scope
    flow: Flow
    given: Mapping[str, JSON]
    budget: int
    readings: Readings | None
    model: str
    rate: Rate
    run: str
    request_id: str
    job: str | None = None
    keeping: Keeping = field(default_factory=Keeping)
    begun: Begun | None = None


class Work:
    """One run, on the event loop."""

    def __init__(
        self,
        prepared: Prepared,
        documents: DocumentStore,
        model: LanguageModel,
        reading: Callable[[Flow, Mapping[str, JSON]], Awaitable[Readings]],
        loop: Loop,
        seconds: float,
    ) -> None:
        self._prepared = prepared
        self._documents = documents
        self._model = model
        self._reading = reading
        self._loop = loop
        self._seconds = seconds
        self._asked: list[Asking] = []

    async def run(self) -> FlowResult:
        """Ask, and commit what came of it; raises `DependencyError`, `ContextTooLong` and `Conflict`."""
        outcome: Outcome
        try:
            async with asyncio.timeout(self._seconds):
                outcome = self._result(await self._output())
        except TimeoutError:
            outcome = DeadlineExceeded("The flow took too long.")
        except BrainstemError as error:
            outcome = error
        except asyncio.CancelledError:
            self._loop.saving.submit(self._save, UpstreamInterrupted())
            raise
        await self._loop.aside(partial(self._save, outcome))
        if isinstance(outcome, BrainstemError):
            raise outcome
        return outcome

    async def _output(self) -> dict[str, JSON]:
        messages = await self._messages()
        faults: list[Fault] = []
        for number in range(1, ASKED_AT_MOST + 1):
            asking = await self._ask(messages, number)
            value, faults = await self._loop.aside(partial(self._read, asking))
            asking.outcome = "invalid" if faults else "completed"
            asking.log_call(self._prepared.scope.app)
            if not faults:
                assert isinstance(value, dict)
                return value
            if number < ASKED_AT_MOST:
                # Before another call is paid, this one is on record.
                await self._loop.aside(partial(self._commit, None))
                messages = again(messages, asking.text, faults)
        raise InvalidOutput(f"The model was asked twice. In its last answer, {faults[0].path} {faults[0].problem}.")

    async def _messages(self) -> tuple[Message, ...]:
        """The prompt, for which the sources are asked if they were not yet."""
        prepared = self._prepared
        readings = prepared.readings
        if readings is None:
            readings = await self._reading(prepared.flow, prepared.given)
        messages = messages_of(prepared.flow, prepared.given, readings)
        check_budget(messages, prepared.budget)
        return messages

    async def _ask(self, messages: tuple[Message, ...], number: int) -> Asking:
        prepared = self._prepared
        request = self._request(messages)
        name, call = prepared.flow.name, call_id(prepared.run, number)
        asking = Asking(request, prepared.rate, call, name, prepared.request_id, prepared.job)
        self._asked.append(asking)
        try:
            await asking.ask(self._model)
        except BaseException:
            asking.log_call(prepared.scope.app)
            raise
        return asking

    def _read(self, asking: Asking) -> tuple[JSON, list[Fault]]:
        flow = self._prepared.flow
        if asking.finish == "length":
            limit = flow.model.max_output_tokens
            return None, [Fault("$", f"was cut off, for it may have {limit} tokens: it must be shorter")]
        return read_output(flow, asking.text)

    def _request(self, messages: tuple[Message, ...]) -> ModelRequest:
        flow = self._prepared.flow
        return ModelRequest(
            model=self._prepared.model,
            messages=messages,
            question=messages[-1].content,
            max_output_tokens=flow.model.max_output_tokens,
            temperature=flow.model.temperature,
            schema=OutputSchema(flow.name, flow.output.text, flow.output.strict),
        )

    def _result(self, output: dict[str, JSON]) -> FlowResult:
        rows = self._calls()
        return FlowResult(
            output=output,
            model=self._prepared.model,
            calls=len(rows),
            input_tokens=sum(row.input_tokens for row in rows),
            output_tokens=sum(row.output_tokens for row in rows),
            estimated=any(row.estimated for row in rows),
        )

    def _save(self, outcome: Outcome) -> None:
        """Commit the end with its calls, again for a second if the store cannot be reached, for it was paid.

        Raises `Unavailable` if a result could not be kept, and `StoreError` if others ended the run; its calls are recorded then.
        """
        keeping, scope = self._prepared.keeping, self._prepared.scope
        with keeping.lock:
            try:
                self._commit(outcome, keeping.writes(outcome))
            except StoreError:
                if keeping.stored():
                    return
                stubbornly(self._write)
                raise
            except DependencyError as failure:
                log.event("flow_not_saved", logging.ERROR, failure, app=scope.app, request=self._prepared.request_id)
                if isinstance(outcome, FlowResult):
                    raise

    def _commit(self, outcome: Outcome | None, writes: Sequence[Write] = ()) -> None:
        """Write the calls so far, with what belongs to the outcome."""
        keep = self._prepared.keeping.keep
        stubbornly(partial(keep, outcome, self._calls()) if keep else partial(self._write, writes))

    def _write(self, writes: Sequence[Write] = ()) -> None:
        if together := [*writes, *map(ledger_write, self._calls())]:
            self._documents.commit(self._prepared.scope, together)

    def _calls(self) -> list[Call]:
        return [asking.row() for asking in self._asked]


def stubbornly(commit: Callable[[], None]) -> None:
    """Commit what was paid, again for a second if the store cannot be reached."""
    for attempt in range(1, SAVE_TRIES + 1):
        try:
            commit()
            return
        except DependencyError:
            if attempt == SAVE_TRIES:
                raise
            time.sleep(SAVE_PAUSE_SECONDS * attempt)


def check_budget(messages: Sequence[Message], budget: int) -> int:
    """Return how many tokens a prompt has; raises `ContextTooLong` if these are more than its budget."""
    tokens = sum(count_tokens(message.content) for message in messages)
    if tokens > budget:
        raise ContextTooLong("The input is longer than this app's prompt may be. Send less.")
    return tokens
