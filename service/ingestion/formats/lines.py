"""Lines of printed pages: what repeats on every page goes, and wrapped lines become paragraphs again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

PAGE_NUMBER = re.compile(r"^\d{1,5}(?=\s|$)|(?<=\s)\d{1,5}$")
NUMBER = re.compile(r"\d{1,9}")
ROMAN = re.compile(r"[ivxlc]+", re.IGNORECASE)
LONGEST_FURNITURE = 100
FEWEST_LINES = 5
LONGEST_WORD = 60

BULLET = re.compile(r"[•◦▪‣●○■–—*-]\s")
NUMBERED = re.compile(r"\(?(?:\d{1,3}|[a-zA-Z])[.)]\s")
ENDS = re.compile(r"[.!?:;。！？…][\"'”’)\]»]*$")
LEADER = re.compile(r"\s*(?:\.\s?){4,}\s*")
BROKEN = re.compile(r"(\w+)-$")
FIRST_WORD = re.compile(r"\w+")
WORD = re.compile(r"\w+(?:-\w+)*")

Edges = dict[int, str]
"""The lines at a page's edges, by their place: 0 and 1 from the top, -1 and -2 from the bottom."""


def without_furniture(pages: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the pages without running heads, feet and page numbers; a page of few lines is left as it is."""
    edges = [{place: page[place] for place in (0, 1, -1, -2)} if len(page) >= FEWEST_LINES else {} for page in pages]
    kept = []
    for n, page in enumerate(pages):
        # Left and right pages have their own: so the page after the next one counts as near.
        near = {away: edges[n + away] for away in (-2, -1, 1, 2) if 0 <= n + away < len(pages)}
        drop = set()
        for outer, inner in ((0, 1), (-1, -2)):
            # A second line goes only together with the one at the very edge.
            if edges[n] and is_furniture(edges[n], outer, near):
                drop.add(outer % len(page))
                if is_furniture(edges[n], inner, near):
                    drop.add(inner % len(page))
        kept.append([line for i, line in enumerate(page) if i not in drop])
    return kept


def is_furniture(own: Edges, place: int, near: Mapping[int, Edges]) -> bool:
    return recurs(own, place, near) or counts(own, place, near)


def recurs(own: Edges, place: int, near: Mapping[int, Edges]) -> bool:
    """Whether the line stands in the same place of a page nearby, the same but for page numbers."""
    return any(is_twin(own[place], edges.get(place, ""), away) for away, edges in near.items())


def is_twin(line: str, other: str, away: int) -> bool:
    if ROMAN.fullmatch(line) and ROMAN.fullmatch(other):
        return True
    if len(line) > LONGEST_FURNITURE or NUMBER.sub("#", line) != NUMBER.sub("#", other):
        return False
    pairs = zip(NUMBER.findall(line), NUMBER.findall(other), strict=True)
    return all(int(there) - int(here) in (0, away) for here, there in pairs)


def counts(own: Edges, place: int, near: Mapping[int, Edges]) -> bool:
    """Whether the line has a number at an end that goes up by one from page to page; one that stands alone may change place."""
    numbers = page_numbers(own[place])
    agreeing = 0
    for away, edges in near.items():
        lines = edges.values() if own[place].isdecimal() else [edges.get(place, "")]
        agreeing += any({n + away for n in numbers} & page_numbers(line) for line in lines)
    return agreeing >= min(2, len(near)) > 0


def page_numbers(line: str) -> set[int]:
    return {int(n) for n in PAGE_NUMBER.findall(line)} if len(line) <= LONGEST_FURNITURE else set()


def words_of(pages: Iterable[Iterable[str]]) -> set[str]:
    """Return the words of a document, in small letters, as evidence of how a word that is broken over two lines is written."""
    return {word.casefold() for page in pages for line in page for word in WORD.findall(line)}


def paragraphs(lines: Sequence[str], words: set[str]) -> list[str]:
    """Join wrapped lines. A short line ends a paragraph if it ends a sentence, or if what follows begins like one."""
    lengths = sorted(len(line) for line in lines)
    width = lengths[len(lengths) * 9 // 10] if lengths else 0
    found: list[str] = []
    before = ""
    for line in lines:
        short = len(before) < 0.75 * width
        ended = ENDS.search(before) is not None
        begins = is_item(line) and (short or ended or BULLET.match(line) is not None)
        if not found or begins or (short and (ended or not line[:1].islower())):
            found.append(line)
        else:
            found[-1] = joined(found[-1], line, "\n" if short else " ", words)
        before = line
    return [LEADER.sub(" … ", paragraph) for paragraph in found]


def is_item(line: str) -> bool:
    """Whether a line begins like an item of a list."""
    return (BULLET.match(line) or NUMBERED.match(line)) is not None


def joined(text: str, line: str, space: str, words: set[str]) -> str:
    """Append a line to a text, mending a word that is broken between them."""
    end = text[-LONGEST_WORD:]
    broken, rest = BROKEN.search(end) if end.endswith("-") else None, FIRST_WORD.match(line)
    if broken and rest:
        hyphenated = f"{broken[1]}-{rest[0]}".casefold() in words
        whole = (broken[1] + rest[0]).casefold() in words
        keep = (hyphenated and not whole) or not rest[0][0].islower()
        return (text if keep else text[:-1]) + line
    # A path or address goes on without a space.
    goes_on = rest is not None and end.endswith("/") and not end.endswith((" /", "\n/"))
    return text + line if goes_on else text + space + line
