"""Files that mean harm, or are broken: each is to be refused, with a reason that tells its owner what is wrong."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import pypdf

from tests.kit.files import PDFBuilder, body, package, page_content, paragraph, pdf, word

PROSE = "The quick brown fox jumps over the lazy dog. "
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Evil:
    """A file to refuse; `reason` must be part of what its owner reads."""

    name: str
    filename: str
    build: Callable[[], bytes]
    reason: str


def encrypted_pdf(algorithm: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf([PROSE])))
    writer.encrypt("secret", algorithm=algorithm)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def pdf_of(content: bytes, entries: str = "", resources: str = "", *, compress: bool = True) -> bytes:
    """A PDF of one page with this content stream."""
    builder = PDFBuilder()
    stream = builder.stream(content, entries, compress=compress)
    return one_page(builder, stream, resources)


def one_page(builder: PDFBuilder, content: int, resources: str = "") -> bytes:
    tree, catalogue = builder.reserve(), builder.reserve()
    font = "/Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"
    page = builder.add(
        f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 595 842] /Contents {content} 0 R "
        f"/Resources << {font} {resources} >> >>"
    )
    builder.add(f"<< /Type /Pages /Count 1 /Kids [{page} 0 R] >>", tree)
    builder.add(f"<< /Type /Catalog /Pages {tree} 0 R >>", catalogue)
    return builder.build(catalogue)


def scanned_pdf() -> bytes:
    builder = PDFBuilder()
    entries = "/Type /XObject /Subtype /Image /Width 10 /Height 10 /ColorSpace /DeviceGray /BitsPerComponent 8"
    image = builder.stream(b"\x80" * 100, entries)
    return one_page(builder, builder.stream(b"q 500 0 0 700 0 0 cm /Im1 Do Q"), f"/XObject << /Im1 {image} 0 R >>")


def pdf_without_pages() -> bytes:
    builder = PDFBuilder()
    tree = builder.add("<< /Type /Pages /Count 0 /Kids [] >>")
    return builder.build(builder.add(f"<< /Type /Catalog /Pages {tree} 0 R >>"))


def pdf_page_tree_loop() -> bytes:
    builder = PDFBuilder()
    tree = builder.reserve()
    builder.add(f"<< /Type /Pages /Count 1 /Kids [{tree} 0 R] >>", tree)
    return builder.build(builder.add(f"<< /Type /Catalog /Pages {tree} 0 R >>"))


def pdf_many_pages() -> bytes:
    builder = PDFBuilder()
    tree, page = builder.reserve(), builder.reserve()
    builder.add(f"<< /Type /Page /Parent {tree} 0 R >>", page)
    builder.add(f"<< /Type /Pages /Count 150000 /Kids [{f'{page} 0 R ' * 150_000}] >>", tree)
    return builder.build(builder.add(f"<< /Type /Catalog /Pages {tree} 0 R >>"))


@cache
def packed_spaces() -> bytes:
    """100 MB of spaces in 100 KB."""
    packer = zlib.compressobj(6)
    return b"".join(packer.compress(b" " * MEGABYTE) for _ in range(100)) + packer.flush()


def pdf_bomb() -> bytes:
    return pdf_of(packed_spaces(), "/Filter /FlateDecode", compress=False)


def pdf_bomb_in_bomb() -> bytes:
    return pdf_of(zlib.compress(packed_spaces()), "/Filter [/FlateDecode /FlateDecode]", compress=False)


def pdf_forms_of_forms() -> bytes:
    """Forms that draw the next form ten times, ten deep: ten thousand million in all."""
    builder = PDFBuilder()
    font = "/Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"
    form = builder.stream(page_content("lol"), f"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << {font} >>")
    for _ in range(10):
        entries = f"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << {font} /XObject << /X {form} 0 R >> >>"
        form = builder.stream(b"/X Do " * 10, entries)
    return one_page(builder, builder.stream(b"/X Do"), f"/XObject << /X {form} 0 R >>")


def zip_of(parts: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def word_bomb() -> bytes:
    """300 MB of one letter in a part of 292 KB: a ratio of 1 028."""
    out = io.BytesIO(package({}))
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("word/document.xml", "w") as part:
        for _ in range(300):
            part.write(b"A" * MEGABYTE)
    return out.getvalue()


def word_many_parts() -> bytes:
    return package({f"word/media/{n}": b"" for n in range(10_001)})


def word_lying_size() -> bytes:
    """The table of contents says 10 bytes, the part has 20 MB."""
    data = bytearray(package({"word/document.xml": body(paragraph("A" * 20 * MEGABYTE))}))
    entry = data.rfind(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (10).to_bytes(4, "little")
    return bytes(data)


def word_encryption_bit() -> bytes:
    data = bytearray(word(("Normal", PROSE)))
    place = -1
    while (place := data.find(b"PK\x01\x02", place + 1)) >= 0:
        data[place + 8] |= 1
    return bytes(data)


def word_wrong_checksum() -> bytes:
    data = bytearray(package({"word/document.xml": body(paragraph(PROSE))}))
    entry = data.rfind(b"PK\x01\x02")
    data[entry + 16 : entry + 20] = b"\1\2\3\4"
    return bytes(data)


def word_bzip2() -> bytes:
    out = io.BytesIO(package({}))
    with zipfile.ZipFile(out, "a", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("word/document.xml", body(paragraph(PROSE)))
    return out.getvalue()


def billion_laughs() -> bytes:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    before = f'<!DOCTYPE lolz [<!ENTITY l0 "lol">{entities}]>'
    return package({"word/document.xml": body(paragraph("&l9;"), before)})


def external_entity() -> bytes:
    before = '<!DOCTYPE w [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    return package({"word/document.xml": body(paragraph("&x;"), before)})


def ole(*streams: str) -> bytes:
    names = b"".join(name.encode("utf-16-le").ljust(128, b"\0") for name in ("Root Entry", *streams))
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 504 + names + b"\0" * 4096


def noise(size: int) -> bytes:
    return random.Random(7).randbytes(size)  # the same bytes in every run


def deep_word() -> bytes:
    return package({"word/document.xml": body("<w:sdt>" * 5000 + paragraph(PROSE) + "</w:sdt>" * 5000)})


def heavy_word() -> bytes:
    """60 MB of small elements, whose tree takes many times that in memory."""
    out = io.BytesIO(package({}))
    head, tail = body("\0").encode().split(b"\0")
    varied = "".join(f"<w:p><w:r><w:t>{n}</w:t></w:r></w:p>" for n in range(30_000)).encode()
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("word/document.xml", "w") as part:
        part.write(head + varied * 50 + tail)
    return out.getvalue()


def all_evil() -> Iterator[Evil]:
    yield from evil_texts()
    yield from evil_pages()
    yield from evil_tables()
    yield from evil_pdfs()
    yield from evil_words()


def evil_texts() -> Iterator[Evil]:
    windows = b"MZ\x90\0\3\0\0\0" + noise(2000)
    russian = "Съешь же ещё этих мягких французских булок. ".encode("koi8-r") * 20
    utf16 = PROSE.encode("utf-16-le")
    yield Evil("an empty file", "a.txt", lambda: b"", "is empty")
    yield Evil("white space alone", "a.txt", lambda: b" \n\t\r\n" * 100, "No text")
    yield Evil("invisible characters alone", "a.txt", lambda: "\u200b\u202e\U000e0041".encode() * 100, "No text")
    yield Evil("a NUL among letters", "a.txt", lambda: b"hello\0world", "binary data")
    yield Evil("noise", "a.txt", lambda: noise(5000), "binary data")
    yield Evil("control characters", "a.md", lambda: b"\1\2\3\4 hello " * 100, "binary data")
    yield Evil("UTF-16 without a mark", "a.txt", lambda: utf16, "binary data")
    yield Evil("UTF-16 that breaks off", "a.txt", lambda: b"\xff\xfe" + utf16[:-1], "encoding")
    yield Evil("Russian in KOI8-R", "a.txt", lambda: russian, "encoding")
    yield Evil("a PDF as text", "a.txt", lambda: pdf([PROSE]), "is a PDF")
    yield Evil("a Windows program as text", "a.txt", lambda: windows, "is a Windows program")
    yield Evil("a zip archive as text", "a.txt", lambda: zip_of({"a": b"a"}), "is a zip archive")
    yield Evil("a picture as Markdown", "a.md", lambda: b"\x89PNG\r\n\x1a\n" + noise(100), "is a picture")
    yield Evil("20 MB of text", "a.txt", lambda: PROSE.encode() * 450_000, "too much text")
    yield Evil("a flood of accents", "a.txt", lambda: ("a" + "\u0301\u0316" * MEGABYTE).encode(), "too long")
    yield Evil("a program by its name", "a.exe", lambda: windows, "not .exe")
    yield Evil("a spreadsheet by its name", "a.xlsx", lambda: zip_of({"xl": b""}), "not .xlsx")
    yield Evil("a name without extension", "notes", lambda: b"hello", "without an extension")


def evil_pages() -> Iterator[Evil]:
    many = b"<p " + b" ".join(b"a%d=1" % n for n in range(150_000)) + b">hello"
    quotes = b"> " * 5000 + b"hello"
    items = b"".join(b"  " * n + b"- x\n" for n in range(200))
    yield Evil("elements nested deep", "a.html", lambda: b"<div>" * 100_000 + b"hello", "nested too deeply")
    yield Evil("errors before the depth", "a.html", lambda: b"</x>" * 200 + b"<b><i>" * 999 + b"hi", "nested too")
    yield Evil("tables in tables", "a.html", lambda: b"<table><tr><td>" * 5000 + b"hello", "nested too deeply")
    yield Evil("one text of 12 MB", "a.html", lambda: b"<p>" + b"word " * 2_400_000, "too long")
    yield Evil("150 000 attributes", "a.html", lambda: many, "too long")
    yield Evil("nothing to see", "a.html", lambda: b"<script>x()</script><p hidden>hello</p>", "No text")
    yield Evil("a gzip archive as page", "a.html", lambda: gzip.compress(b"<p>hello"), "is a gzip archive")
    yield Evil("quotes in quotes", "a.md", lambda: quotes, "nested too deeply")
    yield Evil("lists in lists", "a.md", lambda: items, "nested too deeply")


def evil_tables() -> Iterator[Evil]:
    wide = b"long column name " * 50
    header = b",".join(wide for _ in range(1000))
    yield Evil("a million columns", "a.csv", lambda: b"1," * MEGABYTE, "columns")
    yield Evil("a quotation mark left open", "a.csv", lambda: b'a,b\n1,"' + b"text\n" * 50_000, "quotation mark")
    yield Evil("a binary table", "a.csv", lambda: b"a,b\n\0\1,2\n", "binary data")
    yield Evil("rows without end", "a.csv", lambda: b"a\n" * 120_000, "too much text")
    yield Evil(
        "a header that grows the rows", "a.csv", lambda: header + (b"\n" + b"1," * 999 + b"1") * 20, "too much text"
    )


def evil_pdfs() -> Iterator[Evil]:
    whole = pdf([PROSE] * 5)
    flood = b"BT /F1 9 Tf " + b"(a) Tj 1 0 Td " * 900_000 + b"ET"
    yield Evil("a program as PDF", "a.pdf", lambda: b"\x7fELF" + noise(2000), "is a program")
    yield Evil("a zip archive as PDF", "a.pdf", lambda: zip_of({"a": b"a"}), "is a zip archive")
    yield Evil("a page as PDF", "a.pdf", lambda: b"<!DOCTYPE html><p>404", "is a web page")
    yield Evil("text as PDF", "a.pdf", lambda: PROSE.encode(), "something else, or damaged")
    yield Evil("a PDF that breaks off", "a.pdf", lambda: whole[:300], "damaged")
    yield Evil("noise after a PDF's head", "a.pdf", lambda: b"%PDF-1.7\n" + noise(20_000), "damaged")
    yield Evil("a password (RC4)", "a.pdf", lambda: encrypted_pdf("RC4-128"), "password")
    yield Evil("a password (AES)", "a.pdf", lambda: encrypted_pdf("AES-256"), "password")
    yield Evil("scanned pages", "a.pdf", scanned_pdf, "no text layer")
    yield Evil("no pages", "a.pdf", pdf_without_pages, "damaged")
    yield Evil("pages that hold themselves", "a.pdf", pdf_page_tree_loop, "damaged")
    yield Evil("150 000 pages", "a.pdf", pdf_many_pages, "damaged")
    yield Evil("a bomb", "a.pdf", pdf_bomb, "damaged")
    yield Evil("a bomb in a bomb", "a.pdf", pdf_bomb_in_bomb, "damaged")
    yield Evil(
        "brackets in brackets", "a.pdf", lambda: pdf_of(b"BT " + b"[" * 50_000 + b"(a)] TJ ET"), "nested too deeply"
    )
    yield Evil("operations without end", "a.pdf", lambda: pdf_of(flood), "too long")


def evil_words() -> Iterator[Evil]:
    whole = word(("Normal", PROSE))
    sheet = package({"xl/workbook.xml": "<workbook/>"}, target="xl/workbook.xml")
    yield Evil("a password on a Word file", "a.docx", lambda: ole("EncryptionInfo", "EncryptedPackage"), "password")
    yield Evil("an old Word file", "a.docx", lambda: ole("WordDocument"), "old Word version")
    yield Evil("any zip archive as Word", "a.docx", lambda: zip_of({"a.txt": b"hello"}), "zip archive of another kind")
    yield Evil("a spreadsheet as Word", "a.docx", lambda: sheet, "zip archive of another kind")
    yield Evil("a Word file that breaks off", "a.docx", lambda: whole[: len(whole) // 2], "damaged")
    yield Evil("a part with a wrong checksum", "a.docx", word_wrong_checksum, "damaged")
    yield Evil("a part that is no XML", "a.docx", lambda: package({"word/document.xml": "<w:p"}), "damaged")
    yield Evil("a part of 300 MB", "a.docx", word_bomb, "unpacks to far more")
    yield Evil("a part that hides its size", "a.docx", word_lying_size, "damaged")
    yield Evil("10 001 parts", "a.docx", word_many_parts, "unpacks to far more")
    yield Evil("an uncommon compression", "a.docx", word_bzip2, "damaged")
    yield Evil("encrypted parts", "a.docx", word_encryption_bit, "password")
    yield Evil("a billion laughs", "a.docx", billion_laughs, "damaged")
    yield Evil("an external entity", "a.docx", external_entity, "unpacks to far more")
    yield Evil("elements nested deep in Word", "a.docx", deep_word, "damaged")
    yield Evil("a tree too big for memory", "a.docx", heavy_word, "memory")
    yield Evil("a Word file without words", "a.docx", lambda: word(("Normal", " ")), "No text")
