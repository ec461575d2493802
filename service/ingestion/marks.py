"""What a move of vectors has done so far: one small record per document, with what the app shares.

A mark is made before the first passage of a document is written and stays when the document goes, so that whatever was ever
written can be found and removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from service.backends.interfaces import DocumentStore, Path, Query, Set, Update
from service.models import Document, Scope, timestamp
from service.records import from_record, to_record

PAGE = 400

Key: TypeAlias = tuple[str | None, str]
"""User and document."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A document on its way; `updated` is the document's own stamp once it is all there, and empty until then.

    `chunks` bounds what was written of it; `gone` tells that it was deleted and removed here too. `at` is when the mark was made.
    """

    document: str
    user: str | None
    begun: str
    chunks: int
    updated: str = ""
    gone: bool = False
    at: str = ""

    @property
    def key(self) -> Key:
        return self.user, self.document


class Marks:
    """The marks of a move to one index, at `moves/to-<index>/documents/…` under the app's shared scope."""

    def __init__(self, documents: DocumentStore, scope: Scope, source: str, target: str) -> None:
        self._documents = documents
        self._scope = scope
        self._source = source
        self._move: Path = ("moves", f"to-{target}")

    def begin(self) -> None:
        self._documents.commit(self._scope, [Set(self._move, {"source": self._source, "begun": timestamp()})])

    def end(self) -> None:
        self._documents.commit(self._scope, [Update(self._move, {"ended": timestamp()})])

    def all(self) -> dict[Key, Mark]:
        """Return the marks by user and document."""
        return {mark.key: mark for mark in self._stored(self._move)}

    def of_other_moves(self) -> dict[Key, Mark]:
        """Return the latest mark that the moves to other indexes have of each document.

        A document that left this index for another one was marked there; if it was deleted since, only that mark tells of it.
        """
        moves = self._documents.query(self._scope, Query(("moves",), "begun", limit=PAGE))
        marks = [mark for move in moves if move.path != self._move for mark in self._stored(move.path)]
        return {mark.key: mark for mark in sorted(marks, key=lambda mark: mark.at)}

    def put(self, marks: Iterable[Mark]) -> None:
        now = timestamp()
        writes = [Set((*self._move, "documents", name_of(mark)), to_record(replace(mark, at=now))) for mark in marks]
        for start in range(0, len(writes), PAGE):
            self._documents.commit(self._scope, writes[start : start + PAGE])

    def forget_progress(self) -> None:
        """Have every document moved again."""
        self.put(replace(mark, updated="", gone=False) for mark in self.all().values())

    def _stored(self, move: Path) -> Iterator[Mark]:
        after: tuple[str, str] | None = None
        while True:
            query = Query((*move, "documents"), "begun", after=after, limit=PAGE)
            page = self._documents.query(self._scope, query)
            yield from (from_record(Mark, found.data) for found in page)
            if len(page) < PAGE:
                return
            after = (str(page[-1].data["begun"]), page[-1].path[-1])


def mark_of(document: Document, user: str | None, earlier: Mark | None) -> Mark:
    """Return the mark of a document that is about to be written."""
    chunks = max(document.chunks, earlier.chunks if earlier else 0)
    return Mark(document.id, user, earlier.begun if earlier else timestamp(), chunks)


def name_of(mark: Mark) -> str:
    return mark.document if mark.user is None else f"{mark.document}@{mark.user}"
