"""Words as a sparse vector: one dimension for each term, weighted so that the product of two vectors ranks much as BM25 does.

How rare a word is cannot be known here, for nobody counts the words of the whole index. What a question's word is worth is told
by its form instead: an identifier or a number means what it says, and a word of every sentence means next to nothing.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator

from service.backends.words import CHARACTERS, PARTS, PIECES, pairs, spaced, terms
from service.models import Passage

SATURATION, LENGTH_COUNTS, USUAL_WORDS = 1.2, 0.75, 150
"""BM25's k1 and b, and the words of a usual passage, which stand for the average length."""

IN_HEADINGS = 2
"""What a word in a heading counts beside one in the text."""

COMPOUND, WITH_DIGIT, WORD, COMMON = 4.0, 3.0, 1.0, 0.1
COMMON_WORDS = frozenset(
    "a about after all also am an and any are as at be been but by can could did do does for from get had has have how i if in into"
    " is it its may me more my no not of on or our out should so than that the their them then there these they this to up us was"
    " we were what when where which who why will with would you your".split()
)
DIGIT = re.compile(r"\d")
VOWEL = re.compile(r"[aeiouy]")


def of_passage(passage: Passage) -> dict[int, float]:
    """Return the weights of a passage's terms by dimension, those of its title and headings included."""
    counts = Counter([*indexed(passage.title), *indexed(passage.text)])
    for term in indexed("\n".join(passage.headings)):
        counts[term] += IN_HEADINGS
    length = 1 - LENGTH_COUNTS + LENGTH_COUNTS * counts.total() / USUAL_WORDS
    weights: dict[int, float] = {}
    for term, count in counts.items():
        place = dimension(term)
        weights[place] = weights.get(place, 0.0) + count * (SATURATION + 1) / (count + SATURATION * length)
    return weights


def of_question(text: str) -> dict[int, float]:
    """Return the weights of a question's terms by dimension, none for a text without words."""
    weights: dict[int, float] = {}
    for term in terms(text):
        place = dimension(normal(term))
        weights[place] = max(weights.get(place, 0.0), worth(term))
    return weights


def indexed(text: str) -> Iterator[str]:
    """Yield the terms of a text, however long it is: what `terms` looks up, and each character of a text without spaces."""
    for word in text.split():
        parts = PARTS.findall(word)
        if len(parts) > 1:
            yield normal(" ".join(spaced(" ".join(parts)).split()))
        for part in parts:
            yield from map(normal, pairs(part))
            yield from (character for piece in PIECES.findall(part) if len(piece) > 1 for character in piece)


def worth(term: str) -> float:
    if DIGIT.search(term):
        return COMPOUND if " " in term else WITH_DIGIT
    if " " in term:
        return WORD if CHARACTERS.match(term) else COMPOUND
    return COMMON if term.casefold() in COMMON_WORDS else WORD


def dimension(term: str) -> int:
    """Return the dimension that stands for a term: 31 bits, so that an index may keep it in any kind of integer."""
    return zlib.crc32(term.encode()) & 0x7FFFFFFF


def normal(term: str) -> str:
    """Return a term without case, accents and endings."""
    plain = unicodedata.normalize("NFKD", term.casefold())
    bare = "".join(c for c in plain if not unicodedata.combining(c))
    return " ".join(map(stem, unicodedata.normalize("NFC", bare).split(" ")))


def stem(word: str) -> str:
    """Cut the commonest English endings, so that `caching`, `cached` and `caches` are one word."""
    if len(word) <= 3 or not word.isascii() or not word.isalpha():
        return word
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-3] + "y" if word.endswith("ies") else word[:-1]
    for ending in ("ing", "ed"):
        rest = word.removesuffix(ending)
        if rest != word and len(rest) >= 3 and VOWEL.search(rest):
            word = rest[:-1] if rest[-1] == rest[-2] and rest[-1] not in "lsz" else rest
            break
    word = word.removesuffix("e") if len(word) > 3 else word
    return word[:-1] + "i" if word.endswith("y") and len(word) > 3 else word
