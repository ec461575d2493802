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


def from_record(noun: type[T], record: Mapping[str, JSON]) -> T:
    """Read a stored document; fields that a later version wrote are ignored."""
    return msgspec.convert(record, noun)
