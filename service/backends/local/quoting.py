"""Quotes in Markdown: where they come from, what they say, and nothing that a document could smuggle in as markup."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from service.backends.local.extract import Quote
from service.models import Passage

LONGEST_PIECE, LONGEST_TITLE, LONGEST_LISTING, LONGEST_LINE = 600, 80, 15, 200

# Emphasis, code, links, HTML, character references; and the addresses that GitHub's Markdown makes links of.
MARKUP = re.compile(
    r"[\\`*\[\]<~]|(?<![^\W_])_|_(?![^\W_])|&(?=[#\w]+;)|(?<=:)/(?=/)|(?<=\bwww)\.|(?<=\w)@(?=\w)", re.IGNORECASE
)
# At its beginning a text could open a heading, a quotation, a list or a rule.
BLOCK = re.compile(r"[-+=#>|]|\d{1,9}[.)](?=\s|$)")
BULLET = re.compile(r"[-*+•‣▪–◦·] +")
LIKE_A_CITATION = re.compile(r"\[(?=\s*\d)")
# Joiners spell words in Persian and Hindi, and emoji; other format characters hide or turn around what is read.
JOINERS = "\u200c\u200d"


def source(passage: Passage) -> str:
    """Name a document, with the place in it."""
    place = f", page {passage.page}" if passage.page else f", line {passage.line}" if passage.line else ""
    below = f" – {escaped(shortened(passage.headings[-1], LONGEST_TITLE))}" if passage.headings else ""
    return f"**{escaped(shortened(passage.title, LONGEST_TITLE))}**{place}{below}"


def quotation(quotes: Sequence[Quote]) -> str:
    """Quote pieces from one place in one block, each with its citation; sentences that run on there do so here."""
    lines: list[str] = []
    before: Quote | None = None
    for quote in quotes:
        cited = f"[{quote.passage + 1}]"
        if quote.unit.kind == "code":
            lines += ["", *listing(quote.unit.text), "", cited]
        elif before and runs_on(before, quote):
            lines[-1] += f" {piece(quote.unit.text)} {cited}"
        else:
            lines += ["", f"{piece(quote.unit.text)} {cited}"]
        before = quote
    return "\n".join(f"> {line}".rstrip() for line in lines[1:])


def runs_on(before: Quote, quote: Quote) -> bool:
    sentences = before.unit.kind == quote.unit.kind == "sentence"
    beside = before.passage == quote.passage and before.place + 1 == quote.place
    return sentences and beside and before.unit.paragraph == quote.unit.paragraph


def piece(text: str) -> str:
    bullet = BULLET.match(text)
    return escaped(shortened(f"• {text[bullet.end() :]}" if bullet else text, LONGEST_PIECE))


def listing(text: str) -> list[str]:
    """Fence a listing with more backticks than it has itself."""
    lines = [shortened(visible(line, keep="\t"), LONGEST_LINE) for line in text.splitlines()]
    if len(lines) > LONGEST_LISTING:
        lines = [*lines[:LONGEST_LISTING], "…"]
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [fence, *lines, fence]


def escaped(text: str) -> str:
    """Keep a document's text from being Markdown, and its bracketed numbers from being taken for citations of ours."""
    text = LIKE_A_CITATION.sub("[\u2060", visible(" ".join(text.split())))
    text = MARKUP.sub(lambda mark: f"\\{mark[0]}", text)
    return BLOCK.sub(lambda mark: f"{mark[0][:-1]}\\{mark[0][-1]}", text, count=1) if BLOCK.match(text) else text


def visible(text: str, keep: str = JOINERS) -> str:
    """Drop control and format characters, and lone surrogates."""
    return "".join(c for c in text if c in keep or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))


def shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length].rstrip()} …"
