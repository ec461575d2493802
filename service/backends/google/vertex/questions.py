"""A search as the queries of one request, and their answers made one ranking.

One query has a vector and words, and Vertex AI itself fuses what both find (`rrf`). Its filter leaves out vectors of another
embedder, whose passages must still be found by their words, and its fusion may bury what only the words find, though they find
it first. So a second query asks for the words alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from service.backends.fusion import fuse
from service.backends.google.vertex.datapoints import Stored, reach, restrict
from service.backends.google.vertex.sparse import of_question
from service.backends.google.vertex.wire import message
from service.backends.interfaces import Hit, Search
from service.backends.words import names_something
from service.models import Scope

Key: TypeAlias = tuple[str | int | None, ...]

DEPTH = 30
"""Places of each ranking that take part in the fusion, at least."""

MOST_NEIGHBOURS = 1000
"""What one query may find."""

ALPHA, ALPHA_OF_IDENTIFIERS = 0.8, 0.3
"""What the vector counts in Vertex AI's fusion, the words counting what is left to 1; less if the question names
something or holds a number."""

WEIGHT_OF_WORDS, WEIGHT_OF_IDENTIFIERS = 0.4, 1.25
"""What the ranking by words alone counts beside that fusion, and what it counts if the question names something."""


@dataclass(frozen=True, slots=True)
class Question:
    """One query, what its ranking counts, and what a passage must have to be an answer: the space or one of the words."""

    query: Any
    weight: float
    space: str | None = None
    words: frozenset[int] = frozenset()

    def answered_by(self, stored: Stored) -> bool:
        return stored.space == self.space if self.space is not None else not self.words.isdisjoint(stored.words)


def questions(scope: Scope, search: Search) -> list[Question]:
    """Return what to ask for a search, nothing for one without a vector and without words."""
    words = of_question(search.text)
    named = names_something(search.text) or any(letter.isdigit() for letter in search.text)
    asked = []
    if search.vector is not None:
        query = query_of(scope, search, words, search.space)
        query.datapoint.feature_vector.extend(search.vector.tolist())
        if words:
            # A query by vector alone must not name a fusion.
            query.rrf.alpha = ALPHA_OF_IDENTIFIERS if named else ALPHA
        asked.append(Question(query, 1.0, space=search.space))
    if words:
        query = query_of(scope, search, words)
        weight = WEIGHT_OF_IDENTIFIERS if named else WEIGHT_OF_WORDS
        asked.append(Question(query, weight, words=frozenset(words)))
    return asked


def query_of(scope: Scope, search: Search, words: Mapping[int, float], space: str | None = None) -> Any:
    # Twice as many, because a passage that its owner and the app both have is there twice.
    query = message("Query")(neighbor_count=min(max(DEPTH, 2 * search.limit), MOST_NEIGHBOURS))
    query.datapoint.sparse_embedding.dimensions.extend(words)
    query.datapoint.sparse_embedding.values.extend(words.values())
    restrict(query.datapoint, reach(scope, space))
    return query


def ranked(scope: Scope, rankings: Sequence[tuple[float, Iterable[Stored]]], limit: int) -> list[Hit]:
    """Fuse the rankings by document and chunk, so that a passage which its owner and the app both have counts once.

    What is another's keeps its place apart, for the caller to drop and report: it must not take the place of a passage of
    the same document that is the scope's own.
    """
    passages: dict[Key, Stored] = {}
    keys = []
    for weight, ranking in rankings:
        named: dict[Key, Stored] = {}
        for stored in ranking:
            own = stored.app == scope.app and stored.user in (scope.user, None)
            named.setdefault(stored.key if own else (stored.app, stored.user, *stored.key), stored)
        keys.append((weight, list(named)))
        passages = {**named, **passages}
    best = fuse(keys)[:limit]
    return [Hit(p.app, p.user, replace(p.passage, score=score)) for p, score in ((passages[k], s) for k, s in best)]
