"""Documents in one SQLite file, with Firestore's limits, so that nothing works on a laptop alone."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from secrets import token_urlsafe

from service.backends import checks, paths
from service.backends.interfaces import Create, Delete, Path, Query, Secrets, Set, Snapshot, Update, Write
from service.backends.local import queries
from service.backends.local.queries import INDEXED, Row, sort_key
from service.backends.local.sqlite import Database
from service.config import Settings
from service.errors import AlreadyExists, PreconditionFailed
from service.models import JSON, Scope

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS documents (
        collection TEXT NOT NULL, id TEXT NOT NULL, data TEXT NOT NULL, version TEXT NOT NULL,
        updated BLOB, created BLOB, seq BLOB, PRIMARY KEY (collection, id))""",
    *(
        f"CREATE INDEX IF NOT EXISTS documents_by_{field} ON documents (collection, {field}, id) WHERE {field} IS NOT NULL"
        for field in INDEXED
    ),
)


class SQLiteDocuments:
    """The document store of a laptop. A commit that names one document twice is a `BadRequest`."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self._database = Database(settings.data_dir / "documents.sqlite3", SCHEMA, "The document store")

    def get(self, scope: Scope, *paths: Path) -> list[Snapshot | None]:
        places = [place(scope, path) for path in paths]
        with self._database.read() as connection:
            rows = [read(connection, where) for where in places]
        return [
            None if row is None else Snapshot(path, json.loads(row[0]), row[1])
            for path, row in zip(paths, rows, strict=True)
        ]

    def query(self, scope: Scope, query: Query) -> list[Snapshot]:
        checks.check_query(scope, query)
        if query.of_every_user:
            return self._query_of_every_user(scope, query)
        statement, values = queries.select(scope, query)
        with self._database.read() as connection, closing(connection.execute(statement, values)) as rows:
            parsed = (((name,), json.loads(data), version) for name, data, version in rows)
            found: Iterator[Row] = (row for row in parsed if queries.matches(row[1], query))
            if query.order_by not in INDEXED:
                found = queries.in_order(found, query)
            return [
                Snapshot((*query.collection, paths.decode(name)), data, version)
                for (name,), data, version in islice(found, query.limit)
            ]

    def _query_of_every_user(self, scope: Scope, query: Query) -> list[Snapshot]:
        statement, values = queries.select_of_every_user(scope, query)
        with self._database.read() as connection, closing(connection.execute(statement, values)) as rows:
            parsed = (
                (below_users(collection, name), json.loads(data), version) for collection, name, data, version in rows
            )
            # What lies deeper is another collection, even if it has the same name.
            found = (row for row in parsed if len(row[0]) == 3 and queries.matches(row[1], query))
            return [
                Snapshot(("users", *map(paths.decode, path)), data, version)
                for path, data, version in islice(queries.in_order(found, query), query.limit)
            ]

    def commit(self, scope: Scope, writes: Sequence[Write]) -> list[str]:
        checks.check_writes([checks.place(scope, write.path) for write in writes], writes)
        places = [place(scope, write.path) for write in writes]
        if not writes:
            return []
        with self._database.write() as connection:
            return [apply(connection, where, write) for where, write in zip(places, writes, strict=True)]

    def check(self) -> None:
        with self._database.write() as connection:
            connection.execute("SELECT 1 FROM documents LIMIT 1")


def place(scope: Scope, path: Path) -> tuple[str, str]:
    """Return the (collection, id) that a document is stored under."""
    *collection, name = checks.place(scope, path)
    return "/".join(collection), name


def below_users(collection: str, name: str) -> Path:
    """Return a document's path below the users of its app: uid, collection, id."""
    return (*collection.split("/")[3:], name)


def read(connection: sqlite3.Connection, where: tuple[str, str]) -> tuple[str, str] | None:
    statement = "SELECT data, version FROM documents WHERE collection = ? AND id = ?"
    row: tuple[str, str] | None = connection.execute(statement, where).fetchone()
    return row


def apply(connection: sqlite3.Connection, where: tuple[str, str], write: Write) -> str:
    """Make one write of a commit and return the new version; an error undoes the whole commit."""
    match write:
        case Create():
            return insert(connection, where, write.data)
        case Set():
            delete(connection, where, None)
            return insert(connection, where, write.data)
        case Update():
            return update(connection, where, write)
        case Delete():
            delete(connection, where, write.version)
            return ""


def insert(connection: sqlite3.Connection, where: tuple[str, str], data: Mapping[str, JSON]) -> str:
    stored = row(data)
    statement = "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
    if connection.execute(statement, (*where, *stored)).rowcount == 0:
        raise AlreadyExists("This document exists already.")
    return stored[1]


def update(connection: sqlite3.Connection, where: tuple[str, str], write: Update) -> str:
    found = read(connection, where)
    if found is None or write.version not in (None, found[1]):
        raise PreconditionFailed("This document is gone or has changed.")
    data = json.loads(found[0]) | dict(write.data)
    checks.size(where, data)
    delete(connection, where, None)
    return insert(connection, where, data)


def delete(connection: sqlite3.Connection, where: tuple[str, str], version: str | None) -> None:
    statement = "DELETE FROM documents WHERE collection = ? AND id = ? AND coalesce(?, version) = version"
    if connection.execute(statement, (*where, version)).rowcount == 0 and version is not None:
        raise PreconditionFailed("This document is gone or has changed.")


def row(data: Mapping[str, JSON]) -> tuple[str, str, bytes | None, bytes | None, bytes | None]:
    """Return a document's data, version and sort keys. Versions are random, so none comes back with a document made anew."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    updated, created, seq = (sort_key(data[field]) if field in data else None for field in INDEXED)
    return text, token_urlsafe(12), updated, created, seq
