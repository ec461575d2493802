"""Runs flows: what may refuse first, then the model on the event loop, then one commit of the result with what it cost."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial

from service import logging as log
from service.apps import App, Flow
from service.backends.interfaces import DocumentStore, LanguageModel, Message, ModelRequest, OutputSchema, Write
from service.errors import (
    BrainstemError,
    Conflict,
    ContextTooLong,
    DeadlineExceeded,
    DependencyError,
    InvalidInput,
    InvalidOutput,
    NotFound,
    StoreError,
    UpstreamInterrupted,
)
from service.flows.asking import Asking
from service.flows.prompt import again, messages_of, read_output
from service.flows.runs import Begun, KeptRun, Runs, call_id, new_run
from service.json_schema import Fault
from service.loop import Loop
from service.models import JSON, FlowResult, Scope, TurnError
from service.records import from_text
from service.tokenizer import count_tokens
from service.usage import ledger_write

Outcome = FlowResult | BrainstemError

ASKED_AT_MOST = 2
FOLLOW_SECONDS = 0.25
SAVE_TRIES = 4
SAVE_PAUSE_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What goes into the commit that ends a run, besides its calls.

    `writes` makes it; `stored` tells whether it is there already, after a commit whose reply was lost; `lock` is held meanwhile.
    """

    writes: Callable[[Outcome], Sequence[Write]] = lambda outcome: ()
    stored: Callable[[], bool] = lambda: False
    lock: AbstractContextManager[object] = field(default_factory=nullcontext)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A run that nothing refused. `run` begins the ledger ids of its calls; `begun` is there if it has a key."""

    scope: Scope
    flow: Flow
    messages: tuple[Message, ...]
    model: str
    run: str
    request_id: str
    job: str | None = None
    keeping: Keeping = field(default_factory=Keeping)
    begun: Begun | None = None


class Flows:
    """The flows of apps. A run holds no thread while the model answers."""

    def __init__(
        self, documents: DocumentStore, model: LanguageModel, loop: Loop, *, seconds: float, lease_seconds: float
    ) -> None:
        self._documents = documents
        self._model = model
        self._loop = loop
        self._seconds = seconds
        self._runs = Runs(documents, lease_seconds)

    def prepare(
        self, scope: Scope, app: App, name: str, given: Mapping[str, JSON], request_id: str = "", key: str | None = None
    ) -> Prepared:
        """Check an input and compose the prompt; with a key, begin the run or find it.

        Raises `NotFound`, `InvalidInput`, `ContextTooLong`, and with a key what `Runs.begin` raises.
        """
        flow = app.flows.get(name)
        if flow is None:
            raise NotFound
        check_input(flow, given)
        messages = messages_of(flow, given)
        tokens = sum(count_tokens(message.content) for message in messages)
        if tokens > app.file.context.token_budget:
            raise ContextTooLong("The input is longer than this app's prompt may be. Send less.")
        model = flow.model.name or app.file.model.name or self._model.name
        begun = self._runs.begin(scope, new_run(name, key, given, model, tokens)) if key else None
        run = begun.run.run if begun else uuid.uuid4().hex
        return Prepared(
            scope=scope, flow=flow, messages=messages, model=model, run=run, request_id=request_id, begun=begun
        )

    def run(
        self,
        scope: Scope,
        app: App,
        name: str,
        given: Mapping[str, JSON],
        request_id: str = "",
        *,
        calls: str,
        job: str | None = None,
        keep: Callable[[Outcome], Sequence[Write]] = lambda outcome: (),
    ) -> FlowResult:
        """Run a flow and wait for it, in a thread of the caller's, which a job has.

        `calls` begins the ledger ids of its calls: another one for another attempt. `keep` says of the result, or of the error that it
        ended with, what is written in the same commit as the last of them; a `StoreError` of that leaves only the calls. Raises what
        `prepare` raises, `DependencyError`, and that `StoreError`.
        """
        prepared = self.prepare(scope, app, name, given, request_id)
        prepared = replace(prepared, run=calls, job=job, keeping=Keeping(writes=keep))
        return self._loop.submit(self._work(prepared).run()).result()

    async def answer(self, prepared: Prepared) -> FlowResult | TurnError:
        """Carry a run out, on the event loop; one that another request carries out is waited for, and so is its error.

        Raises `DependencyError`, `ContextTooLong` and `Conflict`. Cancelled, it ends the call at once and records what that cost.
        """
        if prepared.begun is None:
            return await self._work(prepared).run()
        begun = prepared.begun
        until = time.monotonic() + self._seconds
        while begun.version is None:
            if begun.run.result is not None:
                return from_text(FlowResult, begun.run.result)
            if begun.run.error is not None:
                return begun.run.error
            if time.monotonic() > until:
                raise Conflict("This request is still being answered. Try again.", retry_after=1)
            await asyncio.sleep(FOLLOW_SECONDS)
            begun = await self._loop.aside(partial(self._runs.look, prepared.scope, prepared.begun.new))
        return await self._hold(prepared, begun)

    async def _hold(self, prepared: Prepared, begun: Begun) -> FlowResult:
        """Carry out a run that others may repeat, and renew its lease meanwhile."""
        kept = self._runs.hold(prepared.scope, begun)
        keeping = Keeping(writes=kept.end, stored=kept.ended, lock=kept.lock)
        renewing = asyncio.create_task(self._renew(kept))
        try:
            return await self._work(replace(prepared, run=begun.run.run, keeping=keeping)).run()
        except StoreError:
            raise Conflict("A repeated request took this one's place. Send it again.", retry_after=1) from None
        finally:
            renewing.cancel()

    async def _renew(self, kept: KeptRun) -> None:
        # What others took over, the end of the run finds out.
        with suppress(StoreError):
            while True:
                await asyncio.sleep(self._runs.lease_seconds / 3)
                with suppress(DependencyError):
                    await self._loop.aside(kept.renew)

    def _work(self, prepared: Prepared) -> Work:
        return Work(prepared, self._documents, self._model, self._loop, self._seconds)


class Work:
    """One run, on the event loop."""

    def __init__(
        self, prepared: Prepared, documents: DocumentStore, model: LanguageModel, loop: Loop, seconds: float
    ) -> None:
        self._prepared = prepared
        self._documents = documents
        self._model = model
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
        messages = self._prepared.messages
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
                await self._loop.aside(partial(self._commit, self._rows()))
                messages = again(messages, asking.text, faults)
        raise InvalidOutput(f"The model was asked twice. In its last answer, {faults[0].path} {faults[0].problem}.")

    async def _ask(self, messages: tuple[Message, ...], number: int) -> Asking:
        prepared = self._prepared
        request = self._request(messages)
        asking = Asking(request, call_id(prepared.run, number), prepared.flow.name, prepared.request_id, prepared.job)
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
        rows = [asking.row() for asking in self._asked]
        return FlowResult(
            output=output,
            model=self._prepared.model,
            calls=len(rows),
            input_tokens=sum(row.input_tokens for row in rows),
            output_tokens=sum(row.output_tokens for row in rows),
            estimated=any(row.estimated for row in rows),
        )

    def _rows(self) -> list[Write]:
        return [ledger_write(asking.row()) for asking in self._asked]

    def _save(self, outcome: Outcome) -> None:
        """Commit the end with its calls, again for a second if the store cannot be reached, for it was paid.

        Raises `Unavailable` if a result could not be kept, and `StoreError` if others ended the run; its calls are recorded then.
        """
        keeping, scope = self._prepared.keeping, self._prepared.scope
        with keeping.lock:
            try:
                self._commit([*keeping.writes(outcome), *self._rows()])
            except StoreError:
                if keeping.stored():
                    return
                self._commit(self._rows())
                raise
            except DependencyError as failure:
                log.event("flow_not_saved", logging.ERROR, failure, app=scope.app, request=self._prepared.request_id)
                if isinstance(outcome, FlowResult):
                    raise

    def _commit(self, writes: Sequence[Write]) -> None:
        for attempt in range(1, SAVE_TRIES + 1):
            try:
                if writes:
                    self._documents.commit(self._prepared.scope, writes)
                return
            except DependencyError:
                if attempt == SAVE_TRIES:
                    raise
                time.sleep(SAVE_PAUSE_SECONDS * attempt)


def check_input(flow: Flow, given: Mapping[str, JSON]) -> None:
    faults = flow.input.faults(dict(given))
    if faults:
        told = "; ".join(f"{fault.path} {fault.problem}" for fault in faults[:3])
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise InvalidInput(f"{told}{more}.", [(fault.path, fault.problem) for fault in faults])
