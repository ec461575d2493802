"""Builders of good files, each in its format's smallest honest form."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence

import docx

WORD_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"

RELATIONSHIPS = (
    '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    'Target="{target}"/></Relationships>'
)


class PDFBuilder:
    """Numbered objects, written with their cross-reference table."""

    def __init__(self) -> None:
        self.objects: list[bytes] = []

    def reserve(self) -> int:
        self.objects.append(b"null")
        return len(self.objects)

    def add(self, body: str | bytes, number: int | None = None) -> int:
        number = number or self.reserve()
        self.objects[number - 1] = body if isinstance(body, bytes) else body.encode("latin-1")
        return number

    def stream(self, data: bytes, entries: str = "", *, compress: bool = True) -> int:
        packed = zlib.compress(data, 9) if compress else data
        filter_ = "/Filter /FlateDecode" if compress else ""
        head = f"<< /Length {len(packed)} {filter_} {entries} >>\nstream\n".encode()
        return self.add(head + packed + b"\nendstream")

    def build(self, root: int) -> bytes:
        out = bytearray(b"%PDF-1.7\n")
        places = []
        for number, body in enumerate(self.objects, start=1):
            places.append(len(out))
            out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
        start = len(out)
        out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1)
        out += b"".join(b"%010d 00000 n \n" % place for place in places)
        out += b"trailer\n<< /Size %d /Root %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(places) + 1, root, start)
        return bytes(out)


def pdf(pages: Sequence[str], outline: Sequence[tuple[str, int]] = ()) -> bytes:
    """A PDF whose pages hold lines of text; `outline` has titles with the page, from 1, that they open on."""
    builder = PDFBuilder()
    tree, catalogue = builder.reserve(), builder.reserve()
    font = builder.add("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    kids = []
    for text in pages:
        content = builder.stream(page_content(text))
        kids.append(
            builder.add(
                f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 595 842] /Contents {content} 0 R "
                f"/Resources << /Font << /F1 {font} 0 R >> >> >>"
            )
        )
    builder.add(f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(f'{k} 0 R' for k in kids)}] >>", tree)
    bookmarks = f"/Outlines {add_outline(builder, kids, outline)} 0 R" if outline else ""
    builder.add(f"<< /Type /Catalog /Pages {tree} 0 R {bookmarks} >>", catalogue)
    return builder.build(catalogue)


def page_content(text: str) -> bytes:
    def escape(line: str) -> str:
        return line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")

    shown = "".join(f"({escape(line)}) Tj T*\n" for line in text.split("\n"))
    return f"BT /F1 11 Tf 14 TL 60 780 Td\n{shown}ET".encode("cp1252")


def add_outline(builder: PDFBuilder, pages: Sequence[int], outline: Sequence[tuple[str, int]]) -> int:
    root = builder.reserve()
    items = [builder.reserve() for _ in outline]
    for n, (title, page) in enumerate(outline):
        following = f"/Next {items[n + 1]} 0 R" if n + 1 < len(items) else ""
        builder.add(
            f"<< /Title ({title}) /Parent {root} 0 R /Dest [{pages[page - 1]} 0 R /Fit] {following} >>", items[n]
        )
    builder.add(f"<< /Type /Outlines /First {items[0]} 0 R /Last {items[-1]} 0 R /Count {len(items)} >>", root)
    return root


def word(*paragraphs: tuple[str, str], table: Sequence[Sequence[str]] = ()) -> bytes:
    """A Word file, made by python-docx, of (style, text) paragraphs and a table at the end."""
    document = docx.Document()
    for style, text in paragraphs:
        document.add_paragraph(text, style=style)
    if table:
        made = document.add_table(rows=len(table), cols=len(table[0]))
        for made_row, cells in zip(made.rows, table, strict=True):
            for cell, text in zip(made_row.cells, cells, strict=True):
                cell.text = text
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def package(parts: Mapping[str, str | bytes], target: str = "word/document.xml") -> bytes:
    """A zip package with a relationship to its main part, and the parts as they are given."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_rels/.rels", RELATIONSHIPS.format(target=target))
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def body(content: str, before: str = "") -> str:
    """The main part of a Word file around its content; `before` stands in front of the root element."""
    return f'<?xml version="1.0"?>{before}<w:document xmlns:w="{WORD}"><w:body>{content}</w:body></w:document>'


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"
