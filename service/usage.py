"""The ledger: one row per paid call, written with the result that it paid for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from service.backends.interfaces import DocumentStore, Query, Write
from service.backends.interfaces import Set as SetDocument
from service.models import Call, Scope, timestamp
from service.records import from_record, to_record

PAGE = 500


@dataclass(frozen=True, slots=True)
class UsageRow:
    """The calls of one day (UTC), kind and model together."""

    day: str
    kind: str
    model: str
    calls: int
    input_tokens: int
    output_tokens: int


def ledger_write(call: Call) -> Write:
    """The write that records a call; its id is deterministic, so that a repeated commit counts it once."""
    return SetDocument(("calls", call.id), to_record(call))


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
        sums: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
        for call in self._calls(scope, since):
            row = sums[call.created[:10], call.kind, call.model]
            row[0] += 1
            row[1] += call.input_tokens
            row[2] += call.output_tokens
        rows = [UsageRow(*key, *figures) for key, figures in sums.items()]
        return since, sorted(rows, key=lambda row: (row.day, row.kind, row.model), reverse=True)

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
