"""The index in PostgreSQL: exact nearness by pgvector and its own full-text search, the two fused by rank.

Both rankings walk through the passages of one scope, found by the primary key, and never through anybody else's. An approximate
index (HNSW, IVFFlat) spans all scopes and filters what it finds: a small scope beside large ones would find little or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.backends.fusion import DEPTH, fuse, weight_of_words
from service.backends.interfaces import Entry, Hit, Search, Secrets
from service.backends.postgres import passages
from service.backends.postgres.database import STATEMENT_SECONDS, Database
from service.backends.postgres.passages import Key, Row
from service.config import Settings
from service.models import Scope


class PostgresVectors:
    """Keeps every app's passages in one table of the database at `POSTGRES_URL`; makes it, if need be, on first use."""

    def __init__(self, settings: Settings, secrets: Secrets, *, statement_seconds: float = STATEMENT_SECONDS) -> None:
        settings.require("The pgvector index", "postgres_url")
        self._database = Database(settings.postgres_url, statement_seconds)

    def upsert(self, scope: Scope, entries: Sequence[Entry]) -> None:
        rows = passages.rows(scope, entries)
        if rows:
            self._database.run(lambda connection: passages.insert(connection, rows))

    def search(self, scope: Scope, search: Search) -> list[Hit]:
        limit = max(search.limit, 0)
        depth = max(DEPTH, limit)
        # Twice as many, because a passage that its owner and the app both have is there twice.
        rankings = self._database.run(lambda connection: passages.find(connection, scope, search, 2 * depth))
        by_vector, by_words = rankings
        weight = weight_of_words(search.text)
        best = fuse([(1.0, places(by_vector)[:depth]), (weight, places(by_words)[:depth])])[:limit]
        found = {row.key: row for row in (*by_vector, *by_words)}
        return [passages.hit(found[key], score) for key, score in best]

    def delete(self, scope: Scope, document: str, chunks: int) -> None:
        self._database.run(lambda connection: passages.remove(connection, scope, document, chunks))

    def entries(self, scope: Scope, after: str = "", limit: int = 200) -> list[tuple[str, Entry]]:
        """Return a scope's own entries in a fixed order, each with the cursor behind which the next one follows."""
        return self._database.run(lambda connection: passages.page(connection, scope, after, limit))

    def check(self) -> None:
        self._database.check(passages.probe)


def places(ranking: Sequence[Row]) -> list[Key]:
    """Return a ranking's documents and chunks, each once, though its owner and the app may both have it."""
    return list(dict.fromkeys(row.key for row in ranking))
