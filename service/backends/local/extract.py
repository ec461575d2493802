"""Chooses what to quote: the pieces of passages that answer a question best, by the words they share and how rare these are."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from service.backends.local.questions import (
    PIECE,
    WORD,
    asked,
    capitals,
    names,
    terms,
    wants_definition,
    wants_number,
    wants_whole,
)
from service.backends.local.sentences import Unit, units
from service.models import Passage

MOST_QUOTES = 4
MOST_CHARACTERS, MOST_UNITS = 20_000, 1_000
# The best quote holds this share of what is asked for, headings included; the others are this good beside it.
LEAST_SHARE = 0.4
LEAST_OF_BEST = 0.55
# A best quote of fewer words brings the sentence after it along.
SHORT = 40

NUMBER = re.compile(r"\d")
IS = re.compile(r"\b(?:is|are|was|were|means?|stands? for|refers? to|ist|sind|bedeutet|est|sont|es|son|significa)\b")
# A piece that begins so speaks of the one before it; one that ends so announces what follows, or asks what it answers.
BACKWARDS = re.compile(
    r"(?:It|This|These|They|That|Those|He|She|Such|Its|Their|Dies|Diese[rsmn]?|Er|Es|Cela|Elle|Il|Esto)\b"
)
OPEN_ENDS = (":", "：", "?", "？", "؟")
LEADERS = re.compile(r"(?:\. ?){4}|…{2}")


@dataclass(frozen=True, slots=True)
class Quote:
    """A piece of a passage; `passage` counts from 0, `place` is the piece's place in it."""

    passage: int
    place: int
    unit: Unit


def choose(question: str, passages: Sequence[Passage]) -> list[Quote]:
    """Return one to four quotes, the passage that answers best first, each passage's in their order; none if nothing answers."""
    quotes = [
        Quote(n, place, unit)
        for n, passage in enumerate(passages)
        for place, unit in enumerate(units(passage.text[:MOST_CHARACTERS]))
    ]
    if wants_whole(question):
        chosen = beginnings(quotes, passages)
    else:
        ranking = Ranking(question, passages, quotes[:MOST_UNITS])
        chosen = ranking.with_neighbours(ranking.best())
    order = list(dict.fromkeys(quote.passage for quote in chosen))
    return sorted(chosen, key=lambda quote: (order.index(quote.passage), quote.place))


def beginnings(quotes: Sequence[Quote], passages: Sequence[Passage]) -> list[Quote]:
    """Return the first sentences of the passages that stand first in their documents."""
    first = sorted(range(len(passages)), key=lambda n: (passages[n].chunk, n))[:2]
    return [quote for n in first for quote in [q for q in quotes if q.passage == n and form(q.unit.text) >= 0.5][:2]]


class Ranking:
    """How well each quote answers a question."""

    def __init__(self, question: str, passages: Sequence[Passage], quotes: Sequence[Quote]) -> None:
        self._quotes = quotes
        self._places = [(passage.document, passage.chunk) for passage in passages]
        self._terms = {quote: terms(quote.unit.text) for quote in quotes}
        self._above = [set(terms(" ".join((*p.headings, p.title)))) for p in passages]
        self._asked = asked(question)
        self._wants_number = wants_number(question)
        self._wants_definition = wants_definition(question)
        self._weights = self._weigh(names(question))
        self._total = sum(self._weights.values())

    def best(self) -> list[Quote]:
        """Return the quotes that are worth it, each for what it adds to those before it."""
        covered: set[str] = set()
        taken: list[Quote] = []
        top = 0.0
        while len(taken) < MOST_QUOTES:
            left = [quote for quote in self._quotes if not self._repeats(quote, taken)]
            quote = max(left, key=lambda quote: self._score(quote, covered), default=None)
            if quote is None or (score := self._score(quote, covered)) <= top * LEAST_OF_BEST:
                break
            if not taken and self._share(quote) < LEAST_SHARE:
                break
            top = top or score
            taken.append(quote)
            covered.update(self._terms[quote])
        return taken

    def with_neighbours(self, quotes: Sequence[Quote]) -> list[Quote]:
        """Put beside each quote what it speaks of, announces or asks, as far as there is room; the best ones come first."""
        found: dict[Quote, None] = {}
        for n, quote in enumerate(quotes):
            found.update(dict.fromkeys([quote, *self._beside(quote, alone=n == 0)]))
        return list(found)[:MOST_QUOTES]

    def _beside(self, quote: Quote, *, alone: bool) -> list[Quote]:
        before, after = self._around(quote)
        if quote.unit.text.endswith(OPEN_ENDS):
            return after[:3]
        if before and BACKWARDS.match(quote.unit.text) and before[-1].unit.paragraph == quote.unit.paragraph:
            return before[-1:]
        short = alone and len(self._terms[quote]) < SHORT
        return [found for found in after[:1] if short and found.unit.paragraph == quote.unit.paragraph]

    def _around(self, quote: Quote) -> tuple[list[Quote], list[Quote]]:
        """Return what stands before a quote in its passage, and after it, there and in the document's next chunk if that was found."""
        document, chunk = self._places[quote.passage]
        own = [other for other in self._quotes if other.passage == quote.passage]
        known = {other.unit.text for other in own}
        next_chunk = [n for n, place in enumerate(self._places) if place == (document, chunk + 1)]
        # A chunk may repeat the end of the one before it.
        beyond = [other for other in self._quotes if other.passage in next_chunk and other.unit.text not in known]
        return own[: quote.place], own[quote.place + 1 :] + beyond

    def _weigh(self, named: set[str]) -> dict[str, float]:
        """Give each term asked for its weight: the rarer, the more.

        A word that occurs nowhere says little, for documents use words of their own; a name that occurs nowhere says much.
        """
        frequency = Counter(
            term for quote in self._quotes for term in {*self._terms[quote], *self._above[quote.passage]}
        )
        weights = {t: math.sqrt(math.log(1 + (len(self._quotes) + 1) / (frequency[t] + 0.5))) for t in self._asked}
        usual = sum(weights[term] for term in self._asked if frequency[term]) / len(self._asked)
        return {t: w if frequency[t] else 2 * w if t in named else min(w, usual) for t, w in weights.items()}

    def _sum(self, found: Iterable[str]) -> float:
        return sum(self._weights[term] for term in found) / self._total if self._total else 0.0

    def _share(self, quote: Quote) -> float:
        return self._sum(set(self._asked) & {*self._terms[quote], *self._above[quote.passage]})

    def _score(self, quote: Quote, covered: set[str]) -> float:
        own = self._terms[quote]
        found = set(self._asked) & set(own)
        above = set(self._asked) & self._above[quote.passage]
        score = self._sum(found - covered) + 0.5 * self._sum(found & covered)
        # What a heading announces is said below it, and first of all right below it.
        score += self._sum(above & found) * 0.25 + self._sum(above - found) * (0.5 if quote.place < 2 else 0.3)
        score *= 1 + 0.15 * len(set(pairwise(self._asked)) & set(pairwise(own)))
        return score * self._form(quote, found) / (1 + 0.06 * quote.passage)

    def _form(self, quote: Quote, found: set[str]) -> float:
        text = quote.unit.text
        value = form(text)
        if self._wants_number and NUMBER.search(text):
            value *= 1.3
        if found & set(self._terms[quote][:4]):
            value *= 1.3 if self._wants_definition and IS.search(text[:120]) else 1.1
        return value

    def _repeats(self, quote: Quote, taken: Sequence[Quote]) -> bool:
        own = set(self._terms[quote])
        others = [set(self._terms[other]) for other in taken]
        return any(len(own & other) > 0.6 * min(len(own), len(other)) for other in others)


def form(text: str) -> float:
    """What a piece's form makes of its worth: a few words, a title or a line of contents say little, a very long piece too much."""
    words = len(WORD.findall(PIECE.sub(lambda run: " ".join(run[0][::2]), text)))
    value = 0.4 if words < 4 else 0.7 if words < 6 else min(1.0, math.sqrt(45 / words))
    if LEADERS.search(text) or len(capitals(text)) > 0.6 * words > 1:
        value *= 0.3
    return value
