"""Where a page ended, as an opaque text. It holds only values of the caller's own listing and is read as strictly as a body."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Protocol

from service.errors import BadRequest

Position = tuple[str | int, str]


class Listed(Protocol):
    @property
    def id(self) -> str: ...


def after(found: Sequence[Listed], limit: int, field: str) -> str | None:
    """The cursor behind a page that was ordered by `field`, or None if nothing can follow it."""
    if len(found) < limit:
        return None
    position: Position = getattr(found[-1], field), found[-1].id
    return base64.urlsafe_b64encode(json.dumps(position, separators=(",", ":")).encode()).decode().rstrip("=")


def decode(cursor: str | None) -> Position | None:
    """Read a cursor; raises `BadRequest` for one that was not made here."""
    if cursor is None:
        return None
    try:
        value = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError, binascii.Error):
        raise BadRequest("The cursor is not one of ours.") from None
    match value:
        case [str() | int() as key, str() as id] if not isinstance(key, bool) and (
            isinstance(key, str) or abs(key) < 2**53
        ):
            return key, id
        case _:
            raise BadRequest("The cursor is not one of ours.")
