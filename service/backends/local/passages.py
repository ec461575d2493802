"""The tables of the local index, and every statement that touches them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from service.backends.interfaces import Entry, Hit
from service.backends.local.matrices import Matrix
from service.backends.local.postings import Find, Postings, Words, rank
from service.backends.words import spaced
from service.models import Passage, Scope

SCHEMA = (
    # One row per app and owner. `removed` counts the passages ever removed and `last` is the highest passage id:
    # together they tell every process whether the vectors that it holds in memory are still the stored ones.
    """CREATE TABLE IF NOT EXISTS shelves (
        id INTEGER PRIMARY KEY, app TEXT NOT NULL, owner TEXT NOT NULL,
        removed INTEGER NOT NULL DEFAULT 0, last INTEGER NOT NULL DEFAULT 0, UNIQUE (app, owner))""",
    """CREATE TABLE IF NOT EXISTS passages (
        id INTEGER PRIMARY KEY, shelf INTEGER NOT NULL, document TEXT NOT NULL, chunk INTEGER NOT NULL,
        title TEXT NOT NULL, headings TEXT NOT NULL, page INTEGER, line INTEGER, text TEXT NOT NULL,
        space TEXT NOT NULL, vector BLOB NOT NULL, UNIQUE (shelf, document, chunk))""",
    # The shelf is a word of each passage, so that a search never walks through the matches of other shelves.
    """CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
        shelf, title, headings, text, tokenize = 'porter unicode61 remove_diacritics 2')""",
)
SHORTEST_PREFIX = 3

SHARED, USER = "shared", "user:"


@dataclass(frozen=True, slots=True)
class Shelf:
    """What one owner has in one app, as one transaction sees it."""

    id: int
    app: str
    user: str | None
    removed: int
    last: int


def owner(user: str | None) -> str:
    return SHARED if user is None else USER + user


def user(owner: str) -> str | None:
    return None if owner == SHARED else owner.removeprefix(USER)


def readable_shelves(db: sqlite3.Connection, scope: Scope) -> list[Shelf]:
    """Return the shelves that a scope may read: its own, and what its app shares. Every read and write starts here."""
    rows = db.execute(
        "SELECT id, app, owner, removed, last FROM shelves WHERE app = ? AND owner IN (?, ?) ORDER BY id",
        (scope.app, owner(scope.user), SHARED),
    )
    return [Shelf(number, app, user(name), removed, last) for number, app, name, removed, last in rows]


def own_shelf(db: sqlite3.Connection, scope: Scope) -> Shelf | None:
    """Return the one shelf that a scope may write, if it is there yet."""
    return next((shelf for shelf in readable_shelves(db, scope) if shelf.user == scope.user), None)


def make_shelf(db: sqlite3.Connection, scope: Scope) -> Shelf:
    db.execute("INSERT OR IGNORE INTO shelves (app, owner) VALUES (?, ?)", (scope.app, owner(scope.user)))
    shelf = own_shelf(db, scope)
    assert shelf is not None
    return shelf


def insert(db: sqlite3.Connection, shelf: Shelf, entries: Iterable[Entry]) -> None:
    """Add passages that are not there."""
    last = shelf.last
    for entry in entries:
        passage = entry.passage
        place = (shelf.id, passage.document, passage.chunk)
        content = (passage.title, json.dumps(passage.headings), passage.page, passage.line, passage.text)
        vector = entry.vector.astype("<f4").tobytes()
        # Above every id that the shelf ever had: SQLite would give those of removed passages again.
        (last,) = db.execute(
            "INSERT INTO passages (id, shelf, document, chunk, title, headings, page, line, text, space, vector)"
            " SELECT 1 + max(ifnull(max(id), 0), ?), ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM passages RETURNING id",
            (last, *place, *content, entry.space, vector),
        ).fetchone()
        db.execute(
            "INSERT INTO words (rowid, shelf, title, headings, text) VALUES (?, ?, ?, ?, ?)",
            (last, word(shelf), *map(spaced, (passage.title, "\n".join(passage.headings), passage.text))),
        )
    db.execute("UPDATE shelves SET last = ? WHERE id = ?", (last, shelf.id))


def remove(db: sqlite3.Connection, shelf: Shelf, runs: Iterable[tuple[str, int, int]]) -> None:
    """Remove runs of chunks, each given by its document, its first chunk and the chunk behind its last."""
    ids = [
        row
        for run in runs
        for row in db.execute(
            "SELECT id FROM passages WHERE shelf = ? AND document = ? AND chunk >= ? AND chunk < ?", (shelf.id, *run)
        )
    ]
    db.executemany("DELETE FROM words WHERE rowid = ?", ids)
    db.executemany("DELETE FROM passages WHERE id = ?", ids)
    db.execute("UPDATE shelves SET removed = removed + ? WHERE id = ?", (len(ids), shelf.id))


def read_matrix(db: sqlite3.Connection, shelf: Shelf, space: str, dimensions: int, after: int) -> Matrix:
    """Read a shelf's vectors behind a passage id; vectors of other dimensions are of another space, whatever its name."""
    rows = db.execute(
        "SELECT id, vector FROM passages WHERE shelf = ? AND space = ? AND length(vector) = ? AND id > ? ORDER BY id",
        (shelf.id, space, 4 * dimensions, after),
    )
    return Matrix.of(rows.fetchall(), dimensions, shelf.removed, shelf.last)


def read_page(
    db: sqlite3.Connection, shelf: Shelf, after: tuple[str, int], limit: int
) -> list[tuple[Passage, str, bytes]]:
    """Return the passages of a shelf behind a document and chunk, in their order, each with its space and its vector."""
    rows = db.execute(
        "SELECT id, space, vector FROM passages"
        " WHERE shelf = ? AND (document, chunk) > (?, ?) ORDER BY document, chunk LIMIT ?",
        (shelf.id, *after, limit),
    )
    found = rows.fetchall()
    hits = read_hits(db, [rowid for rowid, _, _ in found], [0.0] * len(found))
    return [(hit.passage, space, vector) for hit, (_, space, vector) in zip(hits, found, strict=True)]


def find_words(
    db: sqlite3.Connection, shelves: Sequence[Shelf], postings: Postings, terms: Sequence[str], limit: int
) -> list[int]:
    """Return the ids of passages with any of the terms, best first.

    Terms hold letters, digits and spaces only. One that stands alone and is nowhere may be the beginning of a word that is.
    """
    words = [(read_words(db, shelf, postings), finder(db, shelf)) for shelf in shelves]
    found = rank(words, [f'"{term}"' for term in terms], limit)
    if not found and len(terms) == 1 and len(terms[0]) >= SHORTEST_PREFIX:
        return rank(words, [f'"{terms[0]}"*'], limit)
    return found


def read_words(db: sqlite3.Connection, shelf: Shelf, postings: Postings) -> Words:
    def load(after: int) -> list[int]:
        rows = db.execute("SELECT id FROM passages WHERE shelf = ? AND id > ? ORDER BY id", (shelf.id, after))
        return [rowid for (rowid,) in rows]

    return postings.get(shelf.id, shelf.removed, shelf.last, load)


def finder(db: sqlite3.Connection, shelf: Shelf) -> Find:
    """Return what finds a phrase on a shelf."""

    def find(phrase: str, headed: bool, after: int) -> list[int]:
        columns = "headings" if headed else "title headings text"
        # One row of JSON, because rows of their own take twice as long.
        (ids,) = db.execute(
            "SELECT json_group_array(rowid) FROM"
            " (SELECT rowid FROM words WHERE words MATCH ? AND rowid > ? ORDER BY rowid)",
            (f"shelf : {word(shelf)} AND {{{columns}}} : {phrase}", after),
        ).fetchone()
        found: list[int] = json.loads(ids)
        return found

    return find


def word(shelf: Shelf) -> str:
    """Return the word that stands for a shelf in the full-text index."""
    return f"shelf{shelf.id}"


def read_keys(db: sqlite3.Connection, shelves: Sequence[Shelf], ids: Iterable[int]) -> dict[int, tuple[str, int]]:
    """Return the document and chunk of each passage, leaving out what lies on none of the shelves."""
    rows = db.execute(
        "SELECT id, document, chunk FROM passages"
        " WHERE id IN (SELECT value FROM json_each(?)) AND shelf IN (SELECT value FROM json_each(?))"
        " ORDER BY id DESC",
        (json.dumps(list(ids)), json.dumps([shelf.id for shelf in shelves])),
    )
    return {rowid: (document, chunk) for rowid, document, chunk in rows}


def read_hits(db: sqlite3.Connection, ids: Sequence[int], scores: Sequence[float]) -> list[Hit]:
    """Return passages in the order of their ids."""
    rows = db.execute(
        "SELECT passages.id, app, owner, document, chunk, title, headings, page, line, text"
        " FROM passages JOIN shelves ON shelves.id = passages.shelf"
        " WHERE passages.id IN (SELECT value FROM json_each(?))",
        (json.dumps(ids),),
    )
    found = {rowid: row for rowid, *row in rows}
    return [hit(found[rowid], score) for rowid, score in zip(ids, scores, strict=True)]


def hit(row: Sequence[Any], score: float) -> Hit:
    app, name, document, chunk, title, headings, page, line, text = row
    passage = Passage(
        document=document,
        chunk=chunk,
        title=title,
        text=text,
        headings=tuple(json.loads(headings)),
        page=page,
        line=line,
        shared=name == SHARED,
        score=score,
    )
    return Hit(app, user(name), passage)
