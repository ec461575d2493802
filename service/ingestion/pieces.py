"""Pieces: a text cut where it hurts least, so that each part keeps a size."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from service.tokenizer import count_tokens

# A sentence ends with its mark and closing quotes, before space and no small letter; common abbreviations and initials do not
# end one. Chinese and Japanese need no space. The quantifiers never step back, so that no text is slow to search.
SENTENCE = re.compile(
    r"(?<![.!?…])[.!?…]++(?<!\b[A-Z]\.)(?<!\b[DM]r\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!\bvs\.)(?<!\bcf\.)(?<!\be\.g\.)(?<!\bi\.e\.)"
    r"[\"'”’)\]»]*+(\s++)(?![a-z])|[。！？｡][」』”’）]*+(\s*+)"
)
LINE = re.compile(r"(\n++)")
WORD = re.compile(r"(\s++)")

PROSE = (SENTENCE, LINE, WORD)
LINES = (LINE, SENTENCE, WORD)


def cut(text: str, maximum: int, ends: Sequence[re.Pattern[str]] = PROSE) -> Iterator[tuple[str, str]]:
    """Yield (separator, part): what stands before a part in the text, and the part, of at most `maximum` estimated tokens.

    Cuts at the first of `ends` that is fine enough, and through words only where one alone is too long.
    """
    if count_tokens(text) <= maximum:
        yield "", text
        return
    if not ends:
        yield from (("", part) for part in halves(text, maximum))
        return
    for separator, part in split(text, ends[0]):
        for inner, piece in cut(part, maximum, ends[1:]):
            yield separator or inner, piece
            separator = ""


def split(text: str, end: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Yield (separator, part) of the whole text, so that joining all of them gives it back."""
    start, separator = 0, ""
    for match in end.finditer(text):
        gap = match.end() - len(match[match.lastindex or 0])
        if gap > start:
            yield separator, text[start:gap]
            separator = text[gap : match.end()]
        else:
            separator += text[start : match.end()]
        start = match.end()
    if start < len(text):
        yield separator, text[start:]


def sentences(text: str) -> list[str]:
    return [part for _, part in split(text, SENTENCE)]


def halves(word: str, maximum: int) -> list[str]:
    """Cut a word without any end in two until the parts fit, not between a letter and its accents."""
    middle = len(word) // 2
    while middle < len(word) - 1 and unicodedata.combining(word[middle]):
        middle += 1
    if count_tokens(word) <= maximum or middle == 0:
        return [word]
    return halves(word[:middle], maximum) + halves(word[middle:], maximum)
