"""The files that a job makes: private, each under a name of its attempt, and on record only with the job's end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

from service.backends.interfaces import BlobStore
from service.jobs.attempt import Attempt
from service.models import Artifact, Scope


def put(blobs: BlobStore, attempt: Attempt, name: str, content: BinaryIO, media_type: str) -> Artifact:
    """Store a file for the `Result` of an attempt; raises as `BlobStore.put` does.

    The name has the attempt's number in it, so an attempt that was overtaken never replaces what the job was completed with.
    """
    blob = f"jobs/{attempt.job.id}/{attempt.job.attempts}/{name}"
    stored = blobs.put(attempt.scope, blob, content, media_type)
    return Artifact(name=name, media_type=media_type, bytes=stored.bytes, sha256=stored.sha256, blob=blob)


def tidy(blobs: BlobStore, attempt: Attempt, kept: Iterable[Artifact]) -> None:
    """Remove what earlier attempts at a job made, but for what is kept: those of a later one are not this one's to judge."""
    if attempt.job.attempts > 1:
        names = {artifact.blob for artifact in kept}
        for name in list(blobs.names(attempt.scope, f"jobs/{attempt.job.id}/")):
            if name not in names and int(name.split("/")[2]) < attempt.job.attempts:
                blobs.delete(attempt.scope, name)


def clear(blobs: BlobStore, scope: Scope, job: str) -> None:
    """Remove all files of a job that came to nothing."""
    for name in list(blobs.names(scope, f"jobs/{job}/")):
        blobs.delete(scope, name)
