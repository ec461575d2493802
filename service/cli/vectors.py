"""`brainstem vectors`: the index of passages, and its way to another one."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from service.cli.opening import find_app, open_rooms
from service.cli.options import INTERRUPTED, WORDS, app_argument, json_option
from service.cli.output import count, one_line, print_json
from service.errors import ConfigError

if TYPE_CHECKING:
    from service.backends.interfaces import VectorIndex
    from service.ingestion.moving import Moved
    from service.services import Services


@click.group()
def vectors() -> None:
    """Move an app's vectors to another index."""


@vectors.command("move")
@app_argument
@click.option(
    "--to", "target", required=True, type=WORDS, help="Index to move to: `local`, `google`, `vertex` or `pgvector`."
)
@click.option("--from", "source", type=WORDS, help="Index to move from.  [default: the one in use]")
@click.option("--again", is_flag=True, help="Move everything, also what was moved before.")
@json_option
def move(app: str, target: str, source: str | None, again: bool, as_json: bool) -> None:
    """Move the vectors of APP, of all its users and shared ones, to another index.

    The old index serves meanwhile and keeps what it has. What was killed goes on where it was; what is repeated moves what has
    changed since, so repeat it once the new index serves.
    """
    from service.cli.moving import Bar, Lines, Silent
    from service.ingestion.marks import Marks
    from service.ingestion.moving import Moving
    from service.ingestion.pacing import PacedEmbedder
    from service.scope import local

    services = open_rooms()
    found = find_app(services.apps, app)
    source = source or services.backends.names["vectors"]
    if source == target:
        raise ConfigError(
            f"The vectors would be moved from `{source}` to `{target}`. Say another index with --to or --from."
        )
    documents, embedder = services.backends.documents, services.backends.embedder
    indexes = index(services, source, "--from"), index(services, target, "--to")
    marks = Marks(documents, local(found, None), source, target)
    moving = Moving(found, documents, PacedEmbedder(embedder), *indexes, marks)
    live = sys.stdout.isatty() and not as_json
    with Bar() if live else nullcontext(Silent() if as_json else Lines()) as watcher:
        try:
            moved = moving.run(watcher, again=again)
        except KeyboardInterrupt:
            click.echo("\nStopped. The same command goes on from here.", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None
    if as_json:
        print_json(
            {
                "app": app,
                "from": source,
                "to": target,
                "next": next_step(services, app, source, target),
                **described(moved),
            }
        )
    else:
        tell(services, moved, app, source, target)
    if moved.incomplete:
        raise click.exceptions.Exit(1)


def index(services: Services, name: str, option: str) -> VectorIndex:
    """Return the index of a name; raises `ConfigError` for one that is none."""
    from service.backends import registry

    if name == services.backends.names["vectors"]:
        return services.backends.vectors
    if ":" not in name and name not in registry.ADAPTERS["vectors"]:
        known = ", ".join(f"`{known}`" for known in registry.ADAPTERS["vectors"])
        raise ConfigError(f"{option}: there is no index `{name}`. There are {known}.")
    found: VectorIndex = registry.load("vectors", registry.target("vectors", name))(
        services.settings, services.backends.secrets
    )
    return found


def described(moved: Moved) -> dict[str, object]:
    names = ("documents", "copied", "embedded", "removed", "waiting", "incomplete")
    return {name: getattr(moved, name) for name in names}


def tell(services: Services, moved: Moved, app: str, source: str, target: str) -> None:
    """Say what was done, what was not, and what the operator does next."""
    click.echo(
        f"{count(moved.documents, 'document')} moved: {count(moved.copied, 'passage')} copied, "
        f"{moved.embedded:,} embedded anew from the stored text. {moved.removed:,} removed."
    )
    for name in moved.incomplete:
        click.echo(f"{one_line(name)}: its text is not stored whole. Add this document again.", err=True)
    if moved.waiting:
        click.echo(f"{count(moved.waiting, 'document')} not ingested yet: repeat this command when they are.", err=True)
    click.echo(next_step(services, app, source, target))


def next_step(services: Services, app: str, source: str, target: str) -> str:
    serving = services.backends.names["vectors"]
    if serving == target:
        return f"`{target}` serves already, and now has everything."
    return (
        f"`{serving}` serves until you set BACKEND_VECTORS={target} and restart. Then bring over what changed meanwhile: "
        f"brainstem vectors move {app} --from {source} --to {target}"
    )
