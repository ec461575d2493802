"""Word documents: the text of the main part, its tables and its notes, under the headings that its styles make."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import BinaryIO

from lxml import etree

from service.errors import DocumentRejected
from service.ingestion.blocks import Block, Sections, row
from service.ingestion.characters import clean, one_line
from service.ingestion.formats.package import OTHER, Package

BODY_TEXT = 9
"""The outline level that stands for no heading; 0 is the top heading."""


def read(file: BinaryIO) -> list[Block]:
    package = Package(file)
    main = package.main()
    document = package.part(main)
    if document is None or local(document) != "document":
        raise DocumentRejected(OTHER)
    folder = posixpath.dirname(main)
    styles = Styles(package.part(f"{folder}/styles.xml"))
    text = Body(styles).walk(document)
    for notes in ("footnotes", "endnotes"):
        part = package.part(f"{folder}/{notes}.xml")
        text += [] if part is None else Body(styles).walk(part)
    return text


class Styles:
    """What paragraph styles mean: `levels` of headings, and which styles are `lists`; each has it itself or by its ancestors."""

    def __init__(self, root: etree._Element | None) -> None:
        styles = () if root is None else root.iter("{*}style")
        self.by_id = {attribute(style, "styleId"): style for style in styles}
        self.levels: dict[str, int] = {}
        self.lists: set[str] = set()
        for name, style in self.by_id.items():
            line = list(self.ancestry(style))
            level = next((level for s in line if (level := level_of(s)) is not None), None)
            if level is not None:
                self.levels[name] = level
            if any(s.find("{*}pPr/{*}numPr") is not None for s in line):
                self.lists.add(name)

    def ancestry(self, style: etree._Element | None) -> Iterator[etree._Element]:
        for _ in range(20):
            if style is None:
                return
            yield style
            style = self.by_id.get(value(style.find("{*}basedOn")))


class Body:
    """A walk through a part. Paragraphs may lie in one another (text boxes), and so may tables: both are stacks."""

    def __init__(self, styles: Styles) -> None:
        self.styles = styles
        self.sections = Sections()
        self.paragraphs: list[list[str]] = []
        self.tables: list[Table] = []

    def walk(self, root: etree._Element) -> list[Block]:
        walk = etree.iterwalk(root, events=("start", "end"))
        for event, element in walk:
            if event == "start" and unseen(element):
                walk.skip_subtree()
            elif event == "start":
                self.start(local(element), element)
            else:
                self.end(local(element), element)
        return self.sections.close()

    def start(self, tag: str, element: etree._Element) -> None:
        if tag == "p":
            self.paragraphs.append([])
        elif tag == "tbl":
            self.tables.append(Table())
        elif tag == "tr" and self.tables:
            self.tables[-1].row(is_header=element.find("{*}trPr/{*}tblHeader") is not None)
        elif tag == "tc" and self.tables:
            self.tables[-1].cell()
        elif self.paragraphs:
            self.paragraphs[-1].append(inline(tag, element))

    def end(self, tag: str, element: etree._Element) -> None:
        if tag == "p" and self.paragraphs:
            self.paragraph(element, "".join(self.paragraphs.pop()))
        elif tag == "tbl" and self.tables:
            rows = self.tables.pop().rows()
            if self.tables:
                self.tables[-1].text("; ".join(rows))
            else:
                for text in rows:
                    self.sections.add(text, "row")

    def paragraph(self, element: etree._Element, raw: str) -> None:
        text = "\n".join(one_line(line) for line in clean(raw).split("\n")).strip()
        style = value(element.find("{*}pPr/{*}pStyle"))
        level = number(value(element.find("{*}pPr/{*}outlineLvl")))
        level = self.styles.levels.get(style, BODY_TEXT) if level is None else level
        if self.tables:
            self.tables[-1].text(one_line(text))
        elif level < BODY_TEXT:
            self.sections.heading(level, one_line(text))
        elif text and (style in self.styles.lists or element.find("{*}pPr/{*}numPr") is not None):
            self.sections.add(f"- {text}", "item")
        else:
            self.sections.add(text)


class Table:
    def __init__(self) -> None:
        self.cells: list[list[str]] = []
        self.named = False

    def row(self, *, is_header: bool) -> None:
        self.named = self.named or (is_header and not self.cells)
        self.cells.append([])

    def cell(self) -> None:
        if self.cells:
            self.cells[-1].append("")

    def text(self, text: str) -> None:
        if self.cells and self.cells[-1]:
            self.cells[-1][-1] = f"{self.cells[-1][-1]} {text}".strip()

    def rows(self) -> list[str]:
        """Return each row as text; a first row that repeats on every page names the columns of the others instead."""
        named = self.named and len(self.cells) > 1
        header = self.cells[0] if named else ()
        return [row(cells, header) for cells in self.cells[1 if named else 0 :]]


def local(element: etree._Element) -> str:
    """The name without its namespace: the strict and the usual form of the format differ in nothing else."""
    return str(element.tag).rpartition("}")[2]


def value(element: etree._Element | None) -> str:
    return "" if element is None else attribute(element, "val")


def attribute(element: etree._Element, name: str) -> str:
    return next((str(v) for k, v in element.attrib.items() if str(k).endswith("}" + name)), "")


def number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,2}", text) else None


def unseen(element: etree._Element) -> bool:
    """Whether an element is deleted, hidden, or a second form of what stands beside it."""
    tag = local(element)
    if tag == "r":
        vanish = element.find("{*}rPr/{*}vanish")
        return vanish is not None and value(vanish) not in ("0", "false", "off")
    return tag in ("del", "moveFrom", "Fallback", "pPr", "rPr", "sectPr")


def inline(tag: str, element: etree._Element) -> str:
    if tag == "t":
        return element.text or ""
    return {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}.get(tag, "")


def level_of(style: etree._Element) -> int | None:
    """Return the outline level that a style itself has; -1 for a document's title, above the top heading."""
    name = value(style.find("{*}name")).lower()
    if name == "title":
        return -1
    named = re.fullmatch(r"heading (\d)", name)
    return int(named[1]) - 1 if named else number(value(style.find("{*}pPr/{*}outlineLvl")))
