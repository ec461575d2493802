"""Queries over stored documents: values compare and sort as in Firestore, whatever SQLite thinks of them."""

from __future__ import annotations

import json
import operator
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from service.backends import paths
from service.backends.interfaces import Path, Query
from service.models import JSON, Scope

SORTED_BY = {
    "turns": "seq",
    "calls": "created",
    "documents": "created",
    "jobs": "created",
    "outbox": "due",
    "waiting": "place",
    "deadLetters": "created",
}
"""The field by which a collection is in order, `updated` if none is named: reading on in that order costs the same however large it
grows, by any other field all of it is read."""

OF_EVERY_USER = ("outbox", "waiting")
"""Collections that are read of all users of an app again and again, so that there is an index of each: of what else an app's users
have, none of it is passed."""

APP = "substr(collection, 1, instr(collection, '/users/') + 6)"
"""What the collections of an app's users begin with."""

Row: TypeAlias = tuple[Path, Mapping[str, JSON], str]
"""A document's encoded path below its collection (or below the app's users), its data and its version."""

COMPARE: Mapping[str, Callable[[bytes, bytes], bool]] = {
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def sorted_by(collection: str) -> str:
    """Return the field by which documents of a collection's name are in order."""
    return SORTED_BY.get(collection, "updated")


def select(scope: Scope, query: Query) -> tuple[str, list[str | bytes]]:
    """Return the statement that yields (id, data, version) of the candidates, in the query's order if there is an index for it."""
    conditions = ["collection = ?"]
    values: list[str | bytes] = ["/".join(paths.locate(scope, query.collection))]
    field = sorted_by(query.collection[-1])
    conditions_of_field, bounds = in_bounds(query, field)
    conditions += conditions_of_field
    values += bounds
    order = ""
    if query.order_by == field:
        conditions.append("sorted IS NOT NULL")
        direction, beyond = ("DESC", "<") if query.descending else ("ASC", ">")
        order = f" ORDER BY sorted {direction}, id {direction}"
        if query.after is not None:
            conditions.append(f"(sorted, id) {beyond} (?, ?)")
            values += [sort_key(query.after[0]), paths.encode(query.after[1])]
    # Only names of our own stand in the text: columns, and operators of COMPARE.
    return f"SELECT id, data, version FROM documents WHERE {' AND '.join(conditions)}{order}", values  # noqa: S608


def below(collection: str) -> str:
    """Return the condition that a document is in a collection of this name, in the words that its index has for it."""
    return f"substr(collection, -{len(collection) + 1}) = '/{collection}'"


def in_bounds(query: Query, field: str) -> tuple[list[str], list[bytes]]:
    """Return what a query demands of the field that a collection is in order by."""
    demanded = [(op, sort_key(value)) for name, op, value in query.where if name == field]
    return [f"sorted {op} ?" for op, _ in demanded], [value for _, value in demanded]


def is_in_order(query: Query) -> bool:
    """Say whether `select_of_every_user` yields rows in the query's order, but for those of one moment."""
    [name] = query.collection
    return name in OF_EVERY_USER and query.order_by == sorted_by(name) and not query.descending


def select_of_every_user(scope: Scope, query: Query) -> tuple[str, list[str | bytes]]:
    """Return the statement that yields (collection, id, data, version) of one collection of each of the app's users."""
    users, name = "/".join(paths.locate(scope, ("users",))), query.collection[0]
    if name in OF_EVERY_USER:
        conditions, bounds = in_bounds(query, sorted_by(name))
        where = " AND ".join([below(name), f"{APP} = ?", *conditions])
        order = " ORDER BY sorted" if is_in_order(query) else ""
        return f"SELECT collection, id, data, version FROM documents WHERE {where}{order}", [f"{users}/", *bounds]  # noqa: S608  # names of our own
    # Below the users lies what begins with their path and a slash, and "0" is the character behind the slash.
    values: list[str | bytes] = [f"{users}/", f"{users}0", f"/{paths.encode(name)}"]
    return (
        "SELECT collection, id, data, version FROM documents"
        " WHERE collection > ?1 AND collection < ?2 AND substr(collection, -length(?3)) = ?3"
    ), values


def matches(data: Mapping[str, JSON], query: Query) -> bool:
    """Tell whether a document has the ordering field and meets every condition; values of another type never do."""
    return query.order_by in data and all(
        field in data and compare(sort_key(data[field]), op, sort_key(value)) for field, op, value in query.where
    )


def compare(stored: bytes, op: str, operand: bytes) -> bool:
    return stored[0] == operand[0] and COMPARE[op](stored, operand)


def in_order(found: Iterable[Row], query: Query) -> Iterator[Row]:
    """Sort what no index has in order, and continue behind `after`."""

    def position(row: Row) -> tuple[bytes, Path]:
        return sort_key(row[1][query.order_by]), row[0]

    rows = sorted(found, key=position, reverse=query.descending)
    if query.after is None:
        return iter(rows)
    start = sort_key(query.after[0]), (paths.encode(query.after[1]),)
    return (row for row in rows if (position(row) < start if query.descending else position(row) > start))


def sort_key(value: JSON) -> bytes:
    """Encode a value so that the order of bytes is Firestore's: null, booleans, numbers, text (by UTF-8), lists, objects.

    Lists and objects have a stable order among themselves, but not Firestore's.
    """
    match value:
        case None:
            return b"\0"
        case bool():
            return b"\1\1" if value else b"\1\0"
        case int() | float():
            return b"\2" + number_key(value)
        case str():
            return b"\3" + value.encode()
    rank = b"\5" if isinstance(value, Mapping) else b"\4"
    return rank + json.dumps(value, sort_keys=True).encode()


def number_key(number: int | float) -> bytes:
    """Encode the nearest double, its bits turned so that they sort, then what a whole number beyond 2^53 differs from it."""
    nearest = float(number) + 0.0  # so that -0.0 is 0.0
    bits: int = struct.unpack(">Q", struct.pack(">d", nearest))[0]
    ordered = bits ^ (0xFFFFFFFFFFFFFFFF if bits >> 63 else 1 << 63)
    rest = number - int(nearest) if isinstance(number, int) else 0
    return struct.pack(">QH", ordered, 0x8000 + rest)
