"""Documents in Firestore, with every commit marked, so that its author can tell whether it was applied.

Two things that the store promises Firestore alone does not keep. A write that changes nothing leaves the document's update time, which
is its version, as it was. And a commit whose reply is lost is refused when it is sent again, by its own doing. So each commit
writes a random text of its own into the field `_commit` of every document that it writes: no write changes nothing, and who finds
their text there knows that all of their commit was applied. Readers of this store never see the field,
nor `_app`, by which the collections that an app's admins read of all users are found.

Transactions and increments are not used: both do the wrong thing when a reply is lost, and transactions wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_urlsafe

from service.backends import checks, paths
from service.backends.checks import COMMIT
from service.backends.google.firestore.connection import Connection, Deadline, Failed, Message
from service.backends.google.firestore.indexes import APP
from service.backends.interfaces import Delete, Path, Query, Secrets, Set, Snapshot, Write
from service.config import Settings
from service.errors import Unavailable
from service.models import JSON, Scope

WHAT = "The document store"


class FirestoreDocuments:
    """The document store of the cloud; a document's version is its update time. A commit names each document once."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self._connection = Connection(settings)

    def get(self, scope: Scope, *paths: Path) -> list[Snapshot | None]:
        from service.backends.google.firestore import messages

        found = self._read([checks.place(scope, path) for path in paths])
        return [
            reply and snapshot(path, reply.found, messages.from_fields(reply.found.fields), reply.read_time)
            for path, reply in zip(paths, found, strict=True)
        ]

    def query(self, scope: Scope, query: Query) -> list[Snapshot]:
        from service.backends.google.firestore import messages, statements

        checks.check_query(scope, query)
        request = statements.run_query(self._connection, scope, query)
        size = statements.page_size(query)
        found: list[Snapshot] = []
        while len(found) < query.limit:
            page = [reply for reply in self._send("RunQuery", request) if reply.HasField("document")]
            for reply in page:
                data = messages.from_fields(reply.document.fields)
                if path := statements.found(scope, query, self._place(reply.document.name), data):
                    found.append(snapshot(path, reply.document, data, reply.read_time))
            if len(page) < size or len(found) >= query.limit:
                break
            statements.continue_after(request, query, page[-1].document)
        return found[: query.limit]

    def commit(self, scope: Scope, writes: Sequence[Write]) -> list[str]:
        from service.backends.google.firestore.writes import commit_request

        places = [checks.place(scope, write.path) for write in writes]
        checks.check_writes(places, writes)
        if not writes:
            return []
        mark = token_urlsafe(12)
        request = commit_request(self._connection, places, writes, mark)
        self._connection.open()
        deadline = Deadline()
        try:
            [[reply]] = self._connection.send("Commit", request, deadline=deadline)
        except Failed as failed:
            from service.backends.google.firestore import failures

            if failed.doubtful and failed.code in failures.REFUSED:
                return self._confirmed(places, writes, mark, deadline)
            raise failures.mapped(failed, WHAT, conditional=any(map(is_conditional, writes))) from None
        return [version(result.update_time) for result in reply.write_results]

    def everything(self, scope: Scope, after: Path = (), limit: int = 500) -> list[Path]:
        from service.backends.google.firestore import statements

        checks.check_user(scope)
        behind = checks.place(scope, after) if after else ()
        request = statements.run_everything(self._connection, paths.root(scope), behind, limit)
        found = [
            self._place(reply.document.name) for reply in self._send("RunQuery", request) if reply.HasField("document")
        ]
        return [tuple(map(paths.decode, place[len(paths.root(scope)) :])) for place in found]

    def check(self) -> None:
        """Read a document that need not be there."""
        self._read([("apps", "ready")])

    def _confirmed(self, places: Sequence[Path], writes: Sequence[Write], mark: str, deadline: Deadline) -> list[str]:
        """Return the versions that a commit gave if an attempt at it was applied before another was refused.

        A commit of deletes alone leaves no mark: it counts as done once its documents are gone, whoever removed them.
        Raises `Unavailable` where it cannot be told, for others may have written over every mark.
        """
        kept = [place for place, write in zip(places, writes, strict=True) if not isinstance(write, Delete)]
        found = [reply.found for reply in self._read(kept or places, [COMMIT], deadline) if reply]
        if not kept and not found:
            return [""] * len(writes)
        for document in found:
            if document.fields[COMMIT].string_value == mark:
                # All writes of a commit have the same update time.
                return ["" if isinstance(write, Delete) else version(document.update_time) for write in writes]
        raise Unavailable(
            "It cannot be told whether a change was made, for others made theirs meanwhile. Look, and try again."
        )

    def _read(
        self, places: Sequence[Path], fields: Sequence[str] = (), deadline: Deadline | None = None
    ) -> list[Message | None]:
        """Return what was found at each place, with all or only some of its fields."""
        from service.backends.google.firestore import messages

        if not places:
            return []
        names = [self._connection.name(place) for place in places]
        request = messages.BatchGetDocumentsRequest(database=self._connection.database, documents=dict.fromkeys(names))
        if fields:
            request.mask.field_paths.extend(map(messages.field_path, fields))
        replies = self._send("BatchGetDocuments", request, deadline)
        found = {reply.found.name: reply for reply in replies if reply.HasField("found")}
        return [found.get(name) for name in names]

    def _send(self, method: str, request: Message, deadline: Deadline | None = None) -> list[Message]:
        try:
            [replies] = self._connection.send(method, request, deadline=deadline)
        except Failed as failed:
            from service.backends.google.firestore import failures

            raise failures.mapped(failed, WHAT) from None
        return replies

    def _place(self, name: str) -> Path:
        return tuple(name.removeprefix(f"{self._connection.root}/").split("/"))


def is_conditional(write: Write) -> bool:
    return not isinstance(write, Set) and not (isinstance(write, Delete) and write.version is None)


def version(update_time: Message) -> str:
    """Return an update time to the nanosecond, "" for that of a delete."""
    return f"{update_time.seconds}.{update_time.nanos:09}" if update_time.seconds else ""


def snapshot(path: Path, document: Message, data: dict[str, JSON], read: Message) -> Snapshot:
    data.pop(COMMIT, None)
    data.pop(APP, None)
    written = document.update_time
    age = read.seconds - written.seconds + (read.nanos - written.nanos) / 1e9
    return Snapshot(path, data, version(written), max(0.0, age))
