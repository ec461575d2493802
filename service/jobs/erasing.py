"""One attempt at the erasure of a user.

What is being written meanwhile must not survive it: the user's jobs go first, which takes their attempts the right to write; a turn's
next save finds its turn gone; and passes are made, each after the leases of what was alive have ended, until one finds nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from service.backends.interfaces import Backends, Delete, Path, Query, Snapshot
from service.conversations import expired
from service.errors import Unavailable
from service.ingestion.inventory import Listing
from service.jobs.attempt import Attempt
from service.jobs.slices import Slice
from service.models import JSON, JobStatus, Scope, from_now
from service.scope import shared

PASSES = 20
BATCH = 400
PAGE = 500
PAUSE_SECONDS = 2.0
"""Between two passes where nothing was alive: what a request still had in its hands is written by then."""

LONGEST_WAIT_SECONDS = 60.0

NOTE = "Removing everything"
FILES = {"documents": "originals", "jobs": "artifacts", "uploads": "uploads"}
RECORDS = {
    "data": "data",
    "calls": "usage rows",
    "outbox": "deliveries",
    "deadLetters": "dead letters",
    "vectors": "passages",
}


@dataclass(frozen=True, slots=True)
class Erased:
    """What was removed and what a last look found, by kind; `unlisted` names what cannot be looked through."""

    removed: Mapping[str, int]
    left: Mapping[str, int]
    unlisted: tuple[str, ...]


class Erasing:
    """One attempt at the erasure of one user."""

    def __init__(
        self, backends: Backends, max_chunks: int, longest_wait: float, attempt: Attempt, scope: Scope
    ) -> None:
        self._documents, self._vectors, self._blobs = backends.documents, backends.vectors, backends.blobs
        self._max_chunks = max_chunks
        self._longest_wait = longest_wait
        self._attempt = attempt
        self._scope = scope
        self._slice = Slice(attempt)
        state = attempt.job.state or {}
        self._removed: dict[str, int] = dict(state.get("removed", {}))
        self._known: set[str] = set(state.get("documents", ()))
        self._quiet: JSON = state.get("quiet")

    def run(self) -> Erased:
        """Remove everything; raises `Unavailable` if it does not end, `Unfinished` and `Superseded`."""
        for _ in range(PASSES):
            # Also one that an attempt before this one did not see to its end.
            time.sleep(min(until(self._quiet), self._longest_wait))
            wait = self._alive()
            if self._pass():
                self._quiet = from_now(wait)
                self._slice.step(self._state(), self._count(), 0, NOTE, now=True)
                continue
            left = self._left()
            if not any(left.values()):
                return Erased(self._removed, left, () if isinstance(self._vectors, Listing) else ("passages",))
        raise Unavailable("Something goes on writing what is this user's. Try again later.")

    def _alive(self) -> float:
        """Return the seconds until whoever writes now has found out, or has died."""
        ends = [PAUSE_SECONDS]
        for job in self._query(("jobs",), "created"):
            if job.data.get("status") == JobStatus.PROCESSING:
                ends.append(float(str(job.data["lease"])) - job.age)
        for chat in self._query(("chats",), "updated"):
            if running := chat.data.get("running"):
                [turn] = self._documents.get(self._scope, (*chat.path, "turns", str(running)))
                ends.append(until(turn.data.get("lease") if turn else None))
        ends += [until(run.data.get("lease")) for run in self._query(("flows",), "updated")]
        return min(max(ends), self._longest_wait)

    def _query(self, collection: Path, order_by: str) -> list[Snapshot]:
        return self._documents.query(self._scope, Query(collection, order_by, descending=True, limit=PAGE))

    def _pass(self) -> int:
        """Remove what there is; return how much it was. What tells of other things goes after them."""
        before = sum(self._removed.values())
        self._remove_jobs()
        self._remove_passages()
        for name in self._blobs.names(self._scope):
            self._blobs.delete(self._scope, name)
            self._step(FILES.get(name.partition("/")[0], "files"), 1)
        while found := self._documents.everything(self._scope, limit=BATCH):
            self._documents.commit(self._scope, [Delete(path) for path in found])
            for path in found:
                self._step(RECORDS.get(path[-2], path[-2]), 1)
        self._remove_what_is_beside()
        return sum(self._removed.values()) - before

    def _remove_jobs(self) -> None:
        """Take the user's jobs from whoever works on them, and remember which documents they were about."""
        for collection, order_by in (("jobs", "created"), ("outbox", "due")):
            while found := self._query((collection,), order_by):
                if not isinstance(self._vectors, Listing):
                    self._known |= {str(document) for job in found if (document := told(job.data.get("input")))}
                self._slice.step(self._state(), self._count(), 0, NOTE, now=True)
                for some in (found[at : at + BATCH] for at in range(0, len(found), BATCH)):
                    self._documents.commit(self._scope, [Delete(each.path) for each in some])
                    self._step(RECORDS.get(collection, collection), len(some))

    def _remove_passages(self) -> None:
        index = self._vectors
        if isinstance(index, Listing):
            while page := index.entries(self._scope, "", PAGE):
                bounds: dict[str, int] = {}
                for _, entry in page:
                    bounds[entry.passage.document] = max(bounds.get(entry.passage.document, 0), entry.passage.chunk + 1)
                for document, chunks in bounds.items():
                    index.delete(self._scope, document, chunks)
                self._step("passages", len(page))
            return
        for document in self._documents_known():
            index.delete(self._scope, document, self._max_chunks)
            self._step("", 0)

    def _documents_known(self) -> set[str]:
        """Return all documents of which the index may have passages."""
        of_blobs = {
            parts[1] for name in self._blobs.names(self._scope, "documents/") if len(parts := name.split("/")) > 2
        }
        records, after = set[str](), Path()
        while page := self._documents.everything(self._scope, after, PAGE):
            records |= {path[1] for path in page if path[0] == "documents"}
            after = page[-1]
        return self._known | of_blobs | records

    def _remove_what_is_beside(self) -> None:
        """Remove what names the user among what is the app's: their membership, and the marks of moves."""
        app, user = shared(self._scope), str(self._scope.user)
        for move in self._documents.query(app, Query(("moves",), "begun", limit=PAGE)):
            # A range of one value, for which the field's own index is enough.
            theirs = [("user", ">=", user), ("user", "<=", user)]
            marks = Query((*move.path, "documents"), "user", where=theirs, limit=BATCH)  # type: ignore[arg-type]
            while found := self._documents.query(app, marks):
                self._documents.commit(app, [Delete(mark.path) for mark in found])
                self._step("marks", len(found))
        [record] = self._documents.get(app, ("users", user))
        if record is not None:
            self._documents.commit(app, [Delete(record.path)])
            self._step("memberships", 1)

    def _left(self) -> dict[str, int]:
        """Look once more at every store; return how much is there, `PAGE` at most of each."""
        [record] = self._documents.get(shared(self._scope), ("users", str(self._scope.user)))
        passages = self._vectors.entries(self._scope, "", PAGE) if isinstance(self._vectors, Listing) else []
        return {
            "records": len(self._documents.everything(self._scope, limit=PAGE)),
            "passages": len(passages),
            "files": sum(1 for _ in self._blobs.names(self._scope)),
            "memberships": 0 if record is None else 1,
        }

    def _step(self, kind: str, count: int) -> None:
        if kind:
            self._removed[kind] = self._removed.get(kind, 0) + count
        self._slice.step(self._state(), self._count(), 0, NOTE)

    def _state(self) -> JSON:
        return {"removed": dict(self._removed), "documents": [*self._known], "quiet": self._quiet}

    def _count(self) -> int:
        return sum(self._removed.values())


def told(given: JSON) -> JSON:
    return given.get("document") if isinstance(given, dict) else None


def until(lease: JSON) -> float:
    """Return the seconds until a lease ends, 0 if it has."""
    if not isinstance(lease, str) or expired(lease):
        return 0.0
    return (datetime.fromisoformat(lease) - datetime.now(UTC)).total_seconds()
