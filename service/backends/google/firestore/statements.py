"""Queries as Firestore's structured queries. Imported with the first call, for it imports the SDK.

What every user of an app has is a collection group, which Firestore reads over the whole database: the query is bounded to documents
that say they are the app's, and each path that comes back is looked at again.

Firestore orders by each field that a query compares by size, before it orders by id. A condition of that kind on another field than
the ordering one is therefore not sent, but met here, so that the order is what `Query` says.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.backends import paths
from service.backends.google.firestore import messages
from service.backends.google.firestore.connection import Connection, Message
from service.backends.google.firestore.indexes import APP, GROUPS
from service.backends.google.firestore.messages import StructuredQuery, Value, field_path
from service.backends.interfaces import Path, Query
from service.models import JSON, Scope

FieldFilter = StructuredQuery.FieldFilter
NAME = "__name__"
COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
OPERATORS = {
    "==": FieldFilter.EQUAL,
    "<": FieldFilter.LESS_THAN,
    "<=": FieldFilter.LESS_THAN_OR_EQUAL,
    ">": FieldFilter.GREATER_THAN,
    ">=": FieldFilter.GREATER_THAN_OR_EQUAL,
}
MOST = 2**31 - 1
LEAST_PAGE = 100


def run_query(connection: Connection, scope: Scope, query: Query) -> Message:
    """Return the request for a query that has passed its check."""
    *parent, collection = paths.locate(scope, query.collection)
    filters = [
        where(field_path(name), op, messages.to_value(value))
        for name, op, value in query.where
        if sent(query, name, op)
    ]
    if query.of_every_user:
        filters += of_app(connection, parent, collection)
        parent = []
    direction = StructuredQuery.DESCENDING if query.descending else StructuredQuery.ASCENDING
    statement = StructuredQuery(
        from_=[StructuredQuery.CollectionSelector(collection_id=collection, all_descendants=query.of_every_user)],
        where=together(filters),
        order_by=[
            StructuredQuery.Order(field=reference(name), direction=direction)
            for name in (field_path(query.order_by), NAME)
        ],
        limit={"value": page_size(query)},
    )
    under = connection.name(parent)
    if query.after is not None:
        value, name = query.after
        start_after(statement, messages.to_value(value), f"{under}/{collection}/{paths.encode(name)}")
    return messages.RunQueryRequest(parent=under, structured_query=statement)


def run_everything(connection: Connection, root: Path, behind: Path, limit: int) -> Message:
    """Return the request for the names of all documents below a place, also below those that are gone, without their fields."""
    statement = StructuredQuery(
        select=StructuredQuery.Projection(fields=[reference(NAME)]),
        # Without a name, it selects every collection.
        from_=[StructuredQuery.CollectionSelector(all_descendants=True)],
        order_by=[StructuredQuery.Order(field=reference(NAME), direction=StructuredQuery.ASCENDING)],
        limit={"value": limit},
    )
    if behind:
        statement.start_at.values.append(Value(reference_value=connection.name(behind)))
        statement.start_at.before = False
    return messages.RunQueryRequest(parent=connection.name(root), structured_query=statement)


def of_app(connection: Connection, parent: Sequence[str], collection: str) -> list[Message]:
    """Return the filters that bound a collection group to an app.

    Names between the app's and the next possible one (no encoded id holds a "!") would always do, but Firestore walks the entries of
    all apps for them.
    """
    if collection in GROUPS:
        return [where(APP, "==", messages.to_value(parent[-1]))]
    app = connection.name(parent)
    return [where(NAME, ">", Value(reference_value=app)), where(NAME, "<", Value(reference_value=f"{app}!"))]


def page_size(query: Query) -> int:
    """Return how many documents to ask for at once: more than are wanted, where some of them may not be."""
    whole = all(sent(query, name, op) for name, op, _ in query.where)
    return min(query.limit, MOST) if whole else max(min(query.limit, MOST), LEAST_PAGE)


def continue_after(request: Message, query: Query, document: Message) -> None:
    """Have a request continue behind a document that it found."""
    start_after(request.structured_query, document.fields[query.order_by], document.name)


def start_after(statement: Message, value: Message, name: str) -> None:
    del statement.start_at.values[:]
    statement.start_at.values.extend([value, Value(reference_value=name)])
    statement.start_at.before = False


def found(scope: Scope, query: Query, place: Path, data: Mapping[str, JSON]) -> Path | None:
    """Return the path below the scope's root of a document that came back, `None` for one that is not asked for."""
    collection = paths.locate(scope, query.collection)
    if any(not met(data.get(name), op, value) for name, op, value in query.where if not sent(query, name, op)):
        return None
    if not query.of_every_user:
        return (*query.collection, paths.decode(place[-1])) if place[:-1] == collection else None
    users = paths.locate(scope, ("users",))
    if place[:3] != users or place[4:-1] != collection[2:] or len(place) != 6:
        return None
    return tuple(map(paths.decode, place[2:]))


def sent(query: Query, name: str, op: str) -> bool:
    """Tell whether Firestore is to see to a condition."""
    return op == "==" or name == query.order_by


def met(stored: JSON, op: str, value: str | int | float | bool) -> bool:
    """Compare as Firestore does: values of one type only, text by its UTF-8."""
    if kind(stored) != kind(value):
        return False
    if isinstance(stored, str) and isinstance(value, str):
        return COMPARE[op](stored.encode(), value.encode())
    return COMPARE[op](stored, value)


def kind(value: JSON) -> type:
    return float if type(value) is int else type(value)


def where(field: str, op: str, value: Message) -> Message:
    return StructuredQuery.Filter(field_filter=FieldFilter(field=reference(field), op=OPERATORS[op], value=value))


def together(filters: Sequence[Message]) -> Message | None:
    """Return the filter that asks for all of these."""
    if len(filters) < 2:
        return next(iter(filters), None)
    composite = StructuredQuery.CompositeFilter(op=StructuredQuery.CompositeFilter.AND, filters=filters)
    return StructuredQuery.Filter(composite_filter=composite)


def reference(field: str) -> Message:
    return StructuredQuery.FieldReference(field_path=field)
