"""Looks, every now and then, for jobs that were to be delivered and were not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from service import logging as log
from service.apps import App
from service.errors import BrainstemError, DependencyError
from service.jobs import Jobs
from service.scope import local

SWEEP_SECONDS = 20.0
FIRST_SWEEP_SECONDS = 2.0
"""Soon after it began, a process sweeps up what the one before it left: where each lives for less than 20 seconds, nobody would."""


class Sweeper:
    """Sweeps the outboxes of all apps: `sweep` once, `start` from time to time in a thread, where one goes on between requests."""

    def __init__(self, jobs: Jobs, apps: Callable[[], Iterable[App]], *, seconds: float = SWEEP_SECONDS) -> None:
        self._jobs = jobs
        self._apps = apps
        self._seconds = seconds
        self._stopping = threading.Event()

    def sweep(self) -> int:
        """Return how many jobs were enqueued. An app whose sweep fails keeps no other from its own."""
        enqueued = 0
        for app in self._apps():
            try:
                enqueued += self._jobs.sweep(local(app, None))
            except DependencyError as error:
                log.event("sweep_failed", logging.WARNING, error, app=app.id)
        if enqueued:
            log.event("jobs_enqueued_again", logging.WARNING, jobs=enqueued)
        return enqueued

    def start(self) -> None:
        threading.Thread(target=self._run, name="sweeper", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        pause = min(FIRST_SWEEP_SECONDS, self._seconds)
        while not self._stopping.wait(pause):
            pause = self._seconds
            try:
                self.sweep()
            except BrainstemError as error:  # the folder of apps is not there, for a moment
                log.event("sweep_failed", logging.ERROR, error)
