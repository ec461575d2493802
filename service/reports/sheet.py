"""A report as a table for spreadsheets: the largest array of objects in it, or else all its values, one a row (RFC 4180)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.models import JSON
from service.reports.layout import Layout
from service.reports.words import in_short, shown

FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""What spreadsheets take for the beginning of a formula (OWASP, "CSV Injection")."""

Found = tuple[Sequence[Mapping[str, JSON]], Mapping[str, Any]]


def sheet(value: JSON, schema: Mapping[str, Any]) -> bytes:
    """Write the table as UTF-8 with a mark, for Excel takes other files for another encoding."""
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(
        [[harmless(cell) for cell in row] for row in rows(value, schema)]
    )
    return out.getvalue().encode("utf-8-sig")


def rows(value: JSON, schema: Mapping[str, Any]) -> Iterator[list[JSON]]:
    layout = Layout(schema)
    tables = list(arrays(layout, value, schema))
    if not tables:
        yield ["Field", "Value"]
        yield from ([name, part] for name, part in leaves(value))
        return
    objects, items = max(tables, key=lambda found: len(found[0]))
    columns = list(layout.members(layout.meant(items, None), objects))
    yield [layout.label(name, layout.meant(part, None)) for name, part in columns]
    yield from ([each.get(name, "") for name, _ in columns] for each in objects)


def arrays(layout: Layout, value: JSON, schema: Mapping[str, Any]) -> Iterator[Found]:
    """The arrays of objects in a value, each with the schema of its items, the outer before the inner."""
    schema = layout.meant(schema, value)
    if isinstance(value, dict):
        for name, part in layout.members(schema, [value]):
            yield from arrays(layout, value[name], part)
    elif isinstance(value, list):
        objects = [item for item in value if isinstance(item, dict) and item]
        if objects and len(objects) == len(value):
            yield objects, layout.items(schema)
        for item in value:
            yield from arrays(layout, item, layout.items(schema))


def leaves(value: JSON, path: str = "") -> Iterator[tuple[str, JSON]]:
    """The values that hold no others, each with its path."""
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from leaves(part, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for number, part in enumerate(value, 1):
            yield from leaves(part, f"{path}[{number}]")
    else:
        yield path, value


def harmless(value: JSON) -> str:
    """Write a cell. Text that a spreadsheet would compute gets an apostrophe before it, which makes it text; a number is one."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return in_short(value)
    if value is None:
        return ""
    text = shown(value) if isinstance(value, str) else in_short(value)
    return f"'{text}" if text.startswith(FORMULA) or (isinstance(value, str) and value.startswith(FORMULA)) else text
