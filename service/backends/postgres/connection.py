"""A connection on which nothing waits for ever. Imported with the first call, for it imports the driver."""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

T = TypeVar("T")


class BoundedConnection(psycopg.Connection[Any]):
    """Gives up a server that has fallen silent, and is closed then: what it might still say belongs to no statement."""

    silence_seconds = 7.0

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        try:
            return super().wait(gen, interval, self.silence_seconds if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as exc:
            self.close()
            raise psycopg.errors.ConnectionTimeout from exc
