"""One attempt: who asks for what in which way, and how it may be answered. Anything else has succeeded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from service.proof.client import Answer, Request
from service.proof.credentials import Visitor

ACTORS = ("nobody", "forged", "outsider", "other app", "same app", "odd name", "admin", "service")
"""Who attacks: without credentials; with ones that do not hold; a user who is no member; a member of another app, often with the
victim's own name; a member of the victim's app; a member whose name is a path; an app's admin; a service account."""

CHANNELS = (
    "path",
    "query",
    "body",
    "header",
    "cursor",
    "reference",
    "repeated turn",
    "index",
    "signed URL",
    "job",
    "event",
    "origin",
    "client SDK",
)
"""The ways of naming what is another's."""

Check = Callable[[Answer], str | None]
"""Looks at an answer for more than its status and its canaries, and says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """`absent` is the same request for what is not there: the answers must not differ."""

    channel: str
    actor: str
    technique: str
    operation: str
    request: Request
    visitor: Visitor
    expected: frozenset[int]
    absent: Request | None = None
    check: Check | None = None

    def __post_init__(self) -> None:
        assert self.channel in CHANNELS, self.channel
        assert self.actor in ACTORS, self.actor

    def __str__(self) -> str:
        asked = f"{self.request.method} {self.request.path}"
        return f"{self.channel} · {self.actor} · {self.technique}: {self.visitor.name} sends {asked}"


@dataclass(frozen=True, slots=True)
class Breach:
    """An attempt that succeeded, and by what it is known."""

    attempt: str
    channel: str
    actor: str
    why: str


def statuses(*given: int | Iterable[int]) -> frozenset[int]:
    return frozenset(status for one in given for status in ([one] if isinstance(one, int) else one))
