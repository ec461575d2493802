"""Tables as text: each row becomes a line of `column: value` pairs, so that it can be understood and found by itself."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

from service.errors import DocumentRejected
from service.ingestion.blocks import Block, row
from service.ingestion.characters import clean, decode, one_line

DELIMITERS = (",", ";", "\t", "|")
MOST_COLUMNS = 2_000
LONGEST_CELL = 100_000
SAMPLE = 64 * 1024


def read(file: BinaryIO) -> Iterator[Block]:
    text = clean(decode(file.read()))
    csv.field_size_limit(LONGEST_CELL)
    table = rows(text, delimiter(text[:SAMPLE]))
    start, first = next(table, (1, []))
    header = names(first)
    # A header is told with every row; it is a row itself only if it holds values, or if nothing follows.
    is_row = header != first
    if is_row:
        yield Block(row(first, header), line=start, kind="row")
    for line, cells in table:
        is_row = True
        yield Block(row(cells, header), line=line, kind="row")
    if first and not is_row:
        yield Block(row(first), line=start, kind="row")


def rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank, with the line where it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    line = 1
    try:
        for cells in reader:
            if len(cells) > MOST_COLUMNS:
                raise DocumentRejected(f"This table has more than {MOST_COLUMNS:,} columns.")
            cleaned = [one_line(cell) for cell in cells]
            if any(cleaned):
                yield line, cleaned
            line = reader.line_num + 1
    except csv.Error:
        problem = f"This table has a cell of more than {LONGEST_CELL:,} characters"
        raise DocumentRejected(f"{problem}; a quotation mark may be missing near line {line}.") from None


def delimiter(sample: str) -> str:
    """Return the delimiter that cuts the sample's rows into the same number of cells most often, and into most cells."""

    def fitness(candidate: str) -> tuple[int, int]:
        widths = [len(cells) for cells in csv.reader(sample.split("\n")[:50], delimiter=candidate) if cells]
        width = widths[0] if widths else 0
        return (widths.count(width) if width > 1 else 0, width)

    return max(DELIMITERS, key=fitness)


def names(cells: list[str]) -> list[str]:
    """Return the column names: the first row if it reads like a header, else `column 1`, `column 2` …"""
    if any(is_number(cell) for cell in cells):
        return [f"column {n}" for n in range(1, len(cells) + 1)]
    return cells


def is_number(cell: str) -> bool:
    return any(c.isdigit() for c in cell) and not any(c.isalpha() for c in cell)
