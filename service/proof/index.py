"""An index that forgets its filter when a question says so, to see that what it then gives goes no further.

The proof's service runs on it: `BACKEND_VECTORS=service.proof.index:on_local`. All other questions the real index answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from service.backends.interfaces import Entry, Hit, Search, Secrets, VectorIndex
from service.config import Settings
from service.models import Scope
from service.scope import of_job

ORDER = re.compile(r'forget (\["[^]]*\])')


class Forgetful:
    """Another index, but for questions that hold an order: these find what another user's would."""

    def __init__(self, index: VectorIndex) -> None:
        self._index = index

    def upsert(self, scope: Scope, entries: Sequence[Entry]) -> None:
        self._index.upsert(scope, entries)

    def search(self, scope: Scope, search: Search) -> list[Hit]:
        hits = self._index.search(scope, search)
        if order := ORDER.search(search.text):
            app, user = json.loads(order[1])
            hits = [*self._index.search(of_job(app, user), search), *hits]
        return hits

    def delete(self, scope: Scope, document: str, chunks: int) -> None:
        self._index.delete(scope, document, chunks)

    def check(self) -> None:
        self._index.check()


def order(app: str, user: str) -> str:
    """The words of a question that have the index forget whose question it is."""
    return f"forget {json.dumps([app, user])}"


def on_local(settings: Settings, secrets: Secrets) -> Forgetful:
    """Stand on the local index."""
    from service.backends.local.vectors import LocalVectors

    return Forgetful(LocalVectors(settings, secrets))


def on_firestore(settings: Settings, secrets: Secrets) -> Forgetful:
    """Stand on Firestore's index."""
    from service.backends.google.firestore import FirestoreVectors

    return Forgetful(FirestoreVectors(settings, secrets))
