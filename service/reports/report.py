"""The nouns of reports: what one says, and the files it is handed out as."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from service.models import JSON

Format = Literal["html", "pdf", "csv", "json"]
LINK = re.compile(r"https?://[!#-%'-;=?-\[\]_a-z~&]{1,2000}", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A source that a report rests on. `fetched` is when it was read, as text that is shown as it is; it may be empty."""

    name: str
    url_or_file: str
    fetched: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a report says. `schema` gives headings, sentences and order; a value that does not fit it is shown all the same."""

    title: str
    subtitle: str
    value: JSON
    schema: Mapping[str, Any]
    created: str
    sources: Sequence[SourceLine]


@dataclass(frozen=True, slots=True)
class ReportFile:
    """A finished file; `name` is `report.` and its format, whatever the report's title."""

    name: str
    media_type: str
    content: bytes


def is_link(place: str) -> bool:
    """Tell whether a source's place is a web address that a reader may follow."""
    return LINK.fullmatch(place) is not None
