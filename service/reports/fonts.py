"""The letters of a PDF: Source Sans, which has Latin, Greek and Cyrillic, and how text is fitted to what it has."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import cache
from html import escape
from importlib.util import find_spec
from pathlib import Path

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

REGULAR = "SourceSans"
BOLD = "SourceSans-Semibold"
FILES = {REGULAR: "SourceSansPro-Regular.ttf", BOLD: "SourceSansPro-Semibold.ttf"}
MISSING = "\ufffd"
"""The font has none, so this too is drawn as its mark for a character that it lacks: a crossed box."""

EQUALS = {"\u2010": "-", "\u2011": "-", "\u200c": "", "\u200d": "", "\ufe0e": "", "\ufe0f": ""}


@cache
def letters() -> frozenset[int]:
    """Register the fonts, once for the process; return the code points that both have."""
    folder = Path(str(find_spec("font_source_sans_pro").origin)).parent / "files"  # type: ignore[union-attr]  # a dependency
    faces = [TTFont(name, str(folder / file)) for name, file in FILES.items()]
    for face in faces:
        pdfmetrics.registerFont(face)
    return frozenset.intersection(*(frozenset(face.face.charToGlyph) for face in faces))


class Letters:
    """Fits the text of one file to the font, and counts what could not be."""

    def __init__(self) -> None:
        self._there = letters()
        self.missing: Counter[str] = Counter()

    def __call__(self, text: str) -> str:
        """Return a text as markup in which each character is one that is drawn as what it is, or as a crossed box."""
        return escape(self.fitted(text), quote=False)

    def fitted(self, text: str) -> str:
        return "".join(map(self._fitted, text))

    def _fitted(self, character: str) -> str:
        if ord(character) in self._there:
            return character
        if character in EQUALS:
            return EQUALS[character]
        # Another form of letters that the font has, such as a ligature or a wide space.
        plain = unicodedata.normalize("NFKC", character)
        if all(ord(each) in self._there for each in plain):
            return plain
        self.missing[character] += 1
        return MISSING
