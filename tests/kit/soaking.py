"""Adapters that misbehave by chance, drawn from a seed: replies are lost after what was asked for took effect, deliveries are made twice.

They are chosen as any adapter is, by dotted path: `BACKEND_DOCUMENTS=tests.kit.soaking:Documents`. `BRAINSTEM_TEST_SEED` is what the
chances of a process are drawn from, and `BRAINSTEM_TEST_JOURNAL` the file in which it notes a line for each thing that befell it.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from service.backends.interfaces import JobAddress, Secrets, Write
from service.backends.local.documents import SQLiteDocuments
from service.backends.local.queue import LocalQueue
from service.config import Settings
from service.errors import BrainstemError, StoreError, Unavailable
from service.models import QueueName, Scope

LEASE = 3.0
"""Seconds, of an attempt at a job."""

QUEUE_LEASE = 2.0
BACKOFF = 0.1
LOST = 0.05
TWICE = 0.2
TICK_SECONDS = 0.1
AWAKE_SECONDS = 3.0
"""So long after it was stopped, a process that is refused a write is refused it for that."""


class Faults:
    """What befalls one process, by chance and on record."""

    def __init__(self, seed: str, journal: Path) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._woke = -AWAKE_SECONDS
        threading.Thread(target=self._watch, daemon=True).start()

    def note(self, what: str) -> None:
        """Write a line that survives the process from now on."""
        os.write(self._journal, f"{what}\n".encode())

    def befalls(self, share: float) -> bool:
        with self._lock:
            return self._random.random() < share

    @property
    def just_woke(self) -> bool:
        return time.monotonic() < self._woke + AWAKE_SECONDS

    def _watch(self) -> None:
        """Notice that the process was stopped for longer than a lease: the clock went on without it."""
        before = time.monotonic()
        while True:
            time.sleep(TICK_SECONDS)
            now = time.monotonic()
            if now - before > LEASE:
                self._woke = now
                self.note("woke")
            before = now


@cache
def faults() -> Faults:
    """Those of this process, as its environment says when the first one may befall it."""
    return Faults(os.environ["BRAINSTEM_TEST_SEED"], Path(os.environ["BRAINSTEM_TEST_JOURNAL"]))


class Watched:
    """A document store whose process notes what it is refused after it was stopped for longer than its leases."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self.inner = self.store(settings, secrets)

    def store(self, settings: Settings, secrets: Secrets) -> Any:
        from service.backends.google.firestore import FirestoreDocuments

        return FirestoreDocuments(settings, secrets)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def commit(self, scope: Scope, writes: Sequence[Write]) -> list[str]:
        try:
            versions: list[str] = self.inner.commit(scope, writes)
        except StoreError:
            if faults().just_woke:
                faults().note("refused")
            raise
        return versions


class Documents(Watched):
    """The local store, a share of whose commits end Unavailable though they took effect."""

    def store(self, settings: Settings, secrets: Secrets) -> Any:
        return SQLiteDocuments(settings, secrets)

    def commit(self, scope: Scope, writes: Sequence[Write]) -> list[str]:
        versions = super().commit(scope, writes)
        answer("commit")
        return versions


class Queue(LocalQueue):
    """The local queue, which delivers a share of the jobs twice: at the same time, or once more afterwards and then to any process."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        super().__init__(settings, secrets, lease=QUEUE_LEASE, backoff=BACKOFF)

    def enqueue(self, address: JobAddress, *, queue: QueueName = "batch", delay: float = 0.0) -> None:
        super().enqueue(address, queue=queue, delay=delay)
        answer("enqueue")

    def start(self, run: Callable[[JobAddress], None]) -> None:
        def deliver(address: JobAddress) -> None:
            faults().note("deliver")
            if faults().befalls(TWICE):
                faults().note("twice")
                if faults().befalls(0.5):
                    threading.Thread(target=quietly, args=(run, address), daemon=True).start()
                else:
                    LocalQueue.enqueue(self, address)  # it is under way, so it is delivered again once it is not
            run(address)

        super().start(deliver)


def answer(call: str) -> None:
    """Let the reply to a call arrive, or not."""
    faults().note(call)
    if faults().befalls(LOST):
        faults().note("lost")
        raise Unavailable("No reply.")


def quietly(run: Callable[[JobAddress], None], address: JobAddress) -> None:
    with suppress(BrainstemError, ValueError):  # what the other delivery comes to is told to the queue
        run(address)
