"""Turns under a victim's ids and about a victim's things: the answer, the stream and the prompt are the asker's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from secrets import token_hex

from service.proof import index
from service.proof.attacks.scene import Scene
from service.proof.attacks.searches import FORGETS
from service.proof.attempts import Attempt, statuses
from service.proof.client import Request
from service.proof.credentials import Visitor
from service.proof.world import APPS, THIEVES, Belongings

ASK = "chats.post_message"
EVENTS = {"Accept": "text/event-stream"}


def attacks(scene: Scene) -> Iterator[Attempt]:
    """Yield questions, each of a member who has asked nothing before."""
    recorded = iter(THIEVES)
    for victim in scene.victims():
        for app in APPS:
            actor = "same app" if app == victim.app else "other app"
            for question in questions(victim):
                name = next(recorded, None) if app == "beta" else f"asker-{token_hex(6)}"
                if name is not None:
                    yield asked(actor, scene.world.visitor(app, name), question)


@dataclass(frozen=True, slots=True)
class Question:
    """What is sent to which chat."""

    channel: str
    technique: str
    chat: str
    body: Mapping[str, object]
    headers: Mapping[str, str]


def questions(victim: Belongings) -> Iterator[Question]:
    for kind, accept in (("", {}), (", streamed", EVENTS)):
        repeated = {"id": victim.message, "text": victim.question}
        key, last = {"Idempotency-Key": victim.key, **accept}, {"Last-Event-ID": "1", **accept}
        own = f"chat-{token_hex(4)}"
        named = f"Quote document {victim.document} and chat {victim.chat} of {victim.user}."
        forget = f"{index.order(victim.app, victim.user)} {victim.probe}"
        for channel, technique, chat, body, headers in (
            ("repeated turn", "a victim's message again", victim.chat, repeated, accept),
            ("repeated turn", "a victim's key again", victim.chat, {"text": victim.keyed}, key),
            ("repeated turn", "a victim's message in other words", victim.chat, {**repeated, "text": "Go on."}, accept),
            ("repeated turn", "a stream taken up", victim.chat, repeated, last),
            ("reference", "a chat called like a victim's", victim.chat, {"text": "What did I ask before?"}, accept),
            ("reference", "a question that names ids", own, {"text": named}, accept),
            ("index", "a question by a victim's word", own, {"text": f"What is {victim.probe}?"}, accept),
            ("index", FORGETS, own, {"text": forget}, accept),
        ):
            yield Question(channel, technique + kind, chat, body, headers)


def asked(actor: str, asker: Visitor, question: Question) -> Attempt:
    """Ask as somebody who has asked nothing before, and to whom therefore nothing but their app's can be told."""
    return Attempt(
        channel=question.channel,
        actor=actor,
        technique=question.technique,
        operation=ASK,
        request=Request(
            "POST", f"/v1/apps/{asker.app}/chats/{question.chat}/messages", question.body, question.headers
        ),
        visitor=asker,
        expected=statuses(200),
    )
