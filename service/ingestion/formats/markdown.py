"""Markdown: rendered to a page and read as one, with the line of the source that each block begins on."""

from __future__ import annotations

import re
from typing import BinaryIO

from markdown_it import MarkdownIt

from service.errors import DocumentRejected
from service.ingestion.blocks import Block
from service.ingestion.characters import clean, decode, one_line
from service.ingestion.formats import html

DEEPEST = 60
FRONT_MATTER = re.compile(r"---[ \t]*\n(?=[\w-]+[ \t]*:)(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)


def read(file: BinaryIO) -> list[Block]:
    source = clean(decode(file.read()))
    front = FRONT_MATTER.match(source)
    if front is None:
        return body(source)
    # Blank lines in its place keep the line numbers.
    source = "\n" * source.count("\n", 0, front.end()) + source[front.end() :]
    return [Block(line, line=n, kind="row") for n, line in facts(front[1])] + body(source)


def body(source: str) -> list[Block]:
    markdown = MarkdownIt("commonmark", {"html": True, "maxNesting": DEEPEST}).enable(["table", "strikethrough"])
    tokens = markdown.parse(source)
    for token in tokens:
        # The parser leaves out what is nested deeper than its limit, and says nothing.
        if token.level >= DEEPEST - 1:
            raise DocumentRejected(html.TOO_DEEP)
        if token.map and token.nesting >= 0:
            token.attrSet("data-line", str(token.map[0] + 1))
    return html.blocks(markdown.renderer.render(tokens, markdown.options, {}), lines=True)


def facts(front: str) -> list[tuple[int, str]]:
    """Return the lines of the front matter (author, date, tags …) as text, with their numbers."""
    return [(n, text) for n, line in enumerate(front.split("\n"), start=2) if (text := one_line(line))]
