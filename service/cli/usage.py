"""`brainstem usage`: the ledger, summed up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from service.cli.opening import open_app
from service.cli.options import app_argument, json_option, user_option
from service.cli.output import count, print_json, print_table, shaped

if TYPE_CHECKING:
    from service.usage import UsageRow

HEADERS = ("DAY", "KIND", "MODEL", "CALLS", "INPUT TOKENS", "CACHED", "OUTPUT TOKENS", "USD")


@click.command()
@app_argument
@click.option("--days", type=click.IntRange(1, 366), default=30, show_default=True, help="How far to look back.")
@user_option
@click.option("--everyone", is_flag=True, help="Show what all users of the app spent, by user.")
@json_option
def usage(app: str, days: int, user: str, everyone: bool, as_json: bool) -> None:
    """Show model calls, tokens and what they cost."""
    from service.api.schemas import AppUsageAnswer, AppUsageRowAnswer, UsageAnswer, UsageRowAnswer
    from service.usage import totals

    opened = open_app(app, user)
    ledger = opened.services.usage
    if everyone:
        since, of_app = ledger.summary_of_app(opened.scope, days)
        if as_json:
            answers = [shaped(row, AppUsageRowAnswer) for row in of_app]
            print_json(AppUsageAnswer(since=since, **totals(of_app), rows=answers))
        else:
            show(of_app, [row.user for row in of_app])
        return
    since, rows = ledger.summary(opened.scope, days)
    if as_json:
        print_json(UsageAnswer(since=since, **totals(rows), rows=[shaped(row, UsageRowAnswer) for row in rows]))
    else:
        show(rows)


def show(rows: Sequence[UsageRow], users: Sequence[str] | None = None) -> None:
    """Print rows and their sums, with their users if these are given."""
    from service.usage import totals

    total = totals(rows)
    lines = [
        [r.day, r.kind, r.model, *figures(r.calls, r.input_tokens, r.cached_tokens, r.output_tokens), r.cost_usd]
        for r in rows
    ]
    sums = figures(total["calls"], total["input_tokens"], total["cached_tokens"], total["output_tokens"])
    lines.append(["all", "", "", *sums, total["cost_usd"]])
    if users is None:
        print_table(HEADERS, lines, right=HEADERS[3:])
    else:
        named = [[user, *cells] for user, cells in zip([*users, ""], lines, strict=True)]
        print_table(("USER", *HEADERS), named, right=HEADERS[3:])
    if total["unpriced"]:
        click.echo(f"What {count(total['unpriced'], 'call')} cost is not known: there were no prices then.", err=True)


def figures(*numbers: int) -> list[str]:
    return [f"{number:,}" for number in numbers]
