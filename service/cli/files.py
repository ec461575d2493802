"""Which files a person means by paths, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Named:
    """A file to add; or, with `problem`, a name that means none."""

    path: Path
    problem: str | None = None


def find(names: Sequence[str], extensions: Sequence[str]) -> Iterator[Named]:
    """Yield the files that are meant, each once. In folders, those with one of the extensions; hidden ones are passed over."""
    seen: set[Path] = set()
    for name in names:
        for named in expand(name, extensions):
            place = named.path.resolve()
            if place not in seen:
                seen.add(place)
                yield named


def expand(name: str, extensions: Sequence[str]) -> Iterator[Named]:
    path = Path(name).expanduser()
    if path.is_file():
        yield Named(path)
    elif path.is_dir():
        files = list(walk(path, extensions))
        yield from files or [Named(path, "There is no file in this folder that Brainstem reads.")]
    elif path.exists():
        yield Named(path, "This is neither a file nor a folder.")
    else:
        found = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
        files = [named for match in found for named in ([Named(match)] if match.is_file() else walk(match, extensions))]
        yield from files or [Named(path, "There is no such file.")]


def walk(folder: Path, extensions: Sequence[str]) -> Iterator[Named]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(place, name)
            if not name.startswith(".") and path.suffix.lower() in extensions and path.is_file():
                yield Named(path)
