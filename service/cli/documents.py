"""`brainstem documents`: add, list and remove what an app answers from."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.cli.opening import Opened, open_app, read_settings
from service.cli.options import INTERRUPTED, WORDS, app_argument, json_option, shared_option, user_option
from service.cli.output import count, one_line, print_json, print_table, safe, shaped, size

if TYPE_CHECKING:
    from service.cli.adding import Outcome
    from service.models import Document

PAGE = 100
SHORTEST_ID = 6


@click.group()
def documents() -> None:
    """Add, list and remove documents."""


@documents.command("add")
@app_argument
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@user_option
@shared_option
@json_option
def add(app: str, paths: tuple[str, ...], user: str, shared: bool, as_json: bool) -> None:
    """Add files to APP, and wait until they can be searched.

    PATH is a file, a folder (with all that is below it) or a pattern like 'notes/**/*.md'. What is there already is not
    read again. Ends with 1 if any file failed; each says why.
    """
    from service.cli.adding import add as add_files
    from service.cli.files import find
    from service.cli.progress import Bars, Lines, Silent
    from service.ingestion.formats import FORMATS

    settings = read_settings()
    settings = replace(settings, ingest_workers=max(1, settings.ingest_workers))
    opened = open_app(app, None if shared else user, settings)
    files = list(find(paths, [extension for kind in FORMATS for extension in kind.extensions]))
    live = sys.stdout.isatty() and not as_json
    with Bars() if live else nullcontext(Silent() if as_json else Lines()) as watcher:
        try:
            outcomes = add_files(opened, files, watcher)
        except KeyboardInterrupt:
            click.echo(
                "\nStopped. The same command goes on from here: what is there already is not read again.", err=True
            )
            raise click.exceptions.Exit(INTERRUPTED) from None
    if as_json:
        print_json([described(outcome) for outcome in outcomes])
    failed = sum(outcome.error is not None for outcome in outcomes)
    if live and failed < len(outcomes):
        who = "Everyone in the app sees them." if shared else f"In the page, sign in as `{safe(user)}` to see them."
        click.secho(f"\n{who} Ask: brainstem chat {app}", dim=True)
    if failed:
        click.echo(f"{failed} of {count(len(outcomes), 'file')} failed.", err=True)
        raise click.exceptions.Exit(1)


@documents.command("reindex")
@app_argument
@click.option("--all", "everything", is_flag=True, help="Also what the present embedder has embedded already.")
@json_option
def reindex(app: str, everything: bool, as_json: bool) -> None:
    """Read the documents of all users of APP anew, after another embedder was set, and wait for it.

    What is there stays to be found meanwhile. Ends with 1 if a document could not be read; it stays as it was.
    """
    from service.cli.waiting import carried_out
    from service.jobs.reindex import Reindex

    opened = open_app(app, None)
    job = carried_out(opened, opened.scope, "reindex", Reindex(everything=everything), quiet=as_json)
    came_to = job.output or {}
    if as_json:
        print_json(came_to)
    else:
        click.echo(f"{count(came_to['documents'], 'document')} read anew, {came_to['unreadable']} could not be.")
    if came_to["unreadable"]:
        raise click.exceptions.Exit(1)


def described(outcome: Outcome) -> dict[str, object]:
    from service.api.schemas import DocumentAnswer

    document = outcome.document and shaped(outcome.document, DocumentAnswer)
    path = click.format_filename(outcome.path)
    return {"path": path, "known": outcome.known, "error": outcome.error, "document": document}


@documents.command("list")
@app_argument
@user_option
@shared_option
@json_option
def list_documents(app: str, user: str, shared: bool, as_json: bool) -> None:
    """List the documents of APP, the newest first."""
    from service.api.schemas import DocumentAnswer, DocumentsAnswer

    found = list(every_document(open_app(app, None if shared else user)))
    if as_json:
        print_json(DocumentsAnswer([shaped(document, DocumentAnswer) for document in found], None))
        return
    rows = [
        (
            d.title,
            d.error or d.status.value.lower(),
            d.chunks or "",
            size(d.bytes),
            d.created[:16].replace("T", " "),
            d.id,
        )
        for d in found
    ]
    print_table(["TITLE", "STATUS", "PASSAGES", "SIZE", "ADDED (UTC)", "ID"], rows, right=["PASSAGES", "SIZE"])


@documents.command("remove")
@app_argument
@click.argument("names", nargs=-1, required=True, type=WORDS, metavar="PATH...")
@user_option
@shared_option
@json_option
def remove(app: str, names: tuple[str, ...], user: str, shared: bool, as_json: bool) -> None:
    """Remove documents of APP with all that was made of them.

    PATH is a document's title, a pattern of titles like '*.md', its id or the beginning of it, or the file that was added.
    """
    opened = open_app(app, None if shared else user)
    found = list(every_document(opened))
    removed: dict[str, Document] = {}
    missing = []
    for name in names:
        meant = matching(found, name)
        removed.update({document.id: document for document in meant})
        if not meant:
            missing.append(name)
    for document in removed.values():
        opened.services.ingestion.delete(opened.scope, document.id)
        if not as_json:
            click.echo(f"Removed {one_line(document.title)}.")
    if as_json:
        print_json({"removed": list(removed), "missing": missing})
    for name in missing:
        click.echo(f"Error: {safe(name)}: there is no such document. See `brainstem documents list {app}`.", err=True)
    if missing:
        raise click.exceptions.Exit(1)


def every_document(opened: Opened) -> Iterator[Document]:
    after: tuple[str | int | float, str] | None = None
    while True:
        page = opened.services.ingestion.documents(opened.scope, PAGE, after)
        yield from page
        if len(page) < PAGE:
            return
        after = (page[-1].created, page[-1].id)


def matching(documents: Sequence[Document], name: str) -> list[Document]:
    """The documents that a name means: by id, by the content of a file, by title, by a pattern of titles."""
    if len(name) >= SHORTEST_ID and (by_id := [d for d in documents if d.id.startswith(name)]):
        return by_id if len(by_id) == 1 else []
    path = Path(name).expanduser()
    if path.is_file() and (same := [d for d in documents if d.sha256 == sha256_of(path)]):
        return same
    return [d for d in documents if d.title == path.name or fnmatchcase(d.title, name)]


def sha256_of(path: Path) -> str:
    from service.ingestion.pipeline import digest

    try:
        with path.open("rb") as file:
            return digest(file)[0]
    except OSError:
        return ""
