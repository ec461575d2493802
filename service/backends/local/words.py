"""A question's words as an FTS5 query. Nothing that a user types is ever read as query syntax: only letters and digits remain."""

from __future__ import annotations

import re

MOST_TERMS = 48
"""Terms looked up for one question; the rest of a longer text is not searched for by its words."""

PARTS = re.compile(r"[^\W_]+")


def terms(text: str) -> list[str]:
    """Return the words of a question, and before its parts each compound such as `ERR_1042`, `foo.bar` or `--dry-run`.

    A compound is written with spaces between its parts and stands for them in that order, side by side.
    """
    found: dict[str, None] = {}
    for word in text.split():
        parts = PARTS.findall(word.lower())
        if len(parts) > 1:
            found[" ".join(parts)] = None
        found.update(dict.fromkeys(parts))
        if len(found) >= MOST_TERMS:
            break
    return list(found)[:MOST_TERMS]
