"""`brainstem tokens`: sign in from a terminal, for curl and scripts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import click

from service.cli.opening import find_app, open_rooms
from service.cli.options import WORDS, json_option, user_option
from service.cli.output import print_json
from service.errors import BadRequest, ConfigError
from service.models import timestamp

SECONDS = 3600


@click.group()
def tokens() -> None:
    """Mint ID tokens of this machine."""


@tokens.command("mint")
@user_option
@click.option(
    "--app", "apps", multiple=True, type=WORDS, help="App of the token's claim `apps`; repeatable.  [default: all]"
)
@click.option("--admin", is_flag=True, help="Make the user an admin of these apps, not a member.")
@click.option(
    "--claim",
    "claims",
    multiple=True,
    type=WORDS,
    metavar="NAME=VALUE",
    help="Custom claim, its value as JSON or text; repeatable.",
)
@json_option
def mint(user: str, apps: tuple[str, ...], admin: bool, claims: tuple[str, ...], as_json: bool) -> None:
    """Print a local ID token, good for an hour.

    curl -H "Authorization: Bearer $(brainstem tokens mint)" http://127.0.0.1:8080/v1/apps
    """
    from service.api.schemas import TokenAnswer
    from service.backends.local.tokens import LocalTokens

    services = open_rooms()
    verifier = services.backends.tokens
    if not isinstance(verifier, LocalTokens):
        raise ConfigError(
            f"Tokens are not made here: BACKEND_TOKENS is `{services.backends.names['tokens']}`, whose sign-in alone "
            "makes them. Take the ID token of a user who signed in there."
        )
    ids = [find_app(services.apps, app).id for app in apps] or [app.id for app in services.apps.available()]
    roles = dict.fromkeys(ids, "admin" if admin else "member")
    token = verifier.mint(user, claims={"apps": roles, **parse_claims(claims)}, lifetime=SECONDS)
    if as_json:
        print_json(TokenAnswer(token, user, timestamp(datetime.now(UTC) + timedelta(seconds=SECONDS))))
    else:
        click.echo(token)


def parse_claims(given: tuple[str, ...]) -> dict[str, object]:
    """Read `NAME=VALUE`; a value that is no JSON is text."""
    claims: dict[str, object] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise BadRequest(f"--claim {item}: write NAME=VALUE.")
        try:
            claims[name] = json.loads(value)
        except (ValueError, RecursionError):
            claims[name] = value
    return claims
