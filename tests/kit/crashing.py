"""Adapters that kill their process: each call is a step before and a step after it, and one step may be the last.

They are chosen as any adapter is, by dotted path: `BACKEND_DOCUMENTS=tests.kit.crashing:Documents`. What they pass their calls to is the
family's own adapter of the setting BACKENDS. `BRAINSTEM_TEST_LAST_STEP` says at which step the process ends by SIGKILL, by what it does
and for which time (`after documents.commit calls #2`; nothing: at none), and `BRAINSTEM_TEST_STEPS` the file in which each step is a line.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, wraps
from pathlib import Path
from typing import Any

from service.backends.interfaces import Delete, JobAddress, ModelEvent, ModelRequest, Secrets, Write
from service.backends.registry import load, target
from service.config import Settings

QUEUE_LEASE = 0.6
"""Seconds, of the local queue."""

BACKOFF = 0.05
LARGEST_BATCH = 8


class Steps:
    """Counts what a process does, and ends it when it has done so much.

    A step is known by its name and not by its number among all, which another delivery more or less would change.
    """

    def __init__(self, last: str, file: Path) -> None:
        self._last = last
        self._file = file.open("a", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()
        self._passed: Counter[str] = Counter()

    def pass_one(self, what: str) -> None:
        with self._lock:
            self._passed[what] += 1
            step = f"{what} #{self._passed[what]}"
            self._file.write(f"{step}\n")
            if step == self._last:
                os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def around(self, what: str) -> Iterator[None]:
        """A call: a step before it, and one after it unless it raised."""
        self.pass_one(f"before {what}")
        yield
        self.pass_one(f"after {what}")


@cache
def steps() -> Steps:
    """The steps of this process, as its environment says when it takes the first one."""
    return Steps(os.environ["BRAINSTEM_TEST_LAST_STEP"], Path(os.environ["BRAINSTEM_TEST_STEPS"]))


class Counted:
    """An adapter of which some methods are steps; `inner` is itself, for who watches and is not counted."""

    seam: str
    methods: tuple[str, ...]

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self.inner = self.adapter(settings, secrets)

    def adapter(self, settings: Settings, secrets: Secrets) -> Any:
        return load(self.seam, target(self.seam, settings.backends))(settings, secrets)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        return counted(found, f"{self.seam}.{name}") if name in self.methods else found


def counted(method: Callable[..., Any], what: str) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with steps().around(f"{what} {about(*args)}".rstrip()):
            return method(*args, **kwargs)

    return call


def about(*args: Any) -> str:
    """Which collections a commit writes to, with a minus those that it removes from: what a step is told by."""
    given = args[1] if len(args) > 1 else ()
    if not isinstance(given, list | tuple):
        return ""
    writes = [write for write in given if isinstance(write, Write)]
    return "+".join(sorted({f"{'-' * isinstance(write, Delete)}{write.path[-2]}" for write in writes}))


class Documents(Counted):
    seam, methods = "documents", ("get", "query", "commit")


class Vectors(Counted):
    seam, methods = "vectors", ("upsert", "search", "delete")


class Blobs(Counted):
    """Files as the family keeps them; in Google's, with the credentials of the server that stands in for Cloud Storage."""

    seam, methods = "blobs", ("put", "open", "sign", "delete")

    def adapter(self, settings: Settings, secrets: Secrets) -> Any:
        if settings.backends != "google":
            return super().adapter(settings, secrets)
        from google.oauth2.credentials import Credentials

        from service.backends.google.gcs import CloudStorage

        credentials = Credentials(os.environ["BRAINSTEM_TEST_STORAGE_TOKEN"])  # type: ignore[no-untyped-call]
        server = os.environ["BRAINSTEM_TEST_STORAGE"]
        return CloudStorage(settings, secrets, credentials=credentials, server=server)


class Embedder(Counted):
    """An OpenAI-compatible one in small batches, so that a short text takes several of them."""

    seam, methods = "embedder", ("embed",)
    batch_size = LARGEST_BATCH

    def adapter(self, settings: Settings, secrets: Secrets) -> Any:
        return load(self.seam, target(self.seam, "openai"))(settings, secrets)


class Model(Counted):
    seam, methods = "model", ()

    def adapter(self, settings: Settings, secrets: Secrets) -> Any:
        return load(self.seam, target(self.seam, "openai"))(settings, secrets)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent], None]:
        with steps().around("model.stream"):
            async for events in self.inner.stream(request):
                yield events


class Queue(Counted):
    """The family's queue; each delivery of a local one is a step too, the second before it is acknowledged."""

    seam, methods = "queue", ("enqueue",)

    def adapter(self, settings: Settings, secrets: Secrets) -> Any:
        if settings.backends == "google":
            return super().adapter(replace(settings, google_cloud_project="demo-brainstem"), secrets)
        from service.backends.local.queue import LocalQueue

        return LocalQueue(settings, secrets, lease=QUEUE_LEASE, backoff=BACKOFF)

    def start(self, run: Callable[[JobAddress], None]) -> None:
        self.inner.start(counted(run, "queue.deliver"))
