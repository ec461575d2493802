"""How commands print: JSON for programs, tables for people, and no control character that a document might hold."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from service.errors import BrainstemError
    from service.models import Passage

T = TypeVar("T")

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
LINE_BREAK = re.compile(r"[\t\n]+")


def sentence(error: BrainstemError) -> str:
    """What went wrong, in words for a person."""
    text = error.detail or error.title
    return text if text.endswith((".", "!", "?")) else f"{text}."


def safe(text: str) -> str:
    """Text that cannot move the cursor, change colours or speak to the terminal in other ways."""
    return CONTROL.sub("", text)


def one_line(text: str) -> str:
    return LINE_BREAK.sub(" ", safe(text))


def shaped(noun: object, shape: type[T]) -> T:
    """A noun in a shape of the HTTP API, so that programs read one JSON, whichever way they get it."""
    import msgspec

    return msgspec.convert(noun, shape, from_attributes=True)


def print_json(value: object, *, indent: int = 2) -> None:
    """Print a value; `indent=0` puts it on one line."""
    import msgspec

    data = msgspec.json.encode(value)
    click.echo(msgspec.json.format(data, indent=indent) if indent else data)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print rows: in columns on a terminal (numbers, the columns `right`, to the right), separated by tabs elsewhere."""
    cells = [[one_line(str(value)) for value in row] for row in rows]
    if not sys.stdout.isatty():
        for line in [headers, *cells]:
            click.echo("\t".join(line))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        table.add_column(header, justify="right" if header in right else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)


def place(passage: Passage) -> str:
    """Where a passage is: `Handbook.pdf › Leave › Parental leave, page 12`."""
    path = " › ".join(one_line(part) for part in (passage.title, *passage.headings))
    if passage.page is not None:
        return f"{path}, page {passage.page}"
    return path if passage.line is None else f"{path}, line {passage.line}"


def count(number: int, noun: str) -> str:
    """A number with its noun, `1 file` or `3 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: int) -> str:
    """Bytes as people say them."""
    value = float(number)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
