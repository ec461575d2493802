"""A passage as a datapoint of the index, and back: its id, what the index filters by, and what it carries.

Ids and tokens are SHA-256 of what they stand for, so an id reveals nothing, and two scopes, whatever their names, never share
one. `restricts` and `reach` are the only places where a scope becomes a filter.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.backends.google.vertex.sparse import of_passage
from service.backends.google.vertex.wire import message
from service.backends.interfaces import Entry, Hit
from service.errors import BadRequest
from service.models import Passage, Scope

COLLECTION = "passages"
"""Keeps whatever else an index may hold out of every search."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a datapoint says of itself: the owner, the space of its vector, and when it was written (seconds since 1970)."""

    app: str
    user: str | None
    passage: Passage
    space: str
    written: float
    words: frozenset[int]

    @property
    def key(self) -> tuple[str, int]:
        return self.passage.document, self.passage.chunk

    @property
    def hit(self) -> Hit:
        return Hit(self.app, self.user, self.passage)


def token(*parts: str | int | None) -> str:
    """Return what stands for the parts; other parts, and the same ones in another place, have another."""
    try:
        return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()
    except UnicodeEncodeError as exc:
        raise BadRequest("A name must be text that UTF-8 can hold.") from exc


def datapoint_id(app: str, user: str | None, document: str, chunk: int) -> str:
    return token("datapoint", app, user, document, chunk)


def restricts(app: str, user: str | None, space: str) -> dict[str, list[str]]:
    """Return what is written on a datapoint, by namespace. An owner's token holds the app too, so either one alone separates apps."""
    return {
        "collection": [COLLECTION],
        "app": [token("app", app)],
        "owner": [token("owner", app, user)],
        "space": [token("space", space)],
    }


def reach(scope: Scope, space: str | None = None) -> dict[str, list[str]]:
    """Return what a search of this scope may find, by namespace: a namespace that a query does not name is not filtered at all."""
    own, shared = restricts(scope.app, scope.user, space or ""), restricts(scope.app, None, "")
    owners = list(dict.fromkeys([*own["owner"], *shared["owner"]]))
    found = {"collection": own["collection"], "app": own["app"], "owner": owners}
    return found if space is None else {**found, "space": own["space"]}


def restrict(datapoint: Any, allowed: Mapping[str, Sequence[str]]) -> None:
    for namespace, tokens in allowed.items():
        datapoint.restricts.add(namespace=namespace, allow_list=tokens)


def write(scope: Scope, entry: Entry) -> Any:
    """Return the datapoint for an entry; raises `BadRequest` for text that UTF-8 cannot hold."""
    passage = entry.passage
    datapoint = message("IndexDatapoint")(
        datapoint_id=datapoint_id(scope.app, scope.user, passage.document, passage.chunk),
        feature_vector=entry.vector.tolist(),
    )
    restrict(datapoint, restricts(scope.app, scope.user, entry.space))
    words = of_passage(passage)
    datapoint.sparse_embedding.dimensions.extend(words)
    datapoint.sparse_embedding.values.extend(words.values())
    carried = {
        "app": scope.app,
        "user": scope.user,
        "document": passage.document,
        "chunk": passage.chunk,
        "title": passage.title,
        "text": passage.text,
        "headings": list(passage.headings),
        "page": passage.page,
        "line": passage.line,
        "space": entry.space,
    }
    version = token(json.dumps(carried), hashlib.sha256(entry.vector.tobytes()).hexdigest())
    try:
        datapoint.embedding_metadata.update({**carried, "version": version, "written": time.time()})
    except UnicodeEncodeError as exc:
        raise BadRequest("Text must not hold half a character (a lone surrogate).") from exc
    return datapoint


def version(datapoint: Any) -> str:
    """Return what tells one content of a datapoint from another, `""` for a datapoint that is not ours."""
    return str(datapoint.embedding_metadata.fields["version"].string_value)


def read(datapoint: Any) -> Stored | None:
    """Read what the index has stored, `None` if it does not agree with itself.

    The id and the tokens that the index filters by must be those of the owner whom the datapoint names, so that owner is no
    mere claim of the text beside them.
    """
    from google.protobuf.json_format import MessageToDict

    carried = MessageToDict(datapoint.embedding_metadata)
    try:
        stored = Stored(
            app=text(carried["app"]),
            user=None if carried["user"] is None else text(carried["user"]),
            passage=passage_of(carried),
            space=text(carried["space"]),
            written=float(carried["written"]),
            words=frozenset(datapoint.sparse_embedding.dimensions),
        )
    except (KeyError, TypeError, ValueError):
        return None
    marks = {restriction.namespace: list(restriction.allow_list) for restriction in datapoint.restricts}
    agrees = marks == restricts(stored.app, stored.user, stored.space)
    return stored if agrees and datapoint.datapoint_id == datapoint_id(stored.app, stored.user, *stored.key) else None


def passage_of(carried: Mapping[str, Any]) -> Passage:
    return Passage(
        document=text(carried["document"]),
        chunk=int(carried["chunk"]),
        title=text(carried["title"]),
        text=text(carried["text"]),
        headings=tuple(map(text, carried["headings"])),
        page=number(carried["page"]),
        line=number(carried["line"]),
        shared=carried["user"] is None,
    )


def text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def number(value: float | None) -> int | None:
    return None if value is None else int(value)
