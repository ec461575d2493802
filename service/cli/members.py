"""`brainstem members`: who belongs to an app whose membership is by record, and as what."""

from __future__ import annotations

import click

from service.cli.opening import Opened, open_app
from service.cli.options import WORDS, app_argument, json_option
from service.cli.output import one_line, print_json, print_table, safe
from service.errors import NotFound

ROLES = ["member", "admin"]

uid_argument = click.argument("uid", type=WORDS)


@click.group()
def members() -> None:
    """Add, list and remove the members of an app."""


@members.command("add")
@app_argument
@uid_argument
@click.option("--role", type=click.Choice(ROLES), default="member", show_default=True, help="What the user is there.")
@json_option
def add(app: str, uid: str, role: str, as_json: bool) -> None:
    """Make the user UID (the id of the Firebase account) a member or an admin of APP."""
    from service.models import Role

    opened = open_app(app, uid)
    opened.services.members.put(opened.scope, Role(role))
    if as_json:
        print_json({"user": uid, "role": role})
    else:
        click.echo(f"{one_line(uid)} is {'an admin' if role == 'admin' else 'a member'} of {opened.app.id}.")
    tell_if_unused(opened)


@members.command("list")
@app_argument
@json_option
def list_members(app: str, as_json: bool) -> None:
    """List the members of APP, the last changed first."""
    opened = open_app(app, None)
    records = list(opened.services.members.records(opened.scope))
    if as_json:
        print_json([{"user": record.user, "role": record.role, "updated": record.updated} for record in records])
        return
    rows = [(record.user, record.role, record.updated[:16].replace("T", " ")) for record in records]
    print_table(["USER", "ROLE", "CHANGED (UTC)"], rows)
    tell_if_unused(opened)


@members.command("remove")
@app_argument
@uid_argument
@json_option
def remove(app: str, uid: str, as_json: bool) -> None:
    """Take the user UID out of APP; what they stored stays."""
    opened = open_app(app, uid)
    try:
        opened.services.members.remove(opened.scope)
    except NotFound:
        raise NotFound(
            f"{safe(uid)} has no record in {opened.app.id}. See `brainstem members list {opened.app.id}`."
        ) from None
    if as_json:
        print_json({"user": uid, "role": None})
        return
    seconds = opened.services.settings.membership_seconds
    click.echo(
        f"{one_line(uid)} is no member of {opened.app.id} any more; running servers see it within {seconds:g} s."
    )


def tell_if_unused(opened: Opened) -> None:
    membership = opened.app.file.access.membership
    if membership != "record":
        click.echo(f'Its app.toml says membership = "{membership}", so records decide nothing: say "record".', err=True)
