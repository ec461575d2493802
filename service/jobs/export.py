"""Export: everything of a user in one app as files that they can keep, made in parts, each of which is there once it is written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, TypeAlias, cast

from service.backends.interfaces import Backends, Path, Query, Snapshot
from service.errors import NotFound, Superseded
from service.ingestion.pipeline import blob_name
from service.jobs import artifacts
from service.jobs.attempt import Attempt, Handler, Result
from service.jobs.orders import Input, Order
from service.jobs.parts import Line, Part, file_name
from service.jobs.slices import Slice
from service.models import JSON, Artifact, Job, Scope
from service.records import from_record, to_record

PART_BYTES = 64 << 20
"""When a part is this large the next one is begun. Its draft lies in the folder for temporary files, which may be memory."""

PAGE = 100
ROWS = 500
KIND = "export"

Cursor: TypeAlias = tuple[str | int | float, str]


class Export(Input, frozen=True):
    """An export takes no input: it is of everything."""


@dataclass(frozen=True, slots=True)
class Section:
    """A collection of a user's, in the order of a field that every one of its documents has."""

    collection: str
    order_by: str
    title: str
    together: bool = False
    """Whether a page of it is one file."""


SECTIONS = (
    Section("chats", "updated", "Chats"),
    Section("documents", "created", "Documents"),
    Section("data", "updated", "Data"),
    Section("calls", "created", "Usage", together=True),
    Section("jobs", "created", "Jobs"),
    Section("flows", "updated", "Flows"),
)
STEPS = len(SECTIONS) + 1
"""The last is what was uploaded and not read yet."""


class Exports:
    """Exports users of apps."""

    def __init__(self, backends: Backends, *, part_bytes: int = PART_BYTES) -> None:
        self._backends = backends
        self.part_bytes = part_bytes

    @property
    def handler(self) -> Handler:
        return Handler(run=self._run, fail=self._fail)

    @property
    def order(self) -> Order:
        return Order(own=Export)

    def _run(self, attempt: Attempt) -> Result:
        exporting = Exporting(self._backends, attempt, self.part_bytes)
        made = exporting.run()
        artifacts.tidy(self._backends.blobs, attempt, made)
        output: JSON = {"parts": len(made), "files": dict(exporting.counts)}
        return Result(output=output, artifacts=made)

    def _fail(self, scope: Scope, job: Job, reason: str) -> None:
        """Remove the parts of an export that comes to nothing."""
        artifacts.clear(self._backends.blobs, scope, job.id)


class Exporting:
    """One attempt at an export, which goes on behind the last part that is written."""

    def __init__(self, backends: Backends, attempt: Attempt, part_bytes: int) -> None:
        self._documents, self._blobs = backends.documents, backends.blobs
        self._attempt = attempt
        self._scope = attempt.scope
        self._part_bytes = part_bytes
        self._slice = Slice(attempt)
        state = attempt.job.state or {}
        self._section: int = state.get("section", 0)
        self._after: Cursor | None = tuple(state["after"]) if state.get("after") else None
        self._made = [from_record(Artifact, record) for record in state.get("parts", ())]
        self.counts: dict[str, int] = dict(state.get("counts", {}))

    def run(self) -> tuple[Artifact, ...]:
        """Write the parts that are missing; raises `Unfinished` and `Superseded`."""
        while self._section < STEPS:
            with tempfile.TemporaryFile() as draft:
                with Part(
                    cast("BinaryIO", draft), f"Everything of {self._scope.app}, part {len(self._made) + 1}"
                ) as part:
                    self._fill(part)
                draft.seek(0)
                self._put(cast("BinaryIO", draft))
        return tuple(self._made)

    def _fill(self, part: Part) -> None:
        """Add files to a part until it is large or everything is written."""
        for section in SECTIONS[self._section :]:
            add = partial(self._add_rows, part, section) if section.together else partial(self._add_each, part, section)
            while page := self._page(section):
                add(page)
                if part.bytes >= self._part_bytes:
                    return
            self._section, self._after = self._section + 1, None
        for name in self._blobs.names(self._scope, "uploads/"):
            self._add_blob(part, Line("Uploads", name[8:], f"uploads/{file_name(name[8:])}", "not read yet"), name)
        self._section += 1

    def _page(self, section: Section) -> list[Snapshot]:
        self._attempt.save(done=self._section, total=STEPS, note=f"Writing {section.title.lower()}")
        limit = ROWS if section.together else PAGE
        return self._documents.query(
            self._scope, Query((section.collection,), section.order_by, after=self._after, limit=limit)
        )

    def _put(self, draft: BinaryIO) -> None:
        name = f"{KIND}-{len(self._made) + 1}.zip"
        made = artifacts.put(self._blobs, self._attempt, name, draft, "application/zip")
        self._made.append(made)
        try:
            self._slice.step(self._state(), self._section, STEPS, "Writing", now=True)
        except Superseded:
            # Whoever took the job away, or erased its user, has seen nothing of this file.
            self._blobs.delete(self._scope, made.blob)
            raise

    def _state(self) -> JSON:
        parts: list[JSON] = [to_record(made) for made in self._made]
        after: JSON = list(self._after) if self._after else None
        return {"section": self._section, "after": after, "parts": parts, "counts": dict(self.counts)}

    def _add_each(self, part: Part, section: Section, page: list[Snapshot]) -> None:
        adders = {"chats": self._add_chat, "documents": self._add_document, "jobs": self._add_job}
        for found in page:
            adders.get(section.collection, self._add_plain)(part, section, found)
            self._count(section, found)
            if part.bytes >= self._part_bytes:
                return

    def _add_rows(self, part: Part, section: Section, page: list[Snapshot]) -> None:
        first, last = str(page[0].data["created"])[:10], str(page[-1].data["created"])[:10]
        number = self.counts.get(section.collection, 0)
        name = f"{section.collection}/{number:08}.json"
        line = Line(section.title, f"{first} to {last}", name, f"{len(page)} calls")
        part.json(line, {}, section.collection, (dict(found.data) for found in page))
        for found in page:
            self._count(section, found)

    def _add_plain(self, part: Part, section: Section, found: Snapshot) -> None:
        name = found.path[-1]
        line = Line(
            section.title, name, f"{section.collection}/{file_name(name)}.json", str(found.data[section.order_by])
        )
        part.json(line, {"id": name, **found.data})

    def _add_chat(self, part: Part, section: Section, found: Snapshot) -> None:
        name, data = found.path[-1], found.data
        note = f"{data.get('turns', 0)} turns, {str(data['updated'])[:10]}"
        line = Line(section.title, str(data.get("title") or name), f"chats/{file_name(name)}.json", note)
        part.json(line, {"id": name, **data}, "messages", self._every((*found.path, "turns"), "seq"))

    def _add_document(self, part: Part, section: Section, found: Snapshot) -> None:
        name, title = found.path[-1], str(found.data.get("title") or "Untitled")
        folder = f"documents/{file_name(name)}"
        part.json(Line(section.title, f"{title}, what is known of it", f"{folder}/document.json", ""), {**found.data})
        original = Line(
            section.title, title, f"{folder}/original/{file_name(title)}", f"{found.data.get('bytes')} bytes"
        )
        self._add_blob(part, original, blob_name(name))

    def _add_job(self, part: Part, section: Section, found: Snapshot) -> None:
        self._add_plain(part, section, found)
        job = from_record(Job, found.data)
        for made in job.artifacts if job.kind != KIND else ():
            name = f"jobs/{file_name(job.id)}/{file_name(made.name)}"
            self._add_blob(part, Line(section.title, made.name, name, f"{made.bytes} bytes"), made.blob)

    def _add_blob(self, part: Part, line: Line, blob: str) -> None:
        with suppress(NotFound), self._blobs.open(self._scope, blob) as content:
            part.file(line, content)

    def _every(self, collection: Path, order_by: str) -> Iterator[JSON]:
        after: Cursor | None = None
        while page := self._documents.query(self._scope, Query(collection, order_by, after=after, limit=PAGE)):
            yield from (dict(found.data) for found in page)
            after = position(page[-1], order_by)

    def _count(self, section: Section, found: Snapshot) -> None:
        self.counts[section.collection] = self.counts.get(section.collection, 0) + 1
        self._after = position(found, section.order_by)


def position(found: Snapshot, order_by: str) -> Cursor:
    value = found.data[order_by]
    assert isinstance(value, str | int | float)
    return value, found.path[-1]
