"""Rankings made one by reciprocal rank (Cormack, Clarke and Büttcher, SIGIR 2009), weighted."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

from service.backends.words import names_something

K = TypeVar("K", bound=Hashable)

DEPTH = 20
"""Places of each ranking that take part in the fusion, at least. Far down both, chance begins to count more than sense."""

WEIGHT_OF_WORDS, WEIGHT_OF_IDENTIFIERS = 0.8, 1.25
"""What the ranking by words counts beside the one by vectors, and what it counts if the question names something."""

SMOOTHING = 12
"""The k of the paper, which takes 60. A smaller one lets what only one ranking finds, but finds first, stand before what both \
find somewhere; with weights from 0.8 to 1.25 beside 1, the first of either of two rankings is among the first five."""


def fuse(rankings: Iterable[tuple[float, Iterable[K]]]) -> list[tuple[K, float]]:
    """Return every key once with the sum of weight / (k + rank) over the (weight, ranking) pairs, best first.

    A ranking names a key once; ties keep the order in which keys were first seen.
    """
    scores: dict[K, float] = {}
    for weight, ranking in rankings:
        for rank, key in enumerate(ranking, start=1):
            scores[key] = scores.get(key, 0.0) + weight / (SMOOTHING + rank)
    return sorted(scores.items(), key=lambda item: -item[1])


def weight_of_words(question: str) -> float:
    return WEIGHT_OF_IDENTIFIERS if names_something(question) else WEIGHT_OF_WORDS
