"""Chats and messages."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import msgspec
from flask import Request, Response
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from service.api import cursors, schemas
from service.api.answers import EVENT_STREAM, TAKES_OVER, Answer, Turning
from service.api.encoders import chat_answer, turn_answer
from service.api.parsing import idempotency_key
from service.api.pump import Follower, Pump
from service.api.routing import AnyOperation, Call, Operation, Reply
from service.api.schemas import MessageBody, NoQuery, PageQuery, RenameBody
from service.chat.prepare import Prepared
from service.errors import NotAcceptable, Unprocessable
from service.services import Services

BASE = "/v1/apps/<app>/chats"


def chats(services: Services) -> list[AnyOperation]:
    """The operations on a user's chats."""
    conversations, settings, loop = services.conversations, services.settings, services.loop

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
        streams = wants_stream(call.request.headers.get("Accept"))
        turn_id = call.body.id or key_id(call.request)
        prepared = services.turns.prepare(
            call.scope, call.app, call.ids["chat"], turn_id, call.body.text, call.request_id
        )
        tick = settings.heartbeat_seconds
        turning: Turning
        if isinstance(prepared, Prepared):
            model, seconds = services.backends.model, settings.turn_seconds
            turning = Pump(prepared, model, conversations, loop.saving, turn_seconds=seconds, tick=tick)
        else:
            turning = Follower(prepared, conversations, loop.saving, tick=tick)
        answer = Answer(loop, turning, call.request_id, streams=streams)
        return respond(answer, streams=streams, taken_over=TAKES_OVER in call.request.environ)

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


@lru_cache(maxsize=128)
def wants_stream(accept: str | None) -> bool:
    """Whether a client with this `Accept` asks for events; raises `NotAcceptable` if it takes neither events nor JSON."""
    accepted = parse_accept_header(accept, MIMEAccept)
    if not accepted or accepted.best == "*/*":
        return False
    best = accepted.best_match(["application/json", EVENT_STREAM])
    if best is None:
        raise NotAcceptable("This endpoint answers application/json or text/event-stream.")
    return best == EVENT_STREAM


def key_id(request: Request) -> str | None:
    """The turn's id that follows from an `Idempotency-Key`."""
    key = idempotency_key(request)
    return None if key is None else "key-" + hashlib.sha256(key.encode()).hexdigest()[:40]


def respond(answer: Answer, *, streams: bool, taken_over: bool) -> Response:
    """The response whose body is an answer; where the server does not take it over and it comes whole, this waits for it."""
    if not streams and not taken_over:
        status, headers, body = answer.wait()
        return Response(body, status, headers)
    response = Response(answer, content_type=EVENT_STREAM if streams else "application/json", direct_passthrough=True)
    if streams:
        response.headers["X-Accel-Buffering"] = "no"
    return response
