"""`brainstem usage`: the ledger, summed up."""

from __future__ import annotations

import click

from service.cli.opening import open_app
from service.cli.options import app_argument, json_option, user_option
from service.cli.output import print_json, print_table, shaped

HEADERS = ("DAY", "KIND", "MODEL", "CALLS", "INPUT TOKENS", "OUTPUT TOKENS")


@click.command()
@app_argument
@click.option("--days", type=click.IntRange(1, 366), default=30, show_default=True, help="How far to look back.")
@user_option
@json_option
def usage(app: str, days: int, user: str, as_json: bool) -> None:
    """Show a user's model calls and tokens."""
    from service.api.schemas import UsageAnswer, UsageRowAnswer

    opened = open_app(app, user)
    since, rows = opened.services.usage.summary(opened.scope, days)
    calls = sum(row.calls for row in rows)
    inputs, outputs = sum(row.input_tokens for row in rows), sum(row.output_tokens for row in rows)
    if as_json:
        print_json(UsageAnswer(since, calls, inputs, outputs, [shaped(row, UsageRowAnswer) for row in rows]))
        return
    lines = [(r.day, r.kind, r.model, f"{r.calls:,}", f"{r.input_tokens:,}", f"{r.output_tokens:,}") for r in rows]
    total = ("all", "", "", f"{calls:,}", f"{inputs:,}", f"{outputs:,}")
    print_table(HEADERS, [*lines, total], right=HEADERS[3:])
