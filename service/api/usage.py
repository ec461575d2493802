"""What the caller's use amounts to."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from service.api import schemas
from service.api.routing import AnyOperation, Call, Operation
from service.api.schemas import DaysQuery
from service.records import learned
from service.services import Services
from service.usage import UsageRow


def usage(services: Services) -> list[AnyOperation]:
    """The operations on the ledger."""

    def get_usage(call: Call[DaysQuery, None]) -> msgspec.Struct:
        since, rows = services.usage.summary(call.scope, call.query.days)
        return schemas.UsageAnswer(
            since=since,
            **totals(rows),
            rows=[msgspec.convert(row, learned(schemas.UsageRowAnswer), from_attributes=True) for row in rows],
        )

    def get_app_usage(call: Call[DaysQuery, None]) -> msgspec.Struct:
        since, rows = services.usage.summary_of_app(call.scope, call.query.days)
        return schemas.AppUsageAnswer(
            since=since,
            **totals(rows),
            rows=[msgspec.convert(row, learned(schemas.AppUsageRowAnswer), from_attributes=True) for row in rows],
        )

    return [
        Operation(
            "get_usage", "GET", "/v1/apps/<app>/usage", "member", "Your calls and tokens by day, kind and model",
            get_usage, {200: schemas.UsageAnswer}, query=DaysQuery,
        ),
        Operation(
            "get_app_usage", "GET", "/v1/apps/<app>/shared/usage", "admin",
            "The calls and tokens of everyone in the app, by day, user, kind and model",
            get_app_usage, {200: schemas.AppUsageAnswer}, query=DaysQuery,
        ),
    ]  # fmt: skip


def totals(rows: Sequence[UsageRow]) -> dict[str, int]:
    """The sums over rows, by the names that both answers have for them."""
    return {name: sum(getattr(row, name) for row in rows) for name in ("calls", "input_tokens", "output_tokens")}
