"""Before the turn: everything that can refuse, and the prompt."""

from __future__ import annotations

import contextvars
import logging
import threading
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from service import logging as log
from service.apps import App
from service.backends.interfaces import ModelRequest
from service.chat.machine import Pace, TurnMachine
from service.context import Context, Prompt, Retrieved, build, data_paths, user_data
from service.conversations import Conversations, call_id, describe, save_writes
from service.errors import BrainstemError, DeadlineExceeded, Unavailable, Unprocessable
from service.models import Call, Chat, Scope, Turn, TurnStatus, timestamp
from service.usage import ledger_write

MAX_PROMPT_BYTES = 400_000
"""With the longest reply and its citations still within the 1 MiB that a stored document may have."""


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
    """Prepares turns: one parallel stage of accept ∥ embed → search, then the prompt.

    What lies at known places, the recent turns and the user's data, is read with the chat before it accepts. The searches have
    threads and room of their own: a slow embedder must not keep others from being refused at once.
    """

    def __init__(
        self, conversations: Conversations, context: Context, model: str, pace: Pace, *, threads: int, seconds: float
    ) -> None:
        self._conversations = conversations
        self._context = context
        self._model = model
        self._pace = pace
        self._seconds = seconds
        self._accounts = ThreadPoolExecutor(threads, thread_name_prefix="account")
        self._searches = ThreadPoolExecutor(threads, thread_name_prefix="search")
        self._room = threading.BoundedSemaphore(2 * threads)

    def prepare(
        self, scope: Scope, app: App, chat_id: str, turn_id: str | None, text: str, request_id: str = ""
    ) -> Prepared | Repeated:
        """Accept a message and gather its prompt. Raises what `Conversations.begin` raises, `Unprocessable` for a message
        that is empty or too long; what fails once the turn is accepted also ends it as FAILED."""
        check_text(app, text)
        limit = app.file.context.history_turns
        found = self._search(scope, app, text) if app.file.retrieval.enabled else None
        try:
            begun = self._conversations.begin(scope, chat_id, turn_id, text, limit, data_paths(app))
        except BrainstemError:
            self._abandon(scope, found)
            raise
        if begun.version is None:
            self._abandon(scope, found)
            return Repeated(scope, begun.turn, begun.chat)
        try:
            recent = begun.recent
            if recent is None and limit:
                recent = self._conversations.history(scope, begun.turn, limit)
            retrieved = self._found(found) if found else Retrieved()
            rate = app.rate(app.file.model.name or self._model)
            prompt = build(app, text, recent.exchanges if recent else (), user_data(app, begun.beside), retrieved)
        except BrainstemError as error:
            self._abandon(scope, found)
            self._fail(scope, begun.turn, begun.version, error)
            raise
        request = self._request(app, begun.turn, prompt)
        turn = replace(
            begun.turn, citations=prompt.passages, model=request.model, input_tokens=prompt.tokens, rate=rate
        )
        calls = [search_row(retrieved.call, turn, request_id)] if retrieved.call else []
        accepted = replace(begun, turn=turn, recent=recent)
        machine = TurnMachine(accepted, begun.version, calls, self._pace, request_id)
        return Prepared(scope, machine, request)

    def _search(self, scope: Scope, app: App, text: str) -> Future[Retrieved]:
        if not self._room.acquire(blocking=False):
            raise Unavailable("Too many questions at once. Try again.", retry_after=1)
        run = contextvars.copy_context().run
        found = self._searches.submit(run, self._context.retrieve, scope, app, text)
        found.add_done_callback(lambda _: self._room.release())
        return found

    def _found(self, found: Future[Retrieved]) -> Retrieved:
        try:
            return found.result(self._seconds)
        except TimeoutError:
            raise DeadlineExceeded("The search in your documents took too long.") from None

    def _abandon(self, scope: Scope, found: Future[Retrieved] | None) -> None:
        """Leave a search whose question was refused, failed or answered before; what it cost is recorded all the same.

        The answer does not wait for that: the store may be what failed.
        """
        if found and not found.cancel():
            run = contextvars.copy_context().run
            found.add_done_callback(lambda future: self._accounts.submit(run, self._account, scope, future))

    def _request(self, app: App, turn: Turn, prompt: Prompt) -> ModelRequest:
        model = app.file.model
        return ModelRequest(
            model=model.name or self._model,
            messages=prompt.messages,
            question=turn.prompt,
            passages=prompt.passages,
            max_output_tokens=model.max_output_tokens,
            temperature=model.temperature,
        )

    def _fail(self, scope: Scope, turn: Turn, version: str, error: BrainstemError) -> None:
        failed = replace(turn, status=TurnStatus.FAILED, updated=timestamp(), lease=None, error=describe(error))
        try:
            self._conversations.save(scope, save_writes(failed, version))
        except BrainstemError as failure:
            log.event("turn_not_saved", logging.ERROR, failure)  # its lease ends it

    def _account(self, scope: Scope, found: Future[Retrieved]) -> None:
        """Record the embedding of a question that was refused or answered before: it was paid all the same."""
        call = None if found.exception() else found.result().call
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
    if len(text) > limit or len(text.encode()) > MAX_PROMPT_BYTES:
        raise Unprocessable(f"The message is longer than {limit} characters.")


def search_row(call: Call, turn: Turn, request_id: str) -> Call:
    """The ledger's row for the embedding of a turn's question."""
    return replace(call, id=call_id(turn, "search"), request_id=request_id, chat=turn.chat, turn=turn.id)
