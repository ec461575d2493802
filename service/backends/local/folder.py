"""The data folder: private to its owner, with keys in it that are made on first use."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from service.errors import Unavailable


def private_folder(data_dir: Path, *parts: str) -> Path:
    """Return a folder below the data folder; what is missing is made, and nobody else may look into a new data folder."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = data_dir.joinpath(*parts)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def key(data_dir: Path, name: str, make: Callable[[], bytes]) -> bytes:
    """Return the key `keys/<name>`, made on first use; of processes that race, all get the same one."""
    with available("The key folder"):
        path = private_folder(data_dir, "keys") / name
        if not path.exists():
            publish(path, make())
        return path.read_bytes()


def publish(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, unless another process was faster. Nobody ever sees a part of it."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".draft-")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)


@contextmanager
def available(what: str) -> Iterator[None]:
    """Turn an error of the operating system (disk full, no permission …) into `Unavailable`, without any path in its text."""
    try:
        yield
    except OSError as exc:
        raise Unavailable(f"{what} cannot be used: {exc.strerror or 'input or output failed'}.") from exc
