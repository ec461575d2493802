"""Several rankings made one, by reciprocal rank (Cormack, Clarke and Büttcher, SIGIR 2009)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)

SMOOTHING = 60
"""The paper's k: how much the first places count above the next ones."""


def fuse(rankings: Iterable[tuple[float, Iterable[K]]]) -> list[tuple[K, float]]:
    """Return every key once with the sum of weight / (k + rank) over the (weight, ranking) pairs, best first.

    A key that a ranking names again counts there with its best rank; ties keep the order in which keys were first seen.
    """
    scores: dict[K, float] = {}
    for weight, ranking in rankings:
        for rank, key in enumerate(dict.fromkeys(ranking), start=1):
            scores[key] = scores.get(key, 0.0) + weight / (SMOOTHING + rank)
    return sorted(scores.items(), key=lambda item: -item[1])
