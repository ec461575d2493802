"""The page of the command line, from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator

import click

from service.cli import main

WIDTH = 100


def cli_page() -> str:
    """The page of commands: what `--help` says of each."""
    with click.Context(main, info_name="brainstem", terminal_width=WIDTH, help_option_names=["-h", "--help"]) as root:
        parts = [f"## `{name}`\n\n```\n{text}\n```\n" for name, text in helps(main, root)]
    return "\n".join(["# The command line", "", *INTRODUCTION, "", *parts])


INTRODUCTION = [
    "Every command works with the data of this machine (`DATA_DIR`), whether or not a server is running. An option wins over the",
    "environment variable beside it, and that over `.env` ([settings.md](settings.md)). `--json` prints the shapes of the HTTP API.",
    "A command ends with 0, with 1 if something failed (a sentence on standard error says what), with 2 if it was called wrongly,",
    "with 130 if Ctrl-C ended it.",
]


def helps(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.commands[name]
            with click.Context(inner, info_name=name, parent=context, terminal_width=WIDTH) as below:
                yield from helps(inner, below)
