"""Chats and messages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec
from flask import Response, g, request, stream_with_context

from service.api import cursors, schemas
from service.api.encoders import chat_answer, sse, turn_answer
from service.api.parsing import KEY
from service.api.problems import respond
from service.api.pump import Pump, follow
from service.api.routing import AnyOperation, Call, Operation, Reply
from service.api.schemas import MessageBody, NoQuery, PageQuery, RenameBody
from service.chat.events import ClientEvent, Done, Error
from service.chat.prepare import Prepared
from service.errors import BadRequest, NotAcceptable, Unprocessable
from service.models import TurnStatus
from service.services import Services

BASE = "/v1/apps/<app>/chats"
EVENT_STREAM = "text/event-stream"


def chats(services: Services) -> list[AnyOperation]:
    """The operations on a user's chats."""
    conversations, settings = services.conversations, services.settings

    def list_chats(call: Call[PageQuery, None]) -> msgspec.Struct:
        limit = call.query.limit
        found = conversations.chats(call.scope, limit, cursors.decode(call.query.cursor))
        more = cursors.after(found, limit, "updated")
        return schemas.ChatsAnswer([chat_answer(chat) for chat in found], more)

    def get_chat(call: Call[PageQuery, None]) -> msgspec.Struct:
        limit = call.query.limit
        chat = conversations.chat(call.scope, call.ids["chat"])
        found = conversations.turns(call.scope, chat.id, limit, cursors.decode(call.query.cursor))
        more = cursors.after(found, limit, "seq")
        turns = [turn_answer(turn) for turn in reversed(found)]
        described = msgspec.structs.asdict(chat_answer(chat))
        return schemas.ChatWithTurnsAnswer(**described, turns=turns, next_cursor=more)

    def rename_chat(call: Call[NoQuery, RenameBody]) -> msgspec.Struct:
        title = call.body.title.strip()
        if not title:
            raise Unprocessable("The title is empty.")
        return chat_answer(conversations.rename(call.scope, call.ids["chat"], title))

    def delete_chat(call: Call[NoQuery, None]) -> Reply:
        conversations.delete(call.scope, call.ids["chat"])
        return Reply(204)

    def post_message(call: Call[NoQuery, MessageBody]) -> Response:
        streams = wants_stream()
        turn_id = call.body.id or key_id()
        prepared = services.turns.prepare(call.scope, call.app, call.ids["chat"], turn_id, call.body.text, g.request_id)
        if isinstance(prepared, Prepared):
            pump = Pump(
                prepared,
                services.backends.model,
                conversations,
                turn_seconds=settings.turn_seconds,
                tick=settings.heartbeat_seconds,
            )
            return stream(iter(pump), pump) if streams else collect(iter(pump))
        events = follow(prepared, conversations, settings.heartbeat_seconds)
        return stream(events, None) if streams else collect(events)

    return [
        Operation(
            "list_chats", "GET", BASE, "member", "Chats, the last changed first", list_chats,
            {200: schemas.ChatsAnswer}, query=PageQuery,
        ),
        Operation(
            "get_chat", "GET", f"{BASE}/<chat>", "member", "A chat with its newest turns; the cursor leads to older ones",
            get_chat, {200: schemas.ChatWithTurnsAnswer}, query=PageQuery,
        ),
        Operation(
            "rename_chat", "PATCH", f"{BASE}/<chat>", "member", "Give a chat another title", rename_chat,
            {200: schemas.ChatAnswer}, body=RenameBody,
        ),
        Operation(
            "delete_chat", "DELETE", f"{BASE}/<chat>", "member", "Remove a chat with its turns", delete_chat, {204: None},
        ),
        Operation(
            "post_message", "POST", f"{BASE}/<chat>/messages", "member",
            "Ask; the answer comes whole as JSON, or streamed if `Accept` names text/event-stream. A new chat id makes a chat",
            post_message, {200: schemas.TurnAnswer}, body=MessageBody, streams=True,
            headers={"Idempotency-Key": "Makes a message without `id` safe to send again: the same key is the same turn"},
        ),
    ]  # fmt: skip


def wants_stream() -> bool:
    """Whether the client asks for events; raises `NotAcceptable` if it takes neither events nor JSON."""
    accepted = request.accept_mimetypes
    if not accepted or accepted.best == "*/*":
        return False
    best = accepted.best_match(["application/json", EVENT_STREAM])
    if best is None:
        raise NotAcceptable("This endpoint answers application/json or text/event-stream.")
    return best == EVENT_STREAM


def key_id() -> str | None:
    """The turn's id that follows from an `Idempotency-Key`."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not KEY.fullmatch(key):
        raise BadRequest("An Idempotency-Key has 1 to 255 printable ASCII characters without spaces.")
    return "key-" + hashlib.sha256(key.encode()).hexdigest()[:40]


def stream(events: Iterator[ClientEvent], pump: Pump | None) -> Response:
    request_id: str = g.request_id

    def frames() -> Iterator[bytes]:
        for number, event in enumerate(events, 1):
            yield sse(event, number, request_id)

    response = Response(stream_with_context(frames()), content_type=EVENT_STREAM)
    response.headers["X-Accel-Buffering"] = "no"
    if pump is not None:
        response.call_on_close(pump.close)
    return response


def collect(events: Iterator[ClientEvent]) -> Response:
    """The turn at its end. One that failed, or that could not be kept, is a problem; one that broke off is what came of it."""
    last: ClientEvent | None = None
    for event in events:
        last = event
    assert isinstance(last, Done | Error)
    turn, kept = last.turn, isinstance(last, Done) or last.kept
    if turn.error is not None and (turn.status is TurnStatus.FAILED or not kept):
        return respond(turn.error)
    return Response(msgspec.json.encode(turn_answer(turn)), content_type="application/json")
