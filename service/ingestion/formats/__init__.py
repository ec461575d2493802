"""Formats: the one table of what can be read, and how a file shows which of them it is.

Each format has a module of its name here with `read(file)`, which yields the blocks of a binary file; only the child process of
`service.ingestion.sandbox` imports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from service.errors import DocumentRejected

HEAD = 4096
"""How many of a file's first bytes `recognise` wants to see."""


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file; a file of it has one of `magic`, if there are any, within its first 1 024 bytes."""

    name: str
    label: str
    extensions: tuple[str, ...]
    media_types: tuple[str, ...]
    magic: tuple[bytes, ...] = ()


ZIP = b"PK\x03\x04"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

FORMATS = (
    Format("text", "text", (".txt", ".text", ".log"), ("text/plain",)),
    Format("markdown", "Markdown", (".md", ".markdown"), ("text/markdown", "text/x-markdown")),
    Format("html", "web page", (".html", ".htm", ".xhtml"), ("text/html", "application/xhtml+xml")),
    Format("csv", "CSV", (".csv", ".tsv"), ("text/csv", "application/csv", "text/tab-separated-values")),
    Format("pdf", "PDF", (".pdf",), ("application/pdf", "application/x-pdf"), (b"%PDF-",)),
    # An encrypted docx, and an old doc under its name, is an OLE container: the reader tells them apart.
    Format(
        "docx",
        "Word",
        (".docx",),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document",),
        (ZIP, OLE),
    ),
)

FOREIGN = (
    (b"%PDF-", "a PDF"),
    (ZIP, "a zip archive"),
    (OLE, "an old Office file"),
    (b"{\\rtf", "an RTF document"),
    (b"%!PS", "a PostScript file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a Windows program"),
    (b"\xcf\xfa\xed\xfe", "a program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"\0asm", "a program"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"RIFF", "a picture or a sound"),
    (b"II*\0", "a picture"),
    (b"MM\0*", "a picture"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"SQLite format 3", "a database"),
)
PRINTABLE_MAGIC = (b"MZ", b"GIF8", b"RIFF", b"BZh", b"Rar!", b"SQLite format 3")

READABLE = "Brainstem reads PDF, Word (.docx), Markdown, HTML, CSV and plain text"


def recognise(filename: str, media_type: str, head: bytes) -> Format:
    """Return the format of a file by its name, else by its media type; raises `DocumentRejected` if its first bytes belie it.

    Browsers and tools send all sorts of media types, so an extension that is known decides.
    """
    extension = PurePath(filename).suffix.lower()
    kind = media_type.partition(";")[0].strip().lower()
    found = find(extension, kind)
    if found is None:
        named = kind if kind not in ("", "application/octet-stream") else "files without an extension"
        raise DocumentRejected(f"{READABLE} files, not {extension or named}.")
    if not head:
        raise DocumentRejected("This file is empty.")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    truth = foreign(start)
    if found.magic and not any(magic in head[:1024] or start.startswith(magic) for magic in found.magic):
        what = truth or ("a web page" if start[:14].lower().startswith((b"<!doctype html", b"<html")) else None)
        raise DocumentRejected(lie(found, what))
    if truth and not found.magic:
        raise DocumentRejected(lie(found, truth))
    return found


def find(extension: str, media_type: str) -> Format | None:
    by_name = next((f for f in FORMATS if extension in f.extensions), None)
    return by_name or next((f for f in FORMATS if media_type in f.media_types), None)


def foreign(start: bytes) -> str | None:
    """Return what a file really is, by its first bytes; letters alone prove it only where binary data follows."""
    for magic, what in FOREIGN:
        if start.startswith(magic) and (magic not in PRINTABLE_MAGIC or b"\0" in start):
            return what
    return None


def lie(claimed: Format, truth: str | None) -> str:
    return f"This file is sent as {claimed.label}, but is {truth or 'something else, or damaged'}."
