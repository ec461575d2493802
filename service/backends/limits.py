"""What Firestore refuses to store is refused here too, so that nothing works on a laptop alone.

Source: "Usage and limits" and "Storage size calculations" in the Firestore documentation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

from service.backends.interfaces import Path
from service.errors import BadRequest, TooLarge

MAX_WRITES = 500
MAX_DOCUMENT_BYTES = 1_048_576
MAX_COMMIT_BYTES = 10 * 1_048_576
MAX_DEPTH = 20
MAX_FIELD_NAME_BYTES = 1500
OVERHEAD_BYTES = 32
TOO_DEEP = "A stored value must not be nested more than 20 levels deep."
INT64 = range(-(2**63), 2**63)


def document_size(path: Path, data: Mapping[str, object]) -> int:
    """Return a document's size in bytes as Firestore counts it; raises `BadRequest` for what it cannot hold, or `TooLarge`."""
    name = sum(len(segment) + 1 for segment in path) + 16
    size = name + map_size(data, 0)
    if size > MAX_DOCUMENT_BYTES:
        raise TooLarge("A stored document must not be larger than 1 MiB.")
    return size


def map_size(data: Mapping[str, object], depth: int) -> int:
    if depth == MAX_DEPTH and data:
        raise BadRequest(TOO_DEEP)
    size = OVERHEAD_BYTES
    for name, value in data.items():
        # Text is what most values are.
        size += field_size(name) + (text_size(value) if type(value) is str else value_size(value, depth + 1))
    return size


@lru_cache(maxsize=1024)
def field_size(name: object) -> int:
    if not isinstance(name, str) or not name or (name.startswith("__") and name.endswith("__")):
        raise BadRequest("A field name must be text, not empty and not of the form `__name__`.")
    size = text_size(name)
    if size > MAX_FIELD_NAME_BYTES:
        raise BadRequest("A field name must not be longer than 1500 bytes.")
    return size


def value_size(value: object, depth: int, in_list: bool = False) -> int:
    if depth > MAX_DEPTH:
        raise BadRequest(TOO_DEEP)
    match value:
        case str():
            return text_size(value)
        case None | bool():
            return 1
        case int() | float():
            return number_size(value)
        case dict():
            return map_size(value, depth)
        case list() | tuple():
            if in_list:
                raise BadRequest("A list must not hold a list directly.")
            return sum(value_size(item, depth + 1, in_list=True) for item in value)
        case Mapping():
            return map_size(value, depth)
    raise BadRequest("A stored value must be JSON.")


def number_size(value: int | float) -> int:
    if value not in INT64 if isinstance(value, int) else not math.isfinite(value):
        raise BadRequest("A number must be finite, and a whole number must fit into 64 bits.")
    return 8


def text_size(text: str) -> int:
    if text.isascii():
        return len(text) + 1
    try:
        return len(text.encode()) + 1
    except UnicodeEncodeError as exc:
        raise BadRequest("Text must not hold half a character (a lone surrogate).") from exc
