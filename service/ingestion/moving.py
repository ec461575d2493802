"""Moves what an app's users have indexed to another index, while the old one serves: whole, and anew from where it was killed.

Each pass compares the app's documents with the marks of what was moved, so a document that changes, comes or goes meanwhile is
seen by the next one; passes end when there is nothing left to do and the new index has everything.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from service.apps import App
from service.backends.interfaces import DocumentStore, Embedder, Entry, Search, VectorIndex
from service.chunks import group_paths, read_chunks
from service.context import documents_path
from service.errors import Conflict, Unavailable
from service.ingestion.chunks import embedding_text
from service.ingestion.inventory import Listing, documents_of, pages
from service.ingestion.marks import Key, Mark, Marks, mark_of
from service.ingestion.pipeline import batches, passage_of
from service.models import Document, JobStatus, Scope
from service.records import from_record
from service.scope import local
from service.usage import embedding_call, ledger_write

PASSES = 20
"""More than any app needs whose documents are not being changed all the time."""

LOOKED_AT = 50
"""Places among which a passage must be found by its own vector, where an index cannot list what it has."""


@dataclass(slots=True)
class Moved:
    """What a move came to: documents, and passages copied as they are or embedded anew from the stored text.

    `waiting` documents are still being ingested, so they are in the old index at most; of `incomplete` ones text is missing.
    """

    documents: int = 0
    copied: int = 0
    embedded: int = 0
    removed: int = 0
    waiting: int = 0
    incomplete: list[str] = field(default_factory=list)


class Watcher(Protocol):
    """Shows how a move goes."""

    def begin(self, total: int) -> None:
        """A pass begins that has so many documents to move or to remove."""

    def step(self, title: str, did: str) -> None:
        """One of them is done."""


class Moving:
    """One app's way from one index to another."""

    def __init__(
        self,
        app: App,
        documents: DocumentStore,
        embedder: Embedder,
        source: VectorIndex,
        target: VectorIndex,
        marks: Marks,
    ) -> None:
        self._app = app
        self._documents = documents
        self._embedder = embedder
        self._source = source
        self._target = target
        self._marks = marks
        self._moved = Moved()
        self._given_up: set[Key] = set()

    def run(self, watcher: Watcher, *, again: bool = False) -> Moved:
        """Move what was not moved yet (all of it, if `again`) and return what was done.

        Raises `Unavailable` when an index fails, and `Conflict` if the documents never come to rest; repeating goes on from there.
        """
        self._target.check()
        self._marks.begin()
        if again:
            self._marks.forget_progress()
        for _ in range(PASSES):
            if not self._pass(watcher) and not self._lost():
                self._marks.end()
                return self._moved
        raise Conflict("The app's documents are changed faster than they can be moved. Repeat this when it is quieter.")

    def _pass(self, watcher: Watcher) -> bool:
        """Do what is to do now; return whether there was anything."""
        found, marks = documents_of(self._app, self._documents), self._marks.all()
        self._moved.waiting = sum(not document.status.terminal for document in found.values())
        gone = self._gone(found, marks)
        todo = defaultdict[str | None, list[Document]](list)
        for (user, _), document in found.items():
            if self._is_to_move(user, document, marks.get((user, document.id))):
                todo[user].append(document)
        count = len(gone) + sum(map(len, todo.values()))
        if count:
            watcher.begin(count)
        for mark in gone:
            self._remove(mark)
            watcher.step(mark.document, "removed")
        for user, documents in todo.items():
            self._move(user, documents, marks, watcher)
        return count > 0

    def _gone(self, found: Mapping[Key, Document], marks: Mapping[Key, Mark]) -> list[Mark]:
        """Return what the new index may have of documents that are no longer there."""
        others = self._marks.of_other_moves()
        gone = []
        for key in {**marks, **others}.keys() - found.keys():
            own, other = marks.get(key), others.get(key)
            if not is_removed(own, other):
                known = [mark for mark in (own, other) if mark]
                gone.append(replace(known[0], chunks=max(mark.chunks for mark in known)))
        return gone

    def _is_to_move(self, user: str | None, document: Document, mark: Mark | None) -> bool:
        if document.status is not JobStatus.COMPLETED or (user, document.id) in self._given_up:
            return False
        return mark is None or mark.updated != document.updated

    def _remove(self, mark: Mark) -> None:
        self._target.delete(local(self._app, mark.user), mark.document, mark.chunks)
        self._marks.put([replace(mark, gone=True, updated="")])
        self._moved.removed += 1

    def _move(
        self,
        user: str | None,
        documents: Sequence[Document],
        earlier: dict[Key, Mark],
        watcher: Watcher,
    ) -> None:
        """Move some documents of one scope: copied as far as the old index has them, the rest embedded anew."""
        scope = local(self._app, user)
        marks = {d.id: mark_of(d, user, earlier.get((user, d.id))) for d in documents}
        self._marks.put(marks.values())
        missing = {d.id: set(range(d.chunks)) for d in documents}
        by_id = {d.id: d for d in documents}
        for document in documents:
            if (bound := max(document.written, marks[document.id].chunks)) > document.chunks:
                self._target.delete(scope, document.id, bound)
        for page in pages(self._source, scope) if isinstance(self._source, Listing) else ():
            fitting = [e for e in page if (d := by_id.get(e.passage.document)) and fits(e, d, missing[d.id])]
            self._write(scope, fitting)
            self._moved.copied += len(fitting)
            for entry in fitting:
                missing[entry.passage.document].discard(entry.passage.chunk)
            for name in {entry.passage.document for entry in fitting if not missing[entry.passage.document]}:
                self._finish(by_id.pop(name), marks[name], watcher)
        for name, document in by_id.items():
            if self._embed(scope, document, sorted(missing[name])):
                self._finish(document, marks[name], watcher)

    def _finish(self, document: Document, mark: Mark, watcher: Watcher) -> None:
        self._marks.put([replace(mark, updated=document.updated)])
        self._moved.documents += 1
        watcher.step(document.title, "moved")

    def _embed(self, scope: Scope, document: Document, numbers: Sequence[int]) -> bool:
        """Embed chunks anew from their stored text; return False if there is none."""
        rate = self._app.rate(self._embedder.model)
        for some in batches(numbers, self._embedder.batch_size):
            groups = group_paths(documents_path(scope, document.id), some)
            stored = read_chunks(self._documents, scope, groups)
            chunks = [stored[key] for n in some if (key := (document.id, n)) in stored]
            if len(chunks) < len(some):
                self._give_up(scope, document)
                return False
            start = time.monotonic()
            embeddings = self._embedder.embed([embedding_text(document.title, chunk) for chunk in chunks])
            call = embedding_call(self._embedder.name, embeddings, rate, start, id=uuid.uuid4().hex)
            self._documents.commit(scope, [ledger_write(call)])
            passages = [passage_of(document, chunk, shared=scope.user is None) for chunk in chunks]
            made = zip(passages, embeddings.vectors, strict=True)
            self._write(scope, [Entry(passage, vector, self._embedder.name) for passage, vector in made])
            self._moved.embedded += len(chunks)
        return True

    def _give_up(self, scope: Scope, document: Document) -> None:
        """Note that a document cannot be moved whole, unless it is being deleted or changed: the next pass sees to that."""
        [found] = self._documents.get(scope, documents_path(scope, document.id))
        if found and from_record(Document, found.data).updated == document.updated:
            self._given_up.add((scope.user, document.id))
            self._moved.incomplete.append(document.id)

    def _write(self, scope: Scope, entries: Sequence[Entry]) -> None:
        """Store entries and, where the index cannot list what it has, find each again."""
        if not entries:
            return
        self._target.upsert(scope, entries)
        if isinstance(self._target, Listing):
            return
        if not all(self._finds(scope, entry) for entry in entries):
            raise Unavailable("The new index does not find what was just stored in it. Repeat this later.")

    def _finds(self, scope: Scope, entry: Entry) -> bool:
        """Say whether an entry is found by its vector, or else only others with the same text, of which there may be many."""
        hits = self._target.search(scope, Search("", entry.vector, entry.space, LOOKED_AT))
        found = [hit.passage for hit in hits if hit.user == scope.user]
        this = (entry.passage.document, entry.passage.chunk)
        same = sum(passage.text == entry.passage.text for passage in found)
        return this in {(p.document, p.chunk) for p in found} or same >= LOOKED_AT

    def _lost(self) -> bool:
        """Compare the new index with what was moved to it; return whether anything is missing, and is to be moved again."""
        if not isinstance(self._target, Listing):
            return False
        by_user = defaultdict[str | None, dict[str, Mark]](dict)
        for mark in self._marks.all().values():
            if mark.updated:
                by_user[mark.user][mark.document] = mark
        found = documents_of(self._app, self._documents)
        lost = []
        for user, marks in by_user.items():
            there = defaultdict[str, set[int]](set)
            for page in pages(self._target, local(self._app, user)):
                for entry in page:
                    there[entry.passage.document].add(entry.passage.chunk)
            for name, mark in marks.items():
                document = found.get((user, name))
                if document and not there[name].issuperset(range(document.chunks)):
                    lost.append(replace(mark, updated=""))
        self._marks.put(lost)
        return bool(lost)


def is_removed(own: Mark | None, other: Mark | None) -> bool:
    """Say whether a document that is gone was removed here, and was not in another index since."""
    return own is not None and own.gone and (other is None or other.at < own.at)


def fits(entry: Entry, document: Document, missing: set[int]) -> bool:
    """Say whether an entry is of the document as it is now: of its present embedder, and not copied yet."""
    return entry.passage.chunk in missing and entry.space == (document.embedder or entry.space)
