"""Documents in one SQLite file, with Firestore's limits, so that nothing works on a laptop alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from secrets import token_urlsafe

import msgspec

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

INSERT = "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)"
REPLACE = (
    f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in ('data', 'version', *INDEXED))}"
)

SURELY_FITS = 32_768
"""Characters of JSON. Firestore counts at most 16 bytes for one of them (32 for `{}`), so this is far from 1 MiB."""


class SQLiteDocuments:
    """The document store of a laptop. A commit that names one document twice is a `BadRequest`."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self._database = Database(settings.data_dir / "documents.sqlite3", SCHEMA, "The document store")

    def get(self, scope: Scope, *paths: Path) -> list[Snapshot | None]:
        places = [place(scope, path) for path in paths]
        if not places:
            return []
        wanted = ", ".join(["(?, ?)"] * len(places))
        statement = f"""WITH wanted (place, name) AS (VALUES {wanted}) SELECT place, name, data, version
            FROM wanted CROSS JOIN documents ON collection = place AND id = name"""  # noqa: S608  # nothing of a caller's is in it
        rows = self._database.fetch(statement, [part for where in places for part in where])
        found = {(collection, name): (data, version) for collection, name, data, version in rows}
        return [
            Snapshot(path, decode(found[where][0]), found[where][1]) if where in found else None
            for path, where in zip(paths, places, strict=True)
        ]

    def query(self, scope: Scope, query: Query) -> list[Snapshot]:
        checks.check_query(scope, query)
        if query.of_every_user:
            return self._query_of_every_user(scope, query)
        statement, values = queries.select(scope, query)
        with self._database.read() as connection, closing(connection.execute(statement, values)) as rows:
            parsed = (((name,), decode(data), version) for name, data, version in rows)
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
                (below_users(collection, name), decode(data), version) for collection, name, data, version in rows
            )
            # What lies deeper is another collection, even if it has the same name.
            found = (row for row in parsed if len(row[0]) == 3 and queries.matches(row[1], query))
            return [
                Snapshot(("users", *map(paths.decode, path)), data, version)
                for path, data, version in islice(queries.in_order(found, query), query.limit)
            ]

    def commit(self, scope: Scope, writes: Sequence[Write]) -> list[str]:
        located = [checks.place(scope, write.path) for write in writes]
        checks.check_writes(located, writes)
        places = [("/".join(collection), name) for *collection, name in located]
        if not writes:
            return []
        return self._database.commit(
            lambda connection: [apply(connection, where, write) for where, write in zip(places, writes, strict=True)]
        )

    def check(self) -> None:
        self._database.commit(lambda connection: connection.execute("SELECT 1 FROM documents LIMIT 1").fetchone())


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
            return create(connection, where, write.data)
        case Set():
            return put(connection, where, write.data)
        case Update():
            return update(connection, where, write)
        case Delete():
            delete(connection, where, write.version)
            return ""


def create(connection: sqlite3.Connection, where: tuple[str, str], data: Mapping[str, JSON]) -> str:
    version = new_version()
    statement = f"{INSERT} ON CONFLICT DO NOTHING"
    if connection.execute(statement, (*where, encode(data), version, *sort_keys(data))).rowcount == 0:
        raise AlreadyExists("This document exists already.")
    return version


def put(connection: sqlite3.Connection, where: tuple[str, str], data: Mapping[str, JSON]) -> str:
    version = new_version()
    connection.execute(f"{INSERT} {REPLACE}", (*where, encode(data), version, *sort_keys(data)))
    return version


def update(connection: sqlite3.Connection, where: tuple[str, str], write: Update) -> str:
    statement = "SELECT rowid, data, version, updated, created, seq FROM documents WHERE collection = ? AND id = ?"
    found = connection.execute(statement, where).fetchone()
    if found is None or write.version not in (None, found[2]):
        raise PreconditionFailed("This document is gone or has changed.")
    data = decode(found[1]) | dict(write.data)
    text = encode(data)
    if len(text) > SURELY_FITS:
        checks.size(where, data)
    version = new_version()
    # An index is written only for a key that changed.
    keys = zip(INDEXED, sort_keys(data), found[3:], strict=True)
    changed = {"data": text, "version": version, **{field: key for field, key, old in keys if key != old}}
    names = ", ".join(f"{name} = ?" for name in changed)
    connection.execute(f"UPDATE documents SET {names} WHERE rowid = ?", (*changed.values(), found[0]))  # noqa: S608
    return version


def delete(connection: sqlite3.Connection, where: tuple[str, str], version: str | None) -> None:
    statement = "DELETE FROM documents WHERE collection = ? AND id = ? AND coalesce(?, version) = version"
    if connection.execute(statement, (*where, version)).rowcount == 0 and version is not None:
        raise PreconditionFailed("This document is gone or has changed.")


def encode(data: Mapping[str, JSON]) -> str:
    return msgspec.json.encode(data).decode()


def decode(text: str) -> dict[str, JSON]:
    data: dict[str, JSON] = msgspec.json.decode(text)
    return data


def new_version() -> str:
    """Return a version; they are random, so none comes back with a document made anew."""
    return token_urlsafe(12)


def sort_keys(data: Mapping[str, JSON]) -> list[bytes | None]:
    """Return what the indexes order a document by."""
    return [sort_key(data[field]) if field in data else None for field in INDEXED]
