"""`brainstem prove-isolation`: see that nobody reaches what is another's."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import click

from service.cli.opening import open_rooms, read_settings
from service.cli.options import json_option
from service.cli.output import count, one_line, print_json, print_table

if TYPE_CHECKING:
    from service.proof import Report

MOST_SHOWN = 20


@click.command("prove-isolation")
@click.option(
    "--attempts",
    type=click.Choice(["quick", "full", "all"]),
    default="full",
    show_default=True,
    help="How much to try: `full` is 12,000 attempts, `quick` 1,500 with at least one of each kind, `all` every one.",
)
@click.option("--seed", type=int, help="Order of the attempts, to repeat one.  [default: another each time]")
@click.option("--emulators", is_flag=True, help="Run on the Firebase emulators that the environment names.")
@click.option(
    "--only", multiple=True, metavar="CHANNEL", help="Try this row of the matrix alone, for a closer look; repeatable."
)
@click.option("-x", "--stop-early", is_flag=True, help="Stop at the first attempt that succeeds.")
@json_option
def prove_isolation(
    attempts: str, seed: int | None, emulators: bool, only: tuple[str, ...], stop_early: bool, as_json: bool
) -> None:
    """Attack a service of its own in every way that is known, and count what succeeds.

    It starts the service in a temporary folder, gives users of four apps things of every kind, each with a random word in it, and
    tries to get at them as everybody else. Ends with 1 if anything succeeds, an owner is refused, or too little was tried.
    """
    from service.proof import Options, prove

    chosen = random.randrange(10**6) if seed is None else seed  # noqa: S311  # an order, no secret
    settings = read_settings() if emulators else None
    options = Options(attempts, chosen, stop_early, settings, only)  # type: ignore[arg-type]  # click has checked the size
    report = prove(options, open_rooms)
    if as_json:
        print_json(report.described())
    else:
        show(report)
    if not report.holds:
        raise click.exceptions.Exit(1)


def show(report: Report) -> None:
    """Print the matrix, what succeeded, and what the figures rest on."""
    from service.proof.attempts import ACTORS

    headers = ["named by", *ACTORS, "all"]
    print_table(headers, report.rows(), right=headers[1:])
    click.echo()
    for breach in report.breaches[:MOST_SHOWN]:
        click.echo(f"SUCCEEDED  {one_line(breach.attempt)}\n           {one_line(breach.why)}")
    for what in report.refused:
        click.echo(f"An owner is refused their own: {one_line(what)}")
    if report.undeclared:
        click.echo(f"No attack is declared for: {', '.join(report.undeclared)}.")
    if report.broken:
        click.echo(f"The proof cannot be carried through: {report.broken}")
    for what in report.left_out:
        click.echo(f"Left out: {what}")
    click.echo(
        f"{count(report.attempts, 'attempt')} (at least {report.floor:,} make a proof), {len(report.breaches)} succeeded, "
        f"after {count(report.positives, 'request')} of owners that did; {count(report.canaries, 'canary word')}, "
        f"{count(report.routes, 'route')}, {count(report.prompts, 'prompt')}, {count(report.log_lines, 'line')} of log; "
        f"{report.seconds:.1f} seconds, --attempts {report.size} --seed {report.seed}."
    )
