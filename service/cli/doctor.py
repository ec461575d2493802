"""`brainstem doctor`: what is set up, what is missing, and what to type next."""

from __future__ import annotations

import click

from service.cli.options import json_option, user_option
from service.cli.output import one_line, print_json

MARKS = {"ok": ("ok", "green"), "hint": ("hint", "yellow"), "broken": ("BROKEN", "red")}


@click.command()
@user_option
@json_option
def doctor(user: str, as_json: bool) -> None:
    """Check the set-up and say what to type next.

    Ends with 1 if something is broken, with 0 if there are only hints.
    """
    from service.cli.checks import examine

    findings = examine(user)
    broken = any(finding.state == "broken" for finding in findings)
    if as_json:
        print_json({"ok": not broken, "findings": findings})
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            mark, colour = MARKS[finding.state]
            click.echo(f"{click.style(f'{mark:6}', fg=colour)}  {finding.what:{width}}  {one_line(finding.text)}")
        steps = [finding.next for finding in findings if finding.next]
        click.echo("\nMend what is BROKEN, then run `brainstem doctor` again." if broken else f"\nNext: {steps[0]}")
    if broken:
        raise click.exceptions.Exit(1)
