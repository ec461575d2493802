"""What a document store is asked, checked before the call, so that every store refuses the same with the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from service.backends import limits, paths
from service.backends.interfaces import Delete, Path, Query, Update, Write
from service.errors import BadRequest, TooLarge
from service.models import JSON, Scope

COMMIT = "_commit"
"""The field in which Firestore's adapter marks every document with the commit that wrote it: no document may use the name itself."""

MARK = "x" * 16
RESERVED = f"The field name `{COMMIT}` is the store's own."
OPERATORS = ("==", "<", "<=", ">", ">=")


@lru_cache(maxsize=4096)
def place(scope: Scope, path: Path) -> Path:
    """Return the encoded path of a document; raises `BadRequest` for a path that names none."""
    if not path or len(path) % 2:
        raise BadRequest("A document's path must have an even number of segments.")
    return paths.locate(scope, path)


def check_user(scope: Scope) -> None:
    """Raise `BadRequest` for a scope below which other scopes lie."""
    if scope.user is None:
        raise BadRequest("Everything is listed of a user alone.")


def check_query(scope: Scope, query: Query) -> None:
    """Raise `BadRequest` for a query that means nothing."""
    if len(query.collection) % 2 == 0:
        raise BadRequest("A collection's path must have an odd number of segments.")
    if query.limit < 0 or any(op not in OPERATORS for _, op, _ in query.where):
        raise BadRequest("A query must have known operators and a limit that is not negative.")
    if query.of_every_user and (scope.user is not None or len(query.collection) > 1 or query.after is not None):
        raise BadRequest(
            "What every user has is read by a scope without user, from a collection of one segment, as one page."
        )
    for name in (query.order_by, *(name for name, _, _ in query.where)):
        limits.field_size(name)
        if name == COMMIT:
            raise BadRequest(RESERVED)
    operands = [value for _, _, value in query.where]
    limits.document_size((), {"where": operands, "after": query.after and query.after[0]})


def check_writes(places: Sequence[Path], writes: Sequence[Write]) -> None:
    """Raise `BadRequest` or `TooLarge` for writes to these places that are no commit."""
    if len(writes) > limits.MAX_WRITES:
        raise TooLarge("A commit must not hold more than 500 writes.")
    if len(set(places)) < len(places):
        raise BadRequest("A commit must not write the same document twice.")
    if any(isinstance(write, Update) and not write.data for write in writes):
        raise BadRequest("An update must change at least one field.")
    kept = ((where, write.data) for where, write in zip(places, writes, strict=True) if not isinstance(write, Delete))
    if sum(size(where, data) for where, data in kept) > limits.MAX_COMMIT_BYTES:
        raise TooLarge("A commit must not be larger than 10 MiB.")


def size(place: Path, data: Mapping[str, JSON]) -> int:
    """Return the bytes that a document takes with its mark; raises `BadRequest` for what cannot be stored, or `TooLarge`."""
    if COMMIT in data:
        raise BadRequest(RESERVED)
    return limits.document_size(place, {**data, COMMIT: MARK})
