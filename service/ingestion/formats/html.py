"""Web pages: what a visitor reads, under its headings; navigation and hidden text are left out."""

from __future__ import annotations

import codecs
import re
from typing import BinaryIO

from lxml import etree

from service.errors import DocumentRejected
from service.ingestion.blocks import Block, Kind, Sections, row
from service.ingestion.characters import clean, decode, decode_as, one_line

DROPPED = re.compile(
    "title|script|style|template|noscript|nav|footer|svg|canvas|iframe|object|embed|audio|video|button|select|textarea|datalist"
)
PARAGRAPH = re.compile(
    "address|article|aside|blockquote|body|caption|center|dd|details|dialog|div|dl|dt|fieldset|figcaption|figure|form|h[1-6]|"
    "header|hr|html|legend|li|main|ol|p|pre|search|section|summary|table|tbody|td|tfoot|th|thead|tr|ul"
)
HEADINGS = {f"h{level}": level for level in range(1, 7)}

HIDDEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|(?:font-size|opacity)\s*:\s*0+(?:\.0*)?(?:px|pt|r?em|%)?\s*(?:;|!|$)",
    re.IGNORECASE,
)
CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)
# Of Python's codecs, those that pages are written in; some of the others are slow or are no character encodings.
CHARSETS = re.compile(
    r"iso8859-\d+|cp\d+|koi8-[ru]|gbk|gb2312|gb18030|big5|big5hkscs|euc_jp|shift_jis|iso2022_jp|euc_kr"
)

TOO_DEEP = "This page is nested too deeply, or one of its parts is too long, to be read safely."


def read(file: BinaryIO) -> list[Block]:
    return blocks(decode_page(file.read()))


def blocks(markup: str, *, lines: bool = False) -> list[Block]:
    """Return the blocks of a page; with `lines`, `data-line` attributes say on which line of a source they begin."""
    parser = etree.HTMLParser(encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True)
    root = etree.fromstring(markup.encode("utf-8", "replace") or b" ", parser)
    # The parser repairs most faults; at its own limits it stops, and what follows would be lost unsaid.
    if fatal := parser.error_log.filter_from_fatals():
        if any(error.type == etree.ErrorTypes.ERR_NO_MEMORY for error in fatal):
            raise MemoryError
        raise DocumentRejected(TOO_DEEP)
    return [] if root is None else Page(lines=lines).walk(root)


class Page:
    """A walk through a page, element by element; text waits in `inline` until its paragraph, item, row or heading ends."""

    def __init__(self, *, lines: bool) -> None:
        self.sections = Sections()
        self.lines = lines
        self.line: int | None = None
        self.begin: int | None = None
        self.inline: list[str] = []
        self.lists: list[int | None] = []
        self.marker = ""
        self.verbatim = 0
        self.table: Table | None = None

    def walk(self, root: etree._Element) -> list[Block]:
        title = one_line(root.findtext("head/title") or "")
        if title and root.find(".//h1") is None:
            self.sections.heading(0, title)
        walk = etree.iterwalk(root, events=("start", "end"))
        skipped: etree._Element | None = None
        for event, element in walk:
            if event == "start" and hidden(element):
                walk.skip_subtree()
                skipped = element
            elif event == "start":
                self.start(element)
                self.text(element.text)
            else:
                if element is not skipped:
                    self.end(element)
                self.text(element.tail)
        self.flush()
        return self.sections.close()

    def start(self, element: etree._Element) -> None:
        tag = str(element.tag)
        if PARAGRAPH.fullmatch(tag):
            self.flush()
        if self.lines and (number := element.get("data-line", "")).isdecimal():
            self.line = int(number[:9])
        if tag == "br":
            self.inline.append("\n")
        elif tag == "pre":
            self.verbatim += 1
        elif tag in ("ul", "ol"):
            self.lists.append(first_number(element) if tag == "ol" else None)
        elif tag == "li":
            self.marker = self.next_marker()
        elif tag == "table" and is_data(element):
            self.table = Table()
        elif self.table:
            self.table.start(tag, self.line)

    def end(self, element: etree._Element) -> None:
        tag = str(element.tag)
        if PARAGRAPH.fullmatch(tag):
            self.flush(heading=HEADINGS.get(tag))
        if tag == "pre":
            self.verbatim -= 1
        elif tag in ("ul", "ol") and self.lists:
            self.lists.pop()
        elif tag == "table" and self.table:
            for line, text in self.table.rows():
                self.sections.add(text, "row", line=line)
            self.table = None

    def text(self, text: str | None) -> None:
        if not text:
            return
        if not any(part.strip() for part in self.inline):
            self.begin = self.line
        self.inline.append(text if self.verbatim else re.sub(r"\s+", " ", text))

    def flush(self, heading: int | None = None) -> None:
        """End what was collected: as a heading of a level, part of a cell, a listing, an item or a paragraph."""
        text = "".join(self.inline)
        self.inline.clear()
        if self.table and self.table.open:
            self.table.cell(one_line(text))
        elif heading:
            self.sections.heading(heading, one_line(text).rstrip("¶#").strip(), line=self.begin)
        elif self.verbatim:
            self.add(clean(text).strip("\n").rstrip(), "code")
        else:
            self.add("\n".join(one_line(line) for line in text.split("\n")).strip(), "paragraph")

    def add(self, text: str, kind: Kind) -> None:
        if text and self.marker:
            text, kind, self.marker = self.marker + text, "item", ""
        self.sections.add(text, kind, line=self.begin)

    def next_marker(self) -> str:
        indent = "  " * max(0, len(self.lists) - 1)
        number = self.lists[-1] if self.lists else None
        if number is None:
            return f"{indent}- "
        self.lists[-1] = number + 1
        return f"{indent}{number}. "


class Table:
    """A table that holds data: its cells, row by row."""

    def __init__(self) -> None:
        self.cells: list[list[str]] = []
        self.begins: list[int | None] = []
        self.headers: set[int] = set()
        self.open = False

    def start(self, tag: str, line: int | None) -> None:
        if tag == "tr":
            self.cells.append([])
            self.begins.append(line)
            self.open = False
        elif tag in ("td", "th") and self.cells:
            if not self.cells[-1] and tag == "th":
                self.headers.add(len(self.cells) - 1)
            if tag == "td":
                self.headers.discard(len(self.cells) - 1)
            self.cells[-1].append("")
            self.open = True
        elif tag == "caption":
            self.open = False

    def cell(self, text: str) -> None:
        self.cells[-1][-1] = f"{self.cells[-1][-1]} {text}".strip()

    def rows(self) -> list[tuple[int | None, str]]:
        """Return each row as text; a first row that is all headers names the columns of the others instead."""
        named = len(self.cells) > 1 and 0 in self.headers and len(self.cells[0]) > 1
        header = self.cells[0] if named else ()
        body = list(zip(self.begins, self.cells, strict=True))[1 if named else 0 :]
        return [(line, row(cells, header)) for line, cells in body]


def hidden(element: etree._Element) -> bool:
    """Whether a visitor does not see an element, or sees it on every page of the site."""
    return (
        DROPPED.fullmatch(str(element.tag)) is not None
        or element.get("hidden") is not None
        or element.get("role") == "navigation"
        or HIDDEN.search(element.get("style", "")) is not None
    )


def is_data(table: etree._Element) -> bool:
    """Whether a table is there for its rows; one with headings, listings or tables inside only lays out the page."""
    return not any(table.find(f".//{tag}") is not None for tag in ("table", "pre", *HEADINGS))


def first_number(element: etree._Element) -> int:
    start = element.get("start", "")
    return int(start) if start.isdecimal() and len(start) < 7 else 1


def decode_page(data: bytes) -> str:
    """Return the text of a page, by its byte order mark or the character set that it names itself, else as any text."""
    named = CHARSET.search(data[:2048])
    if named and not data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        try:
            name = codecs.lookup(named[1].decode()).name
        except LookupError:
            return decode(data)
        if CHARSETS.fullmatch(name):
            return decode_as(data, "cp1252" if name == "iso8859-1" else name)
    return decode(data)
