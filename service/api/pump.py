"""Carries a turn: a thread reads the model, the request's own thread feeds the machine and does what it says."""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from service import logging as log
from service.backends.interfaces import LanguageModel, ModelStream, Write
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
from service.models import TurnStatus

SAVE_TRIES = 4
CHECKPOINT_TRIES = 2
SAVE_PAUSE_SECONDS = 0.25
FOLLOW_SECONDS = 0.25
FOLLOW_FAILURES = 8


class Pump:
    """Answers a prepared turn. Iterate it for the client's events; `close()` it when the client is gone or served."""

    def __init__(
        self,
        prepared: Prepared,
        model: LanguageModel,
        conversations: Conversations,
        *,
        turn_seconds: float,
        tick: float,
    ) -> None:
        self._machine = prepared.machine
        self._request = prepared.request
        self._scope = prepared.scope
        self._model = model
        self._conversations = conversations
        self._deadline = time.monotonic() + turn_seconds
        self._tick = tick
        self._inbox: queue.SimpleQueue[TurnInput] = queue.SimpleQueue()
        self._stream: ModelStream | None = None
        self._closed = threading.Event()
        self._doubtful: Sequence[Write] | None = None
        self._logged = False
        self._fields: dict[str, log.Field] = {"app": prepared.scope.app, "request": prepared.machine.request_id}

    def __iter__(self) -> Iterator[ClientEvent]:
        """Yield events until the turn has ended; the last one is `Done` or `Error`."""
        reader = threading.Thread(target=contextvars.copy_context().run, args=(self._read,), name="model", daemon=True)
        reader.start()
        try:
            yield from self._perform(self._machine.start(time.monotonic()))
            while not self._machine.done:
                yield from self._perform(self._machine.feed(self._next(), time.monotonic()))
        finally:
            self._hang_up()

    def close(self) -> None:
        """End the turn if it is still running: nobody listens. What came so far is kept."""
        self._hang_up()
        for _ in self._perform(self._machine.feed(ClientLeft(), time.monotonic())):
            pass

    def _next(self) -> TurnInput:
        left = self._deadline - time.monotonic()
        if left <= 0:
            self._hang_up()
            return Deadline()
        try:
            return self._inbox.get(timeout=min(self._tick, left))
        except queue.Empty:
            return Tick()

    def _perform(self, effects: list[Effect]) -> Iterator[ClientEvent]:
        if self._machine.done:
            self._log_call()
        for effect in effects:
            match effect:
                case Send(event):
                    yield event
                case Save():
                    yield from self._perform(self._machine.feed(self._save(effect), time.monotonic()))

    def _save(self, save: Save) -> Saved | SaveFailed:
        """Commit; a store that cannot be reached is tried again, a checkpoint once and the end for a second, for it was paid.

        A commit whose reply was lost is found again: it makes the next one fail.
        """
        writes = list(save.writes)
        tries = SAVE_TRIES if self._machine.call else CHECKPOINT_TRIES
        failure: BrainstemError = Unavailable()
        for attempt in range(tries):
            try:
                saved = Saved(self._conversations.save(self._scope, writes))
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
            except BrainstemError as error:
                failure = error
                break
        level = logging.WARNING if isinstance(failure, StoreError) else logging.ERROR
        with log.bind(**self._fields):
            log.event("turn_not_saved", level, failure)
        return SaveFailed(failure)

    def _confirmed(self, writes: Sequence[Write] | None) -> str | None:
        try:
            return self._conversations.confirm(self._scope, writes) if writes else None
        except DependencyError:
            return None

    def _log_call(self) -> None:
        """Log the call when the turn has ended, kept or not: figures, never content."""
        call, error = self._machine.call, self._machine.turn.error
        if call is None or self._logged:
            return
        self._logged = True
        with log.bind(**self._fields):
            log.event(
                "model_call",
                logging.INFO if error is None else logging.WARNING,
                model=call.model,
                outcome=call.outcome,
                code=error.code if error else None,
                input_tokens=call.input_tokens,
                output_tokens=call.output_tokens,
                first_token_ms=None if call.first_token_ms is None else round(call.first_token_ms, 1),
                total_ms=round(call.total_ms, 1),
            )

    def _read(self) -> None:
        """Read the model into the inbox; the last thing put there is `Ended` or `Failed`."""
        try:
            self._stream = self._model.stream(self._request)
            if self._closed.is_set():
                self._stream.close()
            for event in self._stream:
                self._inbox.put(event)
            self._inbox.put(Ended())
        except BrainstemError as error:
            self._inbox.put(Failed(error))
        except Exception as error:  # noqa: BLE001  # an adapter's mistake must not leave the client waiting
            with log.bind(**self._fields):
                log.event("model_crashed", logging.ERROR, error)
            self._inbox.put(Failed(UpstreamProtocol()))

    def _hang_up(self) -> None:
        self._closed.set()
        if self._stream is not None:
            self._stream.close()


def follow(repeated: Repeated, conversations: Conversations, tick: float) -> Iterator[ClientEvent]:
    """The events of a turn that the same request began before; one that still runs is followed by its saves."""
    turn = repeated.turn
    yield Accepted(replace(turn, reply="", citations=()), repeated.chat)
    cited, shown, silence, failures = False, 0, time.monotonic(), 0
    while True:
        if turn.citations and not cited:
            cited = True
            yield Citations(turn.citations)
        if len(turn.reply) > shown:
            yield Text(turn.reply[shown:])
            shown, silence = len(turn.reply), time.monotonic()
        if turn.status.terminal:
            yield ending(turn)
            return
        if time.monotonic() - silence >= tick:
            silence = time.monotonic()
            yield Heartbeat()
        time.sleep(FOLLOW_SECONDS)
        try:
            turn, failures = conversations.turn(repeated.scope, turn.chat, turn.id), 0
        except BrainstemError as error:
            failures += 1
            if not isinstance(error, DependencyError) or failures == FOLLOW_FAILURES:
                yield Error(replace(turn, status=TurnStatus.INTERRUPTED, error=describe(error)), kept=False)
                return
