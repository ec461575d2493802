"""What a reader sees of a web page: a scanner that goes over the markup once, so that no page takes longer than it is long.

The standard library's parser takes quadratic time over some broken pages, and the one of documents is a child process of its own.
"""

from __future__ import annotations

import html
import re

HIDDEN = frozenset("script style template noscript svg math iframe object noembed noframes select textarea".split())
"""Elements of which nothing is seen, or nothing that is text of the page."""

BLOCKS = frozenset(
    """address article aside blockquote body br caption center dd details dialog div dl dt fieldset figcaption figure footer form
    h1 h2 h3 h4 h5 h6 header hr html legend li main nav ol p pre section summary table tbody tfoot thead title tr ul""".split()
)
CELLS = frozenset({"td", "th"})
TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9-]{0,40})")
LONG_NUMBER = re.compile(r"&#[0-9]{8,};?")
"""No character; Python raises an error for one of some thousand digits."""

SPACES = re.compile(r"[ \t\r\f\v\u00a0\u2000-\u200b\u202f\u3000]+")


def readable(page: str) -> str:
    """Return the text of a page, a line per block, without what markup hides."""
    pieces: list[str] = []
    place = 0
    while (begin := page.find("<", place)) >= 0:
        pieces.append(unfolded(page[place:begin]))
        mark, place = passed(page, begin)
        pieces.append(mark)
    pieces.append(unfolded(page[place:]))
    lines = (SPACES.sub(" ", line).strip(" |") for line in "".join(pieces).split("\n"))
    return "\n".join(line for line in lines if line)


def unfolded(text: str) -> str:
    """Text between tags as HTML reads it: its line ends are spaces."""
    return html.unescape(LONG_NUMBER.sub("\ufffd", text.replace("\n", " "))).replace("\n", " ")


def passed(page: str, begin: int) -> tuple[str, int]:
    """Return what the markup at a place is to the text, and where it ends."""
    if page.startswith("<!--", begin):
        return "", after(page, "-->", begin + 4)
    found = TAG.match(page, begin)
    if not found:
        # A bracket alone is text; declarations and instructions are not.
        return ("", after(page, ">", begin)) if page[begin + 1 : begin + 2] in ("!", "?") else ("<", begin + 1)
    name = found[1].lower()
    end = after(page, ">", found.end())
    if name in HIDDEN and page[begin + 1] != "/":
        return " ", closed(page, name, end)
    return ("\n" if name in BLOCKS else " | " if name in CELLS and page[begin + 1] == "/" else ""), end


def after(page: str, mark: str, place: int) -> int:
    """Where a mark has ended, or the page."""
    found = page.find(mark, place)
    return len(page) if found < 0 else found + len(mark)


def closed(page: str, name: str, place: int) -> int:
    """Where an element that is not shown has ended, or the page."""
    found = re.compile(rf"</{name}[\s/>]", re.IGNORECASE).search(page, place)
    return len(page) if found is None else after(page, ">", found.end() - 1)
