"""The files that a JSON value is handed out as: HTML, PDF, CSV and JSON, laid out by the value's JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from service.models import JSON

__all__ = ["Format", "Report", "ReportFile", "SourceLine", "render"]

Format = Literal["html", "pdf", "csv", "json"]


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


def render(report: Report, formats: Sequence[Format]) -> list[ReportFile]:
    """Make one file per format, in their order; the same report always gives the same bytes.

    Raises `ReportTooLong` if the value is larger than a file may show. It takes processor time, seconds for a long PDF.
    """
    raise NotImplementedError
