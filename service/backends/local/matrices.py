"""The vectors that were searched lately, in memory: one matrix per shelf and space, the longest unused given up first.

numpy is imported where it is used: it takes longer than the rest of a start, and a server that only just starts needs none.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from service.backends.local.blas import use_calling_thread_only

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Key: TypeAlias = tuple[int, str, int]
"""Shelf, space, dimensions."""

MOST_BYTES = 256_000_000
HEAPS = 8
"""Heaps of values for each that is looked for: then hardly any two of those lie in the same."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Row i is the vector of passage `ids[i]`, ids ascending; right as of the shelf's `removed` and `last`.

    Column by column in memory: what the cache does not hold is read twice as fast that way for a product.
    """

    ids: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    removed: int
    last: int

    @classmethod
    def of(cls, rows: Sequence[tuple[int, bytes]], dimensions: int, removed: int, last: int) -> Matrix:
        """Make a matrix of (passage id, vector as stored) pairs."""
        import numpy as np

        use_calling_thread_only()
        ids = np.array([rowid for rowid, _ in rows], np.int64)
        stored = np.frombuffer(b"".join(vector for _, vector in rows), "<f4")
        return cls(ids, np.asfortranarray(stored.reshape(-1, dimensions), np.float32), removed, last)

    def extended(self, more: Matrix) -> Matrix:
        import numpy as np

        ids, vectors = np.concatenate([self.ids, more.ids]), np.concatenate([self.vectors, more.vectors])
        return Matrix(ids, vectors, more.removed, more.last)

    def until(self, last: int) -> Matrix:
        """Return the same of the shelf as it was when it had fewer passages at its end."""
        import numpy as np

        end = int(np.searchsorted(self.ids, last, "right"))
        return Matrix(self.ids[:end], self.vectors[:end], self.removed, last)

    def nearest(self, vector: npt.NDArray[np.float32], limit: int) -> list[tuple[float, int]]:
        """Return the (cosine, passage id) pairs of the vectors nearest to a unit vector, nearest first."""
        import numpy as np

        cosines = self.vectors @ vector
        near = np.flatnonzero(cosines >= reached(cosines, limit))
        near = near[np.argsort(-cosines[near], kind="stable")][:limit]
        return list(zip(cosines[near].tolist(), self.ids[near].tolist(), strict=True))


def reached(values: npt.NDArray[np.float32], count: int) -> float:
    """Return what at least so many of the values reach, and few more: as many of the highest in each of some heaps of them do."""
    import numpy as np

    heaps = HEAPS * count
    if len(values) < 2 * heaps:
        return -np.inf
    highest = values[: len(values) // heaps * heaps].reshape(-1, heaps).max(axis=0)
    return float(np.partition(highest, -count)[-count])


class Matrices:
    """Keeps matrices up to a number of bytes in all; one that is larger than that is used and not kept."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Key, Matrix] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key, removed: int, last: int, load: Callable[[int], Matrix]) -> Matrix:
        """Return the matrix as of `removed` and `last`; `load(rowid)` reads what is stored behind a passage.

        While nothing is removed ids only grow, so a shelf that grew is read from where the kept matrix ends.
        """
        with self._lock:
            kept = self._kept.get(key)
        if kept is None or kept.removed != removed:
            matrix = load(0)
        elif kept.last < last:
            matrix = kept.extended(load(kept.last))
        elif kept.last > last:
            # Another thread has read a later state already.
            matrix = kept.until(last)
        else:
            matrix = kept
        self._keep(key, matrix)
        return matrix

    def _keep(self, key: Key, matrix: Matrix) -> None:
        with self._lock:
            kept = self._kept.get(key)
            # Another thread may have read a later state meanwhile.
            if kept is None or (kept.removed, kept.last) < (matrix.removed, matrix.last):
                self._kept[key] = matrix
            self._kept.move_to_end(key)
            while sum(one.vectors.nbytes for one in self._kept.values()) > self._most_bytes:
                self._kept.popitem(last=False)
