"""What a kind of job is that is killed, and the service as one of the processes has it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec

from service.backends.interfaces import Query, Snapshot
from service.context import documents_path
from service.errors import Conflict, Unavailable
from service.jobs import job_path
from service.models import Job, JobStatus, Scope
from service.records import from_record
from service.services import Services

T = TypeVar("T")
COLLECTIONS = {
    "jobs": "created",
    "outbox": "due",
    "deadLetters": "created",
    "documents": "created",
    "calls": "created",
    "data": "updated",
    "erasures": "created",
    "waiting": "place",
}
"""What a scope may hold, and by what it is listed."""


TRIES = 20
PAUSE = 0.1


def insistently(call: Callable[[], T]) -> T:
    """Call again while the service says that it may help: what plants and looks is not what is tried here."""
    for _ in range(TRIES):
        with suppress(Unavailable, Conflict):
            return call()
        time.sleep(PAUSE)
    return call()


class Insistent:
    """An adapter that is not counted, and asked again where it does not answer: an emulator on a busy machine may be slow."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        return lambda *args, **kwargs: insistently(lambda: method(*args, **kwargs))


@dataclass(slots=True)
class Stage:
    """The service as one process has it, and the scope whose job is killed."""

    services: Services
    scope: Scope

    @property
    def store(self) -> Any:
        """The document store, without counting; `index` and `blobs` are the others."""
        return Insistent(self.services.backends.documents.inner)  # type: ignore[attr-defined]

    @property
    def index(self) -> Any:
        return Insistent(self.services.backends.vectors.inner)  # type: ignore[attr-defined]

    @property
    def blobs(self) -> Any:
        return Insistent(self.services.backends.blobs.inner)  # type: ignore[attr-defined]

    def job(self, job_id: str) -> Job | None:
        [found] = self.store.get(self.scope, job_path(job_id))
        return from_record(Job, found.data) if found else None

    def all(self, collection: str, scope: Scope | None = None) -> list[Snapshot]:
        """All documents of a collection of this scope or another."""
        where = scope or self.scope
        path = documents_path(where) if collection == "documents" else (collection,)
        found: list[Snapshot] = self.store.query(where, Query(path, COLLECTIONS[collection], limit=1000))
        return found

    def whole(self, scope: Scope) -> dict[tuple[str, ...], object]:
        """All documents of a scope by their paths, each with its version; of an app's, those of the collections that are listed."""
        if scope.user is None:
            found = [one for collection in COLLECTIONS for one in self.all(collection, scope)]
        else:
            found = self.store.get(scope, *self.store.everything(scope))
        return {one.path: (dict(one.data), one.version) for one in found}

    def chunks(self, scope: Scope, document: str) -> list[dict[str, Any]]:
        path = documents_path(scope, document, "chunks")
        groups: list[Snapshot] = self.store.query(scope, Query(path, "n", limit=1000))
        return [chunk for group in groups for chunk in msgspec.json.decode(str(group.data["chunks"]))]

    def of(self, user: str) -> Scope:
        """The scope of one of the `others`."""
        return replace(self.scope, user=user)


@dataclass(frozen=True, slots=True)
class Kind:
    """A job to be killed. `submit` is the client's call, made again until it is acknowledged, and returns the job's id.

    `check` asserts what the job leaves, and returns the names of the files that its scope needs; `prepare` is what was there before,
    and `meanwhile` asserts what holds wherever the process died. `others` are the users whose things the job is about, beside its own.
    Only where it `crashes` may a request end in an error that nobody foresaw.
    """

    submit: Callable[[Stage], str]
    check: Callable[[Stage, Job], set[str]]
    prepare: Callable[[Stage], object] = lambda stage: None
    meanwhile: Callable[[Stage], object] = lambda stage: None
    status: JobStatus = JobStatus.COMPLETED
    letters: int = 0
    jobs: int = 1
    user: str | None = "ada"
    others: tuple[str, ...] = ()
    crashes: bool = False
