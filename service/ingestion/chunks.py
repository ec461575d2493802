"""Chunks: blocks packed into pieces that a search can find and a person can check."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter

from service.errors import DocumentRejected
from service.ingestion.blocks import Block
from service.ingestion.pieces import LINES, PROSE, cut, sentences
from service.models import Chunk
from service.tokenizer import count_tokens

# A word may have this many tokens more than its two parts when they are counted apart.
SEAM = 5

# White space is no token, and a stored document has an end.
GAP = re.compile(r"(\s{80})\s+")


@dataclass(frozen=True, slots=True)
class Piece:
    """A block, or a part of one that is too long; `glue` stands before it if another piece goes before it in its chunk."""

    text: str
    tokens: int
    glue: str
    block: Block
    line: int | None


def chunk(
    blocks: Iterable[Block], *, target: int = 200, maximum: int = 240, overlap: int = 30, limit: int = 5000
) -> list[Chunk]:
    """Pack the blocks, in their order, into chunks of about `target` and at most `maximum` estimated tokens, headings included.

    A chunk stays within one section. A block is cut only if it is longer than a chunk: between sentences (a listing or table:
    between lines), else between words. Prose that goes on in the next chunk of a page repeats its last whole sentences there, up
    to `overlap` tokens. `page` and `line` say where a chunk's text begins, what it repeats left aside. No gap in it is wider than
    80 characters, so that a chunk takes 41 KB as JSON at most. Raises `DocumentRejected` beyond `limit` chunks.
    """
    chunks: list[Chunk] = []
    for headings, section in groupby(blocks, key=attrgetter("headings")):
        # What is embedded is the headings with the text; they may take a third of the room.
        taken = min(count_tokens(" ".join(headings)), maximum // 3)
        packer = Packer(max(1, target - taken), max(1, maximum - taken), overlap)
        for pieces, repeated in packer.pack(section):
            if len(chunks) == limit:
                raise DocumentRejected(
                    f"This document gives more than {limit:,} passages. Split it into smaller files."
                )
            chunks.append(join(len(chunks), headings, pieces, repeated))
    return chunks


def embedding_text(title: str, chunk: Chunk) -> str:
    """Return what the embedder and the word index see of a chunk: title and headings, then the text."""
    above = [title, *chunk.headings] if chunk.headings[:1] != (title,) else chunk.headings
    return "\n".join([" > ".join(part for part in above if part), chunk.text])


def join(n: int, headings: tuple[str, ...], pieces: Sequence[Piece], repeated: int) -> Chunk:
    text = pieces[0].text + "".join(piece.glue + piece.text for piece in pieces[1:])
    text = GAP.sub(r"\1", text.rstrip())
    own = pieces[repeated]
    return Chunk(n=n, text=text, headings=headings, page=own.block.page, line=own.line, tokens=count_tokens(text))


@dataclass(frozen=True, slots=True)
class Packer:
    target: int
    maximum: int
    overlap: int

    def pack(self, section: Iterable[Block]) -> Iterator[tuple[list[Piece], int]]:
        """Yield the pieces of each chunk, and how many of the first ones it repeats from the chunk before."""
        pieces: list[Piece] = []
        repeated = 0
        for piece in self.cut(section):
            if len(pieces) > repeated and self.is_full(pieces, piece):
                yield pieces, repeated
                pieces = self.repeat(pieces[repeated:], piece)
                repeated = len(pieces)
            pieces.append(piece)
        if pieces:
            yield pieces, repeated

    def cut(self, section: Iterable[Block]) -> Iterator[Piece]:
        last: Block | None = None
        for block in section:
            glue = "\n" if last and block.kind == last.kind and block.kind in ("row", "item") else "\n\n"
            ends = PROSE if block.kind in ("paragraph", "heading", "item") else LINES
            line, before = block.line, ""
            for separator, text in cut(block.text, self.maximum, ends):
                line = below(line, separator)
                if before:
                    glue = "\n" if "\n" in separator else " " if separator else ""
                seam = SEAM if not glue and before[-1].isalnum() and text[0].isalnum() else 0
                yield Piece(text, count_tokens(text) + seam, glue, block, line)
                line, before = below(line, text), text
            last = block

    def is_full(self, pieces: Sequence[Piece], following: Piece) -> bool:
        size = sum(piece.tokens for piece in pieces)
        if pieces[-1].block.page != following.block.page and size >= self.target // 4:
            return True
        # Rather somewhat too long than less than half full.
        room = self.maximum if size < self.target // 2 else self.target
        return size + following.tokens > room

    def repeat(self, pieces: Sequence[Piece], following: Piece) -> list[Piece]:
        """Return the last whole sentences of a chunk's prose, if they fit before the piece that follows on the same page."""
        room = min(self.overlap, self.maximum - following.tokens)
        found: list[Piece] = []
        for piece in reversed(pieces):
            if piece.block.kind != "paragraph" or piece.block.page != following.block.page:
                break
            for sentence in reversed(sentences(piece.text)):
                tokens = count_tokens(sentence)
                if tokens > room or not (found or is_sentence(sentence)):
                    return found
                room -= tokens
                found.insert(0, replace(piece, text=sentence, tokens=tokens, glue=" "))
        # Everything would be the whole chunk again.
        return []


def below(line: int | None, text: str) -> int | None:
    """Return the line that a text's end is on, if its beginning is on `line`."""
    return None if line is None else line + text.count("\n")


def is_sentence(text: str) -> bool:
    return re.search(r"[.!?…。！？｡][\"'”’)\]»」』）]*$", text) is not None
