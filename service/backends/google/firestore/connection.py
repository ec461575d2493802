"""The channel to a Firestore database, and the loop that tries a call again within its deadline.

The calls go through bare gRPC stubs with the SDK's own messages. A read of two documents by the SDK's high-level client took
1.35 ms of CPU here, by its generated client 1.29 ms and by a stub 1.09 ms, or two thirds of that without a thread for each call; but
what decides is that a stub leaves retries and deadlines to us alone, shows each failure as it came, and answers several requests in one
round trip.
"""

from __future__ import annotations

import random
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlencode

from service.config import Settings

if TYPE_CHECKING:
    import grpc

Message: TypeAlias = Any
"""A protocol buffer of `google.firestore.v1`; their classes are made at run time and have no types."""

SERVER = "firestore.googleapis.com:443"
SCOPES = ("https://www.googleapis.com/auth/datastore",)

CALL_SECONDS = 4.8
"""What a call takes at most, with all its attempts and pauses."""

ATTEMPT_SECONDS = 3.0
LEAST_SECONDS = 0.3
"""With less time left, no further attempt is made."""

OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),
    # Whoever waits for the replies takes them off the wire; without this, gRPC starts a thread for each call.
    ("SingleThreadedUnaryStream", 1),
    ("grpc.keepalive_time_ms", 30_000),
    # A database that is back is found within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class Deadline:
    """The end of a call."""

    def __init__(self, seconds: float = CALL_SECONDS) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._end - time.monotonic()

    def attempt(self) -> float:
        """Return the seconds that an attempt may take; the first leaves time for another."""
        return max(min(self.left, ATTEMPT_SECONDS), 0.001)


class Failed(Exception):
    """A call that failed for good; `doubtful` tells that an earlier attempt at it may have taken effect."""

    def __init__(self, code: grpc.StatusCode, details: str, doubtful: bool) -> None:
        super().__init__(code)
        self.code = code
        self.details = details
        self.doubtful = doubtful


class OneReply:
    """A call with one reply, to be read like a stream. It is made when it is read, which takes less than a stream of one."""

    def __init__(self, stub: Any, request: Message, **options: Any) -> None:
        self._call = partial(stub, request, **options)

    def __iter__(self) -> Iterator[Message]:
        yield self._call()

    def cancel(self) -> None:
        """Do nothing, for nothing is under way."""


class Connection:
    """One database, whose channel is made with the first call and shared by all threads."""

    def __init__(self, settings: Settings) -> None:
        settings.require("The Firestore adapter", "google_cloud_project", "firestore_database")
        project, database = settings.google_cloud_project, settings.firestore_database
        self.database = f"projects/{project}/databases/{database}"
        self.root = f"{self.database}/documents"
        self._emulator = settings.firestore_emulator_host
        self._metadata = [
            ("google-cloud-resource-prefix", self.database),
            ("x-goog-request-params", urlencode({"project_id": project, "database_id": database})),
            *([("authorization", "Bearer owner")] if self._emulator else []),
        ]
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._stubs: dict[str, Any] = {}

    def send(self, method: str, *requests: Message, deadline: Deadline | None = None) -> list[list[Message]]:
        """Send requests of one method at once (commits one after the other) and return the replies to each; raises `Failed`.

        Reads and commits alike are tried again while it may help: who commits sees to it that a second time does no harm.
        """
        self.open()
        deadline = deadline or Deadline()
        calls: list[Any] = []
        try:
            calls += [self._start(method, request, deadline) for request in requests]
            return [self._finish(method, *pair, deadline) for pair in zip(requests, calls, strict=True)]
        except BaseException:
            for call in calls:
                call.cancel()
            raise

    def _finish(self, method: str, request: Message, call: Any, deadline: Deadline) -> list[Message]:
        import grpc

        attempt, doubtful = 0, False
        while True:
            try:
                return list(call)
            except grpc.RpcError as exc:
                from service.backends.google.firestore import failures

                code, details = failures.read(exc)
            pause = random.uniform(0.05, 0.1) * 2**attempt  # noqa: S311  # it spreads attempts and guards nothing
            if not failures.another_attempt(code, attempt, deadline.left - pause):
                raise Failed(code, details, doubtful)
            doubtful = doubtful or code in failures.DOUBTFUL
            time.sleep(pause)
            attempt += 1
            call = self._start(method, request, deadline)

    def _start(self, method: str, request: Message, deadline: Deadline) -> Any:
        stub = self._stubs.get(method) or self._stub(method)
        return stub(request, timeout=deadline.attempt(), metadata=self._metadata)

    def _stub(self, method: str) -> Any:
        from service.backends.google.firestore import messages

        channel = self.open()
        stub = (channel.unary_unary if method == "Commit" else channel.unary_stream)(
            f"/google.firestore.v1.Firestore/{method}",
            request_serializer=messages.serialize,
            response_deserializer=messages.REPLIES[method].FromString,
        )
        return self._stubs.setdefault(method, partial(OneReply, stub) if method == "Commit" else stub)

    def name(self, place: Sequence[str]) -> str:
        """Return the name of the document at a place, or of what documents lie below."""
        return "/".join((self.root, *place))

    def open(self) -> grpc.Channel:
        """Return the channel; what the first call imports does not count against its deadline."""
        if self._channel:
            return self._channel
        from service.backends.google.firestore import failures, messages  # noqa: F401

        with self._lock:
            if self._channel is None:
                self._channel = emulator_channel(self._emulator) if self._emulator else cloud_channel()
                # Nothing closes an adapter, so its channel ends with it.
                weakref.finalize(self, self._channel.close)
            return self._channel


def emulator_channel(host: str) -> grpc.Channel:
    import grpc

    return grpc.insecure_channel(host, [*OPTIONS, ("grpc.enable_http_proxy", 0)])


def cloud_channel() -> grpc.Channel:
    """Sign in with Application Default Credentials; raises `Unavailable` if there are none."""
    import google.auth
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.grpc import secure_authorized_channel
    from google.auth.transport.requests import Request

    from service.backends.google.firestore import failures

    try:
        credentials, _ = google.auth.default(scopes=SCOPES)
        return secure_authorized_channel(credentials, Request(), SERVER, options=OPTIONS)  # type: ignore[no-untyped-call]
    except GoogleAuthError:
        raise failures.no_credentials() from None
