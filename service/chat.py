"""The turn: `prepare()` does all that can refuse, then a machine without I/O turns model events into client events and writes.

Whoever carries the stream (the pump) feeds the machine and does what it says, in order: `Send` an event to the client,
`Save` writes and feed back `Saved` or `SaveFailed`. Statuses: ACCEPTED → STREAMING → COMPLETED | INTERRUPTED | FAILED.
"""

from __future__ import annotations

import contextvars
import logging
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeAlias, TypeVar

from service import logging as log
from service.apps import App
from service.backends.interfaces import Delta, Finish, ModelRequest, Usage, Write
from service.context import Context, Prompt, Retrieved, build
from service.conversations import Begun, Conversations, describe, lease_until, save_writes
from service.errors import (
    BrainstemError,
    DeadlineExceeded,
    StoreError,
    Unprocessable,
    UpstreamInterrupted,
    UpstreamProtocol,
)
from service.models import Call, Chat, Passage, Scope, Turn, TurnStatus, timestamp
from service.tokenizer import count_tokens
from service.usage import ledger_write

T = TypeVar("T")
MAX_REPLY_BYTES = 400_000


# What the machine is fed, besides the model's own `Delta`, `Finish` and `Usage`.


@dataclass(frozen=True, slots=True)
class Ended:
    """The model's stream ended, in whatever way its transport ends."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The model's stream failed."""

    error: BrainstemError


@dataclass(frozen=True, slots=True)
class ClientLeft:
    """Nobody listens any more."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The turn may take no longer."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed without an event."""


@dataclass(frozen=True, slots=True)
class Saved:
    """The last `Save` is durable; `version` is the turn's new one."""

    version: str


@dataclass(frozen=True, slots=True)
class SaveFailed:
    """The last `Save` did not happen."""

    error: BrainstemError


TurnInput: TypeAlias = Delta | Finish | Usage | Ended | Failed | ClientLeft | Deadline | Tick | Saved | SaveFailed


# What the client is told.


@dataclass(frozen=True, slots=True)
class Accepted:
    turn: Turn
    chat: Chat


@dataclass(frozen=True, slots=True)
class Citations:
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    pass


@dataclass(frozen=True, slots=True)
class Done:
    turn: Turn


@dataclass(frozen=True, slots=True)
class Error:
    """The turn ended badly: `turn` is what was kept of it, and says why."""

    turn: Turn


ClientEvent: TypeAlias = Accepted | Citations | Text | Heartbeat | Done | Error


@dataclass(frozen=True, slots=True)
class Send:
    event: ClientEvent


@dataclass(frozen=True, slots=True)
class Save:
    """Commit these writes atomically; the first one is the turn's."""

    writes: Sequence[Write]


Effect: TypeAlias = Send | Save


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: between saves of a running answer, of its lease, and of the silence that a heartbeat breaks."""

    checkpoint: float
    lease: float
    heartbeat: float


class TurnMachine:
    """One turn from ACCEPTED to its end. Times fed to it are monotonic seconds; it reads no clock of its own."""

    def __init__(self, begun: Begun, version: str, request: ModelRequest, calls: Sequence[Call], pace: Pace) -> None:
        self.turn = begun.turn
        self.done = False
        self._chat = begun.chat
        self._version = version
        self._request = request
        self._calls = calls
        self._pace = pace
        self._pieces: list[str] = []
        self._bytes = 0
        self._finish: str | None = None
        self._usage: Usage | None = None
        self._started = self._saved = self._sent = 0.0
        self._first_token: float | None = None
        self._epoch = datetime.now(UTC)

    def start(self, at: float) -> list[Effect]:
        """Tell the client that the turn was accepted, and what it will rest on."""
        self._started = self._saved = self._sent = at
        effects: list[Effect] = [Send(Accepted(self.turn, self._chat))]
        if self.turn.citations:
            effects.append(Send(Citations(self.turn.citations)))
        return effects

    def feed(self, event: TurnInput, at: float) -> list[Effect]:
        """Take one event and return what to do; after the end nothing is to be done any more."""
        if self.done:
            return []
        match event:
            case Saved(version):
                return self._on_saved(version)
            case SaveFailed(error):
                return self._on_save_failed(error)
            case _ if self.turn.status.terminal:
                return []
            case Delta(text):
                return self._on_delta(text, at)
            case Finish(reason):
                self._finish = reason
                return []
            case Usage():
                self._usage = event
                return []
            case Tick():
                return self._on_tick(at)
            case Ended():
                return self._end(UpstreamInterrupted(), at)
            case Failed(error):
                return self._end(error, at)
            case Deadline():
                return self._end(DeadlineExceeded(), at)
            case ClientLeft():
                return self._end(None, at)

    def _on_delta(self, text: str, at: float) -> list[Effect]:
        if not text:
            return []
        if self._first_token is None:
            self._first_token = at
        self._pieces.append(text)
        self._bytes += len(text.encode(errors="replace"))
        if self._bytes > MAX_REPLY_BYTES:
            return self._end(UpstreamProtocol("The answer is longer than an answer may be."), at)
        self._sent = at
        return [Send(Text(text)), *self._checkpoint(at)]

    def _on_tick(self, at: float) -> list[Effect]:
        effects: list[Effect] = []
        if at - self._sent >= self._pace.heartbeat:
            self._sent = at
            effects.append(Send(Heartbeat()))
        if at - self._saved >= self._pace.lease / 3:
            effects += self._checkpoint(at)
        return effects

    def _checkpoint(self, at: float) -> list[Effect]:
        """Save what came so far and renew the lease, if it is time; the first piece makes the turn STREAMING at once."""
        first = self.turn.status is TurnStatus.ACCEPTED and bool(self._pieces)
        if not first and at - self._saved < self._pace.checkpoint:
            return []
        self._saved = at
        status = TurnStatus.STREAMING if self._pieces else TurnStatus.ACCEPTED
        lease = lease_until(self._pace.lease, self._wall(at))
        self._set(status, at, lease=lease)
        return [Save(save_writes(self.turn, self._version))]

    def _end(self, error: BrainstemError | None, at: float) -> list[Effect]:
        """Bring the turn to its end: COMPLETED only if the model itself finished, whatever happened after that."""
        if self._finish is not None:
            status, error = TurnStatus.COMPLETED, None
        elif self._pieces or error is None:
            status = TurnStatus.INTERRUPTED
        else:
            status = TurnStatus.FAILED
        self._set(status, at, lease=None)
        self.turn = replace(self.turn, finish_reason=self._finish, error=describe(error) if error else None)
        writes = [
            *save_writes(self.turn, self._version),
            *(ledger_write(call) for call in [*self._calls, self._call(at)]),
        ]
        return [Save(writes)]

    def _on_saved(self, version: str) -> list[Effect]:
        self._version = version
        if not self.turn.status.terminal:
            return []
        self.done = True
        return [Send(ending(self.turn))]

    def _on_save_failed(self, error: BrainstemError) -> list[Effect]:
        """A checkpoint may fail and be made up for; a lost turn (deleted, or ended by others) or end may not."""
        if not self.turn.status.terminal and not isinstance(error, StoreError):
            return []
        self.done = True
        status = self.turn.status if self.turn.status is TurnStatus.FAILED else TurnStatus.INTERRUPTED
        self.turn = replace(self.turn, status=status, error=describe(error), lease=None)
        return [Send(Error(self.turn))]

    def _set(self, status: TurnStatus, at: float, *, lease: str | None) -> None:
        self.turn = replace(
            self.turn, status=status, reply="".join(self._pieces), updated=timestamp(self._wall(at)), lease=lease
        )

    def _wall(self, at: float) -> datetime:
        return self._epoch + timedelta(seconds=at - self._started)

    def _call(self, at: float) -> Call:
        """The ledger's row: the provider's count, or an estimate where it gave none."""
        usage = self._usage or Usage(
            sum(count_tokens(message.content) for message in self._request.messages), count_tokens(self.turn.reply)
        )
        first = self._first_token
        return Call(
            id=f"{self.turn.chat}.{self.turn.id}.answer",
            kind="answer",
            model=self.turn.model,
            created=self.turn.updated,
            outcome=self.turn.status.value.lower(),
            input_tokens=usage.input_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
            estimated=self._usage is None,
            first_token_ms=None if first is None else (first - self._started) * 1000,
            total_ms=(at - self._started) * 1000,
            chat=self.turn.chat,
            turn=self.turn.id,
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """A turn that will be answered: feed `machine` with the answer to `request`."""

    scope: Scope
    machine: TurnMachine
    request: ModelRequest


@dataclass(frozen=True, slots=True)
class Repeated:
    """A turn that the same request began before; it may still be running."""

    scope: Scope
    turn: Turn
    chat: Chat


class Turns:
    """Prepares turns: one parallel stage of accept ∥ history ∥ user data ∥ embed → search, then the prompt."""

    def __init__(self, conversations: Conversations, context: Context, model: str, pace: Pace, pool: Executor) -> None:
        self._conversations = conversations
        self._context = context
        self._model = model
        self._pace = pace
        self._pool = pool

    def prepare(self, scope: Scope, app: App, chat_id: str, turn_id: str | None, text: str) -> Prepared | Repeated:
        """Accept a message and gather its prompt. Raises what `Conversations.begin` raises, `Unprocessable` for a message
        that is empty or too long; what fails once the turn is accepted also ends it as FAILED."""
        check_text(app, text)
        found = self._run(self._context.retrieve, scope, app, text)
        accept = self._run(self._conversations.begin, scope, chat_id, turn_id, text)
        history = self._run(self._conversations.history, scope, chat_id, app.file.context.history_turns)
        data = self._run(self._context.user_data, scope, app)
        try:
            begun = accept.result()
        except BrainstemError:
            found.add_done_callback(lambda future: self._account(scope, future))
            raise
        if begun.version is None:
            found.add_done_callback(lambda future: self._account(scope, future))
            return Repeated(scope, begun.turn, begun.chat)
        try:
            past = [turn for turn in history.result() if turn.seq < begun.turn.seq]
            prompt = build(app, text, past, data.result(), found.result())
        except BrainstemError as error:
            found.add_done_callback(lambda future: self._account(scope, future))
            self._fail(scope, begun.turn, begun.version, error)
            raise
        return self._prepared(scope, app, begun, begun.version, prompt, found.result())

    def _run(self, function: Callable[..., T], *args: object) -> Future[T]:
        return self._pool.submit(contextvars.copy_context().run, function, *args)

    def _prepared(
        self, scope: Scope, app: App, begun: Begun, version: str, prompt: Prompt, found: Retrieved
    ) -> Prepared:
        model = app.file.model
        turn = replace(begun.turn, citations=prompt.passages, model=model.name or self._model)
        request = ModelRequest(
            model=turn.model,
            messages=prompt.messages,
            question=turn.prompt,
            passages=prompt.passages,
            max_output_tokens=model.max_output_tokens,
            temperature=model.temperature,
        )
        embedding = found.call
        calls = (
            [replace(embedding, id=f"{turn.chat}.{turn.id}.search", chat=turn.chat, turn=turn.id)] if embedding else []
        )
        return Prepared(scope, TurnMachine(replace(begun, turn=turn), version, request, calls, self._pace), request)

    def _fail(self, scope: Scope, turn: Turn, version: str, error: BrainstemError) -> None:
        failed = replace(turn, status=TurnStatus.FAILED, updated=timestamp(), lease=None, error=describe(error))
        try:
            self._conversations.save(scope, save_writes(failed, version))
        except BrainstemError as failure:
            log.event("turn_not_saved", logging.ERROR, failure)  # its lease ends it

    def _account(self, scope: Scope, found: Future[Retrieved]) -> None:
        """Record the embedding of a question that was refused or answered before: it was paid all the same."""
        call = None if found.cancelled() or found.exception() else found.result().call
        if call is None:
            return
        try:
            self._conversations.save(scope, [ledger_write(replace(call, id=uuid.uuid4().hex, outcome="unused"))])
        except BrainstemError as failure:
            log.event("call_not_recorded", logging.ERROR, failure)


def check_text(app: App, text: str) -> None:
    limit = app.file.limits.message_chars
    if not text.strip():
        raise Unprocessable("The message is empty.")
    if len(text) > limit:
        raise Unprocessable(f"The message is longer than {limit} characters.")


def ending(turn: Turn) -> Done | Error:
    """The last event of a turn that has ended."""
    return Error(turn) if turn.error else Done(turn)
