"""The indexes that this service's queries need beside Firestore's automatic ones, as `firestore.indexes.json` holds them.

Every field has an automatic index of its own within a collection, which serves each `Query` that orders by one field and compares
none but that one: `chats` by `updated`, `turns` by `seq`, `calls` by `created`, `data` by `updated`, `documents` by `created`, `chunks`
by `n`, `jobs` by `created`, `outbox` by `due` and `place`, `waiting` by `place`; and `vectors` by `words`, `document` or their names. The emulator demands no index at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from service.backends.checks import COMMIT

Definition = dict[str, Any]

GROUPS: Mapping[str, tuple[str, ...]] = {
    "calls": ("created",),
    "documents": ("created",),
    "outbox": ("due", "place"),
    "waiting": ("place",),
    "deadLetters": ("created",),
}
"""Collections of which every user's of an app are read at once, and the fields that they are read in the order of."""

APP = "_app"
"""The field of their documents that holds the app's encoded id."""

UNINDEXED: Mapping[str, tuple[str, ...]] = {
    "users": (),
    "chats": ("title",),
    "turns": ("prompt", "reply", "citations", "error", "fingerprint"),
    "recent": ("recent",),
    "documents": ("title", "error", "summary"),
    "chunks": ("chunks",),
    "jobs": ("input", "error", "note", "state", "output", "artifacts"),
    "outbox": (),
    "waiting": (),
    "deadLetters": (),
    "calls": (),
    "data": ("data",),
    "vectors": ("app", "user", "chunk", "title", "headings", "page", "line", "text", "embedding"),
}
"""What no query asks for: long texts and whatever users store, of which each value would cost entries, up to a limit per document."""


def definitions(dimensions: Iterable[int]) -> Definition:
    """Return what `firestore.indexes.json` must hold, for embedders that give so many dimensions."""
    groups = [group_index(name, field) for name, fields in GROUPS.items() for field in fields]
    indexes = [*groups, *map(vector_index, dimensions)]
    return {"indexes": indexes, "fieldOverrides": [*overrides()]}


def group_index(collection: str, field: str) -> Definition:
    """Return the index for an app's documents of a collection, whoever's they are."""
    fields = [{"fieldPath": name, "order": "ASCENDING"} for name in (APP, field)]
    return {"collectionGroup": collection, "queryScope": "COLLECTION_GROUP", "fields": fields}


def vector_index(dimensions: int) -> Definition:
    """Return the index for the nearest vectors of one space; each number of dimensions takes its own."""
    return {
        "collectionGroup": "vectors",
        "queryScope": "COLLECTION",
        "fields": [
            {"fieldPath": "space", "order": "ASCENDING"},
            {"fieldPath": "embedding", "vectorConfig": {"dimension": dimensions, "flat": {}}},
        ],
    }


def overrides() -> Iterator[Definition]:
    yield override("vectors", "words", {"arrayConfig": "CONTAINS", "queryScope": "COLLECTION"})
    for collection, fields in UNINDEXED.items():
        for field in (*fields, COMMIT):
            yield override(collection, field)


def override(collection: str, field: str, *indexes: Definition) -> Definition:
    return {"collectionGroup": collection, "fieldPath": field, "indexes": list(indexes)}
