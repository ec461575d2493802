"""Scopes and ids as the segments of a path: two ids never share one, and none leads out of its scope.

A uid may be anything (`a/b`, `..`, a NUL), because whoever mints custom tokens chooses it.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote, unquote

from service.backends.interfaces import Path
from service.errors import BadRequest
from service.models import Scope

LONGEST_ID = 1500
"""Bytes of one encoded id, as in Firestore."""

LONGEST_FILE_NAME = 180
"""Characters; file systems end at 255 bytes."""

CUT = "%-"


def root(scope: Scope) -> Path:
    """Return the encoded path that everything of a scope lies under."""
    app = ("apps", encode(scope.app))
    return app if scope.user is None else (*app, "users", encode(scope.user))


def locate(scope: Scope, path: Path) -> Path:
    """Return the encoded path of a document or collection of a scope.

    What an app shares lies beside its users, so a scope without user refuses to go below one of them.
    """
    if scope.user is None and path[:1] == ("users",) and len(path) > 2:
        raise BadRequest("A scope without a user does not reach a user's data.")
    return root(scope) + tuple(encode(segment) for segment in path)


def encode(segment: str) -> str:
    """Encode a segment: `A-Z a-z 0-9 _ -` stay, each other byte of its UTF-8 becomes `%XX`.

    A leading `__` becomes `%5F_`, for Firestore keeps names like `__x__` to itself. Raises `BadRequest` for a segment that
    is empty, too long or no text (a lone surrogate).
    """
    encoded = quoted(segment)
    if encoded.startswith("__"):
        encoded = "%5F" + encoded[1:]
    if not 0 < len(encoded) <= LONGEST_ID:
        raise BadRequest("An id must not be empty or longer than 1500 bytes.")
    return encoded


def decode(segment: str) -> str:
    """Return what `encode` was given."""
    return unquote(segment)


def file_name(text: str) -> str:
    """Encode a text as the name of one file, also where the file system ignores case.

    Capitals are encoded too, so names never differ by case alone. A long name is cut and ends in a hash of the whole; `%-`
    marks it, which no other name can hold.
    """
    name = re.sub("%..|[A-Z]", lambda found: found[0] if len(found[0]) > 1 else f"%{ord(found[0]):02X}", quoted(text))
    if not name:
        raise BadRequest("A name must not be empty.")
    if len(name) <= LONGEST_FILE_NAME:
        return name
    return f"{name[:80]}{CUT}{hashlib.sha256(name.encode()).hexdigest()}"


def is_cut(name: str) -> bool:
    """Whether a file's name does not hold all of what it stands for."""
    return CUT in name


def quoted(text: str) -> str:
    try:
        return quote(text, safe="").replace(".", "%2E").replace("~", "%7E")
    except UnicodeEncodeError as exc:
        raise BadRequest("An id must be text that UTF-8 can hold.") from exc
