"""Runs of flows under an `Idempotency-Key`: the same key is the same run, with one answer."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from service.backends.interfaces import Create, DocumentStore, Path, Snapshot, Update, Write
from service.conversations import describe, expired
from service.errors import BrainstemError, Conflict, DependencyError, IdempotencyMismatch, StoreError
from service.models import JSON, Call, FlowResult, FlowRun, JobStatus, Rate, Scope, from_now, timestamp
from service.records import from_record, to_record, to_text
from service.usage import ledger_write

TRIES = 3


@dataclass(frozen=True, slots=True)
class Begun:
    """A run to be carried out now, with its stored version; or (`version=None`) one that another request carries out or has ended.

    `new` is the run that would take its place.
    """

    run: FlowRun
    version: str | None
    new: FlowRun


class Runs:
    """The runs of a scope in the document store."""

    def __init__(self, documents: DocumentStore, lease_seconds: float) -> None:
        self._documents = documents
        self.lease_seconds = lease_seconds

    def begin(self, scope: Scope, new: FlowRun) -> Begun:
        """Begin a run, or find the one that its key began; raises `IdempotencyMismatch` if that was for another input."""
        begun = replace(new, lease=from_now(self.lease_seconds))
        try:
            return Begun(begun, self._write(scope, begun, [Create(path_of(new), to_record(begun))]), new)
        except StoreError:
            return self.look(scope, new)

    def look(self, scope: Scope, new: FlowRun) -> Begun:
        """Find the run of a key; one that nobody carries out any more, or that failed for a while, is begun anew."""
        for _ in range(TRIES):
            [found] = self._documents.get(scope, path_of(new))
            if found is None:
                return self.begin(scope, new)
            run = from_record(FlowRun, found.data)
            if run.fingerprint != new.fingerprint:
                raise IdempotencyMismatch("Use a new key for a new input.")
            if not may_begin_anew(run):
                return Begun(run, None, new)
            try:
                return self._take_over(scope, new, run, found)
            except StoreError:
                continue  # another request took it over just now
        raise Conflict("This request is being repeated by others. Try again.", retry_after=1)

    def _take_over(self, scope: Scope, new: FlowRun, run: FlowRun, found: Snapshot) -> Begun:
        begun = replace(new, created=run.created, lease=from_now(self.lease_seconds))
        lost = [] if run.status.terminal else [ledger_write(lost_call(run))]
        writes = [Update(found.path, to_record(begun), found.version), *lost]
        return Begun(begun, self._write(scope, begun, writes), new)

    def _write(self, scope: Scope, run: FlowRun, writes: Sequence[Write]) -> str:
        """Commit the beginning of a run and return its version, also where the commit's reply was lost."""
        try:
            return self._documents.commit(scope, writes)[0]
        except DependencyError:
            if version := stored_version(self._documents, scope, run):
                return version
            raise

    def hold(self, scope: Scope, begun: Begun) -> KeptRun:
        """Make what keeps a run that was begun."""
        assert begun.version is not None
        return KeptRun(self._documents, scope, begun.run, begun.version, self.lease_seconds)


class KeptRun:
    """A run of this process: renews its lease, and writes its end. From any thread, one at a time."""

    def __init__(
        self, documents: DocumentStore, scope: Scope, run: FlowRun, version: str, lease_seconds: float
    ) -> None:
        self._documents = documents
        self._scope = scope
        self._run = run
        self._version = version
        self._lease_seconds = lease_seconds
        self._doubtful = False
        self.lock = threading.Lock()

    def renew(self) -> None:
        """Put the lease off; raises `StoreError` if others took the run over."""
        with self.lock:
            if self._run.status.terminal:
                return
            write = Update(path_of(self._run), {"lease": from_now(self._lease_seconds)}, self._current())
            self._doubtful = True
            [self._version] = self._documents.commit(self._scope, [write])
            self._doubtful = False

    def end(self, outcome: FlowResult | BrainstemError) -> Sequence[Write]:
        """The writes that end the run; `lock` is to be held until they are committed."""
        version = self._current()
        failed = isinstance(outcome, BrainstemError)
        self._run = replace(
            self._run,
            status=JobStatus.FAILED if failed else JobStatus.COMPLETED,
            updated=timestamp(),
            lease=None,
            result=None if isinstance(outcome, BrainstemError) else to_text(outcome),
            error=describe(outcome) if isinstance(outcome, BrainstemError) else None,
        )
        return [Update(path_of(self._run), to_record(self._run), version)]

    def _current(self) -> str:
        """The version to write over: looked up, if the reply to the last write was lost."""
        if self._doubtful:
            self._version = stored_version(self._documents, self._scope, self._run) or self._version
        return self._version

    def ended(self) -> bool:
        """Whether the end is stored: a commit whose reply was lost."""
        [found] = self._documents.get(self._scope, path_of(self._run))
        return found is not None and found.data.get("run") == self._run.run and found.data.get("lease") is None


def stored_version(documents: DocumentStore, scope: Scope, run: FlowRun) -> str | None:
    """Return the version of a run's record, if it is still this run that is stored there."""
    [found] = documents.get(scope, path_of(run))
    return found.version if found is not None and found.data.get("run") == run.run else None


def path_of(run: FlowRun) -> Path:
    return ("flows", run.id)


def new_run(flow: str, key: str, given: Mapping[str, JSON], model: str, rate: Rate, tokens: int) -> FlowRun:
    """A run as it begins; its id follows from the flow and the key."""
    now = timestamp()
    return FlowRun(
        id=hashlib.sha256(f"{flow}\n{key}".encode()).hexdigest()[:40],
        flow=flow,
        status=JobStatus.PROCESSING,
        created=now,
        updated=now,
        fingerprint=fingerprint(given),
        run=uuid.uuid4().hex,
        model=model,
        input_tokens=tokens,
        rate=rate,
    )


def fingerprint(given: Mapping[str, JSON]) -> str:
    """The same for inputs that are the same but for the order of their fields."""
    return hashlib.sha256(msgspec.json.encode(given, order="sorted")).hexdigest()


def may_begin_anew(run: FlowRun) -> bool:
    if not run.status.terminal:
        return expired(run.lease)
    return run.error is not None and run.error.retryable


def call_id(run: str, number: int) -> str:
    """The ledger id of a run's call: the same for whoever writes it, another one for another run."""
    return f"{run}.flow{number}"


def lost_call(run: FlowRun) -> Call:
    """The ledger's row for a run whose process died, as far as is known of it."""
    return Call(
        id=call_id(run.run, 1),
        kind="flow",
        model=run.model,
        created=run.updated,
        outcome="lost",
        input_tokens=run.input_tokens,
        estimated=True,
        cost=run.rate.cost(run.input_tokens) if run.rate else None,
        flow=run.flow,
    )
