"""The user's own data (`data/{doc}`) that an app has searched like uploaded files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

from service.apps import App
from service.backends.interfaces import Create, Delete, DocumentStore, Snapshot, Update
from service.errors import Conflict, NotFound, StoreError
from service.ingestion.pipeline import Ingestion, Received
from service.models import JSON, Scope

MEDIA_TYPE = "text/markdown"


class Notes:
    """Keeps, for each of these, one document with its current content; `submit` has a received document ingested.

    `searchable/{doc}` lists the documents made of it, written before any of them is made, so that none is left behind
    by a process that dies. Whatever is told how often and in whichever order, the end is what `data/{doc}` holds.
    """

    def __init__(
        self, documents: DocumentStore, ingestion: Ingestion, submit: Callable[[Scope, Received], None]
    ) -> None:
        self._documents = documents
        self._ingestion = ingestion
        self._submit = submit

    def refresh(self, scope: Scope, app: App, name: str) -> None:
        """Have `data/{name}` found as it is now, if the app has it searched; raises `Conflict` if it is being refreshed."""
        if name not in app.file.retrieval.data:
            return
        data, listed = self._documents.get(scope, ("data", name), ("searchable", name))
        try:
            if data is None:
                self._forget(scope, listed)
            else:
                self._replace(scope, name, data, listed)
        except StoreError as exc:
            raise Conflict("This is being made searchable already. Try again.", retry_after=1) from exc

    def _replace(self, scope: Scope, name: str, data: Snapshot, listed: Snapshot | None) -> None:
        received = self._ingestion.receive(scope, io.BytesIO(text_of(name, data)), f"{name}.md", MEDIA_TYPE)
        new = received.document.id
        known = documents_of(listed)
        if known == [new] and not received.writes:
            return
        version = self._list(scope, name, listed, [*(old for old in known if old != new), new])
        self._submit(scope, received)
        self._delete(scope, [old for old in known if old != new])
        self._documents.commit(scope, [Update(("searchable", name), {"documents": [new]}, version)])

    def _forget(self, scope: Scope, listed: Snapshot | None) -> None:
        if listed is not None:
            self._delete(scope, documents_of(listed))
            self._documents.commit(scope, [Delete(listed.path, listed.version)])

    def _list(self, scope: Scope, name: str, listed: Snapshot | None, documents: list[str]) -> str:
        path = ("searchable", name)
        record: dict[str, JSON] = {"documents": list(documents)}
        write = Create(path, record) if listed is None else Update(path, record, listed.version)
        [version] = self._documents.commit(scope, [write])
        return version

    def _delete(self, scope: Scope, documents: list[str]) -> None:
        for document in documents:
            try:
                self._ingestion.delete(scope, document)
            except NotFound:
                continue  # deleted already


def documents_of(listed: Snapshot | None) -> list[str]:
    found = listed.data["documents"] if listed else []
    assert isinstance(found, list)
    return [str(document) for document in found]


def text_of(name: str, data: Snapshot) -> bytes:
    return "\n\n".join([f"# {name}", *lines(data.data["data"], ())]).encode()


def lines(value: JSON, keys: tuple[str, ...]) -> Iterator[str]:
    """Yield each value of some JSON with the keys that lead to it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from lines(item, (*keys, key))
    elif isinstance(value, list):
        for item in value:
            yield from lines(item, keys)
    elif value is not None and value != "":
        yield f"{' › '.join(keys)}: {value}" if keys else str(value)
