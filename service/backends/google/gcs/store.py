"""The blob store on Cloud Storage: every change takes effect once, also when its reply is lost and it is asked for again."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from service.backends.google.gcs.names import blob_name, is_encoded, object_name, root_of
from service.backends.google.gcs.objects import SERVER, Content, Deadline, Objects, encoded
from service.backends.interfaces import Blob, Secrets
from service.config import Settings
from service.errors import BadRequest, NotFound
from service.models import Scope

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

IAM = "https://iamcredentials.googleapis.com"
PIECE_BYTES = 1 << 20


class CloudStorage:
    """Blobs as objects of the bucket STORAGE_BUCKET, where clients put their uploads too.

    `credentials`, `server` and `iam` are Google's own unless a test says otherwise.
    """

    def __init__(
        self,
        settings: Settings,
        secrets: Secrets,
        *,
        credentials: Credentials | None = None,
        server: str = SERVER,
        iam: str = IAM,
    ) -> None:
        settings.require("The Cloud Storage adapter", "google_cloud_project", "storage_bucket")
        self._objects = Objects(settings, credentials, server)
        self._iam = iam

    def put(self, scope: Scope, name: str, content: BinaryIO, media_type: str) -> Blob:
        """Store a file; an error of `content` passes through, and then nothing of the file is stored."""
        where = object_name(scope, name)
        with seekable(content) as file:
            blob, upload = measured(file)
            # What changes the object from here on is our own write whose reply was lost, or another's, which is as if it had come
            # just after ours: neither must be written over. (One hole is left: a new file that is deleted in the very moment
            # between a lost reply and the next attempt comes back.)
            told = name if is_encoded(scope, where) else None
            self._objects.write(where, upload, self._objects.generation(where, Deadline()), told)
        return blob

    def open(self, scope: Scope, name: str) -> BinaryIO:
        where = object_name(scope, name)
        from service.backends.google.gcs.download import Download

        return cast("BinaryIO", io.BufferedReader(Download(self._objects, where), PIECE_BYTES))

    def sign(self, scope: Scope, name: str, *, seconds: int, filename: str) -> str:
        """Return a URL; it holds until it expires, whatever becomes of its user meanwhile."""
        where = object_name(scope, name)
        try:
            filename.encode()
        except UnicodeEncodeError as exc:
            raise BadRequest("A file name must be text that UTF-8 can hold.") from exc
        deadline = Deadline()
        if not self._objects.generation(where, deadline):
            raise NotFound
        from service.backends.google.gcs.signing import signed_url

        return signed_url(self._objects, self._iam, where, seconds, filename, deadline)

    def delete(self, scope: Scope, name: str) -> None:
        where = object_name(scope, name)
        deadline = Deadline()
        # An attempt that is repeated must not remove what was put after the first one took effect.
        if generation := self._objects.generation(where, deadline):
            self._objects.remove(where, generation, deadline)

    def names(self, scope: Scope, prefix: str = "") -> Iterator[str]:
        """Yield them as pages come; those of what an app shares lie among its users', all of which are passed over."""
        for where, stated in self._objects.listed(f"{root_of(scope)}/"):
            name = blob_name(scope, where, stated)
            if name is not None and name.startswith(prefix):
                yield name

    def check(self) -> None:
        self._objects.check()


@contextmanager
def seekable(content: BinaryIO) -> Iterator[BinaryIO]:
    """Give a file that can be read twice: to be measured and to be sent, perhaps again."""
    if content.seekable():
        yield content
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(content, copy, PIECE_BYTES)
        copy.seek(0)
        yield cast("BinaryIO", copy)


def measured(file: BinaryIO) -> tuple[Blob, Content]:
    """Read a file from where it stands, piece by piece."""
    import google_crc32c

    start = file.tell()
    sha256, crc32c, size = hashlib.sha256(), 0, 0
    while piece := file.read(PIECE_BYTES):
        sha256.update(piece)
        crc32c = google_crc32c.extend(crc32c, piece)
        size += len(piece)
    return Blob(size, sha256.hexdigest()), Content(file, start, size, encoded(crc32c))
