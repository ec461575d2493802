"""Words of a report: names made readable, values said, text without what nobody can see."""

from __future__ import annotations

import json
import re
import unicodedata

from service.models import JSON

MAX_LABEL = 120
MAX_DEPTH_SAID = 6
"""Levels of a value that are said in a line; what is deeper is its JSON."""

JOINERS = "\u200c\u200d"
"""They shape Arabic, Indic and emoji sequences; other characters without a form are left out, those that turn text around among them."""

BREAKS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
BEGINNINGS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def shown(text: str) -> str:
    """Return a text without characters that are not seen; a half of a pair, which is none, is U+FFFD."""
    text = BREAKS.sub("\n", text).replace("\t", " ")
    if not text.isascii() or not text.isprintable():
        text = "".join(map(visible, text))
    return unicodedata.normalize("NFC", text).strip()


def visible(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cs":
        return "\ufffd"
    if category in ("Cc", "Cf") and character not in "\n" + JOINERS:
        return ""
    # Noncharacters have no category of their own.
    return "" if category == "Cn" and ord(character) & 0xFFFE == 0xFFFE else character


def as_words(name: str) -> str:
    """Make a property's name readable: `riskLevel` and `risk_level` are "Risk level"."""
    words = re.split(r"[\s_-]+", BEGINNINGS.sub(" ", name))
    said = " ".join(word if word.isupper() and len(word) > 1 else word.lower() for word in words if word)
    return said[:1].upper() + said[1:]


def clipped(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def spoken(value: bool | float | None) -> str:
    """Say what is no text."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "Yes" if value else "No"
    try:
        return str(value)
    except ValueError:
        # Python writes no integer of thousands of digits in tens.
        return hex(int(value))


def in_short(value: JSON, depth: int = 0) -> str:
    """Say a value in a line, however it is nested."""
    if isinstance(value, str):
        return " ".join(shown(value).split())
    if not isinstance(value, list | dict):
        return spoken(value)
    if depth >= MAX_DEPTH_SAID:
        return shown(json.dumps(value, ensure_ascii=False))
    if isinstance(value, list):
        return "; ".join(in_short(item, depth + 1) for item in value)
    return "; ".join(f"{as_words(shown(name))}: {in_short(item, depth + 1)}" for name, item in value.items())
