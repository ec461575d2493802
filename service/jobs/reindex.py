"""Re-indexing: what an app's users have is read and embedded anew, for another embedder or another way of cutting files into chunks.

Each document's new passages take the place of its old ones in the index, then its record is switched. What is yet to do is told by the
records themselves, so whatever interrupts it, the next attempt goes on; a document that comes, goes or changes meanwhile is right at
the end, because passes are made until one finds nothing to do.
"""

from __future__ import annotations

from service.apps import App, AppCatalog
from service.backends.interfaces import DocumentStore
from service.errors import DocumentRejected, NotFound, Unavailable
from service.ingestion.inventory import documents_of
from service.ingestion.marks import Key
from service.ingestion.pipeline import Ingestion
from service.jobs.attempt import Attempt, Handler, Result
from service.jobs.orders import Input, Order
from service.jobs.slices import Slice
from service.models import JSON, Document, JobStatus
from service.scope import local

PASSES = 20
NOTE = "Reading documents anew"


class Reindex(Input, frozen=True):
    """`everything` reads also those anew that the present embedder has embedded."""

    everything: bool = False


class Reindexes:
    """Re-indexes apps."""

    def __init__(self, documents: DocumentStore, ingestion: Ingestion, apps: AppCatalog) -> None:
        self._documents = documents
        self._ingestion = ingestion
        self._apps = apps

    @property
    def handler(self) -> Handler:
        return Handler(run=self._run)

    @property
    def order(self) -> Order:
        return Order(shared=Reindex)

    def _run(self, attempt: Attempt) -> Result:
        app = self._apps.get(attempt.scope.app)
        return Reindexing(self._documents, self._ingestion, app, attempt).run()


class Reindexing:
    """One attempt at an app."""

    def __init__(self, documents: DocumentStore, ingestion: Ingestion, app: App, attempt: Attempt) -> None:
        self._documents = documents
        self._ingestion = ingestion
        self._app = app
        self._attempt = attempt
        self._since = attempt.job.created if attempt.job.input.get("everything") else None
        self._slice = Slice(attempt)
        state = attempt.job.state or {}
        self._done: int = state.get("done", 0)
        self._tokens: int = state.get("tokens", 0)
        self._unreadable: set[Key] = {(one["user"], one["document"]) for one in state.get("unreadable", ())}

    def run(self) -> Result:
        """Read what is to be read; raises `Unavailable` if that never ends, `Unfinished`, `Superseded` and `DependencyError`."""
        for _ in range(PASSES):
            todo = self._todo()
            if not todo:
                output: JSON = {"documents": self._done, "unreadable": len(self._unreadable)}
                return Result(output=output, input_tokens=self._tokens)
            total = self._done + len(todo)
            for user, document in todo:
                self._read(user, document, total)
        raise Unavailable("The app's documents are changed faster than they can be read. Try again when it is quieter.")

    def _todo(self) -> list[Key]:
        found = documents_of(self._app, self._documents)
        return [key for key, document in found.items() if key not in self._unreadable and self._is_to_read(document)]

    def _is_to_read(self, document: Document) -> bool:
        return document.status is JobStatus.COMPLETED and not self._ingestion.is_current(document, self._since)

    def _read(self, user: str | None, document: str, total: int) -> None:
        scope = local(self._app, user)
        alive = self._attempt.progress
        try:
            self._tokens += self._ingestion.refresh(
                scope, document, self._attempt.job.id, lambda: alive(self._done, total, NOTE)
            )
            self._done += 1
        except NotFound:
            self._note_if_there(user, document)
        except DocumentRejected:
            self._unreadable.add((user, document))
        self._slice.step(self._state(), self._done, total, NOTE, now=True)

    def _note_if_there(self, user: str | None, document: str) -> None:
        """Give up a document whose file is gone; one that was deleted is no more to be read."""
        try:
            self._ingestion.document(local(self._app, user), document)
        except NotFound:
            return
        self._unreadable.add((user, document))

    def _state(self) -> JSON:
        unreadable: list[JSON] = [{"user": user, "document": document} for user, document in self._unreadable]
        return {"done": self._done, "tokens": self._tokens, "unreadable": unreadable}
