"""A text cut into what can be quoted: sentences, list items, table rows, listings. For prose, Markdown and text taken from PDF."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["sentence", "item", "row", "code"]

# Scripts that run without spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)

FENCE = re.compile(r"^[^\S\n]*(```+|~~~+)[^\n]*\n(.*?)\n[^\S\n]*\1[^\n]*$", re.DOTALL | re.MULTILINE)
BLANK = re.compile(r"\n(?:[^\S\n]*\n)+")
ITEM = re.compile(r"\s*(?:[-*+•‣▪–◦·]|(?:\d{1,3}|[a-zA-Z])[.)])\s+(?=\S)")
# Cells between bars, or the `column: value; column: value` that a table becomes when it is read.
ROW = re.compile(r"\s*\||.*\S \| \S|[^:;.]{1,60}: [^;]+; [^:;.]{1,60}: ")
RULE = re.compile(r"[\s|:=_*-]+")
CODE = re.compile(r"\s*[$%>] \S|(?: {4}|\t)|.*[;{}\\]\s*$|\s*[\w.]+ ?= ?\S|.*\w\(.*\)\s*:?$|\s*(?:#!|//|/\*|</?\w)")
END = re.compile(rf"(?:[.!?…؟।۔]+[\"'”’)\]»›]*\s+)(?=\W*\w)|[。！？｡][」』”’）]*|(?<=[{UNSPACED}])[.!?]+")
LAST_WORD = re.compile(r"[\w.]*\w(?=\.$)")

# What a full stop shortens, and what it shortens before a number.
ABBREVIATIONS = frozenset(
    "dr mr mrs ms prof st jr sr vs cf ca al ed eds inc ltd co dept approx bzw usw evtl ggf inkl max min z.b u.a d.h e.g i.e".split()
)
BEFORE_NUMBERS = frozenset("no nos nr fig abb sec vol ch p pp art abs ver v".split())


@dataclass(frozen=True, slots=True)
class Unit:
    """A quotable piece, on one line unless it is a listing; `paragraph` counts the paragraphs of its text."""

    text: str
    kind: Kind
    paragraph: int


def units(text: str) -> list[Unit]:
    """Return what can be quoted of a text, in its order."""
    found: list[Unit] = []
    for n, (listing, paragraph) in enumerate(paragraphs(text.replace("\r\n", "\n"))):
        if listing:
            found.append(Unit(textwrap.dedent(paragraph).strip("\n").rstrip(), "code", n))
        else:
            found += (Unit(piece, kind, n) for kind, line in joined(paragraph) for piece in cut(kind, line))
    return found


def paragraphs(text: str) -> Iterator[tuple[bool, str]]:
    """Yield (whether it is a listing, paragraph)."""
    end = 0
    for fence in FENCE.finditer(text):
        yield from plain(text[end : fence.start()])
        yield True, fence[2]
        end = fence.end()
    yield from plain(text[end:])


def plain(text: str) -> Iterator[tuple[bool, str]]:
    for paragraph in BLANK.split(text):
        if paragraph.strip():
            yield is_listing(paragraph.strip("\n")), paragraph


def is_listing(paragraph: str) -> bool:
    lines = paragraph.splitlines()
    if any(ITEM.match(line) or ROW.match(line) for line in lines):
        return False
    return sum(bool(CODE.match(line)) for line in lines) > len(lines) / 2


def joined(paragraph: str) -> Iterator[tuple[Kind, str]]:
    """Join the lines that only a page's width has broken; what begins a list item or a row stays apart."""
    lines = [line for line in paragraph.splitlines() if line.strip() and not RULE.fullmatch(line)]
    longest = max(map(len, lines), default=0)
    whole, kind, before = "", kind_of(""), ""
    for line in lines:
        begins = kind_of(line)
        # A short line before a capital letter was no line that ran out of room.
        ended = len(before) < 0.6 * longest and not before.endswith((",", "-")) and not line.lstrip()[0].islower()
        if whole and (begins != "sentence" or kind == "row" or ended):
            yield kind, whole
            whole = ""
        kind = kind if whole else begins
        whole, before = glue(whole, line.strip()), line.strip()
    if whole:
        yield kind, whole


def kind_of(line: str) -> Kind:
    if ROW.match(line):
        return "row"
    return "item" if ITEM.match(line) else "sentence"


def glue(before: str, after: str) -> str:
    """Join two lines: with a space, without one in scripts that have none, and without the hyphen that broke a word."""
    if not before or re.fullmatch(f"[{UNSPACED}]{{2}}", before[-1] + after[0]):
        return before + after
    if re.search(r"[^\W\d_]-$", before) and after[0].islower():
        return before[:-1] + after
    return f"{before} {after}"


def cut(kind: Kind, line: str) -> Iterator[str]:
    """Yield the sentences of a joined line; a row is one piece."""
    line = " ".join(line.replace("\u00ad", "").split())
    if kind == "row":
        yield line.strip("| ")
        return
    start = 0
    marker = ITEM.match(line)
    for end in END.finditer(line, marker.end() if marker else 0):
        if not shortens(line[start : end.end()].rstrip(), line[end.end() :]):
            yield line[start : end.end()].strip()
            start = end.end()
    if line[start:].strip():
        yield line[start:].strip()


def shortens(before: str, after: str) -> bool:
    """Whether the full stop that `before` ends with belongs to an abbreviation: a known one, or a short one that goes on small."""
    word = LAST_WORD.search(before)
    if not word:
        return False
    last = word[0].casefold()
    if after[:1].islower() and (len(last) < 5 or "." in last):
        return True
    single = len(last) == 1 and last.isalpha()
    return single or last in ABBREVIATIONS or (last in BEFORE_NUMBERS and after[:1].isdigit())
