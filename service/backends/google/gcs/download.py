"""An object as it is read: one request, whose answer is consumed as it comes.

Whoever has begun to read keeps what they opened, also when it is replaced or deleted meanwhile: Cloud Storage serves an answer to its
end. If the connection breaks, the rest of the very same object is asked for, and at the end the checksum of all must agree.
Imported with the first call.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import google_crc32c

from service.backends.google.gcs.failures import BROKEN, UNREACHABLE, unavailable
from service.backends.google.gcs.objects import encoded
from service.errors import NotFound

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from service.backends.google.gcs.objects import Objects

MOST_BREAKS = 4
CHANGED = "the file changed while it was read"
DAMAGED = "it gave another content than it has stored"


class Download(io.RawIOBase):
    """The bytes of an object; raises `NotFound` when it is made, `Unavailable` while it is read."""

    def __init__(self, objects: Objects, name: str) -> None:
        super().__init__()
        self._objects = objects
        self._name = name
        self._response = objects.read(name)
        self._generation = int(self._response.headers.get("x-goog-generation", "0"))
        self._expected = checksum(self._response.headers.get("x-goog-hash", ""))
        self._crc32c = 0
        self._read = 0
        self._breaks = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        piece = self._next(memoryview(buffer).nbytes)
        memoryview(buffer)[: len(piece)] = piece
        self._crc32c = google_crc32c.extend(self._crc32c, piece)
        self._read += len(piece)
        if not piece and self._expected not in ("", encoded(self._crc32c)):
            raise unavailable(DAMAGED)
        return len(piece)

    def close(self) -> None:
        if not self.closed and hasattr(self, "_response"):
            self._response.close()
        super().close()

    def _next(self, size: int) -> bytes:
        while True:
            try:
                piece: bytes = self._response.raw.read(size, decode_content=False)
            except BROKEN:
                self._resume()
            else:
                return piece

    def _resume(self) -> None:
        self._response.close()
        self._breaks += 1
        if self._breaks > MOST_BREAKS:
            raise unavailable(UNREACHABLE)
        try:
            self._response = self._objects.read(self._name, self._read, self._generation)
        except NotFound:
            raise unavailable(CHANGED) from None


def checksum(header: str) -> str:
    """Return the CRC32C that an answer states for the whole object as it is stored, in base64."""
    stated = re.search(r"crc32c=([A-Za-z0-9+/=]+)", header)
    return stated[1] if stated else ""
