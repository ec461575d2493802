"""PDF: the text layer, page by page, as paragraphs under the headings of the outline."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import BinaryIO

import pypdf
from pypdf.errors import DependencyError, FileNotDecryptedError, PyPdfError
from pypdf.generic import Destination

from service.errors import DocumentRejected
from service.ingestion.blocks import DEEPEST_HEADING, Block, Sections
from service.ingestion.characters import clean, one_line
from service.ingestion.formats.lines import is_item, paragraphs, without_furniture, words_of
from service.ingestion.formats.spaces import add_space_glyphs

PROTECTED = "This PDF is protected by a password. Save a copy without one and upload that."
SCANNED = (
    "This PDF has no text layer: its pages seem to be pictures, as a scanner makes them. "
    "Run it through text recognition (OCR) first."
)
DAMAGED = "This PDF is damaged and cannot be read."

# What a damaged PDF makes the parser raise, beside its own errors.
ERRORS = (PyPdfError, AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError, ZeroDivisionError)

LONGEST_CARRY = 400
NUMBERING = re.compile(
    r"^(?:chapter|appendix|part|section)?\s*(?:\d+(?:\.\d+)*|[ivxlc]+|[a-z])[.):]?\s+", re.IGNORECASE
)
OPEN_END = re.compile(r"[\w,–-]$")
SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]»]*\s+")

Heading = tuple[int, str]


def read(file: BinaryIO) -> list[Block]:
    # The parser logs every oddity that it gets over.
    logging.disable(logging.CRITICAL)
    reader = open_pdf(file)
    pages = [lines_of(page, number) for number, page in enumerate(pages_of(reader), start=1)]
    if not any(pages):
        raise DocumentRejected(SCANNED)
    outline = outline_of(reader)
    words = words_of(pages)
    sections = Sections()
    for number, lines in enumerate(without_furniture(pages), start=1):
        for part, headings in split_at(lines, outline.get(number, [])):
            for level, title in headings:
                sections.heading(level, title, page=number)
            for text in paragraphs(part, words):
                sections.add(text, "item" if is_item(text) else "paragraph", page=number)
    return list(carry_sentences(sections.close()))


def open_pdf(file: BinaryIO) -> pypdf.PdfReader:
    try:
        reader = pypdf.PdfReader(file)
        # Many PDFs are encrypted with an empty password, only to forbid printing.
        if reader.is_encrypted and not reader.decrypt(""):
            raise DocumentRejected(PROTECTED)
    except (FileNotDecryptedError, DependencyError, NotImplementedError):
        raise DocumentRejected(PROTECTED) from None
    except ERRORS:
        raise DocumentRejected(DAMAGED) from None
    return reader


def pages_of(reader: pypdf.PdfReader) -> Sequence[pypdf.PageObject]:
    try:
        pages = list(reader.pages)
    except ERRORS:
        raise DocumentRejected(DAMAGED) from None
    if not pages:
        raise DocumentRejected(DAMAGED)
    return pages


def lines_of(page: pypdf.PageObject, number: int) -> list[str]:
    with suppress(*ERRORS):
        add_space_glyphs(page)
    try:
        text = page.extract_text(space_width=250)
    except ERRORS:
        raise DocumentRejected(f"Page {number} of this PDF is damaged and cannot be read.") from None
    return [line for line in map(one_line, clean(text).split("\n")) if line]


def outline_of(reader: pypdf.PdfReader) -> dict[int, list[Heading]]:
    """Return the bookmarks by page number, each with its level; a damaged outline is none."""
    found: dict[int, list[Heading]] = {}

    def collect(entries: Sequence[object], level: int) -> None:
        for entry in entries:
            if isinstance(entry, list):
                collect(entry, level + 1)
            elif isinstance(entry, Destination) and level < DEEPEST_HEADING:
                page = reader.get_destination_page_number(entry)
                title = one_line(entry.title or "")
                if page is not None and title:
                    found.setdefault(page + 1, []).append((level, title))

    try:
        collect(reader.outline, 0)
    except (*ERRORS, RecursionError):
        return {}
    return found


def split_at(lines: list[str], headings: list[Heading]) -> Iterator[tuple[list[str], list[Heading]]]:
    """Yield the parts of a page, each with the headings that open it.

    A heading opens where its words stand on lines of their own, which are left out; else where the one before it opens.
    """
    opening: list[Heading] = []
    start = 0
    for heading in headings:
        found = find_title(lines, start, heading[1])
        if found:
            if found[0] > start or opening:
                yield lines[start : found[0]], opening
                opening = []
            start = found[1]
        opening.append(heading)
    yield lines[start:], opening


def find_title(lines: list[str], start: int, title: str) -> tuple[int, int] | None:
    """Return the range of one to three lines that read like a title, whatever their numbering, spaces and capitals."""
    wanted = letters(title)
    for first in range(start, len(lines)):
        for last in range(first + 1, min(first + 4, len(lines) + 1)):
            if letters(" ".join(lines[first:last])) == wanted:
                return first, last
    return None


def letters(title: str) -> str:
    return re.sub(r"[\W_]+", "", NUMBERING.sub("", title) or title).casefold()


def carry_sentences(blocks: list[Block]) -> Iterator[Block]:
    """Yield the blocks with each sentence that runs over the end of a page whole on the page where it begins."""
    last: Block | None = None
    for block in blocks:
        if last is not None:
            tail, block = carried(last, block)
            yield tail
        last = block
    if last is not None:
        yield last


def carried(last: Block, block: Block) -> tuple[Block, Block]:
    follows = block.page == (last.page or 0) + 1 and block.headings == last.headings
    if not (follows and OPEN_END.search(last.text) and block.text[:1].islower()):
        return last, block
    end = SENTENCE_END.search(block.text)
    cut = end.end() if end else len(block.text)
    if cut == len(block.text) or cut > LONGEST_CARRY:
        return last, block
    whole = re.sub(r"(?<=\w)-$", "", last.text)
    text = whole + ("" if whole != last.text else " ") + block.text[:cut].rstrip()
    return (
        Block(text, last.headings, last.page, last.line, last.kind),
        Block(block.text[cut:], block.headings, block.page, block.line, block.kind),
    )
