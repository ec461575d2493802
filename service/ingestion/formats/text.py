"""Plain text: paragraphs between blank lines, each with the line where it begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from service.ingestion.blocks import Block
from service.ingestion.characters import clean, decode


def read(file: BinaryIO) -> Iterator[Block]:
    paragraph: list[str] = []
    start = 1
    for number, line in enumerate(clean(decode(file.read())).split("\n"), start=1):
        if line.strip():
            start = start if paragraph else number
            paragraph.append(line.rstrip())
        elif paragraph:
            yield Block("\n".join(paragraph), line=start)
            paragraph = []
    if paragraph:
        yield Block("\n".join(paragraph), line=start)
