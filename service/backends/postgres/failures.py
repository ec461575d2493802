"""What each failure of PostgreSQL means to us, in words that hold no address, no password and nothing of a passage.

Imported only when the first call is made, for it imports the driver.
"""

from __future__ import annotations

import re

import psycopg
import psycopg_pool
from psycopg import errors

from service.errors import Unavailable

BUSY = "The search index is busy."
REFUSED = "The search index refuses our user or password: check POSTGRES_URL."
RIGHTS = "The search index lacks a right: have an administrator run `CREATE EXTENSION vector` and grant CREATE on the schema."
UNSUITABLE = "The search index has no pgvector, or no such database: check POSTGRES_URL and its extensions."
UNREADABLE = "The search index has no readable address: check the form and the options of POSTGRES_URL."
UNREACHABLE = "The search index cannot be reached."
NONE_FREE = "The search index cannot be reached, or is busy."
TOO_SLOW = "The search index did not answer in time."
FULL = "The search index has no space left."
READ_ONLY = "The search index takes no writes now."
UNUSABLE = "The search index cannot be used."

MEANINGS: tuple[tuple[type[psycopg.Error], str], ...] = (
    (psycopg_pool.PoolTimeout, NONE_FREE),
    (psycopg_pool.TooManyRequests, BUSY),
    (psycopg_pool.PoolClosed, UNUSABLE),
    (errors.QueryCanceled, TOO_SLOW),
    (errors.ConnectionTimeout, TOO_SLOW),
    (errors._WaitTimeout, TOO_SLOW),
    (errors.LockNotAvailable, BUSY),
    (errors.DeadlockDetected, BUSY),
    (errors.SerializationFailure, BUSY),
    (errors.TooManyConnections, BUSY),
    (errors.InvalidPassword, REFUSED),
    (errors.InvalidAuthorizationSpecification, REFUSED),
    (errors.InsufficientPrivilege, RIGHTS),
    (errors.InvalidCatalogName, UNSUITABLE),
    (errors.UndefinedFile, UNSUITABLE),
    (errors.FeatureNotSupported, UNSUITABLE),
    (errors.DiskFull, FULL),
    (errors.OutOfMemory, FULL),
    (errors.ReadOnlySqlTransaction, READ_ONLY),
    (psycopg.OperationalError, UNREACHABLE),
    (psycopg.Error, UNUSABLE),
)


# Why a connection was refused is told in words alone, in the server's language.
REFUSALS = (
    (re.compile(r"password authentication failed|no pg_hba|role .* does not exist"), REFUSED),
    (re.compile(r"database .* does not exist"), UNSUITABLE),
    (re.compile(r"too many (clients|connections)|connection slots"), BUSY),
    (re.compile(r"timeout expired"), TOO_SLOW),
)


def mapped(exc: psycopg.Error) -> Unavailable:
    """Return our error for a failure."""
    if type(exc) is psycopg.ProgrammingError and exc.sqlstate is None:
        return Unavailable(UNREADABLE)
    if type(exc) is psycopg.OperationalError and exc.sqlstate is None:
        return Unavailable(next((detail for said, detail in REFUSALS if said.search(str(exc))), UNREACHABLE))
    return next(Unavailable(detail) for failure, detail in MEANINGS if isinstance(exc, failure))


def worth_another_attempt(exc: psycopg.Error) -> bool:
    """Whether a dead connection or another transaction was at fault, and not the server's slowness, which would only add up."""
    if isinstance(exc, errors.DeadlockDetected | errors.SerializationFailure | errors.AdminShutdown):
        return True
    slow = isinstance(exc, psycopg_pool.PoolTimeout | errors.QueryCanceled | errors.ConnectionTimeout)
    return (isinstance(exc, psycopg.OperationalError) and exc.sqlstate is None and not slow) or lost_schema(exc)


def lost_schema(exc: psycopg.Error) -> bool:
    """Whether the table is no longer where it was made."""
    return isinstance(exc, errors.UndefinedTable)
