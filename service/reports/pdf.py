"""A report as a PDF on A4 paper, with page numbers. The only module that draws with ReportLab, imported when the first PDF is made."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from reportlab.lib.colors import Color, HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    HRFlowable,
    KeepTogether,
    LongTable,
    PageTemplate,
    Paragraph,
    Spacer,
)
from reportlab.platypus import Table as Grid
from reportlab.platypus.doctemplate import LayoutError

from service.errors import ReportTooLong
from service.reports.fonts import BOLD, REGULAR, Letters, letters
from service.reports.layout import MAX_CELL, Block, Cell, Fact, Facts, Heading, Items, Records, Table, Text, paragraphs
from service.reports.report import Report, SourceLine, is_link
from service.reports.words import clipped, shown

MAX_PAGES = 200
MAX_PARAGRAPH = 1_200
"""Characters: ReportLab takes quadratic time over longer ones."""

MAX_ROWS = 100
"""Of one table that is drawn at once, for the same reason; the next goes on below it."""

KEPT_ROWS = 8
"""A table of no more is not parted, if a page can hold it."""

BEGINNING = 40 * mm
"""What a heading needs below it on its page."""

FACTS_A_ROW = 3
MARGIN = 20 * mm
WIDTH = A4[0] - 2 * MARGIN

INK, SOFT, LINE = HexColor("#22211e"), HexColor("#625e55"), HexColor("#e5e1d8")
ACCENT, TINT = HexColor("#0f6b5c"), HexColor("#e3f0ed")
PAPER = HexColor("#fbfaf7")

LOCK = threading.Lock()
"""ReportLab's fonts and settings are the process's."""


def style(size: float, color: Color = INK, font: str = REGULAR, **more: Any) -> ParagraphStyle:
    return ParagraphStyle("", fontName=font, fontSize=size, leading=size * 1.4, textColor=color, **more)


TITLE = style(24, font=BOLD)
SUBTITLE = style(12.5, SOFT, spaceBefore=3)
CREATED = style(9, SOFT, spaceBefore=5)
HEADINGS = {
    2: style(14.5, font=BOLD, spaceBefore=20),
    3: style(12, font=BOLD, spaceBefore=13),
    4: style(10.5, font=BOLD, spaceBefore=10),
    5: style(10.5, SOFT, BOLD, spaceBefore=10),
}
NOTE = style(9.3, SOFT, spaceBefore=1)
BODY = style(10.3, spaceBefore=5)
GOING_ON = style(10.3)
ITEM = style(10.3, spaceBefore=4, leftIndent=12, bulletIndent=1, bulletColor=ACCENT, bulletFontName=REGULAR)
LABEL = style(8.6, SOFT, BOLD, spaceBefore=2)
CELL = style(9.2)
HEAD = style(8.4, SOFT, BOLD)
CELL_END = style(9.2, alignment=TA_RIGHT)
HEAD_END = style(8.4, SOFT, BOLD, alignment=TA_RIGHT)
FACT_LABEL = style(8.4, SOFT, BOLD)
FACT = style(12.5, font=BOLD, spaceBefore=1)
FACT_NOTE = style(8, SOFT)
SOURCE = style(9.5, spaceBefore=5, leftIndent=18, bulletIndent=1, bulletFontName=REGULAR, bulletFontSize=9.5)
PLACE = style(8.6, SOFT, leftIndent=18)


def pdf(report: Report, blocks: Sequence[Block]) -> bytes:
    """Write a report as a PDF; raises `ReportTooLong` for more than `MAX_PAGES` pages."""
    with LOCK:
        letters()
        out = io.BytesIO()
        document = BaseDocTemplate(
            out,
            pagesize=A4,
            invariant=True,
            title=clipped(shown(report.title), 200),
            subject=clipped(shown(report.subtitle), 200),
            creator="Brainstem",
        )
        frame = Frame(MARGIN, MARGIN, WIDTH, A4[1] - 2 * MARGIN, 0, 0, 0, 0)
        document.addPageTemplates([PageTemplate(frames=[frame])])
        drawing = Drawing(report)
        foot = drawing.fit.fitted(clipped(" ".join(shown(report.title).split()), 80))
        try:
            document.build([*drawing.flowables(blocks)], canvasmaker=partial(Pages, foot))
        except LayoutError:
            raise ReportTooLong("A part of the report does not fit onto a page of the PDF.") from None
        return out.getvalue()


class Pages(Canvas):
    """Keeps the pages until all are there, for each says how many there are."""

    def __init__(self, foot: str, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._foot = foot
        self._pages: list[dict[str, Any]] = []

    def showPage(self) -> None:  # noqa: N802  # ReportLab's name
        if len(self._pages) == MAX_PAGES:
            raise ReportTooLong(f"The PDF would have more than {MAX_PAGES} pages.")
        self._pages.append(dict(self.__dict__))
        self._startPage()  # type: ignore[attr-defined]  # what `showPage` does besides writing the page

    def save(self) -> None:
        for number, page in enumerate(self._pages, 1):
            self.__dict__.update(page)
            self.setFont(REGULAR, 8.5)
            self.setFillColor(SOFT)
            self.drawString(MARGIN, 11 * mm, self._foot)
            self.drawRightString(A4[0] - MARGIN, 11 * mm, f"Page {number} of {len(self._pages)}")
            super().showPage()
        super().save()


class Drawing:
    """Draws the blocks of one report."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.fit = Letters()

    def flowables(self, blocks: Sequence[Block]) -> Iterator[Flowable]:
        report = self._report
        yield HRFlowable(WIDTH, 3, color=ACCENT, spaceBefore=0, spaceAfter=10)
        yield from self._paragraphs(shown(report.title), TITLE)
        for text, its in ((report.subtitle, SUBTITLE), (report.created, CREATED)):
            if text.strip():
                yield from self._paragraphs(shown(text), its)
        yield HRFlowable(WIDTH, 0.6, color=LINE, spaceBefore=9, spaceAfter=4)
        held: list[Flowable] = []
        for block in blocks:
            drawn = list(self._drawn(block))
            if isinstance(block, Heading):
                held += drawn
            elif isinstance(block, Table) and len(block.rows) <= KEPT_ROWS:
                yield KeepTogether([*held, *drawn])
                held = []
            else:
                yield from (CondPageBreak(BEGINNING), *held, *drawn) if held else drawn
                held = []
        if report.sources:
            yield from self._sources(report.sources)
        if self.fit.missing:
            yield from self._missing()

    def _drawn(self, block: Block) -> Iterator[Flowable]:
        match block:
            case Heading(level, text, note):
                yield Paragraph(self.fit(text), HEADINGS[level])
                yield from self._paragraphs(note, NOTE) if note else ()
            case Facts(_, facts):
                yield from self._facts(facts)
            case Text(cell):
                yield from self._value(cell, BODY)
            case Items(cells):
                for cell in cells:
                    yield from self._item(cell)
            case Table():
                yield from self._table(block)
            case Records(records):
                for record in records:
                    yield from self._record(record)

    def _value(self, cell: Cell, its: ParagraphStyle) -> Iterator[Flowable]:
        if cell.kind == "badge":
            yield Paragraph(self._marked(cell), its)
        else:
            yield from self._paragraphs(cell.text, its)

    def _marked(self, cell: Cell) -> str:
        """A cell's markup; a badge is a word on a ground of its own."""
        if cell.kind != "badge":
            return "<br/>".join(map(self.fit, paragraphs(cell.text)))
        ground, color = TINT.hexval()[2:], ACCENT.hexval()[2:]
        return f'<font name="{BOLD}" color="#{color}" backColor="#{ground}">\u00a0{self.fit(cell.text)}\u00a0</font>'

    def _paragraphs(self, text: str, its: ParagraphStyle, mark: str | None = None) -> Iterator[Flowable]:
        for paragraph in paragraphs(text):
            for number, part in enumerate(pieces(paragraph)):
                yield Paragraph(self.fit(part), its if number == 0 else going_on(its), bulletText=mark)
                mark = None

    def _item(self, cell: Cell) -> Iterator[Flowable]:
        if cell.kind == "badge":
            yield Paragraph(self._marked(cell), ITEM, bulletText="•")
        else:
            yield from self._paragraphs(cell.text, ITEM, "•")

    def _record(self, record: Sequence[tuple[str, Cell]]) -> Iterator[Flowable]:
        """Labels beside their values; a long value stands below its label, for a row is not parted."""
        yield HRFlowable(WIDTH, 0.6, color=LINE, spaceBefore=9, spaceAfter=3)
        for label, cell in record:
            name = Paragraph(self.fit(label), LABEL)
            if len(cell.text) > MAX_CELL:
                yield name
                yield from self._value(cell, GOING_ON)
                continue
            grid = Grid([[name, Paragraph(self._marked(cell), GOING_ON)]], colWidths=[WIDTH * 0.24, WIDTH * 0.76])
            grid.setStyle(BESIDE)
            yield grid

    def _facts(self, facts: Sequence[Fact]) -> Iterator[Flowable]:
        """Cards side by side. The last row's are as wide as the others'."""
        gap = 7.0
        a_row = 2 if len(facts) in (2, 4) else FACTS_A_ROW
        width = (WIDTH - gap * (a_row - 1)) / a_row
        yield Spacer(0, 10)
        for begin in range(0, len(facts), a_row):
            cards = [self._card(fact) for fact in facts[begin : begin + a_row]]
            cells: list[Any] = [cards[0]]
            for card in cards[1:]:
                cells += ["", card]
            grid = Grid([cells], colWidths=[width if n % 2 == 0 else gap for n in range(len(cells))], hAlign="LEFT")
            grid.setStyle(PADDED)
            for place in ((n, 0) for n in range(0, len(cells), 2)):
                grid.setStyle([("BOX", place, place, 0.6, LINE), ("BACKGROUND", place, place, PAPER)])
            yield grid
            yield Spacer(0, gap)

    def _card(self, fact: Fact) -> list[Flowable]:
        note = [Paragraph(self.fit(fact.note), FACT_NOTE)] if fact.note else []
        return [Paragraph(self.fit(fact.label), FACT_LABEL), Paragraph(self._marked(fact.cell), FACT), *note]

    def _table(self, block: Table) -> Iterator[Flowable]:
        widths = column_widths(block)
        styles = [(HEAD_END, CELL_END) if numeric else (HEAD, CELL) for numeric in block.numeric]
        head = [Paragraph(self.fit(name), its) for name, (its, _) in zip(block.columns, styles, strict=True)]
        for begin in range(0, len(block.rows), MAX_ROWS):
            lines = [
                [Paragraph(self._marked(cell), its) for cell, (_, its) in zip(row, styles, strict=True)]
                for row in block.rows[begin : begin + MAX_ROWS]
            ]
            table = LongTable([head, *lines], colWidths=widths, repeatRows=1, spaceBefore=7)
            table.setStyle(RULED)
            yield table

    def _sources(self, sources: Sequence[SourceLine]) -> Iterator[Flowable]:
        yield CondPageBreak(BEGINNING)
        yield HRFlowable(WIDTH, 0.6, color=LINE, spaceBefore=22, spaceAfter=0)
        yield Paragraph("Sources", HEADINGS[3])
        for number, line in enumerate(sources, 1):
            yield from self._paragraphs(shown(line.name), SOURCE, f"{number}.")
            place = self.fit(shown(line.url_or_file))
            if is_link(line.url_or_file):
                place = f'<a href="{place.replace(chr(34), "%22")}" color="#0f6b5c">{place}</a>'
            read = self.fit(f"read {shown(line.fetched)}") if line.fetched.strip() else ""
            if rest := " · ".join(part for part in (place, read) if part):
                yield Paragraph(rest, PLACE)

    def _missing(self) -> Iterator[Flowable]:
        """Say what this file could not show, so that a box is not taken for the report's own."""
        count = self.fit.missing.total()
        yield Spacer(0, 16)
        yield Paragraph(
            f"Of this report {count} {'character is' if count == 1 else 'characters are'} not in this file's font, which has Latin, Greek "
            "and Cyrillic; each is drawn as a crossed box. The report's other files have them all.",
            FACT_NOTE,
        )


PADDED: list[Any] = [
    ("LEFTPADDING", (0, 0), (-1, -1), 9),
    ("RIGHTPADDING", (0, 0), (-1, -1), 9),
    ("TOPPADDING", (0, 0), (-1, -1), 6),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 9),
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
]
BESIDE: list[Any] = [
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-1, -1), 9),
    ("TOPPADDING", (0, 0), (-1, -1), 1.5),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
]
RULED: list[Any] = [
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-2, -1), 9),
    ("RIGHTPADDING", (-1, 0), (-1, -1), 0),
    ("TOPPADDING", (0, 0), (-1, -1), 4),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 5),
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("VALIGN", (0, 0), (-1, 0), "BOTTOM"),
    ("LINEBELOW", (0, 0), (-1, 0), 0.8, ACCENT),
    ("LINEBELOW", (0, 1), (-1, -1), 0.5, LINE),
]


def going_on(its: ParagraphStyle) -> ParagraphStyle:
    """The style of a paragraph's next piece: without the space before a first."""
    return ParagraphStyle("", its, spaceBefore=0)


def pieces(paragraph: str) -> Iterator[str]:
    """Cut a long paragraph at the ends of sentences or words; a word that is longer than a piece, within it."""
    while len(paragraph) > MAX_PARAGRAPH:
        head = paragraph[:MAX_PARAGRAPH]
        ends = [found.end() for found in re.finditer(r"[.!?…] ", head)] or [head.rfind(" ") + 1]
        cut = ends[-1] if ends[-1] > MAX_PARAGRAPH // 4 else MAX_PARAGRAPH
        yield paragraph[:cut].rstrip()
        paragraph = paragraph[cut:].lstrip()
    if paragraph:
        yield paragraph


def column_widths(block: Table) -> list[float]:
    """Share the width by how much text each column has, none below what a short word needs."""
    least = WIDTH / (2 * len(block.columns) + 1)
    wanted = []
    for number, column in enumerate(block.columns):
        lengths = sorted(len(row[number].text) for row in block.rows)
        usual = lengths[len(lengths) * 9 // 10]
        longest_word = max(map(len, column.split()), default=1)
        wanted.append(min(60, max(usual, longest_word + 1, 5)))
    spare = WIDTH - least * len(wanted)
    return [least + spare * want / sum(wanted) for want in wanted]
