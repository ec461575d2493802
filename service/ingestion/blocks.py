"""Blocks: what every reader makes of a file, whatever its format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["paragraph", "heading", "item", "row", "code"]

LONGEST_HEADING = 200
DEEPEST_HEADING = 6


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of text that belongs together: a paragraph, a list item, a table row, a code listing.

    `headings` runs from the top down and does not repeat the text; `page` counts from 1 (PDF) and `line` from 1 (text, Markdown,
    CSV), both where the block begins. A block of kind `heading` is a heading with nothing below it.
    """

    text: str
    headings: tuple[str, ...] = ()
    page: int | None = None
    line: int | None = None
    kind: Kind = "paragraph"


@dataclass(slots=True)
class Heading:
    level: int
    block: Block
    used: bool = False


@dataclass(slots=True)
class Sections:
    """Collects blocks under the headings that are open when they come."""

    blocks: list[Block] = field(default_factory=list)
    path: list[Heading] = field(default_factory=list)

    def heading(self, level: int, text: str, *, page: int | None = None, line: int | None = None) -> None:
        """Open a section; what is longer than a heading should be is kept as a paragraph."""
        self.close(level)
        if len(text) > LONGEST_HEADING or len(self.path) == DEEPEST_HEADING:
            self.add(text, page=page, line=line)
        elif text:
            self.path.append(Heading(level, Block(text, self.titles(), page, line, "heading")))

    def add(self, text: str, kind: Kind = "paragraph", *, page: int | None = None, line: int | None = None) -> None:
        if not text:
            return
        for heading in self.path:
            heading.used = True
        self.blocks.append(Block(text, self.titles(), page, line, kind))

    def close(self, level: int = -1) -> list[Block]:
        """End all sections of `level` and below, and return the blocks so far; a heading without text becomes a block itself."""
        while self.path and self.path[-1].level >= level:
            last = self.path.pop()
            if not last.used:
                self.blocks.append(last.block)
                for heading in self.path:
                    heading.used = True
        return self.blocks

    def titles(self) -> tuple[str, ...]:
        return tuple(heading.block.text for heading in self.path)


def row(cells: Sequence[str], header: Sequence[str] = ()) -> str:
    """Return a table row as a line: `column: value; column: value` under a header that fits it, else `value | value`."""
    if len(header) == len(cells):
        return "; ".join(f"{name}: {cell}" if name else cell for name, cell in zip(header, cells, strict=True) if cell)
    return " | ".join(cell for cell in cells if cell)
