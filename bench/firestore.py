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
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc

from bench.upstream import PORT_LINE
from service.backends.google.firestore import messages
from service.backends.google.firestore.connection import Message

SERVICE = "google.firestore.v1.Firestore"
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

    async def get(self, request: Message, context: grpc.aio.ServicerContext) -> AsyncIterator[Message]:
        """BatchGetDocuments."""
        reply = messages.REPLIES["BatchGetDocuments"]
        for name in request.documents:
            found = self._find(name)
            yield reply(found=found) if found else reply(missing=name)

    async def query(self, request: Message, context: grpc.aio.ServicerContext) -> AsyncIterator[Message]:
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
        for document in found[: asked.limit.value or None]:
            yield messages.REPLIES["RunQuery"](document=document)

    async def commit(self, request: Message, context: grpc.aio.ServicerContext) -> Message:
        """Commit: all writes or none."""
        for write in request.writes:
            if refused := self._refuses(write):
                await context.abort(*refused)
        self._time = max(time.time_ns(), self._time + 1000)
        seconds, nanos = divmod(self._time, 1_000_000_000)
        done = messages.REPLIES["Commit"]()
        for write in request.writes:
            collection, _, name = (write.delete or write.update.name).rpartition("/")
            if write.delete:
                self._collections[collection].pop(name, None)
                done.write_results.add()
                continue
            document = messages.Document(name=write.update.name)
            known = self._collections[collection].get(name)
            if known and write.update_mask.field_paths:
                document.CopyFrom(known)
            for field, content in write.update.fields.items():
                document.fields[field].CopyFrom(content)
            document.update_time.seconds, document.update_time.nanos = seconds, nanos - nanos % 1000
            self._collections[collection][name] = document
            done.write_results.add().update_time.CopyFrom(document.update_time)
        return done

    def _find(self, path: str) -> Message | None:
        collection, _, name = path.rpartition("/")
        return self._collections[collection].get(name)

    def _refuses(self, write: Message) -> tuple[grpc.StatusCode, str] | None:
        known = self._find(write.delete or write.update.name)
        asked = write.current_document
        match asked.WhichOneof("condition_type"):
            case "exists" if asked.exists and not known:
                return grpc.StatusCode.NOT_FOUND, "No document to update"
            case "exists" if known and not asked.exists:
                return grpc.StatusCode.ALREADY_EXISTS, "Document already exists"
            case "update_time" if not known or known.update_time != asked.update_time:
                return grpc.StatusCode.FAILED_PRECONDITION, "The stored version does not match"
        return None


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


async def serve() -> None:
    database = Database()
    handlers = {
        "BatchGetDocuments": grpc.unary_stream_rpc_method_handler(
            database.get, messages.BatchGetDocumentsRequest.FromString, messages.serialize
        ),
        "RunQuery": grpc.unary_stream_rpc_method_handler(
            database.query, messages.RunQueryRequest.FromString, messages.serialize
        ),
        "Commit": grpc.unary_unary_rpc_method_handler(
            database.commit, messages.CommitRequest.FromString, messages.serialize
        ),
    }
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{PORT_LINE}{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve())
