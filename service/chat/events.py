"""What goes into a turn's machine and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from service.backends.interfaces import Delta, Finish, Usage, Write
from service.errors import BrainstemError
from service.models import Chat, Passage, Turn

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


class Text(msgspec.Struct, frozen=True):
    text: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    pass


@dataclass(frozen=True, slots=True)
class Done:
    turn: Turn


@dataclass(frozen=True, slots=True)
class Error:
    """The turn ended badly: `turn` says why, and is what is stored of it, unless it is not `kept`."""

    turn: Turn
    kept: bool = True


ClientEvent: TypeAlias = Accepted | Citations | Text | Heartbeat | Done | Error


class Send(msgspec.Struct, frozen=True):
    event: ClientEvent


@dataclass(frozen=True, slots=True)
class Save:
    """Commit the writes atomically; the first one is the turn's. To compose those of a long answer takes a while: not on the loop."""

    compose: Callable[[], list[Write]]


Effect: TypeAlias = Send | Save
