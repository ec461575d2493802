"""A SQLite file that many threads and several processes use at once.

WAL, so that readers and the writer never wait for each other, with `synchronous=FULL`: a commit has reached the disk
when it returns. So an acknowledged write survives `kill -9` and, as far as the drive keeps its word, a power cut;
`NORMAL` would save one fsync per commit and lose the last commits in a power cut.

That fsync is most of what a commit takes, so those who commit while another thread does share the next one.

A transaction borrows a connection from a small pool, so threads that come and go leave no file open.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from service.backends.local.folder import available, private_folder
from service.errors import Unavailable

T = TypeVar("T")

QUEUE_SECONDS = 2.0
BUSY_SECONDS = 2.5
"""A writer waits at most for its own process and then for the others, so that every call ends within 5 seconds."""

KEPT_OPEN = 8

REASONS = {
    sqlite3.SQLITE_BUSY: "it is busy",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk cannot be read or written",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened",
    sqlite3.SQLITE_CORRUPT: "its file is damaged",
    sqlite3.SQLITE_NOTADB: "its file is damaged",
    # A statement that the file does not understand.
    sqlite3.SQLITE_ERROR: "another version made its file; move the data folder away",
}


class Commit(Generic[T]):
    """Work that waits to be written; `woken` is released when that is done, or when its thread is to write all that waits."""

    def __init__(self, work: Callable[[sqlite3.Connection], T]) -> None:
        self.woken = threading.Lock()
        self.woken.acquire()
        self.error: BaseException | None = None
        self._work = work
        self._result: T | None = None

    def write(self, connection: sqlite3.Connection) -> None:
        """Do the work in a transaction of its own: what it raises undoes that."""
        self._result = self._work(connection)

    def write_among_others(self, connection: sqlite3.Connection) -> None:
        """Do the work in a transaction that others share: what it raises undoes it alone."""
        connection.execute("SAVEPOINT one")
        try:
            self._result = self._work(connection)
        except sqlite3.Error:
            raise
        except BaseException as error:  # noqa: BLE001  # it is raised in the thread whose work this is
            self.error = error
            connection.execute("ROLLBACK TO one")
        connection.execute("RELEASE one")

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        return cast("T", self._result)


class Database:
    """One file and its schema, whose statements must hold `IF NOT EXISTS`; every `sqlite3.Error` becomes `Unavailable`."""

    def __init__(self, path: Path, schema: Sequence[str], what: str) -> None:
        self._path = path
        self._schema = schema
        self._what = what
        self._idle: deque[sqlite3.Connection] = deque()
        self._writing = threading.Lock()
        self._lock = threading.Lock()
        self._waiting: list[Commit[Any]] = []
        self._leader: Commit[Any] | None = None
        self.close = weakref.finalize(self, close_all, self._idle)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that sees one state of the file throughout."""
        with self._transaction("BEGIN") as connection:
            yield connection

    def fetch(self, statement: str, values: Sequence[str]) -> list[Any]:
        """Return the rows of one statement that reads: it sees one state of the file without a transaction."""
        with self._mapped():
            connection = self._borrow()
            try:
                rows = connection.execute(statement, values).fetchall()
            except sqlite3.Error:
                connection.close()
                raise
            self._give_back(connection)
            return rows

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that alone may write; it commits at the end and leaves nothing behind if an error passes."""
        # SQLite's own waiting polls and is unfair; threads of one process line up here first.
        if not self._writing.acquire(timeout=QUEUE_SECONDS):
            raise Unavailable(f"{self._what} cannot be used: it is busy.")
        try:
            with self._transaction("BEGIN IMMEDIATE") as connection:
                yield connection
        finally:
            self._writing.release()

    def commit(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As `write`, for work that does not wait for anything: it may run in any thread that commits at the same time."""
        commit = Commit(work)
        with self._lock:
            self._waiting.append(commit)
            leads = self._leader is None
            if leads:
                self._leader = commit
        # Who did not lead then is woken once, also if it leads by now.
        if not leads and not commit.woken.acquire(timeout=QUEUE_SECONDS):
            self._withdraw(commit)
            commit.woken.acquire()
        if self._leader is commit:
            self._write_waiting(commit)
        return commit.result()

    def _withdraw(self, commit: Commit[Any]) -> None:
        """Raise `Unavailable` for a commit that waited too long, unless its turn has come just now."""
        with self._lock:
            if commit in self._waiting and self._leader is not commit:
                self._waiting.remove(commit)
                raise Unavailable(f"{self._what} cannot be used: it is busy.")

    def _write_waiting(self, leader: Commit[Any]) -> None:
        """Write all that waits in one transaction, then have the thread that came next do the same."""
        group = [leader]
        try:
            with self._transaction("BEGIN IMMEDIATE") as connection:
                with self._lock:
                    group, self._waiting = self._waiting, []
                if len(group) == 1:
                    group[0].write(connection)
                else:
                    for commit in group:
                        commit.write_among_others(connection)
        except BaseException as error:  # noqa: BLE001  # it is raised in each thread that this concerns
            for commit in group:
                commit.error = error
        with self._lock:
            if leader in self._waiting:
                self._waiting.remove(leader)
            self._leader = self._waiting[0] if self._waiting else None
            woken = [*group, *self._waiting[:1]]
        for commit in woken:
            commit.woken.release()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._mapped():
            connection = self._borrow()
            try:
                connection.execute(begin)
                yield connection
                connection.execute("COMMIT")
            except sqlite3.Error:
                connection.close()
                raise
            except BaseException:
                connection.rollback()
                self._give_back(connection)
                raise
            self._give_back(connection)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            # The low byte is the primary result code; an error of the module itself has none.
            reason = REASONS.get(getattr(exc, "sqlite_errorcode", 0) & 0xFF, "its file cannot be used")
            raise Unavailable(f"{self._what} cannot be used: {reason}.") from exc

    def _borrow(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._open()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if len(self._idle) < KEPT_OPEN:
            self._idle.append(connection)
        else:
            connection.close()

    def _open(self) -> sqlite3.Connection:
        with available(self._what):
            private_folder(self._path.parent)
            if not self._path.exists():
                self._path.touch(mode=0o600)
        connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            use_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")
            for statement in self._schema:
                connection.execute(statement)
        except BaseException:
            connection.close()
            raise
        return connection


def use_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL; processes that open a new file at the same time may collide, and SQLite does not wait here by itself."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def close_all(connections: deque[sqlite3.Connection]) -> None:
    while connections:
        connections.pop().close()
