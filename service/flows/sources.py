"""What a flow's sources tell: asked before the model is, bounded, and as values that stand in the prompt like those of the input."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from service.apps import Flow, Source
from service.errors import SourceRefused, SourceUnavailable
from service.fetching import Fetched, FetchLimits, fetch
from service.models import JSON, timestamp
from service.prompt_template import written

Told = dict[str, Any]
"""What a source told: `content` (with `cut`, if that is only its beginning), or a sentence under `empty` or `unavailable`."""

Fetch = Callable[[str, FetchLimits], Fetched]

MAX_CHARS = 20_000
"""Of what one source tells."""

LIMITS = FetchLimits(seconds=15.0, bytes=1_000_000)
FILE_VALUE = re.compile(r"[A-Za-z0-9_-]{1,64}")

EMPTY = "There is nothing at this source."
CUT = "It is longer. This is how it begins."
NOT_ASKED = "The request holds nothing that this source can be asked for."
UNREACHED = "It could not be read when it was asked."


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source told, where that stood (without what an address asks for, which may be secret), and when it was read."""

    told: Told
    where: str
    at: str


class Sources:
    """Asks the sources of flows, on the web and in the app's folder. It blocks."""

    def __init__(self, fetch: Fetch = fetch) -> None:
        self._fetch = fetch

    def ask(self, source: Source, given: Mapping[str, JSON]) -> Reading:
        """Read what a source tells of an input.

        One that fails says so, unless it is required: then it raises `SourceRefused`, or `SourceUnavailable`, which may pass.
        """
        try:
            return self._from_file(source, source.folder, given) if source.folder else self._from_web(source, given)
        except (SourceRefused, SourceUnavailable) as error:
            if source.required:
                told = f"{source.name}: {error.detail or error.title}"
                raise type(error)(told, retry_after=error.retry_after) from error
            return Reading({"unavailable": UNREACHED}, "", timestamp())

    def _from_web(self, source: Source, given: Mapping[str, JSON]) -> Reading:
        fetched = self._fetch(source.template.render(given, url_value), LIMITS)
        is_json = fetched.media_type == "application/json" or fetched.media_type.endswith("+json")
        found = urlsplit(fetched.url)
        return Reading(told(fetched.text, is_json=is_json), f"{found.scheme}://{found.netloc}{found.path}", timestamp())

    def _from_file(self, source: Source, folder: Path, given: Mapping[str, JSON]) -> Reading:
        name = source.template.render(given, file_value)
        content = read(folder, name)
        found = told(content or "", is_json=name.endswith(".json"))
        return Reading(found, name, timestamp())


def read(folder: Path, name: str) -> str | None:
    """Read a file of an app's folder, None if it is not there."""
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise SourceRefused("It leads out of the app's folder.")
        with path.open("rb") as file:
            return file.read(LIMITS.bytes).decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError) as error:  # a RuntimeError is a loop of links, before Python 3.13
        raise SourceUnavailable("Its file cannot be read.") from error


def told(text: str, *, is_json: bool) -> Told:
    """What came, as JSON where it is that and short enough, else as a text with its beginning."""
    if not text.strip():
        return {"empty": EMPTY}
    if is_json:
        try:
            value: JSON = msgspec.json.decode(text)
            if len(written(value)) <= MAX_CHARS:
                return {"content": value}
        except (ValueError, RecursionError):
            pass  # It is told as the text that it is.
    return {"content": text[:MAX_CHARS], **({"cut": CUT} if len(text) > MAX_CHARS else {})}


def url_value(value: JSON) -> str:
    """Write a value as a whole segment of an address; raises `SourceRefused` for one that would lead elsewhere."""
    text = plain(value)
    if text in ("", ".", ".."):
        raise SourceRefused(NOT_ASKED)
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise SourceRefused(NOT_ASKED) from None


def file_value(value: JSON) -> str:
    """Write a value as a part of a file's name; raises `SourceRefused` for one that could be more than that."""
    text = plain(value)
    if not FILE_VALUE.fullmatch(text):
        raise SourceRefused(NOT_ASKED)
    return text


def plain(value: JSON) -> str:
    """A text or a whole number as it is; nothing of any other value."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value)


def told_in_prompt(flow: Flow, readings: Mapping[str, Reading]) -> dict[str, JSON]:
    """What stands in a prompt for the sources of a flow; one that was not asked yet is `null`."""
    return {
        name: readings[name].told if name in readings else None for name in (source.name for source in flow.sources)
    }
