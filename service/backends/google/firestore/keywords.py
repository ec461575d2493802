"""What Firestore's index holds of a passage's words, what it is asked for a question, and how the answers rank.

A document lists its words in an array, and a query finds those that list any of up to 30. Firestore tells neither how rare a word
is nor which document holds more of them, so the rarest are guessed, asked for apart from the others, and the ranking is made here:
- What names something (`ERR_1042`, `E24`, `foo.bar`) is rarest: it is asked for by itself, and nothing common can crowd it out.
- The longer a word the rarer (Zipf, 1935): the three longest are asked for one by one, a few others together.
- Function words of English are asked for only where a question has no other words.
How rare a word really is then shows in how many of the passages found have it.

The emulator, unlike Firestore, walks through every stored array for every term: some hundred passages are its limit.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import TypeVar

from service.backends.words import CHARACTER, PARTS, PIECES, spaced, terms
from service.models import Passage

K = TypeVar("K", bound=Hashable)

MOST_TERMS = 400
"""Of one passage; what is named in it comes first, then what begins it."""

LONGEST_TERM = 64
MOST_ASKED = 30
ALONE, TOGETHER = 3, 5
"""How many of the longest words are asked for one by one, and how many in all."""

WEIGHT_OF_FUNCTION_WORDS = 0.1

NUMBERED = re.compile("[0-9]")
TEXT_WITHOUT_SPACES = re.compile(CHARACTER)
LETTERS = re.compile("[a-z]{4,}")
VOWEL = re.compile("[aeiouy]")
FUNCTION_WORDS = frozenset(
    "a about after all also am an and any are as at be because been before being but by can could did do does for from had has "
    "have having he her here him his how i if in into is it its just me more most my no nor not of off on once only or other our "
    "out over own same she should so some such than that the their them then there these they this those to too under until up "
    "very was we were what when where which while who whom why will with would you your".split()
)


def stored(passage: Passage) -> list[str]:
    """Return the terms to store for a passage: each word and compound of its title, headings and text."""
    found = dict.fromkeys(
        term for text in (passage.title, *passage.headings, passage.text) for term in each(fold(text))
    )
    if len(found) <= MOST_TERMS:
        return list(found)
    return sorted(found, key=lambda term: not names(term))[:MOST_TERMS]


def each(text: str) -> Iterator[str]:
    for word in text.split():
        parts = PARTS.findall(word)
        if len(parts) > 1:
            yield from map(compound, ([parts] if len(parts) == 2 else [parts, *pairwise(parts)]))
        for part in parts:
            for i, piece in enumerate(PIECES.split(part)):
                if i % 2:
                    yield from piece
                    yield from (f"{a} {b}" for a, b in pairwise(piece))
                elif piece:
                    yield normal(piece)


def compound(parts: Iterable[str]) -> str:
    return normal(" ".join(spaced(" ".join(parts)).split()))


def asked(text: str) -> list[str]:
    """Return the terms of a question."""
    return list(dict.fromkeys(normal(term) for term in terms(fold(text))))


def groups(asked: Collection[str]) -> list[list[str]]:
    """Return the terms to query for, those of one query in one list."""
    named = [term for term in asked if names(term)]
    others = [term for term in asked if not names(term) and term not in FUNCTION_WORDS]
    if not named and not others:
        others = list(asked)
    others = sorted(others, key=len, reverse=True)
    parted = [named[:MOST_ASKED], *([term] for term in others[:ALONE]), others[ALONE:TOGETHER]]
    return [group for group in parted if group]


def ranked(asked: Collection[str], found: Mapping[K, Collection[str]]) -> list[K]:
    """Return what was found, by the terms that it has of those asked, a rarer one counting more, and shorter ones before longer."""
    counts = Counter(term for terms in found.values() for term in set(terms).intersection(asked))
    rarity = {
        term: math.log(1 + (len(found) - count + 0.5) / (count + 0.5)) * weight(term) for term, count in counts.items()
    }

    def score(key: K) -> float:
        terms = found[key]
        return sum(rarity[term] for term in set(terms).intersection(rarity)) / (1 + len(terms) / MOST_TERMS)

    return sorted(found, key=score, reverse=True)


def names(term: str) -> bool:
    """Tell whether a term names one thing: it has a digit, or several parts."""
    return NUMBERED.search(term) is not None or (" " in term and TEXT_WITHOUT_SPACES.search(term) is None)


def weight(term: str) -> float:
    return WEIGHT_OF_FUNCTION_WORDS if term in FUNCTION_WORDS else 1.0


def fold(text: str) -> str:
    """Return a text without case and accents."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", "".join(c for c in apart if unicodedata.category(c) != "Mn"))


def normal(term: str) -> str:
    return " ".join(map(stem, term.split(" ")))[:LONGEST_TERM]


def stem(word: str) -> str:
    """Cut the commonest endings of English, as steps 1 and 5 of Porter's algorithm do (Program 14, 1980), but no rarer ones."""
    if LETTERS.fullmatch(word) is None or word in FUNCTION_WORDS:
        return word
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1]
    for ending in ("ing", "ed"):
        rest = word.removesuffix(ending)
        if rest != word and not word.endswith("eed") and len(rest) > 2 and VOWEL.search(rest):
            doubled = rest[-1] == rest[-2] and rest[-1] not in "lsz"
            word = rest[:-1] if doubled else rest
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word
