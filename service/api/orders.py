"""The shapes of jobs that are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from service.api.schemas import Answer, Body, Identifier, PageQuery


class JobsQuery(PageQuery, frozen=True):
    """`kind` and `status` leave out the others, also where a page then holds fewer than `limit`."""

    kind: Identifier | None = None
    status: Literal["PENDING", "PROCESSING", "COMPLETED", "FAILED", "CANCELLED"] | None = None


class OrderBody(Body, frozen=True):
    """A job to be done; what `input` takes is its kind's to say."""

    kind: Annotated[str, Meta(max_length=64)]
    input: Mapping[str, Any] = msgspec.field(default_factory=dict)


class ErasureAnswer(Answer, frozen=True):
    """The receipt of an erasure, which names nobody. `removed` counts what was removed by kind, `left` what a last look still found."""

    id: str
    status: str
    created: str
    ended: str | None
    removed: Mapping[str, int]
    left: Mapping[str, int] | None
    unlisted: list[str]
