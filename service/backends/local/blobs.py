"""Blobs as files: a folder per scope, a file per blob, and URLs of our own that expire."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes
from typing import BinaryIO

import msgspec

from service.backends import paths
from service.backends.interfaces import Blob, Secrets
from service.backends.local.folder import available, key, private_folder
from service.config import Settings
from service.errors import BadRequest, NotFound
from service.models import Scope
from service.records import learned

STORE = "The blob store"
SUFFIX, NAME_SUFFIX = ".blob", ".name"
"""A file whose name is cut has its whole name in another file beside it."""

PIECE_BYTES = 1 << 20
MAX_NAME_BYTES = 1024
"""As in Cloud Storage."""

STALE_SECONDS = 3600
"""Age of a draft whose writer must have been killed, for no upload takes that long."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a signed URL allows, until `expires` in seconds since 1970."""

    scope: Scope
    name: str
    filename: str
    expires: float


class FileBlobs:
    """The blob store of a laptop. Its URLs are paths, `/local/blobs/<token>`; what serves them asks `resolve`."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self._data_dir = settings.data_dir

    def put(self, scope: Scope, name: str, content: BinaryIO, media_type: str) -> Blob:
        """Store a file; an error of `content` passes through, and then nothing of the file stays."""
        path = self._path(scope, name)
        with available(STORE):
            drafts = private_folder(self._data_dir, "blobs", "drafts")
            sweep(drafts)
            descriptor, draft = tempfile.mkstemp(dir=drafts)
        try:
            blob = copy(content, descriptor)
            with available(STORE):
                private_folder(self._data_dir, *path.parent.relative_to(self._data_dir).parts)
                if paths.is_cut(path.stem):
                    path.with_suffix(NAME_SUFFIX).write_text(name, encoding="utf-8")
                os.replace(draft, path)
                sync_folders(path.parent, self._data_dir)
        except BaseException:
            with suppress(OSError):
                os.unlink(draft)
            raise
        return blob

    def open(self, scope: Scope, name: str) -> BinaryIO:
        path = self._path(scope, name)
        with available(STORE):
            try:
                return path.open("rb")
            except FileNotFoundError as exc:
                raise NotFound from exc

    def sign(self, scope: Scope, name: str, *, seconds: int, filename: str) -> str:
        self.open(scope, name).close()
        try:
            grant = msgspec.json.encode(Grant(scope, name, filename, time.time() + seconds))
        except UnicodeEncodeError as exc:
            raise BadRequest("A file name must be text that UTF-8 can hold.") from exc
        return f"/local/blobs/{seal(self._key(), grant)}"

    def resolve(self, token: str) -> tuple[BinaryIO, str]:
        """Return the file that a signed URL's token stands for, and the name to save it under; raises `NotFound`."""
        content = unseal(self._key(), token)
        if content is None:
            raise NotFound
        grant = msgspec.json.decode(content, type=learned(Grant))
        if time.time() >= grant.expires:
            raise NotFound
        return self.open(grant.scope, grant.name), grant.filename

    def delete(self, scope: Scope, name: str) -> None:
        path = self._path(scope, name)
        with available(STORE):
            path.unlink(missing_ok=True)
            path.with_suffix(NAME_SUFFIX).unlink(missing_ok=True)

    def names(self, scope: Scope, prefix: str = "") -> Iterator[str]:
        folder = self._path(scope, "x").parent
        with available(STORE):
            files = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
        for file in files:
            if (name := name_of(file)) is not None and name.startswith(prefix):
                yield name

    def check(self) -> None:
        with available(STORE), tempfile.TemporaryFile(dir=private_folder(self._data_dir, "blobs", "drafts")) as file:
            file.write(b"x")

    def _path(self, scope: Scope, name: str) -> Path:
        # Encoded names hold no dot, so a file (`x.blob`) can never be where a folder (`users`) must be.
        folders = [paths.file_name(paths.decode(segment)) for segment in paths.root(scope)]
        file = paths.file_name(name) + SUFFIX
        if len(name.encode()) > MAX_NAME_BYTES:
            raise BadRequest("A blob's name must not be longer than 1024 bytes.")
        return self._data_dir.joinpath("blobs", *folders, file)

    def _key(self) -> bytes:
        return key(self._data_dir, "blobs.key", lambda: token_bytes(32))


def name_of(file: Path) -> str | None:
    """Return the name of the blob that a file holds, None if it was removed just now."""
    if not paths.is_cut(file.stem):
        return paths.decode(file.stem)
    with available(STORE), suppress(FileNotFoundError):
        return file.with_suffix(NAME_SUFFIX).read_text(encoding="utf-8")
    return None


def copy(content: BinaryIO, descriptor: int) -> Blob:
    """Write all of `content` to the disk and close the descriptor."""
    digest, size = hashlib.sha256(), 0
    with open(descriptor, "wb", buffering=0) as file:
        while piece := content.read(PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
            rest = memoryview(piece)
            with available(STORE):
                while rest:
                    rest = rest[file.write(rest) :]
        with available(STORE):
            os.fsync(descriptor)
    return Blob(size, digest.hexdigest())


def sync_folders(folder: Path, top: Path) -> None:
    """Bring the entries of a folder and of all above it, up to `top`, to the disk."""
    for each in (folder, *folder.parents):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if each == top:
            return


def sweep(drafts: Path) -> None:
    """Remove what writers left that were killed."""
    for draft in drafts.iterdir():
        with suppress(FileNotFoundError):
            if draft.stat().st_mtime < time.time() - STALE_SECONDS:
                draft.unlink()


def seal(secret: bytes, content: bytes) -> str:
    body = base64.urlsafe_b64encode(content).decode().rstrip("=")
    return f"{body}.{seal_of(secret, body)}"


def unseal(secret: bytes, token: str) -> bytes | None:
    """Return what was sealed, or `None` if a single character of the token was changed."""
    body, _, mac = token.partition(".")
    if not hmac.compare_digest(mac.encode(errors="replace"), seal_of(secret, body).encode()):
        return None
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))


def seal_of(secret: bytes, body: str) -> str:
    return hmac.new(secret, body.encode(errors="replace"), hashlib.sha256).hexdigest()
