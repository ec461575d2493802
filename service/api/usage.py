"""What the caller's use amounts to."""

from __future__ import annotations

import msgspec

from service.api import schemas
from service.api.routing import AnyOperation, Call, Operation
from service.api.schemas import DaysQuery
from service.records import learned
from service.services import Services
from service.usage import totals


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
            "get_usage", "GET", "/v1/apps/<app>/usage", "member", "Your calls, tokens and costs by day, kind and model",
            get_usage, {200: schemas.UsageAnswer}, query=DaysQuery,
        ),
        Operation(
            "get_app_usage", "GET", "/v1/apps/<app>/shared/usage", "admin",
            "The calls, tokens and costs of everyone in the app, by day, user, kind and model",
            get_app_usage, {200: schemas.AppUsageAnswer}, query=DaysQuery,
        ),
    ]  # fmt: skip
