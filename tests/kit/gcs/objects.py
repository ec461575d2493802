"""The objects of buckets as Cloud Storage keeps them: generations, preconditions, checksums, resumable uploads."""

from __future__ import annotations

import base64
import hashlib
import itertools
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import google_crc32c


class Refused(Exception):
    """The request is answered with this status and message."""

    def __init__(self, status: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason


@dataclass(frozen=True)
class Stored:
    """One generation of an object."""

    bucket: str
    name: str
    generation: int
    content: bytes
    metadata: Mapping[str, Any]

    @property
    def resource(self) -> dict[str, Any]:
        return {
            **self.metadata,
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "name": self.name,
            "bucket": self.bucket,
            "generation": str(self.generation),
            "metageneration": "1",
            "size": str(len(self.content)),
            "md5Hash": base64.b64encode(hashlib.md5(self.content).digest()).decode(),
            "crc32c": crc32c(self.content),
        }


@dataclass
class Upload:
    """A resumable upload under way; `done` is the object that it became."""

    bucket: str
    metadata: dict[str, Any]
    precondition: str | None
    content: bytearray = field(default_factory=bytearray)
    done: Stored | None = None


class Buckets:
    """What is stored; each change is atomic."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.objects: dict[tuple[str, str], Stored] = {}
        self.uploads: dict[str, Upload] = {}
        self.writes: list[str] = []
        """The name of each object that was written, as often as it was."""
        self._generations = itertools.count(1_700_000_000_000_000)
        self._lock = threading.RLock()

    def find(self, bucket: str, name: str, generation: str | None = None) -> Stored:
        self.demand(bucket)
        found = self.objects.get((bucket, name))
        if found is None or generation not in (None, str(found.generation)):
            raise Refused(404, f"No such object: {bucket}/{name}", "notFound")
        return found

    def write(self, bucket: str, metadata: Mapping[str, Any], content: bytes, precondition: str | None) -> Stored:
        with self._lock:
            self.demand(bucket)
            name = str(metadata.get("name", ""))
            check_name(name)
            self.compare(bucket, name, precondition)
            stated = metadata.get("crc32c")
            if stated is not None and stated != crc32c(content):
                raise Refused(400, "Provided CRC32C does not match the calculated one.", "invalid")
            stored = Stored(bucket, name, next(self._generations), content, dict(metadata))
            self.objects[bucket, name] = stored
            self.writes.append(name)
            return stored

    def remove(self, bucket: str, name: str, precondition: str | None) -> None:
        with self._lock:
            self.find(bucket, name)
            self.compare(bucket, name, precondition)
            del self.objects[bucket, name]

    def start(self, bucket: str, metadata: dict[str, Any], precondition: str | None) -> str:
        self.demand(bucket)
        check_name(str(metadata.get("name", "")))
        self.compare(bucket, str(metadata["name"]), precondition)
        upload = uuid.uuid4().hex
        self.uploads[upload] = Upload(bucket, metadata, precondition)
        return upload

    def append(self, upload_id: str, first: int, total: int, piece: bytes) -> Upload:
        """Take a piece at its place; what is repeated is ignored, as the protocol has it."""
        with self._lock:
            if upload_id not in self.uploads:
                raise Refused(404, "No such upload.", "notFound")
            upload = self.uploads[upload_id]
            if upload.done is None:
                if first > len(upload.content):
                    raise Refused(400, "The piece leaves a gap.", "invalid")
                if first + len(piece) < total and len(piece) % (256 * 1024):
                    raise Refused(400, "A piece must be a multiple of 256 KiB.", "invalid")
                upload.content += piece[len(upload.content) - first :]
                if len(upload.content) == total:
                    content = bytes(upload.content)
                    upload.done = self.write(upload.bucket, upload.metadata, content, upload.precondition)
            return upload

    def compare(self, bucket: str, name: str, precondition: str | None) -> None:
        found = self.objects.get((bucket, name))
        if precondition is not None and precondition != str(found.generation if found else 0):
            raise Refused(412, "At least one of the pre-conditions you specified did not hold.", "conditionNotMet")

    def demand(self, bucket: str) -> None:
        if bucket not in self.names:
            raise Refused(404, "The specified bucket does not exist.", "notFound")


def check_name(name: str) -> None:
    if not 0 < len(name.encode()) <= 1024 or "\r" in name or "\n" in name or name in (".", ".."):
        raise Refused(400, "Invalid object name.", "invalid")


def crc32c(content: bytes) -> str:
    return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
