"""The vectors that were searched lately, in memory: one matrix for each shelf and space, the longest unused given up first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Key: TypeAlias = tuple[int, str, int]
"""Shelf, space, dimensions."""

MOST_BYTES = 256_000_000


@dataclass(frozen=True, slots=True)
class Matrix:
    """Row i is the vector of passage `ids[i]`, ids ascending; right as of the shelf's `removed` and `last`."""

    ids: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    removed: int
    last: int

    def extended(self, more: Matrix) -> Matrix:
        ids, vectors = np.concatenate([self.ids, more.ids]), np.concatenate([self.vectors, more.vectors])
        return Matrix(ids, vectors, more.removed, more.last)

    def nearest(self, vector: npt.NDArray[np.float32], limit: int) -> list[tuple[float, int]]:
        """Return the (cosine, id) pairs of the vectors nearest to a unit vector, nearest first."""
        cosines = self.vectors @ vector
        if limit < len(cosines):
            best = np.argpartition(cosines, -limit)[-limit:]
        else:
            best = np.arange(len(cosines))
        best = best[np.lexsort((self.ids[best], -cosines[best]))]
        return list(zip(cosines[best].tolist(), self.ids[best].tolist(), strict=True))


class Matrices:
    """Holds matrices up to a number of bytes; a matrix too large for that is used once and not kept."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Key, Matrix] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key, removed: int, last: int, load: Callable[[int], Matrix]) -> Matrix:
        """Return the matrix as of `removed` and `last`; `load(id)` reads what is stored behind an id.

        Ids only grow while nothing is removed, so that a shelf which grew is read from where the kept matrix ends.
        """
        with self._lock:
            kept = self._kept.get(key)
        if kept is None or kept.removed != removed:
            matrix = load(0)
        elif kept.last < last:
            matrix = kept.extended(load(kept.last))
        else:
            matrix = kept
        self._keep(key, matrix)
        return matrix

    def _keep(self, key: Key, matrix: Matrix) -> None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or (kept.removed, kept.last) < (matrix.removed, matrix.last):
                self._kept[key] = matrix
            self._kept.move_to_end(key)
            while sum(m.vectors.nbytes for m in self._kept.values()) > self._most_bytes:
                self._kept.popitem(last=False)
