"""Documents and search."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
from flask import Request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import RequestEntityTooLarge

from service.api import cursors, schemas
from service.api.encoders import document_answer, passage_answer
from service.api.parsing import check_encoding
from service.api.routing import Access, AnyOperation, Call, Operation, Reply
from service.api.schemas import NoQuery, PageQuery, SearchBody
from service.errors import BadRequest, TooLarge, UnsupportedMediaType
from service.models import Scope, from_now
from service.scope import shared
from service.services import Services

APP = "/v1/apps/<app>"
FORM_BYTES = 100_000


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where documents stand: a user's own, or what the app shares, which every member reads and admins manage."""

    word: str
    title: str
    path: str
    scope: Callable[[Scope], Scope]
    writer: Access


OWN = Shelf("", "Your documents", f"{APP}/documents", lambda scope: scope, "member")
SHARED = Shelf("shared_", "What the app shares", f"{APP}/shared/documents", shared, "admin")


def documents(services: Services) -> list[AnyOperation]:
    """The operations on a user's documents and on what the app shares, and the search in both."""

    def search(call: Call[NoQuery, SearchBody]) -> msgspec.Struct:
        found = services.context.search(call.scope, call.app, call.body.text, call.body.limit)
        if found.call:
            services.usage.record(call.scope, replace(found.call, id=uuid.uuid4().hex))
        return schemas.SearchAnswer([passage_answer(passage) for passage in found.passages])

    return [
        *shelf(services, OWN),
        *shelf(services, SHARED),
        Operation(
            "search", "POST", f"{APP}/search", "member", "The passages that answer a text best", search,
            {200: schemas.SearchAnswer}, body=SearchBody,
        ),
    ]  # fmt: skip


def shelf(services: Services, kind: Shelf) -> list[AnyOperation]:
    """The operations on one shelf of documents."""
    ingestion, settings = services.ingestion, services.settings

    def list_documents(call: Call[PageQuery, None]) -> msgspec.Struct:
        limit = call.query.limit
        found = ingestion.documents(kind.scope(call.scope), limit, cursors.decode(call.query.cursor))
        more = cursors.after(found, limit, "created")
        return schemas.DocumentsAnswer([document_answer(document) for document in found], more)

    def get_document(call: Call[NoQuery, None]) -> msgspec.Struct:
        return document_answer(ingestion.document(kind.scope(call.scope), call.ids["document"]))

    def add_document(call: Call[NoQuery, None]) -> Reply:
        file = uploaded_file(call.request, settings.max_upload_bytes)
        scope = kind.scope(call.scope)
        received = ingestion.receive(scope, file.stream, file.filename or "", file.mimetype)  # type: ignore[arg-type]
        services.ingestions.submit(scope, received)
        where = {"Location": f"{kind.path.replace('<app>', call.app.id)}/{received.document.id}"}
        return Reply(202 if received.writes else 200, document_answer(received.document), where)

    def delete_document(call: Call[NoQuery, None]) -> Reply:
        ingestion.delete(kind.scope(call.scope), call.ids["document"])
        return Reply(204)

    def get_original(call: Call[NoQuery, None]) -> msgspec.Struct:
        url, seconds = ingestion.original(kind.scope(call.scope), call.ids["document"])
        return schemas.LinkAnswer(url, from_now(seconds))

    one, word = f"{kind.path}/<document>", kind.word
    return [
        Operation(
            f"list_{word}documents", "GET", kind.path, "member", f"{kind.title}, the newest first", list_documents,
            {200: schemas.DocumentsAnswer}, query=PageQuery,
        ),
        Operation(
            f"get_{word}document", "GET", one, "member", "A document and how far its ingestion is",
            get_document, {200: schemas.DocumentAnswer},
        ),
        Operation(
            f"add_{word}document", "POST", kind.path, kind.writer,
            "Add a file (multipart, field `file`) to be ingested; one that is ingested already is answered with 200",
            add_document, {200: schemas.DocumentAnswer, 202: schemas.DocumentAnswer}, upload=True,
        ),
        Operation(
            f"delete_{word}document", "DELETE", one, kind.writer, "Forget a document with its vectors and file",
            delete_document, {204: None},
        ),
        Operation(
            f"get_{word}original", "GET", f"{one}/original", "member", "A URL that downloads the file as it was sent",
            get_original, {200: schemas.LinkAnswer},
        ),
    ]  # fmt: skip


def uploaded_file(request: Request, limit: int) -> FileStorage:
    """The one file of a multipart body; raises `TooLarge` as soon as it is."""
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("Send the file as multipart/form-data, in the field `file`.")
    check_encoding(request)
    request.max_content_length = limit + FORM_BYTES
    request.max_form_memory_size = FORM_BYTES
    request.max_form_parts = 10
    try:
        files = request.files
    except RequestEntityTooLarge:
        raise TooLarge(f"A file may have {limit} bytes.") from None
    except Exception as error:  # the server's own parser errors escape through the stream
        raise BadRequest("The form is malformed.") from error
    given = files.getlist("file")
    if len(given) != 1 or len(files) != 1 or request.form:
        raise BadRequest("Send one whole file with its name, in the field `file`, and nothing else.")
    return given[0]
