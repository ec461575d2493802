"""Splits what an adapter sends into requests that are not too many items and not too much."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def batches(items: Iterable[T], size: int, most: int, weigh: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield batches of at most `size` items that weigh at most `most` together; an item that is too heavy comes alone."""
    batch: list[T] = []
    weight = 0
    for item in items:
        heavy = weigh(item)
        if batch and (len(batch) == size or weight + heavy > most):
            yield batch
            batch, weight = [], 0
        batch.append(item)
        weight += heavy
    if batch:
        yield batch
