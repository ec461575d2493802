"""Vectors that were paid for, kept in files until their document is searchable, so that an ingestion that is begun again goes on."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from service import logging as log
from service.backends.interfaces import BlobStore
from service.backends.packed import pack, unpack
from service.errors import DependencyError, NotFound
from service.models import Scope
from service.records import to_text

if TYPE_CHECKING:
    from service.backends.interfaces import Vectors


class KeptVectors:
    """Each batch is a file, named by what was embedded and into which space: what has changed since is not found."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    def names(self, scope: Scope, document: str) -> set[str]:
        """Return the names of what is kept of a document."""
        return set(self._blobs.names(scope, f"{folder(document)}/"))

    def find(self, scope: Scope, name: str, rows: int) -> Vectors | None:
        """Return the vectors of a batch, None if they are gone or not whole."""
        try:
            with self._blobs.open(scope, name) as file:
                content = file.read()
        except NotFound:
            return None
        told, packed = content[:32], content[32:]
        return unpack(packed, rows) if hashlib.sha256(packed).digest() == told else None

    def keep(self, scope: Scope, name: str, vectors: Vectors) -> None:
        """Keep the vectors of a batch; where that fails, they may have to be paid for again."""
        packed = pack(vectors)
        content = io.BytesIO(hashlib.sha256(packed).digest() + packed)
        try:
            self._blobs.put(scope, name, content, "application/octet-stream")
        except DependencyError as error:
            log.event("vectors_not_kept", logging.WARNING, error, app=scope.app)

    def forget(self, scope: Scope, document: str) -> None:
        """Remove what is kept of a document."""
        for name in self.names(scope, document):
            self._blobs.delete(scope, name)


def folder(document: str) -> str:
    return f"documents/{document}/vectors"


def name_of(document: str, space: str, texts: Sequence[str]) -> str:
    """The name under which the vectors of some texts are kept."""
    return f"{folder(document)}/{hashlib.sha256(to_text([space, texts]).encode()).hexdigest()}"
