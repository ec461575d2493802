"""A value and its schema become blocks, which each kind of file then draws: what is a heading, a table, a list, and in which order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from service.json_schema import referenced
from service.models import JSON
from service.reports.words import MAX_LABEL, as_words, clipped, in_short, shown, spoken

MAX_LEVEL = 5
"""Of a heading; what is nested deeper is told in a line."""

MAX_REFERENCES = 20
"""Of one schema that lead on to another."""

MAX_COLUMNS = 6
MAX_CELL = 400
"""Characters that a table's cell may have; an array with more, or with more columns, is one record after another."""

MAX_FACT = 60
MAX_FACT_NOTE = 160
NOTHING = "–"

Kind = Literal["text", "number", "badge"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A value on its own: a `badge` is one of the words that an enum lists."""

    text: str
    kind: Kind = "text"


@dataclass(frozen=True, slots=True)
class Heading:
    """`level` is 2 for the first below the title; `note` is the sentence below, or empty."""

    level: int
    text: str
    note: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A short value with its own small heading."""

    label: str
    note: str
    cell: Cell


@dataclass(frozen=True, slots=True)
class Facts:
    """Short values that follow each other, which are shown side by side; `level` is what their headings would have."""

    level: int
    facts: list[Fact]


@dataclass(frozen=True, slots=True)
class Text:
    cell: Cell


@dataclass(frozen=True, slots=True)
class Items:
    cells: list[Cell]


@dataclass(frozen=True, slots=True)
class Table:
    columns: list[str]
    rows: list[list[Cell]]

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers alone; the first says what a row is about, whatever it holds."""
        return [
            column > 0 and all(cell.kind == "number" or cell.text == NOTHING for cell in cells)
            for column, cells in enumerate(zip(*self.rows, strict=True))
        ]


@dataclass(frozen=True, slots=True)
class Records:
    """Objects that are too large for a table: each is its labels and values."""

    records: list[list[tuple[str, Cell]]]


Block = Heading | Facts | Text | Items | Table | Records
Schema = Mapping[str, Any]


def layout(value: JSON, root: Schema) -> list[Block]:
    """Lay a value out; one that its schema does not describe is laid out by what it is."""
    return list(gathered(Layout(root).body(value, root, 2)))


class Layout:
    """Walks through a value beside its schema."""

    def __init__(self, root: Schema) -> None:
        self._root = root

    def body(self, value: JSON, schema: Schema, level: int) -> Iterator[Block]:
        """Lay out what stands below a heading. Nothing here is deeper than `MAX_LEVEL`, whatever the value."""
        schema = self.meant(schema, value)
        if isinstance(value, dict) and value and level <= MAX_LEVEL:
            for name, part in self.members(schema, [value]):
                if name in value:
                    yield from self.section(name, value[name], part, level)
        elif isinstance(value, list) and value and all(isinstance(item, dict) and item for item in value):
            yield self.rows([item for item in value if isinstance(item, dict)], self.items(schema))
        elif isinstance(value, list) and value:
            yield Items([self.cell(item, self.items(schema)) for item in value])
        else:
            yield Text(self.cell(value, schema))

    def section(self, name: str, value: JSON, schema: Schema, level: int) -> Iterator[Block]:
        schema = self.meant(schema, value)
        label, note = self.label(name, schema), shown(text(schema, "description"))
        cell = self.cell(value, schema)
        if not isinstance(value, dict | list) and max(len(cell.text), len(label)) <= MAX_FACT and "\n" not in cell.text:
            yield Facts(level, [Fact(label, note, cell)])
            return
        yield Heading(level, label, note)
        yield from self.body(value, schema, level + 1)

    def rows(self, objects: Sequence[Mapping[str, JSON]], schema: Schema) -> Table | Records:
        """Lay out an array of objects: a table where all of it fits into one."""
        schema = self.meant(schema, None)
        columns = list(self.members(schema, objects))
        names = [name for name, _ in columns]
        labels = [self.label(name, self.meant(part, None)) for name, part in columns]
        lines = [[self.cell(each.get(name), part) for name, part in columns] for each in objects]
        if len(columns) <= MAX_COLUMNS and all(len(cell.text) <= MAX_CELL for line in lines for cell in line):
            return Table(labels, lines)
        return Records(
            [
                [(label, cell) for name, label, cell in zip(names, labels, line, strict=True) if name in each]
                for each, line in zip(objects, lines, strict=True)
            ]
        )

    def cell(self, value: JSON, schema: Schema) -> Cell:
        schema = self.meant(schema, value)
        if isinstance(value, str):
            # A word of a list of words; a long one would make no badge.
            is_badge = bool(schema.get("enum")) and 0 < len(value) <= MAX_FACT
            return Cell(shown(value) or NOTHING, "badge" if is_badge else "text")
        if isinstance(value, bool) or value is None:
            return Cell(spoken(value))
        if isinstance(value, int | float):
            return Cell(spoken(value), "number")
        return Cell(in_short(value) or NOTHING)

    def members(self, schema: Schema, objects: Sequence[Mapping[str, JSON]]) -> Iterator[tuple[str, Schema]]:
        """The properties that objects have, with their schemas: in the schema's order, then those it does not name."""
        properties = mapping(schema.get("properties"))
        there = dict.fromkeys(name for each in objects for name in each)
        yield from ((name, mapping(part)) for name, part in properties.items() if name in there)
        yield from ((name, {}) for name in there if name not in properties)

    def label(self, name: str, schema: Schema) -> str:
        return clipped(shown(text(schema, "title")).replace("\n", " ") or as_words(shown(name)), MAX_LABEL) or NOTHING

    def items(self, schema: Schema) -> Schema:
        return mapping(schema.get("items"))

    def meant(self, schema: Schema, value: JSON, depth: int = 0) -> Schema:
        """Return a schema with what its `$ref` leads to, and what its alternatives say of a value like this one."""
        if depth > MAX_REFERENCES or not COMBINING & schema.keys():
            return schema
        found: list[Schema] = []
        if isinstance(name := schema.get("$ref"), str):
            found.append(mapping(referenced(self._root, name)))
        found += schemas(schema.get("allOf"))
        alternatives = schemas(schema.get("anyOf")) + schemas(schema.get("oneOf"))
        found += [each for each in alternatives if fits(self.meant(each, value, depth + 1), value)][:1]
        meant: Schema = {}
        for each in (*found, {key: part for key, part in schema.items() if key not in COMBINING}):
            meant = united(meant, self.meant(each, value, depth + 1))
        return meant


COMBINING = frozenset({"$ref", "anyOf", "oneOf", "allOf"})


def fits(schema: Schema, value: JSON) -> bool:
    """Tell whether a schema is of a value's type; a value that is not known is an object's, for tables ask with none."""
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if isinstance(value, str):
        return "string" in kinds or value in (schema.get("enum") or ())
    return ("array" if isinstance(value, list) else "object") in kinds


def united(first: Schema, second: Schema) -> Schema:
    """Return what both schemas say, and where they differ what the second says."""
    properties = {**mapping(first.get("properties")), **mapping(second.get("properties"))}
    return {**first, **second, **({"properties": properties} if properties else {})}


def schemas(value: object) -> list[Schema]:
    return [mapping(each) for each in value] if isinstance(value, list) else []


def mapping(value: object) -> Schema:
    return value if isinstance(value, Mapping) else {}


def text(schema: Schema, keyword: str) -> str:
    found = schema.get(keyword)
    return found if isinstance(found, str) else ""


def gathered(blocks: Iterator[Block]) -> Iterator[Block]:
    """Put short values that follow each other side by side; one alone, or one with a long note, is a heading and a text."""
    run = Facts(0, [])
    for block in blocks:
        if isinstance(block, Facts) and block.level == run.level:
            run.facts.extend(block.facts)
            continue
        yield from spread(run)
        run = block if isinstance(block, Facts) else Facts(0, [])
        if run is not block:
            yield block
    yield from spread(run)


def spread(run: Facts) -> Iterator[Block]:
    if len(run.facts) > 1 and all(len(fact.note) <= MAX_FACT_NOTE for fact in run.facts):
        yield run
        return
    for fact in run.facts:
        yield Heading(run.level, fact.label, fact.note)
        yield Text(fact.cell)


def paragraphs(written: str) -> list[str]:
    """The paragraphs of a text: what an empty line or the end of a line parts."""
    return [line.strip() for line in re.split(r"\n+", written) if line.strip()] or [NOTHING]
