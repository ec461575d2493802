"""Who belongs to an app by its own records, and as what."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from service.backends.interfaces import Delete, DocumentStore, Path, Query
from service.backends.interfaces import Set as SetDocument
from service.errors import NotFound
from service.models import Role, Scope, timestamp
from service.scope import shared

MOST_REMEMBERED = 10_000
PAGE = 200


@dataclass(frozen=True, slots=True)
class Record:
    """A user's record in an app."""

    user: str
    role: str
    updated: str


class Members:
    """The records `apps/{app}/users/{uid}`; a role that was read is believed for some seconds, that no request waits for it."""

    def __init__(self, documents: DocumentStore, seconds: float) -> None:
        self._documents = documents
        self._seconds = seconds
        self._known: OrderedDict[Scope, tuple[float, Role]] = OrderedDict()
        self._lock = threading.Lock()

    def role(self, scope: Scope) -> Role | None:
        """Return the role that a scope's user has by record; who has none is looked up each time."""
        with self._lock:
            until, known = self._known.get(scope, (0.0, Role.MEMBER))
        if until > time.monotonic():
            return known
        [found] = self._documents.get(shared(scope), record_path(scope))
        role = Role.named(found.data.get("role")) if found else None
        with self._lock:
            self._known.pop(scope, None)
            if role is not None:
                self._known[scope] = (time.monotonic() + self._seconds, role)
            while len(self._known) > MOST_REMEMBERED:
                self._known.popitem(last=False)
        return role

    def put(self, scope: Scope, role: Role) -> None:
        """Give a scope's user a role."""
        now = timestamp()
        self._documents.commit(shared(scope), [SetDocument(record_path(scope), {"role": role.value, "updated": now})])

    def remove(self, scope: Scope) -> None:
        """Take a user's role; what they stored stays. Raises `NotFound`."""
        [found] = self._documents.get(shared(scope), record_path(scope))
        if found is None:
            raise NotFound
        self._documents.commit(shared(scope), [Delete(record_path(scope))])

    def records(self, scope: Scope) -> Iterator[Record]:
        """Yield the records of a scope's app, the last changed first."""
        after: tuple[str | int | float, str] | None = None
        while True:
            query = Query(("users",), "updated", descending=True, after=after, limit=PAGE)
            page = self._documents.query(shared(scope), query)
            for found in page:
                yield Record(found.path[-1], str(found.data.get("role")), str(found.data["updated"]))
            if len(page) < PAGE:
                return
            after = (str(page[-1].data["updated"]), page[-1].path[-1])


def record_path(scope: Scope) -> Path:
    assert scope.user is not None
    return "users", scope.user
