"""Characters: bytes to text, and text without what nobody can see."""

from __future__ import annotations

import re
import unicodedata

from service.errors import DocumentRejected

# Other spaces, and line breaks that no editor counts as a line.
SPACES = re.compile("[\v\f\x1c-\x1e\x85\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")

# What is drawn as nothing and can hide instructions from the person who reads the file: control characters, soft hyphens,
# fillers, zero-width and directional marks, variation selectors, tags, noncharacters.
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)

# Joiners shape Arabic, Indic and emoji sequences, and emoji have a style; anywhere else they are invisible too.
JOINERS = re.compile("(?<![\u0590-\u1aff\u2600-\u27bf\ufe0f\U0001f000-\U0001faff])[\u200c\u200d]")
STYLES = re.compile("(?<![\u2000-\u3300\U0001f000-\U0001faff])[\ufe0e\ufe0f]")

# Typesetters write these letter pairs as one character, people search for two; F0B7 is the bullet of an old symbol font.
TYPESET = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st", "\uf0b7": "•"})

BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\b\x1b")) + b"\x7f"
SPACE_BYTES = b" \t\r\n\v\f"
ASCII = bytes(range(128))

BINARY = "This is not a text file: it holds binary data."
ENCODING = (
    "The characters of this file are in an encoding that is not recognised. Save it as UTF-8 and upload it again."
)


def clean(text: str) -> str:
    """Return the text in NFC without invisible characters; lines end with a line feed, and their number stays the same."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = STYLES.sub("", JOINERS.sub("", INVISIBLE.sub("", SPACES.sub(" ", text))))
    return unicodedata.normalize("NFC", text.translate(TYPESET) if not text.isascii() else text)


def one_line(text: str) -> str:
    """Return the cleaned text with each run of white space as one space."""
    return " ".join(clean(text).split())


def decode(data: bytes) -> str:
    """Return the text of a text file: by its byte order mark, else UTF-8, else Windows-1252 if it reads like a Western language."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return decode_as(data, encoding)
    if b"\0" in data or len(data) - len(data.translate(None, CONTROLS)) > len(data) // 100:
        raise DocumentRejected(BINARY)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return decode_western(data)


def decode_western(data: bytes) -> str:
    # Western languages have few letters beyond ASCII. A file full of them is in another encoding, and would become nonsense.
    visible = data.translate(None, SPACE_BYTES)
    if len(visible.translate(None, ASCII)) > len(visible) // 4:
        raise DocumentRejected(ENCODING)
    return decode_as(data, "cp1252")


def decode_as(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise DocumentRejected(ENCODING) from None
