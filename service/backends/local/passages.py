"""The tables of the local index, and every statement that touches them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from service.backends.interfaces import Entry, Hit
from service.backends.local.matrices import Matrix
from service.models import Passage, Scope

VERSION = 1
SCHEMA = (
    # One row per app and owner. `removed` counts the passages ever removed and `last` is the highest passage id:
    # together they tell every process whether the vectors that it holds in memory are still the stored ones.
    """CREATE TABLE shelves (
        id INTEGER PRIMARY KEY, app TEXT NOT NULL, owner TEXT NOT NULL,
        removed INTEGER NOT NULL DEFAULT 0, last INTEGER NOT NULL DEFAULT 0, UNIQUE (app, owner))""",
    """CREATE TABLE passages (
        id INTEGER PRIMARY KEY, shelf INTEGER NOT NULL REFERENCES shelves, document TEXT NOT NULL, chunk INTEGER NOT NULL,
        title TEXT NOT NULL, headings TEXT NOT NULL, page INTEGER, line INTEGER, text TEXT NOT NULL,
        space TEXT NOT NULL, vector BLOB NOT NULL, UNIQUE (shelf, document, chunk))""",
    # The shelf is a word of each passage, so that a search never walks through the matches of other shelves.
    """CREATE VIRTUAL TABLE words USING fts5 (
        shelf, title, headings, text, tokenize = 'porter unicode61 remove_diacritics 2')""",
    "INSERT INTO words (words, rank) VALUES ('rank', 'bm25(0.0, 1.0, 1.0, 1.0)')",
)

SHARED = "shared"
USER = "user:"


@dataclass(frozen=True, slots=True)
class Shelf:
    """What one owner has in one app, as one transaction sees it."""

    id: int
    app: str
    user: str | None
    removed: int
    last: int


def create_tables(db: sqlite3.Connection) -> None:
    """Create the tables unless another thread or process has done it."""
    if db.execute("PRAGMA user_version").fetchone()[0] == VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    if db.execute("PRAGMA user_version").fetchone()[0] == 0:
        for statement in SCHEMA:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def owner(user: str | None) -> str:
    return SHARED if user is None else USER + user


def readable_shelves(db: sqlite3.Connection, scope: Scope) -> list[Shelf]:
    """Return the shelves that a scope may read: its own, and what its app shares. Every read and write starts here."""
    rows = db.execute(
        "SELECT id, app, owner, removed, last FROM shelves WHERE app = ? AND owner IN (?, ?)",
        (scope.app, owner(scope.user), SHARED),
    )
    return [
        Shelf(id, app, None if name == SHARED else name.removeprefix(USER), removed, last)
        for id, app, name, removed, last in rows
    ]


def own_shelf(db: sqlite3.Connection, scope: Scope) -> Shelf | None:
    """Return the one shelf that a scope may write, if it has one yet."""
    return next((shelf for shelf in readable_shelves(db, scope) if shelf.user == scope.user), None)


def make_shelf(db: sqlite3.Connection, scope: Scope) -> Shelf:
    db.execute("INSERT OR IGNORE INTO shelves (app, owner) VALUES (?, ?)", (scope.app, owner(scope.user)))
    shelf = own_shelf(db, scope)
    assert shelf is not None
    return shelf


def insert(db: sqlite3.Connection, shelf: Shelf, entries: Iterable[Entry]) -> None:
    """Add passages that are not there."""
    id = shelf.last
    for entry in entries:
        passage, headings = entry.passage, json.dumps(entry.passage.headings)
        place = (passage.title, headings, passage.page, passage.line, passage.text)
        vector = np.ascontiguousarray(entry.vector, "<f4").tobytes()
        (id,) = db.execute(
            "INSERT INTO passages (shelf, document, chunk, title, headings, page, line, text, space, vector)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (shelf.id, passage.document, passage.chunk, *place, entry.space, vector),
        ).fetchone()
        db.execute(
            "INSERT INTO words (rowid, shelf, title, headings, text) VALUES (?, ?, ?, ?, ?)",
            (id, word(shelf), passage.title, "\n".join(passage.headings), passage.text),
        )
    db.execute("UPDATE shelves SET last = ? WHERE id = ?", (id, shelf.id))


def remove(db: sqlite3.Connection, shelf: Shelf, keys: Iterable[tuple[str, int, int]]) -> None:
    """Remove passages by (document, first chunk, chunk behind the last)."""
    ids = [
        row
        for document, start, end in keys
        for row in db.execute(
            "SELECT id FROM passages WHERE shelf = ? AND document = ? AND chunk >= ? AND chunk < ?",
            (shelf.id, document, start, end),
        )
    ]
    db.executemany("DELETE FROM words WHERE rowid = ?", ids)
    db.executemany("DELETE FROM passages WHERE id = ?", ids)
    db.execute("UPDATE shelves SET removed = removed + ? WHERE id = ?", (len(ids), shelf.id))


def read_matrix(db: sqlite3.Connection, shelf: Shelf, space: str, dimensions: int, after: int) -> Matrix:
    """Read the vectors of one shelf and space behind a passage id; those of other dimensions are no part of the space."""
    rows = db.execute(
        "SELECT id, vector FROM passages WHERE shelf = ? AND space = ? AND length(vector) = ? AND id > ? ORDER BY id",
        (shelf.id, space, 4 * dimensions, after),
    ).fetchall()
    vectors = np.frombuffer(b"".join(vector for _, vector in rows), "<f4").reshape(-1, dimensions)
    return Matrix(np.array([id for id, _ in rows], np.int64), vectors, shelf.removed, shelf.last)


def find_words(db: sqlite3.Connection, shelves: Sequence[Shelf], terms: Sequence[str], limit: int) -> list[int]:
    """Return the ids of passages with any of the terms, which are made of letters, digits and spaces, best first."""
    if not shelves or not terms:
        return []
    where, what = " OR ".join(map(word, shelves)), " OR ".join(f'"{term}"' for term in terms)
    rows = db.execute(
        "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?",
        (f"shelf : ({where}) AND {{title headings text}} : ({what})", limit),
    )
    return [id for (id,) in rows]


def word(shelf: Shelf) -> str:
    """Return the word that stands for a shelf in the full-text index."""
    return f"shelf{shelf.id}"


def read_hits(db: sqlite3.Connection, shelves: Sequence[Shelf], ids: Iterable[int]) -> dict[int, Hit]:
    """Read passages by id, leaving out what lies on no shelf of these."""
    by_id = {shelf.id: shelf for shelf in shelves}
    rows = db.execute(
        "SELECT id, shelf, document, chunk, title, headings, page, line, text FROM passages"
        " WHERE id IN (SELECT value FROM json_each(?)) AND shelf IN (SELECT value FROM json_each(?))",
        (json.dumps(list(ids)), json.dumps(list(by_id))),
    )
    return {id: hit(by_id[shelf], *columns) for id, shelf, *columns in rows}


def hit(shelf: Shelf, document: str, chunk: int, title: str, headings: str, page: int | None, line: int | None, text: str) -> Hit:
    passage = Passage(
        document=document,
        chunk=chunk,
        title=title,
        text=text,
        headings=tuple(json.loads(headings)),
        page=page,
        line=line,
        shared=shelf.user is None,
    )
    return Hit(shelf.app, shelf.user, passage)
