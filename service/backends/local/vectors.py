"""The local index: passages in SQLite, found by exact cosine in numpy and by the words that FTS5 holds, the two fused by rank."""

from __future__ import annotations

import sqlite3
from collections.abc import Hashable, Mapping, Sequence

from service.backends.fusion import DEPTH, fuse, weight_of_words
from service.backends.interfaces import Entry, Hit, Search, Secrets
from service.backends.local import passages
from service.backends.local.matrices import Matrices, Matrix
from service.backends.local.passages import Shelf
from service.backends.local.postings import Postings
from service.backends.local.sqlite import Database
from service.backends.words import terms
from service.config import Settings
from service.errors import BadRequest
from service.models import Scope


class LocalVectors:
    """Keeps the index in `data_dir/vectors.sqlite3`, which any number of threads and processes may use at once."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self._database = Database(settings.data_dir / "vectors.sqlite3", passages.SCHEMA, "The search index")
        self._matrices = Matrices()
        self._postings = Postings()

    def upsert(self, scope: Scope, entries: Sequence[Entry]) -> None:
        latest = {(entry.passage.document, entry.passage.chunk): entry for entry in entries}
        with self._database.write() as db:
            shelf = passages.make_shelf(db, scope)
            passages.remove(db, shelf, [(document, chunk, chunk + 1) for document, chunk in latest])
            passages.insert(db, shelf, latest.values())

    def search(self, scope: Scope, search: Search) -> list[Hit]:
        limit = max(search.limit, 0)
        depth = max(DEPTH, limit)
        with self._database.read() as db:
            shelves = passages.readable_shelves(db, scope)
            # A passage that its owner and the app both have is there twice.
            each = depth * len(shelves)
            by_vector = self._nearest(db, shelves, search, each)
            by_words = passages.find_words(db, shelves, self._postings, terms(search.text), each)
            found = {*by_vector, *by_words}
            keys = passages.read_keys(db, shelves, found) if len(shelves) > 1 else {rowid: rowid for rowid in found}
            best = ranked(keys, by_vector, by_words, weight_of_words(search.text), depth)[:limit]
            return passages.read_hits(db, [rowid for rowid, _ in best], [score for _, score in best])

    def delete(self, scope: Scope, document: str, chunks: int) -> None:
        with self._database.write() as db:
            if shelf := passages.own_shelf(db, scope):
                passages.remove(db, shelf, [(document, 0, chunks)])

    def entries(self, scope: Scope, after: str = "", limit: int = 200) -> list[tuple[str, Entry]]:
        """Return a scope's own entries in a fixed order, each with the cursor behind which the next one follows."""
        import numpy as np

        document, _, chunk = after.rpartition("/")
        if after and not chunk.isdecimal():
            raise BadRequest("This is no cursor of the search index.")
        with self._database.read() as db:
            shelf = passages.own_shelf(db, scope)
            found = passages.read_page(db, shelf, (document, int(chunk or -1)), limit) if shelf else []
        return [
            (f"{passage.document}/{passage.chunk}", Entry(passage, np.frombuffer(vector, "<f4"), space))
            for passage, space, vector in found
        ]

    def check(self) -> None:
        with self._database.write() as db:
            db.execute("SELECT id FROM shelves LIMIT 1")

    def _nearest(self, db: sqlite3.Connection, shelves: Sequence[Shelf], search: Search, limit: int) -> list[int]:
        if search.vector is None:
            return []
        near: list[tuple[float, int]] = []
        for shelf in shelves:
            near += self._matrix(db, shelf, search.space, search.vector.size).nearest(search.vector, limit)
        return [rowid for _, rowid in sorted(near, key=lambda pair: (-pair[0], pair[1]))[:limit]]

    def _matrix(self, db: sqlite3.Connection, shelf: Shelf, space: str, dimensions: int) -> Matrix:
        def load(after: int) -> Matrix:
            return passages.read_matrix(db, shelf, space, dimensions, after)

        return self._matrices.get((shelf.id, space, dimensions), shelf.removed, shelf.last, load)


def ranked(
    keys: Mapping[int, Hashable], by_vector: Sequence[int], by_words: Sequence[int], weight: float, depth: int
) -> list[tuple[int, float]]:
    """Fuse both rankings by the passages' keys, so that a passage which its owner and the app both have counts once."""

    def places(ranking: Sequence[int]) -> list[Hashable]:
        return list(dict.fromkeys(keys[rowid] for rowid in ranking if rowid in keys))[:depth]

    rowids = {key: rowid for rowid, key in keys.items()}
    return [(rowids[key], score) for key, score in fuse([(1.0, places(by_vector)), (weight, places(by_words))])]
