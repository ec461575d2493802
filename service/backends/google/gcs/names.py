"""Which object holds a blob: two blobs never share one, and no name leads out of its scope.

A user's blob `uploads/notes.pdf` is the object `apps/{app}/users/{uid}/uploads/notes.pdf`, byte for byte what a client uploads there:
spaces, percent signs and letters of any script stay as they are. A name that Cloud Storage or a URL would not carry as it is (control
characters, empty segments, `.` and `..`, too long) lies encoded below `%/`, which no other name begins with; a client's upload
under such a name is therefore never found. App and uid are encoded as everywhere.
Source: "Object naming guidelines" in the Cloud Storage documentation.
"""

from __future__ import annotations

import re

from service.backends import paths
from service.errors import BadRequest
from service.models import Scope

MAX_NAME_BYTES = 1024
"""Of a blob's own name and of the object's."""

ODD = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]")
ENCODED = "%"


def object_name(scope: Scope, name: str) -> str:
    """Return the object that holds a blob; raises `BadRequest` for a name that none can have."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError as exc:
        raise BadRequest("A blob's name must be text that UTF-8 can hold.") from exc
    if not 0 < length <= MAX_NAME_BYTES:
        raise BadRequest("A blob's name must not be empty or longer than 1024 bytes.")
    root = root_of(scope)
    plain = f"{root}/{name}"
    if is_plain(scope, name) and len(plain.encode()) <= MAX_NAME_BYTES:
        return plain
    return f"{root}/{ENCODED}/{paths.file_name(name)}"


def root_of(scope: Scope) -> str:
    """What the objects of a scope lie below."""
    return "/".join(short(segment) for segment in paths.root(scope))


def is_encoded(scope: Scope, where: str) -> bool:
    """Whether an object of a scope lies where its blob's name is encoded."""
    return where.startswith(f"{root_of(scope)}/{ENCODED}/")


def blob_name(scope: Scope, where: str, told: str | None) -> str | None:
    """Return the name of the blob that an object holds, None for what is no blob of this scope."""
    name = where.removeprefix(f"{root_of(scope)}/")
    if is_encoded(scope, where):
        file = name.removeprefix(f"{ENCODED}/")
        return told if told is not None or paths.is_cut(file) else paths.decode(file)
    return name if is_plain(scope, name) else None


def is_plain(scope: Scope, name: str) -> bool:
    segments = name.split("/")
    # What an app shares lies beside its users.
    taken = (ENCODED,) if scope.user is not None else (ENCODED, "users")
    return segments[0] not in taken and not ODD.search(name) and not {"", ".", ".."}.intersection(segments)


def short(segment: str) -> str:
    """Cut an encoded segment that would leave no room for a name; it ends in a hash of the whole then."""
    return segment if len(segment) <= paths.LONGEST_FILE_NAME else paths.file_name(paths.decode(segment))
