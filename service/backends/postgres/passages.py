"""Every statement that touches the passages, and how an entry becomes a row."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeAlias

from service.backends.interfaces import Entry, Hit, Search
from service.backends.paths import decode, quoted
from service.backends.postgres.statements import DELETE, INSERT, NEAREST, PAGE, WORDED
from service.backends.words import PARTS, spaced, terms
from service.errors import BadRequest
from service.models import Passage, Scope

if TYPE_CHECKING:
    from psycopg import Connection

    from service.backends.interfaces import Vectors

Key: TypeAlias = tuple[str, int]
"""Document and chunk."""

SHARED, USER = "shared", "user:"


@dataclass(frozen=True, slots=True)
class Row:
    """A passage as it is stored."""

    app: str
    owner: str
    document: str
    chunk: int
    passage: str

    @property
    def key(self) -> Key:
        return self.document, self.chunk


def owner(user: str | None) -> str:
    return SHARED if user is None else USER + quoted(user)


def whose(scope: Scope) -> dict[str, object]:
    """Return what `READABLE` and `OWN` compare with."""
    return {"app": quoted(scope.app), "owner": owner(scope.user), "shared": SHARED}


def shelf(app: str, user: str | None) -> str:
    """Return the word that stands for an app's owner in the full-text index, so that a search walks through no other's matches.

    No text becomes a word with a colon in it.
    """
    return f"shelf:{sha256(f'{quoted(app)}/{owner(user)}'.encode()).hexdigest()[:32]}"


def shelves(scope: Scope) -> str:
    """Return the shelves that a scope reads, as PostgreSQL reads a query."""
    return " | ".join(f"'{shelf(scope.app, user)}'" for user in (scope.user, None))


def rows(scope: Scope, entries: Sequence[Entry]) -> list[dict[str, object]]:
    """Return the row of each entry; of two of one place the last. Their order is always the same, so that no two writers wait \
for each other."""
    latest = {(quoted(entry.passage.document), entry.passage.chunk): entry for entry in entries}
    return [
        {
            **whose(scope),
            "shelf": shelf(scope.app, scope.user),
            "document": document,
            "chunk": chunk,
            "space": entry.space,
            "dimensions": entry.vector.size,
            "vector": literal(entry.vector),
            "passage": to_json(entry.passage),
            "title": indexed(entry.passage.title),
            "headings": indexed("\n".join(entry.passage.headings)),
            "text": indexed(entry.passage.text),
        }
        for (document, chunk), entry in sorted(latest.items(), key=lambda item: item[0])
    ]


def insert(connection: Connection[Any], values: Sequence[dict[str, object]]) -> None:
    connection.cursor().executemany(INSERT, values)


def remove(connection: Connection[Any], scope: Scope, document: str, chunks: int) -> None:
    connection.execute(DELETE, {**whose(scope), "document": quoted(document), "chunks": chunks})


def find(connection: Connection[Any], scope: Scope, search: Search, limit: int) -> tuple[list[Row], list[Row]]:
    """Return the passages nearest to the question's vector and those with its words, best first, in one round trip."""
    given = {**whose(scope), "limit": limit}
    asked = terms(folded(search.text))
    with connection.pipeline():
        near = worded = None
        if search.vector is not None:
            place = {"space": search.space, "dimensions": search.vector.size, "vector": literal(search.vector)}
            near = connection.execute(NEAREST, {**given, **place})
        if asked:
            worded = connection.execute(WORDED, {**given, "terms": asked, "shelves": shelves(scope)})
        return read(near or ()), read(worded or ())


def page(connection: Connection[Any], scope: Scope, after: str, limit: int) -> list[tuple[str, Entry]]:
    """Return the entries behind a cursor; raises `BadRequest` for one that is none."""
    document, _, chunk = after.rpartition("/")
    if after and not chunk.isdecimal():
        raise BadRequest("This is no cursor of the search index.")
    place = {"document": document, "chunk": int(chunk or -1), "limit": limit}
    return [
        (f"{row[2]}/{row[3]}", Entry(from_row(Row(*row[:5])), vector(row[6]), row[5]))
        for row in connection.execute(PAGE, {**whose(scope), **place})
    ]


def probe(connection: Connection[Any]) -> None:
    connection.execute("SELECT chunk FROM brainstem_passages LIMIT 1")


def read(found: Iterable[Sequence[Any]]) -> list[Row]:
    return [Row(*row) for row in found]


def hit(row: Row, score: float) -> Hit:
    user = None if row.owner == SHARED else decode(row.owner.removeprefix(USER))
    return Hit(decode(row.app), user, from_row(row, score))


def from_row(row: Row, score: float = 0.0) -> Passage:
    stored = json.loads(row.passage)
    return Passage(
        document=decode(row.document),
        chunk=row.chunk,
        title=stored["title"],
        text=stored["text"],
        headings=tuple(stored["headings"]),
        page=stored["page"],
        line=stored["line"],
        shared=row.owner == SHARED,
        score=score,
    )


def to_json(passage: Passage) -> str:
    """Return what columns of text cannot hold as it is, a NUL among the letters say."""
    names = ("title", "text", "headings", "page", "line")
    return json.dumps({name: getattr(passage, name) for name in names})


def literal(vector: Vectors) -> str:
    """Return a vector as PostgreSQL reads it; nine digits hold every float32 exactly."""
    return f"[{','.join(f'{number:.9g}' for number in vector.tolist())}]"


def vector(text: str) -> Vectors:
    import numpy as np

    return np.array(json.loads(text), np.float32)


def indexed(text: str) -> str:
    """Return a text's words alone, as the full-text index reads them."""
    return " ".join(PARTS.findall(spaced(folded(text))))


def folded(text: str) -> str:
    """Return a text without case and, in Latin, Greek and Cyrillic, without accents."""
    apart = unicodedata.normalize("NFD", text.casefold())
    return unicodedata.normalize("NFC", "".join(letter for letter in apart if not "\u0300" <= letter <= "\u036f"))
