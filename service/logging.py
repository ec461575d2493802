"""One line per event: JSON in Cloud Logging's shape, or text for a person at a terminal. Never content, tokens or keys."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from service.models import timestamp

Field = str | int | float | bool | None

logger = logging.getLogger("brainstem")
encode = json.JSONEncoder(ensure_ascii=False).encode
bound: ContextVar[dict[str, Field]] = ContextVar("bound", default={})  # noqa: B039  # replaced, never changed


def configure(level: str) -> None:
    """Send events to standard error from `level` on; without this call they go wherever the host program sends them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if sys.stderr.isatty() else JSONFormatter())
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


@contextmanager
def bind(**fields: Field) -> Iterator[None]:
    """Add fields (request, app …) to every event of this context."""
    token = bound.set({**bound.get(), **fields})
    try:
        yield
    finally:
        bound.reset(token)


def event(name: str, level: int = logging.INFO, error: BaseException | None = None, **fields: Field) -> None:
    """Log an event; of an error only its class and the place it was raised, for its text may hold what must not be logged."""
    if not logger.isEnabledFor(level):
        return
    if error is not None:
        fields = {**fields, "error": type(error).__name__, "at": place(error)}
    # Made here, for `logger.log` would look for the line that called it, which takes as long as all the rest.
    record = logging.LogRecord(logger.name, level, "", 0, name, None, None)
    record.fields = {**bound.get(), **fields}
    logger.handle(record)


def place(error: BaseException) -> str:
    """The last few calls that led to the error, innermost first, as `file:line`."""
    calls = []
    trace = error.__traceback__
    while trace is not None:
        calls.append(f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " ".join(reversed(calls[-5:]))


class JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        return encode({"severity": record.levelname, "time": timestamp(), "message": record.getMessage(), **fields})


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in getattr(record, "fields", {}).items())
        return f"{timestamp()[11:19]} {record.levelname.lower():7} {record.getMessage()} {fields}".rstrip()
