"""`brainstem search`: retrieval alone."""

from __future__ import annotations

import uuid
from dataclasses import replace

import click

from service.cli.opening import open_app
from service.cli.options import WORDS, app_argument, json_option, shared_option, user_option
from service.cli.output import place, print_json, safe, shaped
from service.errors import Unprocessable


@click.command()
@app_argument
@click.argument("query", type=WORDS)
@click.option("--limit", type=click.IntRange(1, 50), default=10, show_default=True, help="Passages to find.")
@user_option
@shared_option
@json_option
def search(app: str, query: str, limit: int, user: str, shared: bool, as_json: bool) -> None:
    """Find passages in an app's documents."""
    from service.api.schemas import PassageAnswer, SearchAnswer

    if not query.strip():
        raise Unprocessable("The query is empty.")
    opened = open_app(app, None if shared else user)
    found = opened.services.context.search(opened.scope, opened.app, query, limit)
    if found.call:
        opened.services.usage.record(opened.scope, replace(found.call, id=uuid.uuid4().hex))
    if as_json:
        print_json(SearchAnswer([shaped(passage, PassageAnswer) for passage in found.passages]))
        return
    for number, passage in enumerate(found.passages, 1):
        click.secho(f"[{number}] {place(passage)}", bold=True)
        click.echo("\n".join(f"    {line}" for line in safe(passage.text).splitlines()) + "\n")
    if not found.passages:
        click.echo(f"Nothing found. `brainstem documents list {app}` shows what there is to search.", err=True)
