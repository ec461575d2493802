"""The files that a job makes: private, each under a name of its attempt, and on record only with the job's end."""

from __future__ import annotations

from typing import BinaryIO

from service.backends.interfaces import BlobStore
from service.jobs.attempt import Attempt
from service.models import Artifact


def put(blobs: BlobStore, attempt: Attempt, name: str, content: BinaryIO, media_type: str) -> Artifact:
    """Store a file for the `Result` of an attempt; raises as `BlobStore.put` does.

    The name has the attempt's number in it, so an attempt that was overtaken never replaces what the job was completed with.
    """
    blob = f"jobs/{attempt.job.id}/{attempt.job.attempts}/{name}"
    stored = blobs.put(attempt.scope, blob, content, media_type)
    return Artifact(name=name, media_type=media_type, bytes=stored.bytes, sha256=stored.sha256, blob=blob)
