"""The nouns as stored documents and back: the only place that knows how a value becomes JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from service.models import JSON

T = TypeVar("T")


def to_record(noun: object) -> dict[str, JSON]:
    record: dict[str, JSON] = msgspec.to_builtins(noun)
    return record


def to_text(noun: object) -> str:
    """Write a noun as one text, which a store takes and gives faster than its parts: for what is only used as a whole."""
    return msgspec.json.encode(noun).decode()


def from_text(noun: type[T], text: str) -> T:
    return msgspec.json.decode(text, type=noun)


def from_record(noun: type[T], record: Mapping[str, JSON]) -> T:
    """Read a stored document; fields that a later version wrote are ignored."""
    return msgspec.convert(record, noun)
