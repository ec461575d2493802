"""The sources of a flow: where its material comes from, as an address or a file's name with places for values of the input."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from service.apps.tables import Table
from service.errors import ConfigError
from service.prompt_template import PLACE, Template, TemplateError, read_template

ADDRESS = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?")
"""Scheme, host and port hold no place, so no value of an input chooses who is asked."""

PLAIN = re.compile(r"[!-~]*")
MOST_SOURCES = 8
"""What they tell, each bounded, still fits into a job's stored document together."""


class DeclaredSource(Table, frozen=True):
    """A source as `app.toml` declares it: either `url` or `file`."""

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
    url: Annotated[str, Meta(max_length=2000)] = ""
    file: Annotated[str, Meta(max_length=500)] = ""
    required: bool = False

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.file):
            raise ValueError("a source has either `url` or `file`")


@dataclass(frozen=True, slots=True)
class Source:
    """A source as the service asks it: an address on the web, or (with a `folder`) a file of the app's folder."""

    name: str
    required: bool
    template: Template
    folder: Path | None


def load_source(folder: Path, key: str, declared: DeclaredSource) -> Source:
    """Read what a source declares; raises `ConfigError`."""
    told = declared.url or declared.file
    problem = address_problem(told) if declared.url else file_problem(told)
    try:
        template = read_template(told)
    except TemplateError as error:
        problem = str(error)
    if problem:
        place = f"{key}.{'url' if declared.url else 'file'}"
        raise ConfigError(f"{folder / 'app.toml'}: `{place}` {problem}")
    return Source(declared.name, declared.required, template, None if declared.url else folder)


def address_problem(url: str) -> str:
    """Say what is wrong with an address; nothing is one that holds."""
    if not PLAIN.fullmatch(PLACE.sub("", url)):
        return "holds spaces or characters that an address has not. Write them percent-encoded."
    found = ADDRESS.fullmatch(url)
    if not found:
        return (
            "is no address with a host that stands there as it is. Write it like https://registry.example/{{number}}."
        )
    path = (found["path"] or "").split("/")
    query = [part.partition("=") for part in (found["query"] or "").removeprefix("?").split("&")]
    whole = [*path, *(value for _, _, value in query)]
    if any("{{" in part and not PLACE.fullmatch(part) for part in whole) or any("{{" in name for name, _, _ in query):
        return (
            "mixes a placeholder with other text. Make it a whole segment of the path, or a whole value of the query."
        )
    return ""


def file_problem(name: str) -> str:
    if any(segment in ("", ".", "..") for segment in name.split("/")) or "\\" in name or "\0" in name:
        return "leads out of the app's folder. Name a file inside of it, like sources/{{country}}.json."
    return ""
