"""What several commands ask for in the same words."""

from __future__ import annotations

import click

USER = "local"
INTERRUPTED = 130
"""The exit code of a command that Ctrl-C has ended, as shells have it."""


class Words(click.ParamType[str]):
    """Text as it was typed; bytes that are not UTF-8 become question marks, for nothing could store them."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return value.encode("utf-8", "replace").decode("utf-8")


WORDS = Words()

app_argument = click.argument("app", type=WORDS)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
user_option = click.option(
    "--user",
    type=WORDS,
    default=USER,
    envvar="BRAINSTEM_USER",
    show_default=True,
    show_envvar=True,
    help="Whose data: the name to sign in with in the page.",
)
shared_option = click.option(
    "--shared", is_flag=True, help="What the app shares with all its users, instead of one user's."
)
