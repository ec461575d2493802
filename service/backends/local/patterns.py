"""The shortest text that a simple pattern matches: literals, classes, groups, alternatives and repetitions."""

from __future__ import annotations

import re
from itertools import takewhile

ESCAPES = {"d": "0", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a", "n": "\n", "t": "\t", "r": "\r"}
REPEAT = re.compile(r"\*|\+|\?|\{(\d+)(,\d*)?\}")
LETTERS = re.compile(r"\\p\{L[lu]?\}")
GROUP = re.compile(r"\?:|\?P?<[A-Za-z]\w*>")
CANDIDATES = "aA0 -_.@/:,+" + "".join(map(chr, range(33, 127)))
MAX_CHARACTERS = 10_000


def shortest(pattern: str) -> str | None:
    """Return a text that the pattern matches, as short as its repetitions allow, or None for a pattern that is too much for this."""
    reader = Reader(pattern)
    try:
        found = reader.alternatives()
    except (IndexError, ValueError):
        return None
    return found if reader.at == len(pattern) else None


class Reader:
    """Reads a pattern from its beginning; raises `ValueError` or `IndexError` where it cannot go on."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.at = 0

    def alternatives(self) -> str:
        found = [self._sequence()]
        while self._next("|"):
            found.append(self._sequence())
        return min(found, key=len)

    def _sequence(self) -> str:
        pieces: list[str] = []
        while self.at < len(self._pattern) and self._pattern[self.at] not in "|)":
            piece = self._atom()
            if repeat := REPEAT.match(self._pattern, self.at):
                self.at = repeat.end()
                self._next("?")
                piece *= int(repeat[1]) if repeat[1] else repeat[0] == "+"
            pieces.append(piece)
            if sum(map(len, pieces)) > MAX_CHARACTERS:
                raise ValueError
        return "".join(pieces)

    def _atom(self) -> str:
        character = self._take()
        if character in "^$":
            return ""
        if character == "(":
            return self._group()
        if character == "[":
            return self._one_of()
        if character == "\\":
            return self._escape()
        if character in "*+?{":
            raise ValueError
        return "a" if character == "." else character

    def _group(self) -> str:
        if kind := GROUP.match(self._pattern, self.at):
            self.at = kind.end()
        found = self.alternatives()
        if not self._next(")"):
            raise ValueError
        return found

    def _one_of(self) -> str:
        """A character of a class, which Python's own engine knows as well."""
        start = self.at
        self._next("^")
        self._next("]")
        while self._take() != "]":
            if self._pattern[self.at - 1] == "\\":
                self._take()
        try:
            one = re.compile("[" + LETTERS.sub("a-zA-Z", self._pattern[start : self.at]))
        except re.error:
            raise ValueError from None
        return next((character for character in CANDIDATES if one.fullmatch(character)), "")

    def _escape(self) -> str:
        character = self._take()
        if character in "bB":
            return ""
        if character in "pP":
            name = "".join(takewhile(lambda each: each != "}", self._pattern[self.at :]))
            self.at += len(name) + 1
            return {"{Lu": "A", "{N": "0", "{Nd": "0"}.get(name, "a")
        if character.isalnum() and character not in ESCAPES:
            raise ValueError
        return ESCAPES.get(character, character)

    def _take(self) -> str:
        self.at += 1
        return self._pattern[self.at - 1]

    def _next(self, character: str) -> bool:
        found = self._pattern.startswith(character, self.at)
        self.at += found
        return found
