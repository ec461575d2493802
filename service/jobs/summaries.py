"""Summaries: a model says in a few sentences what each document holds, of a user's own or of those that an app shares.

What is yet to do is told by the documents' records and the job's state: each answer is kept with the ledger's row for it before the
next is asked for, so whatever interrupts the job, the next attempt goes on behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from service.apps import App, AppCatalog
from service.backends.interfaces import Backends, DocumentStore, LanguageModel, ModelRequest, Query, Update, Write
from service.context import documents_path
from service.errors import (
    BrainstemError,
    ContextTooLong,
    DeadlineExceeded,
    InvalidOutput,
    StoreError,
    Superseded,
    Unavailable,
    Unprocessable,
    UpstreamBusy,
)
from service.flows.asking import Asking
from service.flows.work import stubbornly
from service.ingestion.inventory import everything
from service.jobs.attempt import Attempt, Handler, Result
from service.jobs.orders import Input, Order
from service.jobs.slices import Slice
from service.jobs.summarising import Draft, material_of, room_of
from service.loop import Loop
from service.models import JSON, Call, Document, JobStatus, Scope, Summary, timestamp
from service.records import from_record, from_text, to_record, to_text
from service.usage import ledger_write

PAGE = 200
NOTE = "Summarising documents"
SAVE_TRIES = 5
MOST_FAILED = 1000


class Summarise(Input, frozen=True):
    """`everything` also has those summarised anew that have a summary."""

    everything: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How far a job is: how many documents are summarised, which cannot be, and the one that is under way."""

    summarised: int = 0
    failed: tuple[str, ...] = ()
    draft: Draft | None = None


class Asker:
    """Asks a model on the event loop, from a job's thread."""

    def __init__(self, model: LanguageModel, loop: Loop, seconds: float) -> None:
        self.model = model
        self._loop = loop
        self._seconds = seconds

    def ask(self, asking: Asking, attempt: Attempt) -> None:
        """Wait for the whole answer; raises as `Asking.ask` does, `DeadlineExceeded`, and `Superseded` once nothing can be kept."""
        self._loop.wait(self._within(asking), lambda: not attempt.closed)

    async def _within(self, asking: Asking) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await asking.ask(self.model)
        except TimeoutError:
            raise DeadlineExceeded("The summary took too long.") from None


class Summaries:
    """Summarises the documents of a scope."""

    def __init__(self, backends: Backends, apps: AppCatalog, loop: Loop, seconds: float) -> None:
        self._documents = backends.documents
        self._asker = Asker(backends.model, loop, seconds)
        self._apps = apps

    @property
    def handler(self) -> Handler:
        return Handler(run=self._run)

    @property
    def order(self) -> Order:
        return Order(own=Summarise, shared=Summarise, check=lambda scope, _: self._check(scope))

    def _check(self, scope: Scope) -> None:
        room_of(self._apps.get(scope.app))

    def _run(self, attempt: Attempt) -> Result:
        return Summarising(self._documents, self._asker, self._apps.get(attempt.scope.app), attempt).run()


class Summarising:
    """One attempt at the documents of a scope."""

    def __init__(self, documents: DocumentStore, asker: Asker, app: App, attempt: Attempt) -> None:
        self._documents = documents
        self._asker = asker
        self._app = app
        self._attempt = attempt
        self._scope = attempt.scope
        self._slice = Slice(attempt)
        self._kept = from_text(Kept, attempt.job.state) if attempt.job.state else Kept()
        self._paid = attempt.job.input_tokens, attempt.job.output_tokens
        self._total = 0
        self._asked = 0

    def run(self) -> Result:
        """Summarise what is to be; raises `Unfinished`, `Superseded`, `DependencyError`, and `Unprocessable` as `room_of` does."""
        todo = self._todo()
        self._total = self._kept.summarised + len(self._kept.failed) + len(todo)
        for document in todo:
            try:
                self._summarise(document)
            except (ContextTooLong, InvalidOutput):
                self._give_up(document)
        self._step(self._kept)
        (tokens_in, tokens_out), job = self._paid, self._attempt.job
        output: JSON = {"documents": self._kept.summarised, "failed": len(self._kept.failed)}
        return Result(output, (), job.input_tokens - tokens_in, job.output_tokens - tokens_out)

    def _todo(self) -> list[str]:
        path = documents_path(self._scope)
        found = everything(self._documents, self._scope, Query(path, "created", limit=PAGE))
        documents = [from_record(Document, snapshot.data) for snapshot in found]
        return [document.id for document in documents if self._is_to_do(document)]

    def _is_to_do(self, document: Document) -> bool:
        if document.status is not JobStatus.COMPLETED or document.id in self._kept.failed:
            return False
        summary = document.summary
        again = self._attempt.job.input.get("everything")
        return summary is None or bool(again and summary.job != self._attempt.job.id)

    def _summarise(self, document_id: str) -> None:
        """Ask for one document until its summary is kept; one that goes meanwhile is left."""
        found = self._found(document_id)
        if found is None:
            return self._pass_over()
        material = material_of(self._documents, self._scope, self._app, found[0])
        if not material.parts:
            raise InvalidOutput("The document has no text.")
        draft = material.begin(self._kept.draft)
        while True:
            asking = self._ask(material.request(draft, self._asker.model.name))
            draft = material.advance(draft, asking.text)
            if draft.summary:
                return self._finish(document_id, draft.summary, asking.row(), cut=material.cut)
            self._keep(asking.row(), replace(self._kept, draft=draft))
            if self._found(document_id) is None:
                return self._pass_over()

    def _ask(self, request: ModelRequest) -> Asking:
        """Return the answer; raises as `Asker.ask` does, once the call is on record that came to nothing."""
        self._asked += 1
        job = self._attempt.job
        rate = self._app.rate(request.model)
        asking = Asking(request, rate, f"{job.id}.{job.attempts}.{self._asked}", None, "", job.id, kind="summary")
        try:
            self._asker.ask(asking, self._attempt)
            if not asking.text.strip():
                asking.outcome = "invalid"
                raise InvalidOutput("The model gave no summary.")
            asking.outcome = "completed"
        except UpstreamBusy:  # who is turned away pays nothing
            raise
        except BrainstemError:
            self._keep(asking.row(), self._kept)
            raise
        finally:
            asking.log_call(self._scope.app)
        return asking

    def _finish(self, document_id: str, text: str, row: Call, *, cut: bool) -> None:
        """Keep a summary with the call that it took, and with its document as that is now."""
        summary = Summary(text=text, model=row.model, created=timestamp(), job=self._attempt.job.id, cut=cut)
        for _ in range(SAVE_TRIES):
            found = self._found(document_id)
            if found is None:
                self._keep(row, self._kept)
                return self._pass_over()
            own = Update(documents_path(self._scope, document_id), {"summary": to_record(summary)}, found[1])
            try:
                return self._keep(row, replace(self._kept, summarised=self._kept.summarised + 1, draft=None), own)
            except Superseded:
                raise
            except StoreError:
                continue  # it was changed or deleted just now
        self._keep(row, self._kept)
        raise Unavailable("A document is being changed. Try again.")

    def _give_up(self, document_id: str) -> None:
        """Note that a document cannot be summarised, so that it is not asked for again."""
        failed = (*self._kept.failed, document_id)
        if len(failed) > MOST_FAILED:
            raise Unprocessable("Too many of the documents cannot be summarised.")
        self._step(replace(self._kept, failed=failed, draft=None))

    def _pass_over(self) -> None:
        self._total -= 1
        self._kept = replace(self._kept, draft=None)

    def _found(self, document_id: str) -> tuple[Document, str] | None:
        """Return a document and its version, unless it is gone or being ingested."""
        [found] = self._documents.get(self._scope, documents_path(self._scope, document_id))
        document = from_record(Document, found.data) if found else None
        if found is None or document is None or document.status is not JobStatus.COMPLETED:
            return None
        return document, found.version

    def _keep(self, row: Call, kept: Kept, *writes: Write) -> None:
        """Write a call with what it paid for; raises `StoreError` if one of the writes will not do.

        Raises `Superseded` if the job is not ours any more: then the call alone is written, for it was paid.
        """
        job = self._attempt.job
        tokens = {
            "input_tokens": job.input_tokens + row.input_tokens,
            "output_tokens": job.output_tokens + row.output_tokens,
        }
        try:
            stubbornly(partial(self._step, kept, [*writes, ledger_write(row)], **tokens))
        except Superseded:
            stubbornly(partial(self._record, row))
            raise

    def _record(self, row: Call) -> None:
        self._documents.commit(self._scope, [ledger_write(row)])

    def _step(self, kept: Kept, writes: Sequence[Write] = (), **changes: int) -> None:
        done = kept.summarised + len(kept.failed)
        self._slice.step(to_text(kept), done, self._total, NOTE, now=True, writes=writes, **changes)
        self._kept = kept
