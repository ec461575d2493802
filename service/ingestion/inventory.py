"""What an app has: the documents of all its users, and all entries of an index that can list them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol, runtime_checkable

from service.apps import App
from service.backends.interfaces import DocumentStore, Entry, Path, Query, Snapshot
from service.context import documents_path
from service.ingestion.marks import Key
from service.models import Document, Scope
from service.records import from_record
from service.scope import local

PAGE = 200


@runtime_checkable
class Listing(Protocol):
    """An index that can say what it has."""

    def entries(self, scope: Scope, after: str = "", limit: int = 200) -> list[tuple[str, Entry]]:
        """Return a scope's own entries in a fixed order, each with the cursor behind which the next one follows."""


def documents_of(app: App, documents: DocumentStore) -> dict[Key, Document]:
    """Return all documents of an app, shared ones and each user's own, by user and id."""
    shared = local(app, None)
    found: dict[Key, Document] = {}
    for snapshot in everything(documents, shared, Query(documents_path(shared), "created", limit=PAGE)):
        found[None, snapshot.path[-1]] = from_record(Document, snapshot.data)
    of_every_user = Query(("documents",), "created", limit=PAGE, of_every_user=True)
    for snapshot in everything(documents, shared, of_every_user):
        found[snapshot.path[1], snapshot.path[-1]] = from_record(Document, snapshot.data)
    return found


def pages(index: Listing, scope: Scope) -> Iterator[list[Entry]]:
    """Yield all entries of a scope's own, some at a time."""
    after = ""
    while page := index.entries(scope, after, PAGE):
        yield [entry for _, entry in page]
        after = page[-1][0]


def everything(documents: DocumentStore, scope: Scope, query: Query) -> Iterator[Snapshot]:
    """Yield all documents of a query that is ordered by their `created`, each once."""
    since = ""
    seen: set[Path] = set()
    while True:
        page = documents.query(scope, replace(query, where=[("created", ">=", since)]))
        # A page begins with the moment that the last one ended with.
        new = [snapshot for snapshot in page if snapshot.path not in seen]
        yield from new
        if len(page) < query.limit or not new:
            return
        since = str(page[-1].data["created"])
        seen = {snapshot.path for snapshot in page}
