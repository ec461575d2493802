"""Chunks as they are stored: in groups of consecutive ones, for a store takes its time and its price for each document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from service.backends.interfaces import DocumentStore, Path, Set
from service.models import Chunk, Scope
from service.records import to_text

GROUP = 8
"""Chunks of one stored document. Six passages with a neighbour on each side lie in 7.5 of them on average, in 9 if they held four
chunks and in 6.75 if they held 16; that takes Firestore's adapter as long as this, and SQLite's half as long again."""

decode = msgspec.json.Decoder(list[Chunk]).decode


def group_paths(document: Path, numbers: Iterable[int]) -> list[Path]:
    """Return where the chunks of a document with these numbers are stored, each place once."""
    return [(*document, "chunks", str(group)) for group in dict.fromkeys(n // GROUP for n in numbers)]


def group_writes(document: Path, chunks: Sequence[Chunk]) -> list[Set]:
    """Return the writes that store all chunks of a document, which are numbered from 0: about 10 KB each, at most 330 KB."""
    groups = [chunks[start : start + GROUP] for start in range(0, len(chunks), GROUP)]
    paths = group_paths(document, range(len(chunks)))
    return [
        Set(path, {"n": n, "chunks": to_text(group)}) for n, (path, group) in enumerate(zip(paths, groups, strict=True))
    ]


def read_chunks(store: DocumentStore, scope: Scope, groups: Sequence[Path]) -> dict[tuple[str, int], Chunk]:
    """Return all chunks that are stored at some of `group_paths`, by document and number, in one round trip."""
    found = store.get(scope, *groups) if groups else ()
    return {(group.path[-3], chunk.n): chunk for group in found if group for chunk in decode(str(group.data["chunks"]))}
