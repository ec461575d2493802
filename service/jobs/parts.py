"""One file of an export: a zip of JSON and of files as they were sent, with a page that lists what is in it."""

from __future__ import annotations

import html
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self
from zipfile import ZIP_DEFLATED, ZipFile

import msgspec

from service.backends.paths import encode
from service.models import JSON

PIECE_BYTES = 1 << 20
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 1rem/1.5 sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }} small {{ color: #555 }}</style>
<h1>{title}</h1>
{sections}
</html>
"""


@dataclass(frozen=True, slots=True)
class Line:
    """What the page says of one file."""

    section: str
    label: str
    name: str
    note: str


class Part:
    """A zip that is being written. Nothing of it is in memory but its list of names."""

    def __init__(self, file: BinaryIO, title: str) -> None:
        self._file = file
        self._title = title
        self._zip = ZipFile(file, "w", ZIP_DEFLATED)
        self._names: set[str] = set()
        self._lines: list[Line] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._zip.writestr("index.html", page(self._title, self._lines))
        self._zip.close()

    @property
    def bytes(self) -> int:
        """How large it is by now."""
        return self._file.tell()

    def json(self, line: Line, head: Mapping[str, JSON], listed: str = "", items: Iterable[JSON] = ()) -> None:
        """Add a JSON object: the fields of `head` and, under the name `listed`, a list of any length."""
        if not self._note(line):
            return
        with self._zip.open(line.name, "w", force_zip64=True) as out:
            opened = msgspec.json.encode(head).removesuffix(b"}")
            out.write(opened)
            if listed:
                out.write(b"%b%b:[" % (b"," if head else b"", msgspec.json.encode(listed)))
                for n, item in enumerate(items):
                    out.write((b",\n" if n else b"\n") + msgspec.json.encode(item))
                out.write(b"]")
            out.write(b"}\n")

    def file(self, line: Line, content: BinaryIO) -> None:
        """Add a file as it is."""
        if self._note(line):
            with self._zip.open(line.name, "w", force_zip64=True) as out:
                shutil.copyfileobj(content, out, PIECE_BYTES)

    def _note(self, line: Line) -> bool:
        """List a file, once: what is changed while it is written may come by again."""
        if line.name in self._names:
            return False
        self._names.add(line.name)
        self._lines.append(line)
        return True


def page(title: str, lines: Iterable[Line]) -> str:
    sections: dict[str, list[str]] = {}
    for line in lines:
        link = f'<a href="{html.escape(linked(line.name))}">{html.escape(line.label)}</a>'
        sections.setdefault(line.section, []).append(f"<li>{link} <small>{html.escape(line.note)}</small></li>")
    written = [
        f"<h2>{html.escape(name)}</h2>\n<ul>\n" + "\n".join(items) + "\n</ul>" for name, items in sections.items()
    ]
    return PAGE.format(title=html.escape(title), sections="\n".join(written) or "<p>Nothing.</p>")


def linked(name: str) -> str:
    """A file's name as a relative URL."""
    return "/".join(encode(part) for part in name.split("/"))


def file_name(text: str) -> str:
    """A name that every system can unpack: no folder, no control character, no leading dot."""
    shown = "".join("_" if c in '/\\:*?"<>|' or not c.isprintable() else c for c in text).strip(". ")
    return shown[-120:] or "unnamed"
