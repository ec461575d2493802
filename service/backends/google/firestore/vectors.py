"""The index that costs nothing while nobody asks it: Firestore's nearest neighbours beside an array of words, fused by rank.

Every entry is a document below its owner: `apps/{app}/users/{uid}/vectors/{id}`, or `apps/{app}/vectors/{id}` for what the app shares.
A search asks both collections for both, all at once, so it takes the time of one round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from service.backends import paths
from service.backends.batching import batches
from service.backends.fusion import DEPTH, fuse, weight_of_words
from service.backends.google.firestore import keywords
from service.backends.google.firestore.connection import Connection, Failed, Message
from service.backends.interfaces import Entry, Hit, Search, Secrets
from service.config import Settings
from service.errors import ConfigError
from service.models import Scope

if TYPE_CHECKING:
    from service.backends.google.firestore.passages import Found
    from service.backends.interfaces import Vectors

WHAT = "The search index"
MOST_DIMENSIONS = 2048
MOST_WRITES = 500
MOST_BYTES = 3 * 1_048_576
"""Of one commit; Firestore takes 10 MiB, and its emulator 4."""

CANDIDATES = 40
"""Passages that one query for words brings at least, to be ranked."""


class FirestoreVectors:
    """Keeps passages with their vectors and words in Firestore; what is stored is found at once."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self._connection = Connection(settings)

    def upsert(self, scope: Scope, entries: Sequence[Entry]) -> None:
        from service.backends.google.firestore import messages, passages

        latest = {(entry.passage.document, entry.passage.chunk): entry for entry in entries}
        for entry in latest.values():
            check_dimensions(entry.vector)
        parent = self._parent(scope)
        encoded = (passages.to_write(parent, scope, entry) for entry in latest.values())
        for writes in batches(encoded, MOST_WRITES, MOST_BYTES, lambda write: write.ByteSize()):
            self._send("Commit", messages.CommitRequest(database=self._connection.database, writes=writes))

    def search(self, scope: Scope, search: Search) -> list[Hit]:
        from service.backends.google.firestore import passages

        limit = max(search.limit, 0)
        depth = max(DEPTH, limit)
        asked = keywords.asked(search.text)
        shelves = [self._parent(scope)]
        if scope.user is not None:
            shelves.append(self._parent(scope, shared=True))
        near = (
            []
            if search.vector is None
            else [self._nearest(shelf, search.vector, search.space, depth) for shelf in shelves]
        )
        having = [
            passages.with_any(shelf, group, max(CANDIDATES, limit))
            for group in keywords.groups(asked)
            for shelf in shelves
        ]
        replies = [
            [passages.to_found(document) for document in documents(answer) if passages.is_entry(document)]
            for answer in self._send("RunQuery", *near, *having)
        ]
        by_vector = sorted((one for found in replies[: len(near)] for one in found), key=lambda one: one.distance)
        by_words = by_terms(asked, [one for found in replies[len(near) :] for one in found])
        return fused(by_vector, by_words, weight_of_words(search.text), depth)[:limit]

    def delete(self, scope: Scope, document: str, chunks: int) -> None:
        """Read which entries there are, for most of the chunks that may be asked for are none."""
        from service.backends.google.firestore import messages, passages

        after = ""
        while True:
            request = passages.of_document(self._parent(scope), document, MOST_WRITES, after)
            [answer] = self._send("RunQuery", request)
            found = documents(answer)
            gone = [one for one in found if 0 <= one.fields["chunk"].integer_value < chunks]
            if gone:
                writes = [messages.Write(delete=one.name) for one in gone]
                self._send("Commit", messages.CommitRequest(database=self._connection.database, writes=writes))
            if len(found) < MOST_WRITES:
                return
            after = found[-1].name

    def entries(self, scope: Scope, after: str = "", limit: int = 200) -> list[tuple[str, Entry]]:
        """Return (cursor, entry) pairs of a scope's own entries in a steady order, continuing behind the cursor `after`."""
        from service.backends.google.firestore import passages

        parent = self._parent(scope)
        behind = after and f"{parent}/{passages.COLLECTION}/{paths.encode(after)}"
        [answer] = self._send("RunQuery", passages.in_order(parent, (), limit, behind))
        found = documents(answer)
        return [(one.name.rpartition("/")[2], passages.from_document(one)) for one in found if passages.is_entry(one)]

    def check(self) -> None:
        """Read a document that need not be there."""
        from service.backends.google.firestore import messages

        name = f"{self._connection.root}/apps/ready"
        request = messages.BatchGetDocumentsRequest(database=self._connection.database, documents=[name])
        self._send("BatchGetDocuments", request)

    def _nearest(self, shelf: str, vector: Vectors, space: str, limit: int) -> Message:
        from service.backends.google.firestore import passages

        check_dimensions(vector)
        return passages.nearest(shelf, vector, space, limit)

    def _parent(self, scope: Scope, *, shared: bool = False) -> str:
        """Return the name of the document that a scope's entries lie below, or of the one that its app's shared ones do."""
        owner = () if shared or scope.user is None else ("users", segment(scope.user))
        return self._connection.name(("apps", segment(scope.app), *owner))

    def _send(self, method: str, *requests: Message) -> list[list[Message]]:
        try:
            return self._connection.send(method, *requests)
        except Failed as failed:
            from service.backends.google.firestore import failures

            raise failures.mapped(failed, WHAT) from None


def documents(answer: Sequence[Message]) -> list[Message]:
    return [reply.document for reply in answer if reply.HasField("document")]


def segment(name: str) -> str:
    """Encode a name as `paths` does, and the empty one, which no path can hold, as what nothing else is encoded as."""
    return paths.encode(name) if name else "%"


def check_dimensions(vector: Vectors) -> None:
    if vector.size > MOST_DIMENSIONS:
        raise ConfigError(
            f"Firestore finds vectors of at most {MOST_DIMENSIONS} dimensions, and the embedder gives {vector.size}: set "
            "EMBEDDING_DIMENSIONS, or choose another index with BACKEND_VECTORS."
        )


def by_terms(asked: Sequence[str], found: Sequence[Found]) -> list[Found]:
    """Rank what the queries for words found, each passage once."""
    # What the owner has takes the place of what the app shares, for it comes first.
    each = {one.key: one for one in reversed(found)}
    return [each[key] for key in keywords.ranked(asked, {key: one.terms for key, one in each.items()})]


def fused(by_vector: Sequence[Found], by_words: Sequence[Found], weight: float, depth: int) -> list[Hit]:
    """Fuse both rankings by document and chunk, so that a passage which its owner and the app both have counts once."""
    hits = {one.key: one.hit for one in (*reversed(by_words), *reversed(by_vector))}
    rankings = [
        (share, list(dict.fromkeys(one.key for one in found))[:depth])
        for share, found in ((1.0, by_vector), (weight, by_words))
    ]
    return [replace(hits[key], passage=replace(hits[key].passage, score=score)) for key, score in fuse(rankings)]
