"""What the tables of `app.toml` are made of."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Tokens = Annotated[int, Meta(ge=1, le=2_000_000)]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Model(Table, frozen=True):
    """Which model answers; without a name, the one of the settings."""

    name: Annotated[str, Meta(max_length=200)] = ""
    max_output_tokens: Tokens = 1024
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
