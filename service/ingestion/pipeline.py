"""Documents of a scope: receive, ingest, list, delete. The index is written last, so that what is found is whole."""

from __future__ import annotations

import shutil
import tempfile
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256 as new_sha256
from pathlib import Path
from typing import BinaryIO, TypeAlias, TypeVar

from service.apps import AppCatalog
from service.backends.interfaces import (
    Backends,
    Create,
    Delete,
    Embeddings,
    Entry,
    Query,
    Update,
    Write,
)
from service.chunks import group_paths, group_writes
from service.config import Settings
from service.context import documents_path
from service.errors import Conflict, DocumentRejected, NotFound, StoreError, TooLarge
from service.ingestion.chunks import chunk, embedding_text
from service.ingestion.kept import KeptVectors, name_of
from service.ingestion.pacing import PacedEmbedder
from service.ingestion.sandbox import Limits, read
from service.models import Chunk, Document, JobStatus, Passage, Rate, Scope, from_now, timestamp
from service.records import from_record, to_record
from service.usage import embedding_call, ledger_write

T = TypeVar("T")
Progress: TypeAlias = Callable[[int, int, str], None]
"""Told how many of how many, and in a sentence of what."""

BATCH = 400
GROUPS = 25
"""Groups of chunks of one commit, which may have 10 MiB: the largest are 330 KB each, most are 10 KB."""

FORGOTTEN = 100
"""Groups of chunks that are read at once to be removed."""

TITLE_CHARS = 200
LINK_SECONDS = 600
DELETE_TRIES = 100

STALE_SECONDS = 300
"""A document whose ingestion showed no sign of life for so long is ingested anew when it is sent again."""


@dataclass(frozen=True, slots=True)
class Received:
    """A stored file. `writes` record it together with the job that ingests it; empty if it is ingested already."""

    document: Document
    writes: tuple[Write, ...]


@dataclass(slots=True)
class Fenced:
    """A document being ingested, with its stored version: a write fails if someone else wrote or deleted it meanwhile."""

    document: Document
    version: str


class Ingestion:
    """The documents of a scope and how they become searchable; `embedder` keeps the pace of this process's ingestion."""

    def __init__(self, settings: Settings, backends: Backends, apps: AppCatalog) -> None:
        self._settings = settings
        self._apps = apps
        self._documents = backends.documents
        self._vectors = backends.vectors
        self._embedder = self.embedder = PacedEmbedder(backends.embedder)
        self._blobs = backends.blobs
        self._kept = KeptVectors(backends.blobs)

    def receive(self, scope: Scope, file: BinaryIO, filename: str, media_type: str) -> Received:
        """Keep a file, once however often it is sent; raises `TooLarge`."""
        sha256, size = digest(file)
        if size > self._settings.max_upload_bytes:
            raise TooLarge(f"A file may have {self._settings.max_upload_bytes} bytes.")
        path = documents_path(scope, sha256[:32])
        [found] = self._documents.get(scope, path)
        if found:
            known = from_record(Document, found.data)
            if not self._needs_ingestion(known):
                return Received(known, ())
        file.seek(0)
        self._blobs.put(scope, blob_name(sha256[:32]), file, media_type)
        now = timestamp()
        document = Document(
            id=sha256[:32],
            title=title_of(filename),
            media_type=media_type[:100],
            bytes=size,
            sha256=sha256,
            status=JobStatus.PENDING,
            created=now,
            updated=now,
            job=uuid.uuid4().hex,
            written=known.written if found else 0,
        )
        record = to_record(document)
        return Received(document, (Update(path, record, found.version) if found else Create(path, record),))

    def _needs_ingestion(self, document: Document) -> bool:
        if document.status is JobStatus.COMPLETED:
            return document.embedder != self._embedder.name
        return document.status is JobStatus.FAILED or document.updated < from_now(-STALE_SECONDS)

    def documents(self, scope: Scope, limit: int, after: tuple[str | int | float, str] | None = None) -> list[Document]:
        """Return documents, the newest first."""
        query = Query(documents_path(scope), "created", descending=True, after=after, limit=limit)
        return [from_record(Document, found.data) for found in self._documents.query(scope, query)]

    def document(self, scope: Scope, document_id: str) -> Document:
        """Return a document; raises `NotFound`."""
        return self._load(scope, document_id).document

    def original(self, scope: Scope, document_id: str) -> tuple[str, int]:
        """Return a URL that downloads the file as it was sent, and the seconds that it holds; raises `NotFound`."""
        document = self.document(scope, document_id)
        url = self._blobs.sign(scope, blob_name(document_id), seconds=LINK_SECONDS, filename=document.title)
        return url, LINK_SECONDS

    def delete(self, scope: Scope, document_id: str) -> None:
        """Forget a document with its chunks, vectors and file; raises `NotFound`. Repeating it after a failure completes it.

        The record goes last and only as it was read: an ingestion that moved on meanwhile makes the deletion begin again, and
        one that has yet to save finds no record and cleans up after itself.
        """
        fenced = self._load(scope, document_id)
        for _ in range(DELETE_TRIES):
            self._forget(scope, document_id, fenced.document.written)
            try:
                self._documents.commit(scope, [Delete(documents_path(scope, document_id), fenced.version)])
                return
            except StoreError:
                try:
                    fenced = self._load(scope, document_id)
                except NotFound:
                    return  # someone else deleted it
        raise Conflict("This document is being changed. Try again.", retry_after=1)

    def ingest(self, scope: Scope, document_id: str, job: str, progress: Progress) -> int:
        """Make a received document searchable, and return the tokens that it took; a repeated delivery ends the same.

        Raises `DocumentRejected` with the reason, which `fail` records. A document that another job ingests is left alone;
        of one that is gone, what earlier attempts wrote is removed.
        """
        fenced = self._load_for(scope, document_id, job)
        tokens = 0
        if fenced is None:
            return tokens
        try:
            self._save(scope, fenced, status=JobStatus.PROCESSING, done=0, total=0)
            chunks = self._read(scope, fenced.document)
            self._save(scope, fenced, total=len(chunks), written=max(len(chunks), fenced.document.written))

            def embedded(done: int) -> None:
                self._save(scope, fenced, done=done)
                progress(done, len(chunks), "Reading the document")

            entries, tokens = self._embed(scope, fenced.document, chunks, job, embedded)
            self._finish(scope, fenced, chunks, entries)
        except StoreError:
            self._clean_up(scope, fenced.document)
        return tokens

    def refresh(self, scope: Scope, document_id: str, job: str, alive: Callable[[], None]) -> int:
        """Read and embed a searchable document anew, and return the tokens that it took; it stays searchable meanwhile.

        `alive` is called after each batch, and what it raises ends this. A document that is deleted or changed meanwhile is left to
        whoever did that. Raises `NotFound` if its record or its file is gone, and `DocumentRejected`: it then stays as it was.
        """
        fenced = self._load(scope, document_id)
        if fenced.document.status is not JobStatus.COMPLETED:
            return 0
        chunks = self._read(scope, fenced.document)
        entries, tokens = self._embed(scope, fenced.document, chunks, job, lambda done: alive())
        try:
            self._save(scope, fenced, written=max(len(chunks), fenced.document.written))
            self._finish(scope, fenced, chunks, entries)
        except StoreError:
            self._clean_up(scope, fenced.document)
        return tokens

    def is_current(self, document: Document, since: str | None = None) -> bool:
        """Whether a document was embedded by the present embedder and, with `since`, read since then."""
        return document.embedder == self._embedder.name and (since is None or document.read >= since)

    def _finish(self, scope: Scope, fenced: Fenced, chunks: Sequence[Chunk], entries: Sequence[Entry]) -> None:
        self._store(scope, fenced.document, chunks, entries)
        if fenced.document.written > self._embedder.batch_size:
            self._kept.forget(scope, fenced.document.id)
        count, embedder = len(chunks), self._embedder.name
        done = {"chunks": count, "done": count, "written": count, "embedder": embedder, "read": timestamp()}
        self._save(scope, fenced, status=JobStatus.COMPLETED, **done)

    def renew(self, scope: Scope, document_id: str, job: str) -> list[Write]:
        """Return the writes by which a document that was not ingested waits for another job; raises `NotFound` or `Conflict`."""
        fenced = self._load(scope, document_id)
        if fenced.document.status is JobStatus.COMPLETED:
            raise Conflict("This document is searchable already.")
        waiting = replace(
            fenced.document, status=JobStatus.PENDING, updated=timestamp(), job=job, done=0, total=0, error=None
        )
        return [Update(documents_path(scope, document_id), to_record(waiting), fenced.version)]

    def fail(self, scope: Scope, document_id: str, job: str, reason: str) -> None:
        """Record why a document cannot be searched; one that is gone or that another job ingests is left as `ingest` does."""
        fenced = self._load_for(scope, document_id, job)
        if fenced is None:
            return
        try:
            self._save(scope, fenced, status=JobStatus.FAILED, error=reason)
        except StoreError:
            self._clean_up(scope, fenced.document)

    def _load(self, scope: Scope, document_id: str) -> Fenced:
        [found] = self._documents.get(scope, documents_path(scope, document_id))
        if found is None:
            raise NotFound
        return Fenced(from_record(Document, found.data), found.version)

    def _load_for(self, scope: Scope, document_id: str, job: str) -> Fenced | None:
        """Return a document that this job is to ingest; what is left of one that is gone is removed."""
        try:
            fenced = self._load(scope, document_id)
        except NotFound:
            self._clear(scope, document_id)
            return None
        return fenced if fenced.document.job == job and not fenced.document.status.terminal else None

    def _save(self, scope: Scope, fenced: Fenced, **changes: object) -> None:
        document = replace(fenced.document, updated=timestamp(), **changes)  # type: ignore[arg-type]  # field by field
        path = documents_path(scope, document.id)
        [fenced.version] = self._documents.commit(scope, [Update(path, to_record(document), fenced.version)])
        fenced.document = document

    def _read(self, scope: Scope, document: Document) -> list[Chunk]:
        settings = self._settings
        limits = Limits(settings.parse_seconds, settings.parse_memory_bytes)
        with tempfile.TemporaryDirectory(prefix="brainstem-") as folder:
            path = Path(folder) / "original"
            with self._blobs.open(scope, blob_name(document.id)) as blob, path.open("wb") as copy:
                shutil.copyfileobj(blob, copy)
            blocks = read(path, filename=document.title, media_type=document.media_type, limits=limits)
        chunks = chunk(blocks, limit=settings.max_document_chunks)
        if not chunks:
            raise DocumentRejected("The file holds no text.")
        return chunks

    def _embed(
        self, scope: Scope, document: Document, chunks: Sequence[Chunk], job: str, embedded: Callable[[int], None]
    ) -> tuple[list[Entry], int]:
        """Return the entries of all chunks, and the tokens that those took which no earlier attempt had embedded."""
        entries: list[Entry] = []
        tokens, rate = 0, self._apps.get(scope.app).rate(self.embedder.model)
        attempt = uuid.uuid4().hex  # names the rows of the ledger, for another attempt pays for others
        several = len(chunks) > self._embedder.batch_size  # of a single batch, keeping it costs more than it saves
        kept = self._kept.names(scope, document.id) if several else set()
        for n, batch in enumerate(batches(chunks, self._embedder.batch_size)):
            texts = [embedding_text(document.title, piece) for piece in batch]
            name = name_of(document.id, self._embedder.name, texts)
            vectors = self._kept.find(scope, name, len(texts)) if name in kept else None
            if vectors is None:
                embeddings = self._pay(scope, texts, rate, f"{attempt}.{n}", job)
                vectors, tokens = embeddings.vectors, tokens + embeddings.tokens
                embedded(len(entries) + len(batch))
                if several:
                    self._kept.keep(scope, name, vectors)
            entries += [
                Entry(passage_of(document, piece, shared=scope.user is None), vector, self._embedder.name)
                for piece, vector in zip(batch, vectors, strict=True)
            ]
        return entries, tokens

    def _pay(self, scope: Scope, texts: Sequence[str], rate: Rate, call_id: str, job: str) -> Embeddings:
        """Embed texts, and have the call on record."""
        start = time.monotonic()
        embeddings = self._embedder.embed(texts)
        call = embedding_call(self._embedder.name, embeddings, rate, start, id=call_id, job=job)
        self._documents.commit(scope, [ledger_write(call)])
        return embeddings

    def _store(self, scope: Scope, document: Document, chunks: Sequence[Chunk], entries: Sequence[Entry]) -> None:
        if document.written > len(chunks):
            self._vectors.delete(scope, document.id, document.written)
        path = documents_path(scope, document.id)
        writes = group_writes(path, chunks)
        for groups in batches(writes, GROUPS):
            self._documents.commit(scope, groups)
        stale = group_paths(path, range(document.written))[len(writes) :]
        for paths in batches(stale, BATCH):
            self._documents.commit(scope, [Delete(path) for path in paths])
        for some in batches(entries, BATCH):
            self._vectors.upsert(scope, some)

    def _clean_up(self, scope: Scope, document: Document) -> None:
        """Remove what was written of a document that was deleted while it was ingested."""
        [found] = self._documents.get(scope, documents_path(scope, document.id))
        if found is None:
            self._clear(scope, document.id)

    def _clear(self, scope: Scope, document_id: str) -> None:
        """Remove what is left of a document that has no record.

        One that was sent anew meanwhile may have lost something by it, so it is failed: sent again, it is ingested again.
        """
        self._forget(scope, document_id)
        for _ in range(DELETE_TRIES):
            try:
                fenced = self._load(scope, document_id)
                self._save(
                    scope, fenced, status=JobStatus.FAILED, error="It was removed while it was added. Send it again."
                )
            except NotFound:
                return
            except StoreError:
                continue  # it moved on
            return

    def _forget(self, scope: Scope, document_id: str, written: int = 0) -> None:
        # The record need not know of every chunk: a job that was outrun may have written after the file was sent anew.
        self._vectors.delete(scope, document_id, max(written, self._settings.max_document_chunks))
        chunks = documents_path(scope, document_id, "chunks")
        while found := self._documents.query(scope, Query(chunks, "n", limit=FORGOTTEN)):
            self._documents.commit(scope, [Delete(group.path) for group in found])
        self._kept.forget(scope, document_id)
        self._blobs.delete(scope, blob_name(document_id))


def blob_name(document_id: str) -> str:
    return f"documents/{document_id}/original"


def digest(file: BinaryIO) -> tuple[str, int]:
    """The sha256 of a file, in hexadecimal, and its size in bytes."""
    sha256, size = new_sha256(), 0
    while block := file.read(1 << 20):
        sha256.update(block)
        size += len(block)
    return sha256.hexdigest(), size


def passage_of(document: Document, piece: Chunk, *, shared: bool) -> Passage:
    return Passage(
        document=document.id,
        chunk=piece.n,
        title=document.title,
        text=piece.text,
        headings=piece.headings,
        page=piece.page,
        line=piece.line,
        shared=shared,
    )


def title_of(filename: str) -> str:
    """A file's name without folders and without characters that cannot be shown."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    shown = "".join(c for c in unicodedata.normalize("NFC", name) if unicodedata.category(c)[0] != "C").strip()
    return shown[-TITLE_CHARS:] if shown.strip(". ") else "Untitled"


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
