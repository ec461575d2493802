"""A report as a web page: one file that asks for nothing, runs nothing, reads well in light and dark, and prints well."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from service.reports.layout import Block, Cell, Facts, Heading, Items, Records, Table, Text, paragraphs
from service.reports.report import Report, SourceLine, is_link
from service.reports.words import shown

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<header>
<h1 dir="auto">{title}</h1>
{about}
</header>
{blocks}
{sources}
</main>
</body>
</html>
"""


def page(report: Report, blocks: Sequence[Block]) -> bytes:
    """Write a report as HTML. Whatever a value holds, it is text."""
    style = files("service.reports").joinpath("page.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    about = [("subtitle", report.subtitle), ("created", report.created)]
    return PAGE.format(
        hash=digest,
        style=style,
        title=said(report.title),
        about="\n".join(f'<p class="{name}" dir="auto">{said(text)}</p>' for name, text in about if text.strip()),
        blocks="\n".join(map(drawn, blocks)),
        sources=listed(report.sources),
    ).encode()


def said(text: str) -> str:
    return escape(shown(text))


def drawn(block: Block) -> str:
    match block:
        case Heading(level, text, note):
            return f'<h{level} dir="auto">{escape(text)}</h{level}>' + noted(note)
        case Facts(level, facts):
            cards = (
                f'<div><h{level} dir="auto">{escape(fact.label)}</h{level}>{value(fact.cell)}{noted(fact.note)}</div>'
                for fact in facts
            )
            return f'<section class="facts">{"".join(cards)}</section>'
        case Text(cell):
            return value(cell)
        case Items(cells):
            return "<ul>" + "".join(f'<li dir="auto">{inside(cell)}</li>' for cell in cells) + "</ul>"
        case Table():
            return table(block)
        case Records(records):
            return "".join(f'<section class="record"><dl>{entries(record)}</dl></section>' for record in records)


def noted(note: str) -> str:
    return f'<p class="note" dir="auto">{escape(note)}</p>' if note else ""


def value(cell: Cell) -> str:
    if cell.kind != "text":
        return f'<p class="value">{inside(cell)}</p>'
    return "".join(f'<p dir="auto">{escape(part)}</p>' for part in paragraphs(cell.text))


def inside(cell: Cell) -> str:
    if cell.kind == "badge":
        return f'<strong class="badge" dir="auto">{escape(cell.text)}</strong>'
    return "<br>".join(map(escape, paragraphs(cell.text)))


def table(block: Table) -> str:
    kinds = ['class="number"' if numeric else 'dir="auto"' for numeric in block.numeric]
    head = "".join(
        f'<th scope="col" {kind}>{escape(column)}</th>' for kind, column in zip(kinds, block.columns, strict=True)
    )
    rows = (
        "".join(f"<td {kind}>{inside(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) for row in block.rows
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def entries(record: Iterable[tuple[str, Cell]]) -> str:
    return "".join(f'<dt dir="auto">{escape(label)}</dt><dd dir="auto">{inside(cell)}</dd>' for label, cell in record)


def listed(sources: Sequence[SourceLine]) -> str:
    if not sources:
        return ""
    return '<section class="sources"><h2>Sources</h2><ol>' + "".join(map(source, sources)) + "</ol></section>"


def source(line: SourceLine) -> str:
    place = said(line.url_or_file)
    if is_link(line.url_or_file):
        place = f'<a href="{place}" rel="noopener noreferrer nofollow">{place}</a>'
    read = f"read {said(line.fetched)}" if line.fetched.strip() else ""
    rest = " · ".join(part for part in (place, read) if part)
    return f'<li><span dir="auto">{said(line.name)}</span><br><small>{rest}</small></li>'
