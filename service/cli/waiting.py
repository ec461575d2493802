"""Has a job done and waits for it: in this process, or in a server that runs beside it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from service.cli.opening import Opened
from service.cli.output import one_line
from service.errors import ConfigError

if TYPE_CHECKING:
    from service.jobs.orders import Input
    from service.models import Job, Scope

POLL_SECONDS = 0.2


def carried_out(opened: Opened, scope: Scope, kind: str, given: Input, *, quiet: bool) -> Job:
    """Submit a job and return it once it is completed, telling on standard error how far it is; raises `ConfigError` if it fails.

    What Ctrl-C leaves undone is done when a server runs.
    """
    services = opened.services
    where, job = services.orders.submit(scope, kind, given, None)
    queue, told = services.backends.queue, ""
    queue.start(services.jobs.run)
    try:
        while not job.status.terminal:
            time.sleep(POLL_SECONDS)
            job, _ = services.jobs.job(where, job.id)
            if not quiet and (now := progress(job)) != told:
                click.echo(now, err=True)
                told = now
    finally:
        queue.stop()
        services.loop.stop()
    if job.status.value != "COMPLETED":
        raise ConfigError(f"The job {one_line(job.id)} is {job.status}: {one_line(job.error or 'it was ended')}")
    return job


def progress(job: Job) -> str:
    job = replace(job, note=one_line(job.note))
    if job.total:
        return f"{job.note}: {job.done} of {job.total}"
    return f"{job.note}: {job.done}" if job.note else job.status.value.lower()
