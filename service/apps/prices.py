"""What models cost: the table `prices.toml` of this package, and what an app says instead."""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from service.apps.tables import Table, Tokens
from service.errors import ConfigError
from service.models import Rate
from service.records import learned

TABLE = Path(__file__).parent.parent / "prices.toml"
MICRODOLLARS = 1_000_000
"""USD per million tokens are microdollars a token, and so many times as many picodollars."""

MOST = 100_000
PUBLISHER = "google/"
"""What Vertex AI's own models may be named with, and are priced without."""


class Price(Table, frozen=True, kw_only=True):
    """What a model costs, in USD per million tokens of at most six decimals.

    Without `cached_input`, cached tokens cost what others do. `longest_prompt` is how many tokens a prompt may have at this price.
    """

    input: Decimal | None = None
    cached_input: Decimal | None = None
    output: Decimal | None = None
    longest_prompt: Tokens | None = None
    free: bool = False

    def __post_init__(self) -> None:
        given = [self.input, self.cached_input, self.output]
        if self.free and given != [None, None, None]:
            raise ValueError("either `free = true` or what it costs, not both")
        if not self.free and (self.input is None or self.output is None):
            raise ValueError("it needs `input` and `output`, in USD per million tokens, or `free = true`")
        if any(figure is not None and not is_exact(figure) for figure in given):
            raise ValueError(f"a price is a number from 0 to {MOST}, with six decimals at most")

    @property
    def rate(self) -> Rate:
        full = picodollars(self.input)
        cached = full if self.cached_input is None else picodollars(self.cached_input)
        return Rate(full, cached, picodollars(self.output))


class Listed(Price, frozen=True, kw_only=True):
    """A price of the table: `source` is who told it, `read` when."""

    read: datetime.date | None = None
    source: Annotated[str, Meta(pattern="^https://")] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.free and (self.read is None or self.source is None):
            raise ValueError("it needs `read` and `source`")


@cache
def table() -> Mapping[str, Listed]:
    """Return the prices by model, read when they are asked for first."""
    return msgspec.convert(tomllib.loads(TABLE.read_text(encoding="utf-8")), learned(dict[str, Listed]))


def find(model: str, own: Mapping[str, Price]) -> Price | None:
    """Return what a model costs, by what an app says of it or else by the table; None if neither knows."""
    plain = model.removeprefix(PUBLISHER)
    return own.get(model) or own.get(plain) or table().get(plain)


def check_prices(toml: Path, models: Sequence[str], own: Mapping[str, Price], budget: int) -> None:
    """Raise `ConfigError` if one of the models has no price, or none for a prompt of so many tokens."""
    prices = {model: find(model, own) for model in models}
    if missing := [model for model, price in prices.items() if price is None]:
        raise ConfigError(f"{toml}: {unpriced(missing)}")
    for model, price in prices.items():
        if price and price.longest_prompt and budget > price.longest_prompt:
            raise ConfigError(
                f"{toml}: `{model}` has a price for prompts of up to {price.longest_prompt} tokens, but `context.token_budget` "
                f'is {budget}. Lower it, or write what longer ones cost into a table [prices."{model}"].'
            )


def unpriced(models: Sequence[str]) -> str:
    """Say that models have no price, and what to write for each."""
    named, tables = " and ".join(f"`{m}`" for m in models), " and ".join(f'[prices."{m}"]' for m in models)
    return (
        f"no price is known of {named}, and nothing is called without one. Add {tables}, with `input` and `output` in USD per "
        "million tokens, or with `free = true` where it costs nothing. What costs nothing in any app may stand in FREE_MODELS."
    )


def is_exact(figure: Decimal) -> bool:
    """Say whether a price can be told in whole picodollars a token."""
    return figure.is_finite() and 0 <= figure <= MOST and figure * MICRODOLLARS % 1 == 0


def picodollars(figure: Decimal | None) -> int:
    """Turn USD per million tokens into picodollars a token."""
    return int(figure * MICRODOLLARS) if figure else 0
