"""Chats and their turns: begin, load, finish. A turn is accepted once, however often it is asked for."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from service.backends.interfaces import Create, Delete, DocumentStore, Path, Query, Set, Snapshot, Update, Write
from service.chat_cache import ChatCache, LeftChat
from service.errors import (
    BrainstemError,
    Conflict,
    IdempotencyMismatch,
    NotFound,
    StoreError,
    TurnInProgress,
    UpstreamInterrupted,
)
from service.models import JSON, Call, Chat, Exchange, Recent, Scope, Turn, TurnError, TurnStatus, timestamp
from service.records import from_record, from_text, to_record, to_text
from service.tokenizer import count_tokens
from service.usage import ledger_write

TITLE_CHARS = 80
BATCH = 400
MAX_RECENT_BYTES = 200_000
ACCEPTED = ("turns", "updated", "running")
"""What the acceptance of a turn changes of its chat."""

Cursor = tuple[str | int | float, str]


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn to be answered now, with its stored version; or (`version=None`) one that was begun by the same request before.

    `recent` are the turns before it, if they were at hand; `beside` is what was read in the same round trip.
    """

    turn: Turn
    chat: Chat
    version: str | None
    recent: Recent | None = None
    beside: tuple[Snapshot | None, ...] = ()


def chat_path(chat: str) -> Path:
    return ("chats", chat)


def turn_path(chat: str, turn: str) -> Path:
    return ("chats", chat, "turns", turn)


def recent_path(chat: str) -> Path:
    return ("chats", chat, "recent", "turns")


def fingerprint(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def expired(lease: str | None) -> bool:
    return lease is None or lease < timestamp()


def lease_until(seconds: float, moment: datetime | None = None) -> str:
    return timestamp((moment or datetime.now(UTC)) + timedelta(seconds=seconds))


def describe(error: BrainstemError) -> TurnError:
    return TurnError(
        code=error.code,
        title=error.title,
        detail=error.detail,
        status=error.status,
        retryable=error.retryable,
        retry_after=error.retry_after,
    )


def save_writes(turn: Turn, version: str, only: Sequence[str] | None = None) -> list[Write]:
    """The writes that store a turn as it stands, or `only` some of its fields; fenced by its version, so that who lost the
    turn cannot write it."""
    record = to_record(turn)
    changed = record if only is None else {name: record[name] for name in only}
    writes: list[Write] = [Update(turn_path(turn.chat, turn.id), changed, version)]
    if turn.status.terminal:
        writes.append(Update(chat_path(turn.chat), {"running": None, "updated": turn.updated}))
    return writes


def refenced(writes: Sequence[Write], version: str) -> list[Write]:
    """The same writes of a turn, fenced by another version of it."""
    first = writes[0]
    assert isinstance(first, Update)
    return [replace(first, version=version), *writes[1:]]


class Conversations:
    """The chats of a scope in the document store."""

    def __init__(self, documents: DocumentStore, first_lease_seconds: float) -> None:
        self._documents = documents
        # It must outlast the gathering of the prompt; whoever answers the turn renews it from then on.
        self._lease_seconds = first_lease_seconds
        self._left = ChatCache()

    def begin(
        self,
        scope: Scope,
        chat_id: str,
        turn_id: str | None,
        text: str,
        history_turns: int = 0,
        beside: Sequence[Path] = (),
    ) -> Begun:
        """Accept a question, creating its chat if it is new; `beside` is read on the way.

        Raises `TurnInProgress` while another turn of the chat runs, `IdempotencyMismatch` if `turn_id` was used with
        another text, `Conflict` if others keep writing the chat.
        """
        turn_id = turn_id or uuid.uuid4().hex
        if (left := self._left.take(scope, chat_id)) and history_turns:
            others = self._documents.get(scope, *beside)
            with suppress(StoreError):  # it has changed since, or the turn is there already
                begun = self._accept(scope, new_turn(chat_id, turn_id, text), left.chat, left.version, None)
                recent = at_hand(left.recent, begun.turn, history_turns)
                return replace(begun, recent=recent, beside=tuple(others))
        paths = [chat_path(chat_id), turn_path(chat_id, turn_id), *beside]
        if history_turns:
            paths.append(recent_path(chat_id))
        for _ in range(3):
            chat_found, turn_found, *others = self._documents.get(scope, *paths)
            chat = from_record(Chat, chat_found.data) if chat_found else None
            turn = from_record(Turn, turn_found.data) if turn_found else None
            if turn and turn.fingerprint != fingerprint(text):
                raise IdempotencyMismatch("Use a new id for a new message.")
            if turn and turn_found and chat and not may_begin_anew(turn):
                return Begun(self._ended(scope, turn, turn_found.path), chat, None)
            if chat and chat.running and self._is_running(scope, turn_path(chat_id, chat.running)):
                raise TurnInProgress("Wait until this chat has answered, or stop the answer.", retry_after=1)
            try:
                version = chat_found.version if chat_found else None
                begun = self._accept(scope, new_turn(chat_id, turn_id, text), chat, version, turn_found)
            except StoreError:
                continue  # someone else began a turn in this chat just now: look again who it was
            recent = at_hand(others.pop(), begun.turn, history_turns) if history_turns else None
            return replace(begun, recent=recent, beside=tuple(others))
        raise Conflict("This chat is being changed by others. Try again.", retry_after=1)

    def _accept(
        self, scope: Scope, turn: Turn, chat: Chat | None, version: str | None, turn_found: Snapshot | None
    ) -> Begun:
        lease = lease_until(self._lease_seconds)
        if chat is None:
            chat = Chat(id=turn.chat, title=title_of(turn.prompt), created=turn.created, updated=turn.created)
        turns = chat.turns
        if turn_found:
            failed = from_record(Turn, turn_found.data)
            turn = replace(turn, seq=failed.seq, created=failed.created, lease=lease)
        else:
            turns += 1
            turn = replace(turn, seq=turns, lease=lease)
        chat = replace(chat, turns=turns, updated=turn.updated, running=turn.id)
        record = to_record(chat)
        writes = [
            Update(chat_path(chat.id), {name: record[name] for name in ACCEPTED}, version)
            if version
            else Create(chat_path(chat.id), record),
            written(turn_path(chat.id, turn.id), to_record(turn), turn_found),
        ]
        if turn_found:
            # Turns after it may be at hand already, and it would be missing among them.
            writes.append(Delete(recent_path(chat.id)))
        return Begun(turn, chat, self._documents.commit(scope, writes)[1])

    def _ended(self, scope: Scope, turn: Turn, path: Path) -> Turn:
        """The turn as it stands, ended if nobody answers it any more."""
        return self._interrupt(scope, path) if not turn.status.terminal and expired(turn.lease) else turn

    def _is_running(self, scope: Scope, path: Path) -> bool:
        """Whether a chat's turn is being answered; if nobody answers it any more it is ended."""
        try:
            return not self._interrupt(scope, path).status.terminal
        except NotFound:
            return False

    def _interrupt(self, scope: Scope, path: Path) -> Turn:
        """Mark a turn that nobody answers any more, and return it as it then stands."""
        [found] = self._documents.get(scope, path)
        if found is None:
            raise NotFound
        turn = from_record(Turn, found.data)
        if turn.status.terminal or not expired(turn.lease):
            return turn
        lost = UpstreamInterrupted()
        ended = replace(turn, status=TurnStatus.INTERRUPTED, updated=timestamp(), lease=None, error=describe(lost))
        rows = [ledger_write(lost_call(turn))] if turn.status is TurnStatus.STREAMING else []
        try:
            self._documents.commit(scope, [*save_writes(ended, found.version), *rows])
        except StoreError:
            return self.turn(scope, turn.chat, turn.id)
        return ended

    def save(self, scope: Scope, writes: Sequence[Write], chat: Chat | None = None) -> str:
        """Commit a turn's writes and return its new version, which is that of the first write; raises `StoreError` if others ended it.

        If they end it, `chat` is what it was accepted in.
        """
        versions = self._documents.commit(scope, writes)
        match writes:
            case [Update(), Update(), *_, Set(path, data)] if chat and path == recent_path(chat.id):
                left = LeftChat(replace(chat, running=None), versions[1], Snapshot(path, data, versions[-1]))
                self._left.put(scope, left)
        return versions[0]

    def confirm(self, scope: Scope, writes: Sequence[Write]) -> str | None:
        """Return the turn's version if what the first write says is what is stored: a commit whose reply was lost."""
        first = writes[0]
        [found] = self._documents.get(scope, first.path)
        if found is None or isinstance(first, Delete):
            return None
        plain = {name: value for name, value in first.data.items() if isinstance(value, str | int | None)}
        return found.version if all(found.data.get(name) == value for name, value in plain.items()) else None

    def turn(self, scope: Scope, chat_id: str, turn_id: str) -> Turn:
        """Return a turn as it stands, without waiting; raises `NotFound`."""
        [found] = self._documents.get(scope, turn_path(chat_id, turn_id))
        if found is None:
            raise NotFound
        return self._ended(scope, from_record(Turn, found.data), found.path)

    def chat(self, scope: Scope, chat_id: str) -> Chat:
        """Return a chat; raises `NotFound`."""
        [found] = self._documents.get(scope, chat_path(chat_id))
        if found is None:
            raise NotFound
        return from_record(Chat, found.data)

    def chats(self, scope: Scope, limit: int, after: Cursor | None = None) -> list[Chat]:
        """Return chats, the last changed first."""
        query = Query(("chats",), "updated", descending=True, after=after, limit=limit)
        return [from_record(Chat, found.data) for found in self._documents.query(scope, query)]

    def turns(self, scope: Scope, chat_id: str, limit: int, after: Cursor | None = None) -> list[Turn]:
        """Return a chat's turns, the newest first."""
        query = Query(("chats", chat_id, "turns"), "seq", descending=True, after=after, limit=limit)
        found = self._documents.query(scope, query)
        return [self._ended(scope, from_record(Turn, turn.data), turn.path) for turn in found]

    def history(self, scope: Scope, turn: Turn, limit: int) -> Recent:
        """Look up the turns before one that found none at hand: the answered ones among the last `limit`."""
        collection = ("chats", turn.chat, "turns")
        query = Query(collection, "seq", descending=True, where=[("seq", "<", turn.seq)], limit=limit)
        turns = [from_record(Turn, found.data) for found in self._documents.query(scope, query)]
        answered = tuple(exchange(turn) for turn in reversed(turns) if turn.status.terminal and turn.reply)
        return Recent(through=turn.seq - 1, limit=limit, exchanges=answered)

    def rename(self, scope: Scope, chat_id: str, title: str) -> Chat:
        """Give a chat another title; raises `NotFound`."""
        chat = self.chat(scope, chat_id)
        self._left.take(scope, chat_id)
        try:
            self._documents.commit(scope, [Update(chat_path(chat_id), {"title": title})])
        except StoreError:
            raise NotFound from None
        return replace(chat, title=title)

    def delete(self, scope: Scope, chat_id: str) -> None:
        """Remove a chat with its turns; raises `NotFound`. An answer that is being written is thrown away."""
        for _ in range(10_000):
            [found] = self._documents.get(scope, chat_path(chat_id))
            if found is None:
                raise NotFound
            turns = self._documents.query(scope, Query(("chats", chat_id, "turns"), "seq", limit=BATCH))
            writes: list[Write] = [Delete(recent_path(chat_id)), *(Delete(turn.path) for turn in turns)]
            if len(turns) < BATCH:
                writes.append(Delete(found.path, found.version))
            try:
                self._documents.commit(scope, writes)
            except StoreError:
                continue  # a turn began or ended meanwhile
            if len(turns) < BATCH:
                return
        raise Conflict("This chat is being changed by others. Try again.", retry_after=1)


def exchange(turn: Turn) -> Exchange:
    return Exchange(prompt=turn.prompt, reply=turn.reply, tokens=count_tokens(turn.prompt + turn.reply))


def at_hand(found: Snapshot | None, turn: Turn, limit: int) -> Recent | None:
    """The turns before this one as they were kept, unless one of them is missing or fewer than asked for were kept."""
    recent = from_text(Recent, str(found.data["recent"])) if found else Recent(through=0, limit=limit)
    if recent.through != turn.seq - 1 or recent.limit < limit:
        return None
    return replace(recent, limit=limit, exchanges=recent.exchanges[-limit:])


def recent_write(recent: Recent, turn: Turn) -> Write:
    """The write that keeps a turn that has ended at hand, with those before it, for the prompt of the next one.

    Turns too long to be read each time are not kept.
    """
    exchanges = recent.exchanges
    if turn.reply:
        exchanges = (*exchanges, exchange(turn))[-recent.limit :]
    kept = to_text(Recent(through=turn.seq, limit=recent.limit, exchanges=exchanges))
    path = recent_path(turn.chat)
    return Set(path, {"recent": kept}) if len(kept.encode()) <= MAX_RECENT_BYTES else Delete(path)


def new_turn(chat_id: str, turn_id: str, text: str) -> Turn:
    now = timestamp()
    return Turn(
        id=turn_id,
        chat=chat_id,
        seq=0,
        prompt=text,
        status=TurnStatus.ACCEPTED,
        created=now,
        updated=now,
        fingerprint=fingerprint(text),
        run=uuid.uuid4().hex,
    )


def lost_call(turn: Turn) -> Call:
    """The ledger's row for an answer whose process died, as far as its last save tells."""
    output_tokens = count_tokens(turn.reply)
    return Call(
        id=call_id(turn, "answer"),
        kind="answer",
        model=turn.model,
        created=turn.updated,
        outcome="lost",
        input_tokens=turn.input_tokens,
        output_tokens=output_tokens,
        estimated=True,
        cost=turn.rate.cost(turn.input_tokens, output_tokens) if turn.rate else None,
        chat=turn.chat,
        turn=turn.id,
    )


def call_id(turn: Turn, kind: str) -> str:
    """The ledger id of a turn's call: the same for whoever writes it, another one for another attempt."""
    return f"{turn.run}.{kind}"


def may_begin_anew(turn: Turn) -> bool:
    """Whether the same request asks for another attempt: the turn failed without a word, for a reason that may have passed."""
    return turn.status is TurnStatus.FAILED and turn.error is not None and turn.error.retryable


def written(path: Path, record: dict[str, JSON], found: Snapshot | None) -> Write:
    """The write of a whole document that fails if anyone else wrote it since it was found, or found missing."""
    return Update(path, record, found.version) if found else Create(path, record)


def title_of(text: str) -> str:
    """The first line of a message, cut at a word."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if len(line) <= TITLE_CHARS:
        return line
    cut = line[:TITLE_CHARS]
    return (cut.rpartition(" ")[0] or cut) + "…"
