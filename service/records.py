"""The nouns as stored documents and back: the only place that knows how a value becomes JSON."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from service.models import JSON

T = TypeVar("T")

LEARNING = threading.Lock()
LEARNED: set[object] = set()


def learned(kind: type[T]) -> type[T]:
    """Return a type that msgspec knows, to be read by any thread.

    It works out a type when it meets it first, and a second thread that meets it meanwhile takes what is half made, by which the
    process dies of a segmentation fault (msgspec 0.22). So each is worked out here, by one thread.
    """
    if kind not in LEARNED:
        with LEARNING:
            msgspec.json.Decoder(kind)
            LEARNED.add(kind)
    return kind


def to_record(noun: object) -> dict[str, JSON]:
    record: dict[str, JSON] = msgspec.to_builtins(noun)
    return record


def to_text(noun: object) -> str:
    """Write a noun as one text, which a store takes and gives faster than its parts: for what is only used as a whole."""
    return msgspec.json.encode(noun).decode()


def from_text(noun: type[T], text: str) -> T:
    return msgspec.json.decode(text, type=learned(noun))


def from_record(noun: type[T], record: Mapping[str, JSON]) -> T:
    """Read a stored document; fields that a later version wrote are ignored."""
    return msgspec.convert(record, learned(noun))
