"""Nouns and client events as bytes: JSON, and server-sent events."""

from __future__ import annotations

import msgspec

from service.api import schemas
from service.api.problems import problem
from service.chat.events import Accepted, Citations, ClientEvent, Done, Error, Heartbeat, Text
from service.models import Chat, Document, Job, Passage, Turn
from service.records import learned

encoder = msgspec.json.Encoder()


def chat_answer(chat: Chat) -> schemas.ChatAnswer:
    return schemas.ChatAnswer(chat.id, chat.title, chat.created, chat.updated, chat.turns)


def turn_answer(turn: Turn) -> schemas.TurnAnswer:
    return msgspec.convert(turn, learned(schemas.TurnAnswer), from_attributes=True)


def passage_answer(passage: Passage) -> schemas.PassageAnswer:
    return msgspec.convert(passage, learned(schemas.PassageAnswer), from_attributes=True)


def document_answer(document: Document) -> schemas.DocumentAnswer:
    return msgspec.convert(document, learned(schemas.DocumentAnswer), from_attributes=True)


def job_answer(job: Job) -> schemas.JobAnswer:
    return msgspec.convert(job, learned(schemas.JobAnswer), from_attributes=True)


def sse(event: ClientEvent, number: int, request_id: str) -> bytes:
    """One event of `text/event-stream`; its id is its number within the stream."""
    match event:
        case Text(text):
            return frame("delta", schemas.DeltaEvent(text), number)
        case Heartbeat():
            return b": heartbeat\n\n"
        case Accepted(turn, chat):
            return frame("accepted", schemas.AcceptedEvent(turn_answer(turn), chat_answer(chat)), number)
        case Citations(passages):
            return frame("citations", schemas.CitationsEvent([passage_answer(p) for p in passages]), number)
        case Done(turn):
            return frame("done", schemas.DoneEvent(turn_answer(turn)), number)
        case Error(turn=turn):
            return frame("error", error_event(turn, request_id), number)


def frame(name: str, data: msgspec.Struct, number: int) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, name.encode(), encoder.encode(data))


def error_event(turn: Turn, request_id: str) -> schemas.ErrorEvent:
    assert turn.error is not None
    described = problem(turn.error, request_id)
    return schemas.ErrorEvent(**msgspec.structs.asdict(described), turn=turn_answer(turn))
