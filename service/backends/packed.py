"""Vectors as bytes, little-endian: 4 for each number."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.backends.interfaces import Vectors


def pack(vectors: Vectors) -> bytes:
    return vectors.astype("<f4").tobytes()


def unpack(content: bytes, rows: int) -> Vectors | None:
    """Return the vectors that `pack` made bytes of; None if these are not so many rows of one length."""
    import numpy as np

    if not content or len(content) % (4 * rows):
        return None
    return np.frombuffer(content, "<f4").astype(np.float32, copy=False).reshape(rows, -1)
