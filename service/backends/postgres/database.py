"""One database: a pool of connections made on first use, and transactions that end in time.

Every transaction here may be made twice without harm, so one whose connection turns out to be dead is made again on another.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from service.backends.postgres import schema
from service.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg_pool import ConnectionPool

    from service.backends.postgres.connection import BoundedConnection

T = TypeVar("T")

CONNECT_SECONDS = 3
POOL_SECONDS = 2.0
STATEMENT_SECONDS = 5.0
SILENCE_SECONDS = 2.0
"""A server that answers at all ends a statement itself; one that has fallen silent is given up so much later."""

MOST_CONNECTIONS = 10
RECONNECT_SECONDS = 1.0


class Database:
    """The database at a URL, which is never shown; every error of the driver becomes `Unavailable`."""

    def __init__(self, url: str, statement_seconds: float) -> None:
        if not url.startswith(("postgresql://", "postgres://")):
            raise ConfigError("POSTGRES_URL must be an address such as postgresql://user:password@host:5432/database.")
        self._url = url
        self._statement_seconds = statement_seconds
        self._lock = threading.Lock()
        self._pool: ConnectionPool[BoundedConnection] | None = None
        self._prepared = False

    def run(self, work: Callable[[Connection[Any]], T]) -> T:
        """Do some work in a transaction; it commits at the end, or leaves nothing behind."""
        import psycopg

        from service.backends.postgres.failures import lost_schema, mapped, worth_another_attempt

        for attempt in (1, 2):
            try:
                return self._transaction(work)
            except psycopg.Error as exc:
                self._prepared = self._prepared and not lost_schema(exc)
                if attempt == 2 or not worth_another_attempt(exc):
                    raise mapped(exc) from None
                self._discard_the_dead()
        raise AssertionError

    def check(self, work: Callable[[Connection[Any]], T]) -> None:
        """Do some work, and if no connection could be had say why: the pool keeps that to itself."""
        import psycopg

        from service.backends.postgres.failures import mapped

        try:
            self.run(work)
        except Unavailable:
            try:
                psycopg.connect(self._url, connect_timeout=CONNECT_SECONDS).close()
            except psycopg.Error as exc:
                raise mapped(exc) from None
            raise

    def _transaction(self, work: Callable[[Connection[Any]], T]) -> T:
        with self._open().connection() as connection:
            begin = f"SET LOCAL statement_timeout = {round(1000 * self._statement_seconds)}"
            connection.silence_seconds = self._statement_seconds + SILENCE_SECONDS
            if not self._prepared:
                with connection.transaction():
                    connection.execute(begin.encode())
                    schema.prepare(connection)
                self._prepared = True
            with connection.transaction(), connection.pipeline():
                connection.execute(begin.encode())
                return work(connection)

    def _open(self) -> ConnectionPool[BoundedConnection]:
        with self._lock:
            if self._pool is None:
                self._pool = self._build()
            return self._pool

    def _discard_the_dead(self) -> None:
        """Let go of every idle connection that its server has closed."""
        self._open().check()

    def _build(self) -> ConnectionPool[BoundedConnection]:
        import psycopg
        import psycopg_pool

        from service.backends.postgres.connection import BoundedConnection

        # The pool would try such an address again and again.
        psycopg.conninfo.conninfo_to_dict(self._url)

        # It logs what the driver says, addresses and names included.
        logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
        pool = psycopg_pool.ConnectionPool(
            self._url,
            connection_class=BoundedConnection,
            kwargs={"connect_timeout": CONNECT_SECONDS, "prepare_threshold": None, "autocommit": True},
            min_size=0,
            max_size=MOST_CONNECTIONS,
            timeout=POOL_SECONDS,
            reconnect_timeout=RECONNECT_SECONDS,
            open=True,
        )
        # Nothing closes an adapter, so its connections end with it.
        weakref.finalize(self, pool.close, 1.0)
        return pool
