"""Which passages hold the words that were searched lately, in memory, and how they rank by them.

The full-text index says where a phrase is. How rare it is, is counted here, over the shelves of a search alone: what others have
neither slows a search nor shows in its order. numpy is imported where it is used, as in `matrices`.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Rows: TypeAlias = npt.NDArray[np.int32]
    Mask: TypeAlias = npt.NDArray[np.bool_]

Find: TypeAlias = Callable[[str, bool, int], list[int]]
"""Return the ids of a shelf's passages behind one that hold a phrase, anywhere or in their headings, ascending."""

HEADED = 0.375
"""What a word in the headings counts more: as much as one that is there twice in BM25, whose k1 is 1.2."""

COMMON = 1000
"""A phrase in at least so many passages cannot make one a candidate where a rarer one can; it still counts in its rank."""

MOST_BYTES = 64_000_000
OVERHEAD = 500
"""Bytes of one posting beside its rows, so that words which are nowhere are bounded too."""


@dataclass(frozen=True, slots=True)
class Posting:
    """The rows of a shelf that hold a phrase, and those of them that do in their headings, among its first `looked` rows.

    `held` tells it of each row, where that takes no more memory: some rows are looked up sooner than all are counted.
    """

    rows: Rows
    headed: Rows
    looked: int
    held: Mask | None

    @classmethod
    def of(cls, rows: Rows, headed: Rows, looked: int) -> Posting:
        import numpy as np

        held = None
        if looked <= rows.nbytes:
            held = np.zeros(looked, np.bool_)
            held[rows] = True
        return cls(rows, headed, looked, held)


class Words:
    """What was found of one shelf as it was at its `removed` and `last`; row i is the passage `ids[i]`, ids ascending."""

    def __init__(
        self, ids: npt.NDArray[np.int64], removed: int, last: int, postings: dict[str, Posting] | None = None
    ) -> None:
        self.ids = ids
        self.removed = removed
        self.last = last
        self._postings = {} if postings is None else postings
        self.nbytes = ids.nbytes + sum(size(*kept) for kept in self._postings.items())

    def extended(self, ids: npt.NDArray[np.int64], last: int) -> Words:
        """Return the same of a shelf that has more passages at its end."""
        import numpy as np

        return Words(np.concatenate([self.ids, ids]), self.removed, last, dict(self._postings))

    def posting(self, phrase: str, find: Find) -> Posting:
        known = self._postings.get(phrase)
        if known is None or known.looked < len(self.ids):
            found = self._extended(phrase, known, find)
            self.nbytes += size(phrase, found) - (size(phrase, known) if known else 0)
            self._postings[phrase] = known = found
        return known

    def _extended(self, phrase: str, known: Posting | None, find: Find) -> Posting:
        import numpy as np

        after = int(self.ids[known.looked - 1]) if known and known.looked else 0

        def rows(headed: bool) -> Rows:
            return np.searchsorted(self.ids, np.array(find(phrase, headed, after), np.int64)).astype(np.int32)

        anywhere = rows(headed=False)
        headed = rows(headed=True) if len(anywhere) else anywhere
        if known:
            anywhere, headed = np.concatenate([known.rows, anywhere]), np.concatenate([known.headed, headed])
        return Posting.of(anywhere, headed, len(self.ids))


class Postings:
    """Keeps the words of shelves up to a number of bytes in all, the longest unused given up first."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[int, Words] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, shelf: int, removed: int, last: int, load: Callable[[int], list[int]]) -> Words:
        """Return a shelf's words as of `removed` and `last`; `load(id)` reads the ids of its passages behind one."""
        import numpy as np

        with self._lock:
            kept = self._kept.get(shelf)
        if kept is not None and (kept.removed, kept.last) == (removed, last):
            words = kept
        elif kept is not None and kept.removed == removed and kept.last < last:
            words = kept.extended(np.array(load(kept.last), np.int64), last)
        else:
            words = Words(np.array(load(0), np.int64), removed, last)
        self._keep(shelf, words)
        return words

    def _keep(self, shelf: int, words: Words) -> None:
        with self._lock:
            kept = self._kept.get(shelf)
            # Another thread may have read a later state meanwhile.
            if kept is None or (kept.removed, kept.last) < (words.removed, words.last):
                self._kept[shelf] = words
            self._kept.move_to_end(shelf)
            while sum(one.nbytes for one in self._kept.values()) > self._most_bytes:
                self._kept.popitem(last=False)


def rank(shelves: Sequence[tuple[Words, Find]], phrases: Iterable[str], limit: int) -> list[int]:
    """Return the ids of the passages with any of the phrases: those with most of the rarest first, ties by id."""
    import numpy as np

    found = []
    for phrase in phrases:
        postings = [words.posting(phrase, find) for words, find in shelves]
        if count := sum(len(posting.rows) for posting in postings):
            found.append((count, postings))
    rarer = any(count < COMMON for count, _ in found)
    total = sum(len(words.ids) for words, _ in shelves)
    best: list[tuple[float, int]] = []
    for i, (words, _) in enumerate(shelves):
        scores = np.zeros(len(words.ids), np.float32)
        chosen = np.zeros(len(words.ids), np.bool_)
        for count, postings in found:
            if count < COMMON or not rarer:
                chosen[postings[i].rows] = True
        near = np.flatnonzero(chosen)
        for count, postings in found:
            posting, rarity = postings[i], np.float32(rareness(count, total))
            if posting.held is None:
                scores[posting.rows] += rarity
            else:
                scores[near] += rarity * posting.held[near]
            if len(posting.headed):
                scores[posting.headed] += np.float32(HEADED) * rarity
        if limit < len(near):
            near = near[np.argpartition(scores[near], -limit)[-limit:]]
        best += zip((-scores[near]).tolist(), words.ids[near].tolist(), strict=True)
    return [rowid for _, rowid in sorted(best)[:limit]]


def rareness(found: int, total: int) -> float:
    """Return what a phrase counts that so many of all passages hold: BM25's inverse document frequency, which stays above 0."""
    return math.log(1 + (total - found + 0.5) / (found + 0.5))


def size(phrase: str, posting: Posting) -> int:
    held = 0 if posting.held is None else posting.held.nbytes
    return posting.rows.nbytes + posting.headed.nbytes + held + 4 * len(phrase) + OVERHEAD
