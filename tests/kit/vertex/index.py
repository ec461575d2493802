"""What an index of Vertex AI Vector Search does with datapoints and queries, as its documentation says.

Sources: "Filter vector matches", "About hybrid search" and "Update and rebuild an active index" of the Vertex AI documentation,
and the comments of `google/cloud/aiplatform/v1/{index,match_service}.proto`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MOST_DATAPOINTS, MOST_NEIGHBOURS = 1000, 1000
SMOOTHING = 60


class Refused(Exception):
    """The request is refused as INVALID_ARGUMENT."""


@dataclass(frozen=True)
class Point:
    """A stored datapoint, read once for all the queries that will meet it."""

    message: Any
    vector: np.ndarray
    sparse: dict[int, float]
    allowed: dict[str, set[str]]
    denied: dict[str, set[str]]

    @classmethod
    def of(cls, message: Any, dimensions: int) -> Point:
        if not message.datapoint_id:
            raise Refused("a datapoint needs an id")
        if len(message.feature_vector) != dimensions:
            raise Refused(f"the index has {dimensions} dimensions, the vector {len(message.feature_vector)}")
        names = [restriction.namespace for restriction in message.restricts]
        if len(set(names)) != len(names) or "" in names:
            raise Refused("a namespace is missing or there twice")
        return cls(
            message,
            np.array(message.feature_vector, np.float32),
            sparse(message),
            {one.namespace: set(one.allow_list) for one in message.restricts},
            {one.namespace: set(one.deny_list) for one in message.restricts},
        )

    def matches(self, restricts: Iterable[Any]) -> bool:
        """AND across the namespaces that the query names, OR within each; a namespace that it does not name is not filtered."""
        return all(
            (not one.allow_list or bool(self.allowed.get(one.namespace, set()) & set(one.allow_list)))
            and not self.allowed.get(one.namespace, set()) & set(one.deny_list)
            and not self.denied.get(one.namespace, set()) & set(one.allow_list)
            for one in restricts
        )


def sparse(message: Any) -> dict[int, float]:
    embedding = message.sparse_embedding
    if len(embedding.values) != len(embedding.dimensions) or len(set(embedding.dimensions)) != len(
        embedding.dimensions
    ):
        raise Refused("a sparse embedding must have one value for each of its dimensions, and each dimension once")
    if any(dimension < 0 for dimension in embedding.dimensions):
        raise Refused("a sparse dimension must not be negative")
    return dict(zip(embedding.dimensions, embedding.values, strict=True))


@dataclass
class Found:
    point: Point
    dense: float = 0.0
    sparse: float = 0.0


@dataclass
class Index:
    """An index for streaming updates, deployed; a change shows after `lag` seconds, in the order in which changes came.

    It is made for vectors of `dimensions` numbers; 0 is the length of the first one that it is given.
    """

    dimensions: int
    lag: float = 0.0
    points: dict[str, Point] = field(default_factory=dict)
    _changes: list[tuple[float, dict[str, Point | None]]] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def upsert(self, messages: Sequence[Any]) -> None:
        if len(messages) > MOST_DATAPOINTS:
            raise Refused(f"at most {MOST_DATAPOINTS} datapoints in a request")
        self.dimensions = self.dimensions or len(messages[0].feature_vector)
        points = [Point.of(message, self.dimensions) for message in messages]
        self._change({point.message.datapoint_id: point for point in points})

    def remove(self, ids: Sequence[str]) -> None:
        if len(ids) > MOST_DATAPOINTS:
            raise Refused(f"at most {MOST_DATAPOINTS} datapoints in a request")
        self._change(dict.fromkeys(ids))

    def read(self, ids: Sequence[str]) -> list[Point]:
        if len(ids) > MOST_DATAPOINTS:
            raise Refused(f"at most {MOST_DATAPOINTS} datapoints in a request")
        visible = self.visible()
        return [visible[name] for name in ids if name in visible]

    def visible(self) -> dict[str, Point]:
        with self._lock:
            while self._changes and self._changes[0][0] <= time.monotonic():
                for name, point in self._changes.pop(0)[1].items():
                    if point is None:
                        self.points.pop(name, None)
                    else:
                        self.points[name] = point
            return dict(self.points)

    def _change(self, points: dict[str, Point | None] | dict[str, Point]) -> None:
        with self._lock:
            self._changes.append((time.monotonic() + self.lag, dict(points)))
            self.visible()

    def find(self, query: Any, *, unfiltered: Sequence[str] = ()) -> list[Found]:
        """Return the nearest neighbours; `unfiltered` namespaces are those that a faulty index forgets to filter by."""
        asked = query.datapoint
        if query.neighbor_count > MOST_NEIGHBOURS or query.neighbor_count < 0:
            raise Refused(f"at most {MOST_NEIGHBOURS} neighbours")
        restricts = [one for one in asked.restricts if one.namespace not in unfiltered]
        found = [Found(point) for point in self.visible().values() if point.matches(restricts)]
        best = crowded(order(query, found, self.dimensions), query.per_crowding_attribute_neighbor_count)
        return best[: query.neighbor_count or 10]


def order(query: Any, found: list[Found], dimensions: int) -> list[Found]:
    dense, words = np.array(query.datapoint.feature_vector, np.float32), sparse(query.datapoint)
    fused = query.HasField("rrf")
    if not dense.size and not words:
        raise Refused("a query needs a dense or a sparse embedding")
    if fused != bool(dense.size and words):
        raise Refused("`rrf` goes with a dense and a sparse embedding, and only with both")
    if dense.size and dimensions and dense.size != dimensions:
        raise Refused(f"the index has {dimensions} dimensions, the query {dense.size}")
    for one in found:
        one.dense = float(one.point.vector @ dense) if dense.size else 0.0
        one.sparse = sum(value * one.point.sparse.get(place, 0.0) for place, value in words.items())
    by_dense = sorted(found, key=lambda one: (-one.dense, one.point.message.datapoint_id))
    # Whether the real index leaves out what shares no dimension with the query is not documented; the worse case is that it does not.
    by_words = sorted(found, key=lambda one: (-one.sparse, one.point.message.datapoint_id))
    if not fused:
        return by_dense if dense.size else by_words
    scores: dict[int, float] = {}
    for weight, ranking in ((query.rrf.alpha, by_dense), (1 - query.rrf.alpha, by_words)):
        for rank, one in enumerate(ranking[: query.neighbor_count or 10], 1):
            scores[id(one)] = scores.get(id(one), 0.0) + weight / (SMOOTHING + rank)
    return sorted((one for one in found if scores.get(id(one))), key=lambda one: -scores[id(one)])


def crowded(found: list[Found], most: int) -> list[Found]:
    """Keep at most so many of one crowding tag, if the query says how many."""
    counts: Counter[str] = Counter()
    kept = []
    for one in found:
        tag = one.point.message.crowding_tag.crowding_attribute
        counts[tag] += 1
        if not most or not tag or counts[tag] <= most:
            kept.append(one)
    return kept
