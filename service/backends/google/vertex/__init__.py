"""Vertex AI Vector Search: one index for all apps, filtered by app and owner in every search, found by vectors and by words."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from service import logging as log
from service.backends.google.vertex.calls import Calls, Deadline
from service.backends.google.vertex.datapoints import Stored, datapoint_id, read, version, write
from service.backends.google.vertex.forgotten import Forgotten, covers
from service.backends.google.vertex.questions import questions, ranked
from service.backends.interfaces import Entry, Hit, Search, Secrets
from service.config import Settings
from service.errors import Unavailable
from service.models import Scope

T = TypeVar("T")

MOST_DATAPOINTS = 1000
"""What one request may read or remove."""

BATCH = 200
"""Datapoints of one request to store: with vectors of 3072 numbers they stay below 4 MB."""

CHECK_SECONDS = 5.0


class VertexVectors:
    """Keeps passages, their text included, in one index that takes single changes (`STREAM_UPDATE`).

    Vertex AI promises that a change shows "within seconds". So `upsert` and `delete` return only once the deployed index
    shows the change, and raise `Unavailable` if it does not in time; both may be repeated. Where an endpoint has several
    replicas, another than the one that answered may still lag. Entries cannot be listed: Vertex AI has no call for it.
    """

    def __init__(
        self, settings: Settings, secrets: Secrets, *, search_seconds: float = 2.0, change_seconds: float = 30.0
    ) -> None:
        needed = ("google_cloud_project", "google_cloud_region")
        settings.require(
            "Vertex AI Vector Search", *needed, "vertex_index", "vertex_index_endpoint", "vertex_deployed_index"
        )
        self._calls = Calls(settings)
        self._forgotten = Forgotten()
        self._search_seconds = search_seconds
        self._change_seconds = change_seconds

    def upsert(self, scope: Scope, entries: Sequence[Entry]) -> None:
        deadline = Deadline(self._change_seconds)
        self._forgotten.written({(scope.app, scope.user, entry.passage.document) for entry in entries})
        datapoints = {datapoint.datapoint_id: datapoint for datapoint in (write(scope, entry) for entry in entries)}
        for batch in batches(list(datapoints.values()), BATCH):
            self._calls.upsert(batch, deadline)
            self._await({datapoint.datapoint_id: version(datapoint) for datapoint in batch}, deadline)

    def search(self, scope: Scope, search: Search) -> list[Hit]:
        asked = questions(scope, search) if search.limit > 0 else []
        if not asked:
            return []
        self._calls.open()
        found = self._calls.find([question.query for question in asked], Deadline(self._search_seconds))
        deletions = self._forgotten.deletions
        rankings = [
            (
                question.weight,
                [one for one in readable(neighbours) if question.answered_by(one) and not covers(deletions, one)],
            )
            for question, neighbours in zip(asked, found, strict=True)
        ]
        return ranked(scope, rankings, search.limit)

    def delete(self, scope: Scope, document: str, chunks: int) -> None:
        deadline = Deadline(self._change_seconds)
        self._forgotten.deleted((scope.app, scope.user, document), chunks)
        ids = [datapoint_id(scope.app, scope.user, document, chunk) for chunk in range(chunks)]
        for batch in batches(ids, MOST_DATAPOINTS):
            self._calls.remove(batch, deadline)
            self._await(dict.fromkeys(batch), deadline)

    def check(self) -> None:
        """See that the index is deployed and answers; the next search finds all modules loaded and all connections made."""
        deadline = Deadline(CHECK_SECONDS)
        self._calls.look_up(deadline)
        self._calls.read([datapoint_id("", None, "", 0)], deadline)

    def _await(self, versions: Mapping[str, str | None], deadline: Deadline) -> None:
        """Wait until the deployed index has each datapoint in this version, or (`None`) has it no more."""
        pause = 0.05
        while versions:
            found = {
                datapoint.datapoint_id: version(datapoint) for datapoint in self._calls.read(list(versions), deadline)
            }
            versions = {name: wanted for name, wanted in versions.items() if found.get(name) != wanted}
            if versions and not deadline.pause(pause):
                raise Unavailable("The search index takes longer than usual to show a change.")
            pause = min(2 * pause, 1.0)


def readable(neighbours: Sequence[Any]) -> list[Stored]:
    """Return what the index has found, without what does not agree with itself, which is reported."""
    read_ones = [read(neighbour.datapoint) for neighbour in neighbours]
    found = [stored for stored in read_ones if stored]
    if len(found) < len(neighbours):
        log.event("strange_hits_dropped", logging.ERROR, hits=len(neighbours) - len(found))
    return found


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
