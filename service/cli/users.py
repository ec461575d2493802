"""`brainstem users`: all that an app has of one user, given out as files or removed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.cli.opening import Opened, open_app
from service.cli.options import WORDS, app_argument, json_option
from service.cli.output import count, one_line, print_json, print_table
from service.cli.waiting import carried_out
from service.errors import ConfigError

if TYPE_CHECKING:
    from service.models import Job

user_argument = click.argument("user", type=WORDS)


@click.group()
def users() -> None:
    """Export or erase all that an app has of a user."""


@users.command("export")
@app_argument
@user_argument
@click.option(
    "--to", "folder", type=click.Path(file_okay=False, path_type=Path), default=".", show_default=True, help="The folder for the files."
)  # fmt: skip
@json_option
def export(app: str, user: str, folder: Path, as_json: bool) -> None:
    """Write everything that USER has in APP to zip files: chats, documents, data, usage and jobs."""
    from service.jobs.export import Export

    opened = open_app(app, user)
    job = carried_out(opened, opened.scope, "export", Export(), quiet=as_json)
    paths = [str(path) for path in copied(opened, job, folder)]
    if as_json:
        print_json({"files": paths, "output": job.output})
    else:
        click.echo("\n".join(paths))


@users.command("erase")
@app_argument
@user_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def erase(app: str, user: str, yes: bool, as_json: bool) -> None:
    """Remove everything that USER has in APP. Nothing of it can be had back.

    Ends with 1 if something is left. Their account, and what they have in other apps, stays.
    """
    from service.jobs.erasure import ErasureOfUser
    from service.scope import local

    opened = open_app(app, user)
    if not yes:
        if as_json:
            raise ConfigError("With --json nothing is asked: say --yes.")
        typed = click.prompt(
            f"Everything of {one_line(user)} in {opened.app.id} will be removed. Type the user's id", err=True
        )
        if typed != user:
            raise ConfigError("That is another id. Nothing was removed.")
    given = ErasureOfUser(user=user, confirm=user)
    job = carried_out(opened, local(opened.app, None), "erasure", given, quiet=as_json)
    receipt = job.output or {}
    if as_json:
        print_json(receipt)
    else:
        print_table(("KIND", "REMOVED"), sorted(receipt["removed"].items()), right=["REMOVED"])
        click.echo(f"{count(sum(receipt['left'].values()), 'thing')} left. The receipt is erasures/{job.id}.")
    if any(receipt["left"].values()):
        raise click.exceptions.Exit(1)


def copied(opened: Opened, job: Job, folder: Path) -> list[Path]:
    """Copy the files of a job into a folder."""
    made = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for artifact in job.artifacts:
            path = folder / artifact.name
            with opened.services.backends.blobs.open(opened.scope, artifact.blob) as content, path.open("wb") as file:
                shutil.copyfileobj(content, file)
            made.append(path)
    except OSError as exc:
        raise ConfigError(f"{folder} cannot be written: {exc.strerror}.") from exc
    return made
