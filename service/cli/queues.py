"""`brainstem queues`: the queues of jobs, their caps, and how Cloud Tasks is set up with the same."""

from __future__ import annotations

from dataclasses import asdict

import click

from service.cli.opening import read_settings
from service.cli.options import json_option
from service.cli.output import print_json, print_table
from service.queues import caps, gcloud

HEADERS = ("QUEUE", "WORKERS", "AT ONCE", "PER SECOND", "OF ONE APP", "BACKOFF")


@click.command()
@click.option("--gcloud", "as_commands", is_flag=True, help="Print the commands that set the queues up in Cloud Tasks.")
@json_option
def queues(as_commands: bool, as_json: bool) -> None:
    """List the queues of jobs and what each may do.

    WORKERS is in one process, AT ONCE in all instances together; of one app a queue is given so many at once, and the others follow
    when they end. The settings INTERACTIVE_WORKERS, INTERACTIVE_PER_SECOND and so on change it.
    """
    settings = read_settings()
    if as_commands:
        click.echo("\n".join(gcloud(settings)))
        return
    found = caps(settings)
    if as_json:
        print_json([{"queue": name, **asdict(cap), "window": cap.window} for name, cap in found.items()])
        return
    rows = [
        (name, cap.workers, cap.concurrent, f"{cap.per_second:g}", cap.window, f"{cap.least}–{cap.longest} s")
        for name, cap in found.items()
    ]
    print_table(HEADERS, rows)
