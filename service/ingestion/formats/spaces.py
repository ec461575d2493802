"""Spaces between words of a PDF whose fonts have none.

TeX sets words apart by moving, and embeds fonts without a space. pypdf then takes the width of the glyph that happens to have a
space's number for that of a space, and where it is wide it misses the gaps between words.
"""

from __future__ import annotations

from collections.abc import Sequence

from pypdf import PageObject
from pypdf.generic import ArrayObject, DecodedStreamObject, DictionaryObject, FloatObject, NameObject, NumberObject

# The usual width of a space, and what is wider than any, in thousandths of the font size.
WIDTH = 250
TOO_WIDE = 350

# A glyph number that no font reaches.
SPARE = 0xFFFD
MAPPING = f"\n1 beginbfchar\n<{SPARE:04X}> <0020>\nendbfchar\n".encode()


def add_space_glyphs(page: PageObject) -> None:
    """Give each font of a page that has no space the width of a usual one."""
    resources = page.get("/Resources")
    fonts = resources.get_object().get("/Font") if resources is not None else None
    for reference in (fonts.get_object() if fonts is not None else {}).values():
        font = reference.get_object()
        if font.get("/Subtype") == "/Type0":
            mend_composite(font)
        elif font.get("/Subtype") == "/Type1":
            mend_simple(font)


def mend_composite(font: DictionaryObject) -> None:
    """Add a space under a spare number to a font with numbered glyphs."""
    mapping, descendants = font.get("/ToUnicode"), font.get("/DescendantFonts")
    if mapping is None or descendants is None:
        return
    data = mapping.get_object().get_data()
    if b"<0020>" in data or b"endcmap" not in data:
        return
    stream = DecodedStreamObject()
    stream.set_data(data.replace(b"endcmap", MAPPING + b"endcmap", 1))
    font[NameObject("/ToUnicode")] = stream
    descendant = descendants.get_object()[0].get_object()
    widths = descendant.get("/W", ArrayObject()).get_object()
    descendant[NameObject("/W")] = ArrayObject([*widths, NumberObject(SPARE), ArrayObject([FloatObject(WIDTH)])])


def mend_simple(font: DictionaryObject) -> None:
    """Correct the width of number 32 in a font of proportional letters whose own encoding leaves that number out."""
    encoding, widths = font.get("/Encoding"), font.get("/Widths")
    if encoding is None or widths is None:
        return
    encoding, widths = encoding.get_object(), widths.get_object()
    if not isinstance(encoding, DictionaryObject) or "/BaseEncoding" in encoding or names_32(encoding):
        return
    place = 32 - int(font.get("/FirstChar", 0))
    if 0 <= place < len(widths) and widths[place] > TOO_WIDE and len({w for w in widths if w}) > 1:
        font[NameObject("/Widths")] = ArrayObject([*widths[:place], FloatObject(WIDTH), *widths[place + 1 :]])


def names_32(encoding: DictionaryObject) -> bool:
    """Whether an encoding's differences (numbers, each followed by the names from there on) give number 32 a name."""
    differences: Sequence[object] = encoding.get("/Differences", ArrayObject()).get_object()
    number = 0
    for entry in differences:
        if isinstance(entry, int):
            number = entry
        elif number == 32:
            return True
        else:
            number += 1
    return False
