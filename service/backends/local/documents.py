"""Documents in one SQLite file, with Firestore's limits, so that nothing works on a laptop alone."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from secrets import token_urlsafe

import msgspec

from service.backends import checks, paths
from service.backends.interfaces import Create, Delete, Path, Query, Secrets, Set, Snapshot, Update, Write
from service.backends.local import queries
from service.backends.local.queries import Row, sort_key, sorted_by
from service.backends.local.sqlite import Database
from service.config import Settings
from service.errors import AlreadyExists, PreconditionFailed
from service.models import JSON, Scope

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS documents (
        collection TEXT NOT NULL, id TEXT NOT NULL, data TEXT NOT NULL, version TEXT NOT NULL, sorted BLOB,
        PRIMARY KEY (collection, id))""",
    "CREATE INDEX IF NOT EXISTS documents_in_order ON documents (collection, sorted, id) WHERE sorted IS NOT NULL",
    *(
        f"CREATE INDEX IF NOT EXISTS {name}_of_apps ON documents ({queries.APP}, sorted) WHERE {queries.below(name)}"
        for name in queries.OF_EVERY_USER
    ),
)

INSERT = "INSERT INTO documents VALUES (?, ?, ?, ?, ?) ON CONFLICT DO "
CREATE = f"{INSERT} NOTHING"
PUT = f"{INSERT} UPDATE SET data = excluded.data, version = excluded.version, sorted = excluded.sorted"
CHANGE = "UPDATE documents SET data = ?, version = ? WHERE rowid = ?"
MOVE = "UPDATE documents SET sorted = ? WHERE rowid = ?"

EVERYTHING = """SELECT collection, id FROM documents WHERE collection > ?1 AND collection < ?2 AND (collection, id) > (?3, ?4)
    ORDER BY collection, id LIMIT CAST(?5 AS INTEGER)"""

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
        found = {(collection, name): (decode(data), version) for collection, name, data, version in rows}
        return [
            snapshot(path, *found[where]) if where in found else None for path, where in zip(paths, places, strict=True)
        ]

    def query(self, scope: Scope, query: Query) -> list[Snapshot]:
        checks.check_query(scope, query)
        if query.of_every_user:
            return self._query_of_every_user(scope, query)
        statement, values = queries.select(scope, query)
        with self._database.read() as connection, closing(connection.execute(statement, values)) as rows:
            parsed = (((name,), decode(data), version) for name, data, version in rows)
            found: Iterator[Row] = (row for row in parsed if queries.matches(row[1], query))
            if query.order_by != sorted_by(query.collection[-1]):
                found = queries.in_order(found, query)
            return [
                snapshot((*query.collection, paths.decode(name)), data, version)
                for (name,), data, version in islice(found, query.limit)
            ]

    def _query_of_every_user(self, scope: Scope, query: Query) -> list[Snapshot]:
        statement, values = queries.select_of_every_user(scope, query)
        with self._database.read() as connection, closing(connection.execute(statement, values)) as rows:
            parsed = (
                (below_users(collection, name), decode(data), version) for collection, name, data, version in rows
            )
            # What lies deeper is another collection, even if it has the same name.
            found: Iterator[Row] = (row for row in parsed if len(row[0]) == 3 and queries.matches(row[1], query))
            if not queries.is_in_order(query):
                found = queries.in_order(found, query)
            return [
                snapshot(("users", *map(paths.decode, path)), data, version)
                for path, data, version in islice(found, query.limit)
            ]

    def commit(self, scope: Scope, writes: Sequence[Write]) -> list[str]:
        located = [checks.place(scope, write.path) for write in writes]
        checks.check_writes(located, writes)
        places = [("/".join(collection), name) for *collection, name in located]
        if not writes:
            return []
        # It says when, and is random, so that none comes back with a document made anew.
        version = f"{milliseconds()}-{token_urlsafe(12)}"

        def apply_all(connection: sqlite3.Connection) -> list[str]:
            return [apply(connection, where, write, version) for where, write in zip(places, writes, strict=True)]

        return self._database.commit(apply_all)

    def everything(self, scope: Scope, after: Path = (), limit: int = 500) -> list[Path]:
        checks.check_user(scope)
        root = "/".join(paths.root(scope))
        # What lies below a path begins with it and a slash, and "0" is the character behind the slash.
        values = [f"{root}/", f"{root}0", *(place(scope, after) if after else ("", "")), str(limit)]
        found = self._database.fetch(EVERYTHING, values)
        below = len(root) + 1
        return [tuple(map(paths.decode, f"{collection}/{name}"[below:].split("/"))) for collection, name in found]

    def check(self) -> None:
        self._database.commit(lambda connection: connection.execute("SELECT 1 FROM documents LIMIT 1").fetchone())


def place(scope: Scope, path: Path) -> tuple[str, str]:
    """Return the (collection, id) that a document is stored under."""
    *collection, name = checks.place(scope, path)
    return "/".join(collection), name


def milliseconds() -> int:
    return time.time_ns() // 1_000_000


def snapshot(path: Path, data: Mapping[str, JSON], version: str) -> Snapshot:
    written = version.partition("-")[0]
    return Snapshot(path, data, version, max(0, milliseconds() - int(written)) / 1000)


def below_users(collection: str, name: str) -> Path:
    """Return a document's path below the users of its app: uid, collection, id."""
    return (*collection.split("/")[3:], name)


def apply(connection: sqlite3.Connection, where: tuple[str, str], write: Write, version: str) -> str:
    """Make one write of a commit and return the document's new version; an error undoes the whole commit."""
    match write:
        case Create():
            create(connection, where, write.data, version)
        case Set():
            connection.execute(PUT, (*where, encode(write.data), version, place_in_order(where, write.data)))
        case Update():
            update(connection, where, write, version)
        case Delete():
            delete(connection, where, write.version)
            return ""
    return version


def create(connection: sqlite3.Connection, where: tuple[str, str], data: Mapping[str, JSON], version: str) -> None:
    if connection.execute(CREATE, (*where, encode(data), version, place_in_order(where, data))).rowcount == 0:
        raise AlreadyExists("This document exists already.")


def update(connection: sqlite3.Connection, where: tuple[str, str], write: Update, version: str) -> None:
    statement = "SELECT rowid, data, version, sorted FROM documents WHERE collection = ? AND id = ?"
    found = connection.execute(statement, where).fetchone()
    if found is None or write.version not in (None, found[2]):
        raise PreconditionFailed("This document is gone or has changed.")
    data = decode(found[1]) | dict(write.data)
    text = encode(data)
    if len(text) > SURELY_FITS:
        checks.size(where, data)
    connection.execute(CHANGE, (text, version, found[0]))
    order = place_in_order(where, data)
    if order != found[3]:
        connection.execute(MOVE, (order, found[0]))


def delete(connection: sqlite3.Connection, where: tuple[str, str], version: str | None) -> None:
    statement = "DELETE FROM documents WHERE collection = ? AND id = ? AND coalesce(?, version) = version"
    if connection.execute(statement, (*where, version)).rowcount == 0 and version is not None:
        raise PreconditionFailed("This document is gone or has changed.")


def encode(data: Mapping[str, JSON]) -> str:
    return msgspec.json.encode(data).decode()


def decode(text: str) -> dict[str, JSON]:
    data: dict[str, JSON] = msgspec.json.decode(text)
    return data


def place_in_order(where: tuple[str, str], data: Mapping[str, JSON]) -> bytes | None:
    """Return what the index orders a document by, None if it lacks the field."""
    field = sorted_by(where[0].rpartition("/")[2])
    return sort_key(data[field]) if field in data else None
