"""The command line `brainstem`: nouns and verbs that wire options to the rooms and print what comes back; no logic."""

from __future__ import annotations

import io
import sys
from typing import Any

import click

from service import __version__
from service.cli.apps import apps
from service.cli.chat import chat
from service.cli.config import config
from service.cli.doctor import doctor
from service.cli.documents import documents
from service.cli.functions import functions
from service.cli.jobs import jobs
from service.cli.members import members
from service.cli.output import sentence
from service.cli.prove import prove_isolation
from service.cli.queues import queues
from service.cli.rules import rules
from service.cli.search import search
from service.cli.serve import serve
from service.cli.tokens import tokens
from service.cli.usage import usage
from service.cli.users import users
from service.cli.vectors import vectors
from service.errors import BrainstemError


class Commands(click.Group):
    """Commands in the order people meet them; an error of ours is printed as its sentence, without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrainstemError as error:
            raise click.ClickException(sentence(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="brainstem")
def main() -> None:
    """One AI backend for all your apps.

    `brainstem serve` opens the product on this machine. Every other command works with the same data, whether or not a
    server is running.
    """
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a letter is no reason to fail


apps.add_command(rules)
for command in (
    serve,
    doctor,
    config,
    apps,
    members,
    users,
    documents,
    chat,
    search,
    usage,
    jobs,
    queues,
    tokens,
    vectors,
    functions,
    prove_isolation,
):
    main.add_command(command)
