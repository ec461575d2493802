"""The turn as a machine without I/O: events in, client events and writes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from service.backends.interfaces import Delta, Finish, Usage, Write
from service.chat.events import (
    Accepted,
    Citations,
    ClientLeft,
    Deadline,
    Done,
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
from service.conversations import Begun, call_id, describe, lease_until, recent_write, save_writes
from service.errors import BrainstemError, Conflict, DeadlineExceeded, StoreError, UpstreamInterrupted, UpstreamProtocol
from service.models import Call, Recent, Turn, TurnStatus, timestamp
from service.tokenizer import count_tokens
from service.usage import UNPAID, ledger_write

MAX_REPLY_BYTES = 400_000


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: from the first piece of an answer to its first save, between later ones, of its lease, and of the silence that a
    heartbeat breaks."""

    first_save: float
    checkpoint: float
    lease: float
    heartbeat: float


class TurnMachine:
    """One turn from ACCEPTED to its end. Times fed to it are monotonic seconds; it reads no clock of its own."""

    def __init__(self, begun: Begun, version: str, calls: Sequence[Call], pace: Pace, request_id: str = "") -> None:
        self.turn = begun.turn
        self.ended = self.done = False
        """Whether the model is of no use any more; whether nothing is to be done any more."""
        self.call: Call | None = None
        self.chat = begun.chat
        self._recent = begun.recent
        self._version = version
        self._calls = calls
        self._pace = pace
        self.request_id = request_id
        self._pieces: list[str] = []
        self._bytes = 0
        self._finish: str | None = None
        self._usage: Usage | None = None
        self._lost: BrainstemError | None = None
        self._saving = self._end_saving = self._streaming_saved = False
        self._started = self._saved = self._sent = 0.0
        self._due = float("inf")
        self._first_token: float | None = None
        self._epoch = datetime.now(UTC)

    def start(self, at: float) -> list[Effect]:
        """Tell the client that the turn was accepted, and what it will rest on."""
        self._started = self._saved = self._sent = at
        effects: list[Effect] = [Send(Accepted(replace(self.turn, citations=()), self.chat))]
        if self.turn.citations:
            effects.append(Send(Citations(self.turn.citations)))
        return effects

    def feed(self, event: TurnInput, at: float) -> list[Effect]:
        """Take one event and return what to do; after the end nothing is to be done any more."""
        # First what comes most often.
        if isinstance(event, Delta):
            return [] if self.ended else self._on_delta(event.text, at)
        if self.done:
            return []
        match event:
            case Saved(version):
                self._saving = False
                return self._on_saved(version)
            case SaveFailed(error):
                self._saving = False
                return self._on_save_failed(error, at)
            case _ if self.ended:
                return []
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
            self._first_token, self._due = at, at + self._pace.first_save
        self._pieces.append(text)
        self._bytes += len(text.encode(errors="replace"))
        if self._bytes > MAX_REPLY_BYTES:
            return self._end(UpstreamProtocol("The answer is longer than an answer may be."), at)
        self._sent = at
        said = Send(Text(text))
        return [said, self._checkpoint(at)] if at >= self._due and not self._saving else [said]

    def _on_tick(self, at: float) -> list[Effect]:
        effects: list[Effect] = []
        if at - self._sent >= self._pace.heartbeat:
            self._sent = at
            effects.append(Send(Heartbeat()))
        renew = at - self._saved >= self._pace.lease / 3
        if (renew or at >= self._due) and not self._saving:
            effects.append(self._checkpoint(at))
        return effects

    def _checkpoint(self, at: float) -> Save:
        """Save what came so far and renew the lease; with the first piece saved the turn is STREAMING."""
        self._saving, self._saved = True, at
        if self._pieces:
            self._due = at + self._pace.checkpoint
        status = TurnStatus.STREAMING if self._pieces else TurnStatus.ACCEPTED
        self._set(status, at, lease=lease_until(self._pace.lease, self._wall(at)))
        whole = self._pieces and not self._streaming_saved
        only = None if whole else ("reply", "updated", "lease")
        return Save(partial(save_writes, self.turn, self._version, only))

    def _end(self, error: BrainstemError | None, at: float) -> list[Effect]:
        """Bring the turn to its end: COMPLETED only if the model itself finished, whatever happened after that."""
        self.ended = True
        if self._finish is not None:
            status, error = TurnStatus.COMPLETED, None
        elif self._pieces or error is None:
            status = TurnStatus.INTERRUPTED
        else:
            status = TurnStatus.FAILED
        self._set(status, at, lease=None)
        self.turn = replace(self.turn, finish_reason=self._finish, error=describe(error) if error else None)
        self.call = self._ledger_row(at, unpaid=status is TurnStatus.FAILED and isinstance(error, UNPAID))
        return self._save_end()

    def _save_end(self) -> list[Effect]:
        """Save the end; if a checkpoint is under way, not before that is over, for it gives the turn another version."""
        if self._saving:
            return []
        self._saving = self._end_saving = True
        assert self.call
        return [Save(partial(end_writes, self.turn, self._version, (*self._calls, self.call), self._recent))]

    def _on_saved(self, version: str) -> list[Effect]:
        self._version = version
        if self._lost:
            return self._give_up()
        if not self.ended:
            self._streaming_saved = self.turn.status is TurnStatus.STREAMING
            return []
        if not self._end_saving:
            return self._save_end()
        self.done = True
        return [Send(ending(self.turn))]

    def _on_save_failed(self, error: BrainstemError, at: float) -> list[Effect]:
        """A checkpoint may fail and be made up for; the end may not. A turn that was deleted, or ended by others, is lost,
        but its calls were paid: they are recorded all the same."""
        if self._lost or (self._end_saving and not isinstance(error, StoreError)):
            self._lost = self._lost or error
            return self._give_up()
        if not isinstance(error, StoreError):
            return self._save_end() if self.ended else []
        self.ended = True
        self._lost = Conflict("The chat was deleted, or this turn was ended from elsewhere.")
        self.call = self.call or self._ledger_row(at)
        return [Save(partial(rows, (*self._calls, self.call)))]

    def _give_up(self) -> list[Effect]:
        assert self._lost
        self.done = True
        status = self.turn.status if self.turn.status is TurnStatus.FAILED else TurnStatus.INTERRUPTED
        self.turn = replace(self.turn, status=status, error=describe(self._lost), lease=None)
        return [Send(Error(self.turn, kept=False))]

    def _set(self, status: TurnStatus, at: float, *, lease: str | None) -> None:
        self.turn = replace(
            self.turn, status=status, reply="".join(self._pieces), updated=timestamp(self._wall(at)), lease=lease
        )

    def _wall(self, at: float) -> datetime:
        return self._epoch + timedelta(seconds=at - self._started)

    def _ledger_row(self, at: float, *, unpaid: bool = False) -> Call:
        """The ledger's row: the provider's count, or an estimate where it gave none but is to be paid."""
        estimated = self._usage is None and not unpaid
        usage = self._usage or Usage(0, 0)
        if estimated:
            usage = Usage(self.turn.input_tokens, count_tokens(self.turn.reply))
        first, rate = self._first_token, self.turn.rate
        return Call(
            id=call_id(self.turn, "answer"),
            kind="answer",
            model=self.turn.model,
            created=self.turn.updated,
            outcome=self.turn.status.value.lower(),
            input_tokens=usage.input_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
            estimated=estimated,
            cost=rate.cost(usage.input_tokens, usage.output_tokens, usage.cached_tokens) if rate else None,
            first_token_ms=None if first is None else (first - self._started) * 1000,
            total_ms=(at - self._started) * 1000,
            request_id=self.request_id,
            chat=self.turn.chat,
            turn=self.turn.id,
        )


def end_writes(turn: Turn, version: str, calls: Sequence[Call], recent: Recent | None) -> list[Write]:
    kept = [recent_write(recent, turn)] if recent else []
    return [*save_writes(turn, version), *rows(calls), *kept]


def rows(calls: Sequence[Call]) -> list[Write]:
    return [ledger_write(call) for call in calls]


def ending(turn: Turn) -> Done | Error:
    """The last event of a turn that has ended."""
    return Error(turn) if turn.error else Done(turn)
