"""The queues of jobs and their caps: one table, which the local queue keeps to and Cloud Tasks is set up with."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from service.config import Settings
from service.models import QueueName

QUEUES: tuple[QueueName, ...] = ("interactive", "ingest", "batch")

ATTEMPTS = 10
"""More than a job may fail: what is given up here was refused each time, and a sweep finds it if it is still to be done."""

LEAST_WINDOW = 4
DOUBLINGS = 5
MOST_PER_SECOND = 500
"""The most that Cloud Tasks takes: what 0, no limit, comes to there."""


@dataclass(frozen=True, slots=True)
class Caps:
    """What a queue may do: `workers` jobs at once in each process, `concurrent` in all of them together.

    `per_second` are begun in a second (0 is no limit), and as many at once after a rest. In the cloud, what failed is delivered again after `least`
    to `longest` seconds, later each time: jobs that fail four times are given up, and a short outage is to be outlasted.
    """

    workers: int
    concurrent: int
    per_second: float
    least: int
    longest: int

    @property
    def window(self) -> int:
        """The jobs of one app that the queue is given at once: enough that it never runs dry while they are refilled."""
        return max(LEAST_WINDOW, 2 * self.concurrent)


def caps(settings: Settings) -> Mapping[QueueName, Caps]:
    """Return each queue's caps; the backoff is no setting."""

    def of(workers: int, per_second: float, least: int, longest: int) -> Caps:
        return Caps(workers, workers * max(1, settings.instances), per_second, least, longest)

    return {
        "interactive": of(settings.interactive_workers, settings.interactive_per_second, 2, 60),
        "ingest": of(settings.ingest_workers, settings.ingest_per_second, 10, 300),
        "batch": of(settings.batch_workers, settings.batch_per_second, 10, 600),
    }


def task_queue(settings: Settings, queue: QueueName) -> str:
    """Return a queue's id in Cloud Tasks."""
    return f"{settings.tasks_queue}-{queue}"


def gcloud(settings: Settings) -> Iterator[str]:
    """Yield the commands that set the queues up in Cloud Tasks, whether they are there or not. Its bursts it chooses itself."""
    for queue, cap in caps(settings).items():
        options = {
            "project": settings.google_cloud_project,
            "location": settings.google_cloud_region,
            "max-concurrent-dispatches": max(1, cap.concurrent),
            "max-dispatches-per-second": f"{cap.per_second or MOST_PER_SECOND:g}",
            "max-attempts": ATTEMPTS,
            "min-backoff": f"{cap.least}s",
            "max-backoff": f"{cap.longest}s",
            "max-doublings": DOUBLINGS,
        }
        given = shlex.join([task_queue(settings, queue), *(f"--{name}={value}" for name, value in options.items())])
        yield f"gcloud tasks queues update {given} || gcloud tasks queues create {given}"
