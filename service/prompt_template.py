"""Templates of prompts: text with places for values, `{{company.name}}`, and nothing that is carried out.

A value goes in as JSON on one line, written so that nothing in it is a quote's end, a line's end, a tag, or a character that cannot be seen.
So no value can end its place and go on in the template's own voice, and what is inserted is never looked through for places again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from service.models import JSON

PLACE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
PATH = re.compile(r"[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,9}")


class TemplateError(Exception):
    """A template does not hold; the text says where and what to do."""


@dataclass(frozen=True, slots=True)
class Template:
    """`texts` stand before, between and after the values that `paths` name."""

    texts: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...]

    def render(self, values: Mapping[str, JSON], write: Callable[[JSON], str] | None = None) -> str:
        """Put values into their places, as JSON or as `write` writes them; one that is not there is `null`."""
        pieces = [self.texts[0]]
        for path, text in zip(self.paths, self.texts[1:], strict=True):
            pieces += [(write or written)(found(values, path)), text]
        return "".join(pieces)


def read_template(text: str) -> Template:
    """Read a template; raises `TemplateError`."""
    parts = PLACE.split(text)
    texts, names = parts[::2], [name.strip() for name in parts[1::2]]
    for name in names:
        if not PATH.fullmatch(name):
            raise TemplateError("holds a placeholder that is none. Write {{name}} or {{name.of.a.field}}.")
    if any("{{" in part or "}}" in part for part in texts):
        raise TemplateError("holds {{ or }} that is no part of a placeholder. Write {{name}}, or remove it.")
    return Template(tuple(texts), tuple(tuple(name.split(".")) for name in names))


def found(values: Mapping[str, JSON], path: tuple[str, ...]) -> JSON:
    part: object = values
    for name in path:
        part = part.get(name) if isinstance(part, Mapping) else None
    return part  # type: ignore[return-value]  # a part of JSON values is one


def written(value: JSON) -> str:
    """Write a value as JSON on one line, in which only what can be seen, plain spaces, and no tag's bracket stand for themselves."""
    text = json.dumps(value, ensure_ascii=False)
    unseen = {character for character in set(text) if not character.isprintable() or character in "<>"}
    return text.translate({ord(character): escaped(character) for character in unseen})


def escaped(character: str) -> str:
    """As JSON escapes it: by its UTF-16 units."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n] << 8 | units[n + 1]:04x}" for n in range(0, len(units), 2))
