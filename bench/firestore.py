"""`python -m bench.firestore`: a Firestore that keeps everything in memory and costs little: reads, queries and commits as turns need them.

It speaks the real protocol, so what a turn spends on gRPC and its messages is what it would spend in the cloud; there are no indexes,
rules, transactions or vectors.
"""

from __future__ import annotations

import asyncio
import operator
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import uvloop
from grpc import StatusCode

from bench.http2 import Connection, Handler, Refused
from bench.upstream import PORT_LINE
from service.backends.google.firestore import messages
from service.backends.google.firestore.connection import Message

NAME = "__name__"
COMPARE: Mapping[int, Callable[[Any, Any], bool]] = {
    messages.StructuredQuery.FieldFilter.EQUAL: operator.eq,
    messages.StructuredQuery.FieldFilter.LESS_THAN: operator.lt,
    messages.StructuredQuery.FieldFilter.LESS_THAN_OR_EQUAL: operator.le,
    messages.StructuredQuery.FieldFilter.GREATER_THAN: operator.gt,
    messages.StructuredQuery.FieldFilter.GREATER_THAN_OR_EQUAL: operator.ge,
}


class Database:
    """The documents, by collection and name."""

    def __init__(self) -> None:
        self._collections: dict[str, dict[str, Message]] = defaultdict(dict)
        self._time = time.time_ns()

    def get(self, request: Message) -> list[Message]:
        """BatchGetDocuments."""
        reply = messages.REPLIES["BatchGetDocuments"]
        found = ((name, self._find(name)) for name in request.documents)
        return [reply(found=document) if document else reply(missing=name) for name, document in found]

    def query(self, request: Message) -> list[Message]:
        """RunQuery, over one collection."""
        asked = request.structured_query
        [source] = asked.from_
        found = [
            document
            for document in self._collections[f"{request.parent}/{source.collection_id}"].values()
            if all(order.field.field_path in (NAME, *map(quoted, document.fields)) for order in asked.order_by)
            and (not asked.HasField("where") or matches(document, asked.where))
        ]
        for order in reversed(asked.order_by):
            descending = order.direction == messages.StructuredQuery.DESCENDING
            found.sort(key=lambda document, order=order: value(document, order.field.field_path), reverse=descending)  # type: ignore[misc]
        if asked.start_at.values:
            keys = [name_or_value(one) for one in asked.start_at.values]
            places = [[value(one, order.field.field_path) for order in asked.order_by] for one in found]
            found = found[places.index(keys) + 1 :] if keys in places else []
        reply = messages.REPLIES["RunQuery"]
        return [reply(document=document) for document in found[: asked.limit.value or None]]

    def commit(self, request: Message) -> list[Message]:
        """Commit: all writes or none."""
        for write in request.writes:
            self._check(write)
        self._time = max(time.time_ns(), self._time + 1000)
        seconds, nanos = divmod(self._time, 1_000_000_000)
        done = messages.REPLIES["Commit"]()
        for write in request.writes:
            collection, _, name = (write.delete or write.update.name).rpartition("/")
            if write.delete:
                self._collections[collection].pop(name, None)
                done.write_results.add()
                continue
            document = messages.Document()
            known = self._collections[collection].get(name)
            if known and write.update_mask.field_paths:
                document.CopyFrom(known)
            document.MergeFrom(write.update)
            document.update_time.seconds, document.update_time.nanos = seconds, nanos - nanos % 1000
            self._collections[collection][name] = document
            done.write_results.add().update_time.CopyFrom(document.update_time)
        return [done]

    def _find(self, path: str) -> Message | None:
        collection, _, name = path.rpartition("/")
        return self._collections[collection].get(name)

    def _check(self, write: Message) -> None:
        """Raise `Refused` if a write's precondition does not hold."""
        known = self._find(write.delete or write.update.name)
        asked = write.current_document
        match asked.WhichOneof("condition_type"):
            case "exists" if asked.exists and not known:
                raise Refused(StatusCode.NOT_FOUND, "No document to update")
            case "exists" if known and not asked.exists:
                raise Refused(StatusCode.ALREADY_EXISTS, "Document already exists")
            case "update_time" if not known or known.update_time != asked.update_time:
                raise Refused(StatusCode.FAILED_PRECONDITION, "The stored version does not match")


def value(document: Message, path: str) -> Any:
    """Return a field of a document as what it is compared by; `__name__` is the document's name."""
    if path == NAME:
        return document.name
    return name_or_value(document.fields[path.strip("`")])


def name_or_value(content: Message) -> Any:
    return content.reference_value or messages.from_value(content)


def quoted(field: str) -> str:
    return f"`{field}`"


def matches(document: Message, where: Message) -> bool:
    filters = where.composite_filter.filters if where.HasField("composite_filter") else [where]
    return all(
        COMPARE[one.field_filter.op](
            value(document, one.field_filter.field.field_path), name_or_value(one.field_filter.value)
        )
        for one in filters
    )


def handled(request: Any, answer: Callable[[Message], list[Message]]) -> Handler:
    return lambda message: [messages.serialize(reply) for reply in answer(request.FromString(message))]


async def serve() -> None:
    database = Database()
    handlers = {
        "BatchGetDocuments": handled(messages.BatchGetDocumentsRequest, database.get),
        "RunQuery": handled(messages.RunQueryRequest, database.query),
        "Commit": handled(messages.CommitRequest, database.commit),
    }
    server = await asyncio.get_running_loop().create_server(lambda: Connection(handlers), "127.0.0.1", 0)
    sys.stdout.write(f"{PORT_LINE}{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
