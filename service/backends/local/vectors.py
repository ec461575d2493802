"""The local index: passages in SQLite, found by exact cosine in numpy and by FTS5's BM25, the two fused by rank."""

from __future__ import annotations

import queue
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from service.backends.interfaces import Entry, Hit, Search, Secrets
from service.backends.local import passages
from service.backends.local.fusion import fuse
from service.backends.local.matrices import Matrices, Matrix
from service.backends.local.passages import Shelf
from service.backends.local.words import terms
from service.config import Settings
from service.errors import Unavailable
from service.models import Scope

BUSY_SECONDS = 10.0
DEPTH = 100
"""Places of each ranking that take part in the fusion, at least."""

WEIGHT_OF_VECTORS, WEIGHT_OF_WORDS = 1.0, 1.0


class LocalVectors:
    """Keeps the index in `data_dir/vectors.sqlite3`, which any number of threads and processes may use at once.

    How rare a word is, is counted over the whole file; what is found comes from the scope alone.
    """

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self._path = settings.data_dir / "vectors.sqlite3"
        self._matrices = Matrices()
        self._writing = threading.Lock()
        self._idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self.close = weakref.finalize(self, close_all, self._idle)

    def upsert(self, scope: Scope, entries: Sequence[Entry]) -> None:
        latest = {(entry.passage.document, entry.passage.chunk): entry for entry in entries}
        with self._writing, self._transaction("IMMEDIATE") as db:
            shelf = passages.make_shelf(db, scope)
            passages.remove(db, shelf, [(document, chunk, chunk + 1) for document, chunk in latest])
            passages.insert(db, shelf, latest.values())

    def delete(self, scope: Scope, document: str, chunks: int) -> None:
        with self._writing, self._transaction("IMMEDIATE") as db:
            if shelf := passages.own_shelf(db, scope):
                passages.remove(db, shelf, [(document, 0, chunks)])

    def search(self, scope: Scope, search: Search) -> list[Hit]:
        depth = max(DEPTH, 2 * search.limit)
        with self._transaction("DEFERRED") as db:
            shelves = passages.readable_shelves(db, scope)
            by_vector = self._nearest(db, shelves, search, depth)
            by_words = passages.find_words(db, shelves, terms(search.text), depth)
            found = passages.read_hits(db, shelves, {*by_vector, *by_words})
        return ranked(found, by_vector, by_words)[: max(search.limit, 0)]

    def check(self) -> None:
        with self._transaction("DEFERRED") as db:
            db.execute("SELECT id FROM shelves LIMIT 1").fetchone()

    def _nearest(self, db: sqlite3.Connection, shelves: Sequence[Shelf], search: Search, limit: int) -> list[int]:
        if search.vector is None:
            return []
        vector = np.asarray(search.vector, np.float32)
        near: list[tuple[float, int]] = []
        for shelf in shelves:
            near += self._matrix(db, shelf, search.space, vector.size).nearest(vector, limit)
        return [id for _, id in sorted(near, reverse=True)[:limit]]

    def _matrix(self, db: sqlite3.Connection, shelf: Shelf, space: str, dimensions: int) -> Matrix:
        def load(after: int) -> Matrix:
            return passages.read_matrix(db, shelf, space, dimensions, after)

        return self._matrices.get((shelf.id, space, dimensions), shelf.removed, shelf.last, load)

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        """Lend a connection within a transaction, and keep it for the next one if all went well."""
        try:
            db = self._connect()
            try:
                db.execute(f"BEGIN {kind}")
                yield db
                db.execute("COMMIT")
            except BaseException:
                db.close()
                raise
        except (sqlite3.Error, OSError) as exc:
            raise Unavailable("The search index cannot be read or written.") from exc
        self._idle.put(db)

    def _connect(self) -> sqlite3.Connection:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            passages.create_tables(db)
        except BaseException:
            db.close()
            raise
        return db


def ranked(found: dict[int, Hit], by_vector: Sequence[int], by_words: Sequence[int]) -> list[Hit]:
    """Fuse both rankings by document and chunk, so that a passage which its owner and the app both have counts once."""
    hits = {key(hit): hit for id, hit in found.items()}
    rankings = [
        (weight, [key(found[id]) for id in ids if id in found])
        for weight, ids in ((WEIGHT_OF_VECTORS, by_vector), (WEIGHT_OF_WORDS, by_words))
    ]
    return [replace(hits[k], passage=replace(hits[k].passage, score=score)) for k, score in fuse(rankings)]


def key(hit: Hit) -> tuple[str, int]:
    return hit.passage.document, hit.passage.chunk


def close_all(connections: queue.SimpleQueue[sqlite3.Connection]) -> None:
    while not connections.empty():
        connections.get_nowait().close()
