"""`brainstem jobs`: what is worked on, what ended how, and what is to be tried again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from service.cli.opening import Opened, open_app
from service.cli.options import INTERRUPTED, WORDS, app_argument, json_option, shared_option, user_option
from service.cli.output import one_line, print_json, print_table, shaped
from service.errors import NotFound

if TYPE_CHECKING:
    from service.api.schemas import JobAnswer
    from service.jobs import Jobs
    from service.models import Job, Scope

HEADERS = ("JOB", "KIND", "STATUS", "DONE", "ATTEMPTS", "CREATED (UTC)", "ERROR")

job_argument = click.argument("job", type=WORDS)
kind_option = click.option("--kind", type=WORDS, help="Only jobs of this kind, such as `ingest`.")
reason_option = click.option("--reason", type=WORDS, help="Only those that failed with this code.")


@click.group()
def jobs() -> None:
    """List, show, cancel and retry the jobs of an app."""


@jobs.command("list")
@app_argument
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, at most.")
@user_option
@shared_option
@json_option
def list_jobs(app: str, limit: int, user: str, shared: bool, as_json: bool) -> None:
    """List a user's jobs in APP, the newest first."""
    opened = open_app(app, None if shared else user)
    found = opened.services.jobs.jobs(opened.scope, limit)
    if as_json:
        print_json([answer(job) for job in found])
    else:
        print_table(HEADERS, [row(job) for job in found])


@jobs.command("show")
@app_argument
@job_argument
@user_option
@shared_option
@json_option
def show(app: str, job: str, user: str, shared: bool, as_json: bool) -> None:
    """Show all that is known of the job JOB of APP."""
    opened = open_app(app, None if shared else user)
    with named(opened, job) as room:
        found = answer(room.job(opened.scope, job)[0])
    if as_json:
        print_json(found)
    else:
        print_table(("", ""), [(name, getattr(found, name)) for name in found.__struct_fields__])


@jobs.command("cancel")
@app_argument
@job_argument
@user_option
@shared_option
@json_option
def cancel(app: str, job: str, user: str, shared: bool, as_json: bool) -> None:
    """End the job JOB of APP, if it has not ended."""
    opened = open_app(app, None if shared else user)
    with named(opened, job) as room:
        cancelled = room.cancel(opened.scope, job)
    if as_json:
        print_json(answer(cancelled))
    else:
        click.echo(f"{one_line(job)} is {cancelled.status}.")


@jobs.command("retry")
@app_argument
@job_argument
@user_option
@shared_option
@json_option
def retry(app: str, job: str, user: str, shared: bool, as_json: bool) -> None:
    """Run the job JOB of APP, which failed or was cancelled, anew as another job."""
    opened = open_app(app, None if shared else user)
    with named(opened, job) as room:
        again = room.retry(opened.scope, job)
    if as_json:
        print_json(answer(again))
    else:
        click.echo(f"{again.id} waits for a server to run it.")


@jobs.command("run")
@app_argument
@job_argument
@user_option
@shared_option
@json_option
def run(app: str, job: str, user: str, shared: bool, as_json: bool) -> None:
    """Run the job JOB of APP here until it has ended, however long that takes.

    What would outlast a delivery of the queue runs so as a Cloud Run job of the same image.
    """
    from service.backends.interfaces import JobAddress
    from service.models import JobStatus

    opened = open_app(app, None if shared else user)
    signal.signal(signal.SIGTERM, end)
    try:
        with named(opened, job) as room:
            ended = room.finish(JobAddress(opened.scope, job))
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    if as_json:
        print_json(answer(ended))
    else:
        click.echo(f"{one_line(ended.id)} is {ended.status}{f': {ended.error}' if ended.error else '.'}")
    if ended.status is not JobStatus.COMPLETED:
        raise click.exceptions.Exit(1)


def end(*_: object) -> None:
    """Leave the job to others, as Ctrl-C does."""
    raise KeyboardInterrupt


@jobs.command("dead")
@app_argument
@kind_option
@reason_option
@json_option
def dead(app: str, kind: str | None, reason: str | None, as_json: bool) -> None:
    """List the dead letters of APP: jobs of all its users that were given up, the oldest first."""
    letters = letters_of(open_app(app, None), kind, reason)
    if as_json:
        print_json([{"user": scope.user, "job": answer(job)} for scope, job in letters])
        return
    rows = [(scope.user or "(shared)", job.id, job.kind, job.code, job.ended, job.error) for scope, job in letters]
    print_table(("USER", "JOB", "KIND", "REASON", "ENDED (UTC)", "ERROR"), rows)


@jobs.command("redrive")
@app_argument
@kind_option
@reason_option
@json_option
def redrive(app: str, kind: str | None, reason: str | None, as_json: bool) -> None:
    """Run the dead letters of APP anew, each as another job."""
    from service.errors import BrainstemError

    opened = open_app(app, None)
    letters = letters_of(opened, kind, reason)
    driven = []
    for scope, job in letters:
        try:
            driven.append(opened.services.jobs.retry(scope, job.id))
        except BrainstemError as error:
            click.echo(f"{job.id}: {error.detail or error.title}", err=True)
    if as_json:
        print_json([answer(job) for job in driven])
    else:
        click.echo(f"{len(driven)} of {len(letters)} dead letters wait for a server to run them.")


@contextmanager
def named(opened: Opened, job: str) -> Iterator[Jobs]:
    """The jobs, where one that is not there is named."""
    try:
        yield opened.services.jobs
    except NotFound:
        raise NotFound(
            f"There is no job `{one_line(job)}` there. See `brainstem jobs list {opened.app.id}`, and `--user`."
        ) from None


def letters_of(opened: Opened, kind: str | None, reason: str | None) -> list[tuple[Scope, Job]]:
    found = opened.services.jobs.letters(opened.scope)
    return [(scope, job) for scope, job in found if kind in (None, job.kind) and reason in (None, job.code)]


def answer(job: Job) -> JobAnswer:
    from service.api.schemas import JobAnswer

    return shaped(job, JobAnswer)


def row(job: Job) -> tuple[object, ...]:
    done = f"{job.done}/{job.total}" if job.total else ""
    created = job.created[:16].replace("T", " ")
    return job.id, job.kind, job.status, done, job.attempts, created, job.error or ""
