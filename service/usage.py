"""The ledger: one row per paid call, written with the result that it paid for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias, TypedDict, overload

from service.backends.interfaces import DocumentStore, Embeddings, Path, Query, Write
from service.backends.interfaces import Set as SetDocument
from service.errors import ContextTooLong, Unavailable, UpstreamBusy, UpstreamConfig
from service.models import Call, Rate, Scope, timestamp
from service.records import from_record, to_record
from service.scope import shared

PAGE = 500
DECIMALS = 12

UNPAID = (UpstreamBusy, UpstreamConfig, Unavailable, ContextTooLong)
"""What a provider answers that takes no money: it refused the call, or never had it. What breaks off later is paid."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """The calls of one day (UTC), kind and model together; `cost` is in picodollars, of all but the `unpriced` calls."""

    day: str
    kind: str
    model: str
    calls: int
    unpriced: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost: int

    @property
    def cost_usd(self) -> str:
        return usd(self.cost)


def ledger_write(call: Call) -> Write:
    """The write that records a call; its id is deterministic, so that a repeated commit counts it once."""
    return SetDocument(("calls", call.id), to_record(call))


def embedding_call(
    model: str, embeddings: Embeddings, rate: Rate, began: float, *, id: str = "", job: str | None = None
) -> Call:
    """The row of a call that embedded texts; `began` is when, by the monotonic clock, and it ends now."""
    return Call(
        id=id,
        kind="embedding",
        model=model,
        created=timestamp(),
        outcome="ok",
        input_tokens=embeddings.tokens,
        estimated=embeddings.estimated,
        cost=rate.cost(embeddings.tokens),
        total_ms=(time.monotonic() - began) * 1000,
        job=job,
    )


@dataclass(frozen=True, slots=True)
class AppUsageRow(UsageRow):
    """As `UsageRow`, of one user of an app."""

    user: str


class Totals(TypedDict):
    calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: str
    unpriced: int


class Usage:
    """What was spent, read from the ledger."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents

    def record(self, scope: Scope, *calls: Call) -> None:
        """Record calls that no stored result goes with, like a search alone."""
        if calls:
            self._documents.commit(scope, [ledger_write(call) for call in calls])

    def summary(self, scope: Scope, days: int) -> tuple[str, list[UsageRow]]:
        """Return the first moment counted and a row per day, kind and model, newest day first."""
        since = timestamp(datetime.now(UTC) - timedelta(days=days))
        rows = [
            UsageRow(day, kind, model, *sums)
            for (_, day, kind, model), sums in summed(("", call) for call in self._calls(scope, since))
        ]
        return since, sorted(rows, key=lambda row: (row.day, row.kind, row.model), reverse=True)

    def summary_of_app(self, scope: Scope, days: int) -> tuple[str, list[AppUsageRow]]:
        """As `summary`, of all users of a scope's app: a row per day, user, kind and model."""
        since = timestamp(datetime.now(UTC) - timedelta(days=days))
        rows = [
            AppUsageRow(day, kind, model, *sums, user)
            for (user, day, kind, model), sums in summed(self._calls_of_app(scope, since))
        ]
        return since, sorted(rows, key=lambda row: (row.day, row.user, row.kind, row.model), reverse=True)

    def _calls(self, scope: Scope, since: str) -> Iterator[Call]:
        after: tuple[str, str] | None = None
        while True:
            page = self._documents.query(
                scope, Query(("calls",), "created", where=[("created", ">=", since)], after=after, limit=PAGE)
            )
            calls = [from_record(Call, snapshot.data) for snapshot in page]
            yield from calls
            if len(page) < PAGE:
                return
            after = (calls[-1].created, calls[-1].id)

    def _calls_of_app(self, scope: Scope, since: str) -> Iterator[tuple[str, Call]]:
        seen: set[Path] = set()
        while True:
            query = Query(("calls",), "created", where=[("created", ">=", since)], limit=PAGE, of_every_user=True)
            page = self._documents.query(shared(scope), query)
            # A page begins with the moment that the last one ended with, whose calls may have been seen.
            new = [snapshot for snapshot in page if snapshot.path not in seen]
            for snapshot in new:
                yield snapshot.path[1], from_record(Call, snapshot.data)
            if len(page) < PAGE or not new:
                return
            since = str(page[-1].data["created"])
            seen = {snapshot.path for snapshot in page if snapshot.data["created"] == since}


Sums: TypeAlias = tuple[int, int, int, int, int, int]
"""Calls, those without a cost among them, tokens in, of these cached, tokens out, and picodollars."""


def summed(calls: Iterable[tuple[str, Call]]) -> Iterable[tuple[tuple[str, str, str, str], Sums]]:
    """Add up calls by user, day, kind and model."""
    sums: dict[tuple[str, str, str, str], Sums] = {}
    for user, call in calls:
        key = user, call.created[:10], call.kind, call.model
        count, unpriced, given, cached, out, cost = sums.get(key, (0, 0, 0, 0, 0, 0))
        sums[key] = (
            count + 1,
            unpriced + (call.cost is None),
            given + call.input_tokens,
            cached + call.cached_tokens,
            out + call.output_tokens,
            cost + (call.cost or 0),
        )
    return sums.items()


def totals(rows: Sequence[UsageRow]) -> Totals:
    """The sums over rows, by the names that answers have for them."""
    return {
        "calls": sum(row.calls for row in rows),
        "input_tokens": sum(row.input_tokens for row in rows),
        "cached_tokens": sum(row.cached_tokens for row in rows),
        "output_tokens": sum(row.output_tokens for row in rows),
        "cost_usd": usd(sum(row.cost for row in rows)),
        "unpriced": sum(row.unpriced for row in rows),
    }


@overload
def usd(picodollars: int) -> str: ...
@overload
def usd(picodollars: int | None) -> str | None: ...
def usd(picodollars: int | None) -> str | None:
    """Write an amount in USD, exactly: a decimal number without an exponent, as short as it can be."""
    if picodollars is None:
        return None
    whole, part = divmod(picodollars, 10**DECIMALS)
    return f"{whole}.{part:0{DECIMALS}d}".rstrip("0").rstrip(".")
