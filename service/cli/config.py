"""`brainstem config`: the settings in use, and where each comes from."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from service.cli.opening import read_settings
from service.cli.options import json_option
from service.cli.output import print_json, print_table

CREDENTIALS = re.compile(r"//[^/@\s]+@")


@click.command()
@json_option
def config(as_json: bool) -> None:
    """Show the settings and where each comes from.

    Secrets are masked. A setting is the environment variable of its name. What the environment leaves out is read from `.env` in the
    working folder, then has its default.
    """
    rows = [
        {"name": name, "value": CREDENTIALS.sub("//********@", value), "source": source_of(name), "help": text}
        for name, value, _, text in read_settings().rows()
    ]
    if as_json:
        print_json(rows)
    else:
        print_table([key.upper() for key in rows[0]], [list(row.values()) for row in rows])


def source_of(variable: str) -> str:
    """Where a setting's value comes from; a variable that is set but empty leaves the default."""
    from service.config import read_dotenv

    if variable in os.environ:
        return "environment" if os.environ[variable] else "default"
    return ".env" if read_dotenv(Path(".env")).get(variable) else "default"
