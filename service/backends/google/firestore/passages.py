"""Passages as documents of Firestore, and the queries that find them. Imported with the first call, for it imports the SDK."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from service.backends import limits
from service.backends.google.firestore import keywords, messages
from service.backends.google.firestore.connection import Message
from service.backends.google.firestore.messages import StructuredQuery, Value
from service.backends.google.firestore.statements import NAME, reference
from service.backends.interfaces import Entry, Hit
from service.models import Passage, Scope

if TYPE_CHECKING:
    from service.backends.interfaces import Vectors

COLLECTION = "vectors"
DISTANCE = "distance"
PASSAGE = ("app", "user", "document", "chunk", "title", "headings", "page", "line", "text")
NEAREST_MOST = 1000
FieldFilter = StructuredQuery.FieldFilter


@dataclass(frozen=True, slots=True)
class Found:
    """A passage that a query found: its distance from the question's vector, or its terms."""

    hit: Hit
    distance: float
    terms: Sequence[str]

    @property
    def key(self) -> tuple[str, int]:
        return self.hit.passage.document, self.hit.passage.chunk


def identity(document: str, chunk: int) -> str:
    """Return the id of an entry: the same for the same chunk, and spread evenly, as Firestore likes its ids."""
    return hashlib.sha256(f"{chunk}/{document}".encode("utf-8", "surrogatepass")).hexdigest()[:40]


def to_write(parent: str, scope: Scope, entry: Entry) -> Message:
    """Return the write that stores an entry; raises as the document store does for what Firestore cannot hold."""
    passage = entry.passage
    fields: dict[str, object] = {
        "app": scope.app,
        "user": scope.user,
        "document": passage.document,
        "chunk": passage.chunk,
        "title": passage.title,
        "headings": passage.headings,
        "page": passage.page,
        "line": passage.line,
        "text": passage.text,
        "space": entry.space,
        "words": keywords.stored(passage),
    }
    limits.document_size((), fields)
    name = f"{parent}/{COLLECTION}/{identity(passage.document, passage.chunk)}"
    document = messages.to_document(name, fields)
    document.fields["embedding"].CopyFrom(messages.to_vector(entry.vector))
    return messages.Write(update=document)


def is_entry(document: Message) -> bool:
    """Tell whether a document that was found is one of ours, so that a stray one harms no search."""
    return all(name in document.fields for name in PASSAGE)


def from_document(document: Message) -> Entry:
    fields = messages.from_fields({name: value for name, value in document.fields.items() if name != "embedding"})
    vector = messages.from_vector(document.fields["embedding"])
    return Entry(to_hit(fields).passage, vector, str(fields["space"]))


def to_found(document: Message) -> Found:
    fields = messages.from_fields(document.fields)
    distance, terms = fields.get(DISTANCE, 0.0), fields.get("words", [])
    return Found(to_hit(fields), cast("float", distance), cast("list[str]", terms))


def to_hit(fields: Mapping[str, object]) -> Hit:
    app, user, document, chunk, title, headings, page, line, text = (fields[name] for name in PASSAGE)
    passage = Passage(
        document=cast("str", document),
        chunk=cast("int", chunk),
        title=cast("str", title),
        text=cast("str", text),
        headings=tuple(cast("list[str]", headings)),
        page=cast("int | None", page),
        line=cast("int | None", line),
        shared=user is None,
    )
    return Hit(cast("str", app), cast("str | None", user), passage)


def nearest(parent: str, vector: Vectors, space: str, limit: int) -> Message:
    """Return the request for the entries of a space that are nearest to a unit vector, with their distances."""
    find = StructuredQuery.FindNearest(
        vector_field=reference("embedding"),
        query_vector=messages.to_vector(vector),
        distance_measure=StructuredQuery.FindNearest.COSINE,
        limit={"value": min(limit, NEAREST_MOST)},
        distance_result_field=DISTANCE,
    )
    return request(parent, (*PASSAGE, DISTANCE), where=field("space", FieldFilter.EQUAL, space), find_nearest=find)


def with_any(parent: str, terms: Sequence[str], limit: int) -> Message:
    """Return the request for entries that have any of the terms."""
    having = field("words", FieldFilter.ARRAY_CONTAINS_ANY, list(terms))
    return request(parent, (*PASSAGE, "words"), where=having, limit={"value": limit})


def of_document(parent: str, document: str, limit: int, after: str) -> Message:
    """Return the request for a document's entries with their chunks, in the order of their names."""
    return in_order(parent, ("chunk",), limit, after, where=field("document", FieldFilter.EQUAL, document))


def in_order(parent: str, fields: Sequence[str], limit: int, after: str, where: Message | None = None) -> Message:
    """Return the request for entries in the order of their names, behind the name `after`; no `fields` are all of them."""
    order = [StructuredQuery.Order(field=reference(NAME), direction=StructuredQuery.ASCENDING)]
    asked = request(parent, fields, where=where, order_by=order, limit={"value": limit})
    if after:
        del asked.structured_query.start_at.values[:]
        asked.structured_query.start_at.values.append(Value(reference_value=after))
    return asked


def request(parent: str, fields: Sequence[str], **parts: object) -> Message:
    query = StructuredQuery(from_=[StructuredQuery.CollectionSelector(collection_id=COLLECTION)], **parts)
    if fields:
        query.select.fields.extend(map(reference, fields))
    return messages.RunQueryRequest(parent=parent, structured_query=query)


def field(name: str, operator: int, value: object) -> Message:
    return StructuredQuery.Filter(
        field_filter=FieldFilter(field=reference(name), op=operator, value=messages.to_value(value))
    )
