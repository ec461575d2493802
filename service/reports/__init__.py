"""The files that a JSON value is handed out as: HTML, PDF, CSV and JSON, laid out by the value's JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Sequence

from service.errors import ReportTooLong
from service.json_schema import MAX_VALUE_DEPTH, size
from service.models import JSON
from service.reports.layout import layout
from service.reports.page import page
from service.reports.report import Format, Report, ReportFile, SourceLine
from service.reports.sheet import sheet

__all__ = ["Format", "Report", "ReportFile", "SourceLine", "render"]

MAX_PARTS = 20_000
MAX_CHARACTERS = 400_000
MAX_SOURCES = 500
MEDIA_TYPES: dict[Format, str] = {
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
}


def render(report: Report, formats: Sequence[Format]) -> list[ReportFile]:
    """Make one file per format, in their order; the same report always gives the same bytes.

    Raises `ReportTooLong` if the value is larger than a file may show. It takes processor time, seconds for a long PDF.
    """
    check(report)
    return [ReportFile(f"report.{each}", MEDIA_TYPES[each], content(report, each)) for each in formats]


def check(report: Report) -> None:
    parts, characters, depth = size(report.value)
    characters += sum(len(line.name) + len(line.url_or_file) + len(line.fetched) for line in report.sources)
    characters += len(report.title) + len(report.subtitle) + len(report.created)
    if depth > MAX_VALUE_DEPTH:
        raise ReportTooLong(f"The value is nested deeper than {MAX_VALUE_DEPTH}.")
    if parts > MAX_PARTS or characters > MAX_CHARACTERS or len(report.sources) > MAX_SOURCES:
        raise ReportTooLong("The value has more parts or more text than a report may.")


def content(report: Report, format: Format) -> bytes:
    match format:
        case "html":
            return page(report, layout(report.value, report.schema))
        case "pdf":
            from service.reports.pdf import pdf

            return pdf(report, layout(report.value, report.schema))
        case "csv":
            return sheet(report.value, report.schema)
        case "json":
            return as_json(report.value)


def as_json(value: JSON) -> bytes:
    """Write the value itself; one that UTF-8 cannot write, with escapes."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(value, indent=2).encode() + b"\n"
