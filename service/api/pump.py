"""Carries a turn on the event loop: feeds its machine what the model says, and does what the machine tells."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Protocol

from service import logging as log
from service.backends.interfaces import LanguageModel, Write
from service.chat.events import (
    Accepted,
    Citations,
    ClientEvent,
    ClientLeft,
    Deadline,
    Effect,
    Ended,
    Error,
    Failed,
    Heartbeat,
    Save,
    Saved,
    SaveFailed,
    Send,
    Text,
    Tick,
    TurnInput,
)
from service.chat.machine import ending
from service.chat.prepare import Prepared, Repeated
from service.conversations import Conversations, describe, refenced
from service.errors import BrainstemError, DependencyError, StoreError, Unavailable, UpstreamProtocol
from service.models import Turn, TurnStatus
from service.usage import usd

SAVE_TRIES = 4
CHECKPOINT_TRIES = 2
SAVE_PAUSE_SECONDS = 0.25
FIRST_LOOK_SECONDS = 0.25
FOLLOW_SECONDS = 0.25
FOLLOW_FAILURES = 8


class Listener(Protocol):
    """Who hears the events of a turn, on the loop."""

    def hear(self, events: Sequence[ClientEvent]) -> None:
        """Take events that came together; the last of all is `Done` or `Error`."""

    def behind(self) -> asyncio.Future[None] | None:
        """What to wait for before the model is read on, while the client takes less than it says."""


class Pump:
    """Answers one prepared turn."""

    def __init__(
        self,
        prepared: Prepared,
        model: LanguageModel,
        conversations: Conversations,
        saving: Executor,
        *,
        turn_seconds: float,
        tick: float,
    ) -> None:
        self._machine = prepared.machine
        self._request = prepared.request
        self._scope = prepared.scope
        self._model = model
        self._conversations = conversations
        self._saving = saving
        self._deadline = time.monotonic() + turn_seconds
        self._tick = tick
        self._soon = min(tick, FIRST_LOOK_SECONDS)
        self._doubtful: Sequence[Write] | None = None
        self._deaf = False
        self._fields: dict[str, log.Field] = {"app": prepared.scope.app, "request": prepared.machine.request_id}

    async def run(self, listener: Listener) -> None:
        """Answer; returns when the turn has ended and its last event was heard."""
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._reader = self._loop.create_task(self._read())
        self._timer = self._loop.call_later(self._soon, self._beat)
        try:
            self._perform(self._machine.start(time.monotonic()))
            await self._over
        finally:
            self._reader.cancel()
            self._timer.cancel()

    def leave(self) -> None:
        """End the turn if it is still running: nobody listens. What came so far is kept."""
        self._feed(ClientLeft())

    def _feed(self, *inputs: TurnInput) -> None:
        at = time.monotonic()
        effects: list[Effect] = []
        for given in inputs:
            effects += self._machine.feed(given, at)
        self._perform(effects)
        if self._machine.ended:
            self._reader.cancel()

    def _perform(self, effects: Sequence[Effect]) -> None:
        heard, saves = [], []
        for effect in effects:
            if isinstance(effect, Send):
                heard.append(effect.event)
            else:
                saves.append(effect)
        if heard:
            self._tell(heard)
        for save in saves:
            self._saving.submit(self._save, save)
        if self._machine.done and not self._over.done():
            self._log_call()
            self._over.set_result(None)

    def _tell(self, events: Sequence[ClientEvent]) -> None:
        if self._deaf:
            return
        try:
            self._listener.hear(events)
        except Exception as error:  # noqa: BLE001  # a mistake in the encoding must not leave the turn without an end
            self._deaf = True
            with log.bind(**self._fields):
                log.event("listener_crashed", logging.ERROR, error)
            self._loop.call_soon(self.leave)

    async def _read(self) -> None:
        """Feed the machine what the model says; the last thing is `Ended` or `Failed`."""
        try:
            async with aclosing(self._model.stream(self._request)) as stream:
                async for events in stream:
                    self._feed(*events)
                    if wait := self._listener.behind():
                        await wait
            self._feed(Ended())
        except BrainstemError as error:
            self._feed(Failed(error))
        except Exception as error:  # noqa: BLE001  # an adapter's mistake must not leave the client waiting
            with log.bind(**self._fields):
                log.event("model_crashed", logging.ERROR, error)
            self._feed(Failed(UpstreamProtocol()))

    def _beat(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            self._feed(Deadline())
            return
        self._feed(Tick())
        # Until its first save, a turn is looked at more often, for that is due sooner than a heartbeat.
        pause = self._soon if self._machine.turn.status is TurnStatus.ACCEPTED else self._tick
        self._timer = self._loop.call_later(min(pause, left), self._beat)

    def _save(self, save: Save) -> None:
        self._loop.call_soon_threadsafe(self._feed, self._commit(save))

    def _commit(self, save: Save) -> Saved | SaveFailed:
        """Commit; a store that cannot be reached is tried again, a checkpoint once and the end for a second, for it was paid.

        A commit whose reply was lost is found again: it makes the next one fail.
        """
        writes: Sequence[Write] = ()
        tries = SAVE_TRIES if self._machine.call else CHECKPOINT_TRIES
        failure: Exception = Unavailable()
        for attempt in range(tries):
            try:
                writes = writes or save.compose()
                saved = Saved(self._conversations.save(self._scope, writes, self._machine.chat))
                self._doubtful = None
                return saved
            except StoreError as error:
                failure = error
                if version := self._confirmed(writes):
                    self._doubtful = None
                    return Saved(version)
                version = self._confirmed(self._doubtful)
                if version is None:
                    break
                writes = refenced(writes, version)
                self._doubtful = None
            except DependencyError as error:
                failure, self._doubtful = error, writes
                time.sleep(SAVE_PAUSE_SECONDS * attempt)
            except Exception as error:  # noqa: BLE001  # an adapter's mistake must not leave the client waiting
                failure = error
                break
        level = logging.WARNING if isinstance(failure, StoreError) else logging.ERROR
        with log.bind(**self._fields):
            log.event("turn_not_saved", level, failure)
        return SaveFailed(failure if isinstance(failure, BrainstemError) else BrainstemError())

    def _confirmed(self, writes: Sequence[Write] | None) -> str | None:
        try:
            return self._conversations.confirm(self._scope, writes) if writes else None
        except DependencyError:
            return None

    def _log_call(self) -> None:
        """Log the call when the turn has ended, kept or not: figures, never content."""
        call, error = self._machine.call, self._machine.turn.error
        if call is None:
            return
        with log.bind(**self._fields):
            log.event(
                "model_call",
                logging.INFO if error is None else logging.WARNING,
                model=call.model,
                outcome=call.outcome,
                code=error.code if error else None,
                input_tokens=call.input_tokens,
                output_tokens=call.output_tokens,
                cost_usd=usd(call.cost),
                first_token_ms=None if call.first_token_ms is None else round(call.first_token_ms, 1),
                total_ms=round(call.total_ms, 1),
            )


class Follower:
    """Answers with a turn that the same request began before; one that still runs is followed by its saves."""

    def __init__(self, repeated: Repeated, conversations: Conversations, saving: Executor, *, tick: float) -> None:
        self._turn, self._chat, self._scope = repeated.turn, repeated.chat, repeated.scope
        self._conversations = conversations
        self._saving = saving
        self._tick = tick
        self._left = False

    async def run(self, listener: Listener) -> None:
        """Tell what came and what comes; returns when the turn has ended, or soon after the client left."""
        listener.hear([Accepted(replace(self._turn, reply="", citations=()), self._chat)])
        cited, shown, silence, failures = False, 0, time.monotonic(), 0
        while not self._left:
            turn = self._turn
            if turn.citations and not cited:
                cited = True
                listener.hear([Citations(turn.citations)])
            if len(turn.reply) > shown:
                listener.hear([Text(turn.reply[shown:])])
                shown, silence = len(turn.reply), time.monotonic()
            if turn.status.terminal:
                listener.hear([ending(turn)])
                return
            if time.monotonic() - silence >= self._tick:
                silence = time.monotonic()
                listener.hear([Heartbeat()])
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                self._turn, failures = await self._look(), 0
            except BrainstemError as error:
                failures += 1
                if not isinstance(error, DependencyError) or failures == FOLLOW_FAILURES:
                    unknown = replace(turn, status=TurnStatus.INTERRUPTED, error=describe(error))
                    listener.hear([Error(unknown, kept=False)])
                    return

    def leave(self) -> None:
        """Follow no longer: nobody listens. The turn itself goes on, for it belongs to another request."""
        self._left = True

    async def _look(self) -> Turn:
        look = partial(self._conversations.turn, self._scope, self._turn.chat, self._turn.id)
        return await asyncio.get_running_loop().run_in_executor(self._saving, look)
