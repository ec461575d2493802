"""Canaries: random words, each in one object alone, so that where one turns up says whose object was seen."""

from __future__ import annotations

import re
from collections.abc import Collection
from secrets import token_hex

WORD = re.compile(r"canary[0-9a-f]{20}")


class Canaries:
    """Hands out canaries and knows whose each one is. An owner is `app/user`, or a part of an app like `app/shared`."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}

    def new(self, owner: str) -> str:
        """Make a canary of an owner."""
        word = f"canary{token_hex(10)}"
        self._owners[word] = owner
        return word

    def foreign(self, text: str, allowed: Collection[str]) -> list[str]:
        """Return the owners, other than those allowed, whose canaries are in a text; a word cut short is none of ours."""
        if "canary" not in text:
            return []
        owners = {self._owners[word] for word in WORD.findall(text) if word in self._owners}
        return sorted(owners - set(allowed))

    def __len__(self) -> int:
        return len(self._owners)


def probe() -> str:
    """A word that an object holds beside its canary and that an attacker may know: what they search for it by."""
    return f"probe{token_hex(6)}"
