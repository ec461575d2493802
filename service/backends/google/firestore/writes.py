"""Commits as Firestore's messages, each write with its precondition. Imported with the first call, for it imports the SDK.

A message within another is filled where it stands: one made by itself would be copied there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from service.backends.checks import COMMIT
from service.backends.google.firestore.connection import Connection, Message
from service.backends.google.firestore.indexes import APP, GROUPS
from service.backends.google.firestore.messages import CommitRequest, field_path, fill_fields, serialize
from service.backends.interfaces import Create, Delete, Path, Update, Write
from service.errors import PreconditionFailed, TooLarge

VERSION = re.compile(r"(\d{1,11})\.(\d{9})")
MAX_REQUEST_BYTES = 10 * 1_048_576


def commit_request(connection: Connection, places: Sequence[Path], writes: Sequence[Write], mark: str) -> bytes:
    """Return the encoded request for writes to these places that have passed their check, each of them marked."""
    request = CommitRequest(database=connection.database)
    for place, write in zip(places, writes, strict=True):
        fill_write(request.writes.add(), connection.name(place), place, write, mark)
    # To ask for the size alone takes as long.
    encoded = serialize(request)
    if len(encoded) > MAX_REQUEST_BYTES:
        raise TooLarge("A commit must not be larger than 10 MiB.")
    return encoded


def fill_write(encoded: Message, name: str, place: Path, write: Write, mark: str) -> None:
    if isinstance(write, Delete):
        encoded.delete = name
    else:
        hidden = {COMMIT: mark, APP: place[1]} if place[-2] in GROUPS else {COMMIT: mark}
        encoded.update.name = name
        fields = encoded.update.fields
        fill_fields(fields, write.data)
        fill_fields(fields, hidden)
        if isinstance(write, Update):
            encoded.update_mask.field_paths.extend(map(field_path, (*write.data, *hidden)))
    match write:
        case Create():
            encoded.current_document.exists = False
        case Update(version=None):
            encoded.current_document.exists = True
        case Update(version=str(expected)) | Delete(version=str(expected)):
            moment = encoded.current_document.update_time
            moment.seconds, moment.nanos = parse(expected)


def parse(version: str) -> tuple[int, int]:
    """Return the seconds and nanoseconds of a version; raises `PreconditionFailed` for what no document ever had."""
    found = VERSION.fullmatch(version)
    if found is None:
        raise PreconditionFailed("This document is gone or has changed.")
    return int(found[1]), int(found[2])
