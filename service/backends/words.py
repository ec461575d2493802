"""What the full-text index holds of a text, and what it is asked for.

Of what a user types only letters and digits remain, so that nothing is ever read as query syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

MOST_TERMS, MOST_CHARACTERS = 48, 5000
"""What is looked up of one question; the rest of a longer text is not searched for by its words."""

PARTS = re.compile(r"[^\W_]+")
# Chinese, Japanese and Korean run without spaces, or glue particles to words: there every character is a word of the index.
CHARACTER = "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
CHARACTERS = re.compile(CHARACTER)
PIECES = re.compile(f"({CHARACTER}+)")
# `ERR_1042`, `maxLength`, `foo.bar`, `--dry-run`, `CVE-2024`, `ready()`
IDENTIFIER = re.compile(r"\w_\w|[a-z][A-Z]|\w[.:/]\w|(?:^|\s)--?\w|[A-Za-z]-?\d|\w\(\)")


def spaced(text: str) -> str:
    """Return a text as it is indexed."""
    return CHARACTERS.sub(r" \g<0> ", text)


def terms(text: str) -> list[str]:
    """Return what to look up for a question: each word, and each compound (`ERR_1042`, `foo.bar`) as a whole too.

    A term of several words stands for them side by side; text without spaces becomes pairs of characters.
    """
    found: dict[str, None] = {}
    for word in text[:MOST_CHARACTERS].split():
        parts = PARTS.findall(word)
        if len(parts) > 1:
            found[" ".join(spaced(" ".join(parts)).split())] = None
        found.update(dict.fromkeys(pair for part in parts for pair in pairs(part)))
        if len(found) >= MOST_TERMS:
            break
    return list(found)[:MOST_TERMS]


def pairs(part: str) -> Iterator[str]:
    for i, piece in enumerate(PIECES.split(part)):
        if i % 2 == 0:
            yield from filter(None, [piece])
        elif len(piece) == 1:
            yield piece
        else:
            yield from (f"{a} {b}" for a, b in pairwise(piece))


def names_something(text: str) -> bool:
    """Say whether a question holds an identifier, which means what it says and nothing similar."""
    return IDENTIFIER.search(text) is not None
