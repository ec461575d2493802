"""Runs flows: what may refuse first, then the model on the event loop, then one commit of the result with what it cost."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial

from service.apps import App, Flow
from service.backends.interfaces import DocumentStore, LanguageModel
from service.errors import (
    Conflict,
    DependencyError,
    InvalidInput,
    NotFound,
    StoreError,
)
from service.flows.prompt import messages_of
from service.flows.runs import Begun, KeptRun, Runs, new_run
from service.flows.sources import Sources
from service.flows.work import Keep, Keeping, Prepared, Readings, Work, check_budget
from service.loop import Loop
from service.models import JSON, FlowResult, Scope, TurnError
from service.records import from_text

FOLLOW_SECONDS = 0.25
SOURCE_THREADS = 16
"""What waits for sources has threads of its own, so that it keeps nobody from the store."""


class Flows:
    """The flows of apps. A run holds no thread while the model answers."""

    def __init__(
        self,
        documents: DocumentStore,
        model: LanguageModel,
        sources: Sources,
        loop: Loop,
        *,
        seconds: float,
        lease_seconds: float,
    ) -> None:
        self._documents = documents
        self._model = model
        self._reading = partial(read_all, sources, ThreadPoolExecutor(SOURCE_THREADS, thread_name_prefix="source"))
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
        budget = app.file.context.token_budget
        tokens = check_budget(messages_of(flow, given, {}), budget)
        model = flow.model.name or app.file.model.name or self._model.name
        rate = app.rate(model)
        begun = self._runs.begin(scope, new_run(name, key, given, model, rate, tokens)) if key else None
        run = begun.run.run if begun else uuid.uuid4().hex
        return Prepared(
            scope=scope,
            flow=flow,
            given=given,
            budget=budget,
            readings=None if flow.sources else {},
            model=model,
            rate=rate,
            run=run,
            request_id=request_id,
            begun=begun,
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
        readings: Readings | None = None,
        keep: Keep | None = None,
        alive: Callable[[], bool] = lambda: True,
    ) -> FlowResult:
        """Run a flow and wait for it, in a thread of the caller's, which a job has.

        `calls` begins the ledger ids of its calls: another one for another attempt. `readings` are what its sources told, if they were
        asked before. `keep` commits the calls with what belongs to the outcome; a `StoreError` of that leaves only the calls. Once it
        is not `alive` any more, the call to the model is ended. Raises what `prepare` raises, `DependencyError`, and that `StoreError`.
        """
        prepared = self.prepare(scope, app, name, given, request_id)
        known = prepared.readings if readings is None else readings
        prepared = replace(prepared, run=calls, job=job, readings=known, keeping=Keeping(keep=keep))
        return self._loop.wait(self._work(prepared).run(), alive)

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
        return Work(prepared, self._documents, self._model, self._reading, self._loop, self._seconds)


async def read_all(sources: Sources, threads: Executor, flow: Flow, given: Mapping[str, JSON]) -> Readings:
    """Ask all sources of a flow at once; raises as `Sources.ask` does."""
    loop = asyncio.get_running_loop()
    asked = [loop.run_in_executor(threads, sources.ask, source, given) for source in flow.sources]
    found = await asyncio.gather(*asked)
    return dict(zip((source.name for source in flow.sources), found, strict=True))


def check_input(flow: Flow, given: Mapping[str, JSON]) -> None:
    faults = flow.input.faults(dict(given))
    if faults:
        told = "; ".join(f"{fault.path} {fault.problem}" for fault in faults[:3])
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise InvalidInput(f"{told}{more}.", [(fault.path, fault.problem) for fault in faults])
