"""The table of passages, and what makes it: once, however many processes start together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import Connection

LOCK = 0x62_72_61_69_6E  # a number of our own, for PostgreSQL's advisory locks

SCHEMA = (
    "CREATE EXTENSION IF NOT EXISTS vector",
    # English endings, and no stop words: whoever searches for `not` or `the` finds it.
    "CREATE TEXT SEARCH DICTIONARY brainstem_stem (TEMPLATE = snowball, Language = english)",
    "CREATE TEXT SEARCH CONFIGURATION brainstem (COPY = simple)",
    """ALTER TEXT SEARCH CONFIGURATION brainstem
        ALTER MAPPING FOR asciiword, word, numword WITH brainstem_stem""",
    # There is no row level security: PostgreSQL applies it before a condition like `words @@ query`, so no index could serve
    # that. Vectors have as many dimensions as their space has; those of other spaces lie beside them. Rows up
    # to a page stay whole, for a scan that has to fetch each vector from elsewhere takes twice as long.
    """CREATE TABLE brainstem_passages (
        app text COLLATE "C" NOT NULL, owner text COLLATE "C" NOT NULL,
        document text COLLATE "C" NOT NULL, chunk integer NOT NULL,
        space text NOT NULL, dimensions integer NOT NULL, embedding vector NOT NULL,
        passage json NOT NULL, words tsvector NOT NULL,
        PRIMARY KEY (app, owner, document, chunk))
        WITH (toast_tuple_target = 8160)""",
    # Without a list of what is pending, which every search would walk through.
    "CREATE INDEX brainstem_words ON brainstem_passages USING gin (words) WITH (fastupdate = off)",
)


def prepare(connection: Connection[Any]) -> None:
    """Make the table in the connection's schema, unless it is there; runs within a transaction."""
    if exists(connection):
        return
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
    if exists(connection):
        return
    for statement in SCHEMA:
        connection.execute(statement)


def exists(connection: Connection[Any]) -> bool:
    # Not `to_regclass`: within a transaction it goes on saying what it said before another one made the table.
    found = connection.execute(
        "SELECT FROM pg_catalog.pg_class WHERE relname = 'brainstem_passages' AND pg_catalog.pg_table_is_visible(oid)"
    )
    return found.fetchone() is not None
