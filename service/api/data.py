"""The user's own data, which an app's prompt may include."""

from __future__ import annotations

import msgspec

from service.api import cursors, schemas
from service.api.routing import AnyOperation, Call, Operation, Reply
from service.api.schemas import NoQuery, PageQuery
from service.backends.interfaces import Delete, Query, Set, Snapshot
from service.errors import NotFound
from service.models import JSON, timestamp
from service.services import Services

BASE = "/v1/apps/<app>/data"


def data(services: Services) -> list[AnyOperation]:
    """The operations on a user's own data."""
    documents = services.backends.documents

    def list_data(call: Call[PageQuery, None]) -> msgspec.Struct:
        limit = call.query.limit
        query = Query(("data",), "updated", descending=True, after=cursors.decode(call.query.cursor), limit=limit)
        found = [data_answer(snapshot) for snapshot in documents.query(call.scope, query)]
        more = cursors.after(found, limit, "updated")
        return schemas.DataListAnswer(found, more)

    def get_data(call: Call[NoQuery, None]) -> msgspec.Struct:
        [found] = documents.get(call.scope, ("data", call.ids["doc"]))
        if found is None:
            raise NotFound
        return data_answer(found)

    def put_data(call: Call[NoQuery, dict[str, JSON]]) -> msgspec.Struct:
        path = ("data", call.ids["doc"])
        record: dict[str, JSON] = {"data": call.body, "updated": timestamp()}
        documents.commit(call.scope, [Set(path, record)])
        services.notes.refresh(call.scope, call.app, call.ids["doc"])
        return data_answer(Snapshot(path, record, ""))

    def delete_data(call: Call[NoQuery, None]) -> Reply:
        path = ("data", call.ids["doc"])
        [found] = documents.get(call.scope, path)
        if found is None:
            raise NotFound
        documents.commit(call.scope, [Delete(path)])
        services.notes.refresh(call.scope, call.app, call.ids["doc"])
        return Reply(204)

    one = f"{BASE}/<doc>"
    return [
        Operation(
            "list_data", "GET", BASE, "member", "Your data, the last changed first", list_data,
            {200: schemas.DataListAnswer}, query=PageQuery,
        ),
        Operation("get_data", "GET", one, "member", "One of your documents", get_data, {200: schemas.DataAnswer}),
        Operation(
            "put_data", "PUT", one, "member", "Write one of your documents whole: any JSON object", put_data,
            {200: schemas.DataAnswer}, any_object=True,
        ),
        Operation("delete_data", "DELETE", one, "member", "Remove one of your documents", delete_data, {204: None}),
    ]  # fmt: skip


def data_answer(snapshot: Snapshot) -> schemas.DataAnswer:
    content, updated = snapshot.data["data"], snapshot.data["updated"]
    assert isinstance(content, dict)
    return schemas.DataAnswer(snapshot.path[-1], content, str(updated))
