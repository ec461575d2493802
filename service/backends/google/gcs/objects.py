"""The objects of one bucket: each call bounded in time and attempts, and Google's errors made ours.

What has no content takes 10 seconds at most, with all its calls and attempts; an upload takes longer by its size, a download by its reader.
"""

from __future__ import annotations

import base64
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, unquote

from service.config import Settings

if TYPE_CHECKING:
    import requests
    from google.auth.credentials import Credentials
    from google.auth.transport.requests import AuthorizedSession
    from google.cloud.storage import Blob, Bucket  # type: ignore[import-untyped]

SERVER = "https://storage.googleapis.com"
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
CONNECTIONS = 64

CALL_SECONDS = 10.0
TRYING_SECONDS = 3.2
"""No attempt at a call begins later than so after the first."""

SILENCE = (1.0, 3.0)
"""Seconds to connect, and without a byte of the answer."""

UPLOAD_SILENCE = (2.0, 10.0)
BYTES_A_SECOND = 500_000
"""How slow an upload may be before it is not tried again."""

PAGE = 1000
TOLD = "brainstem-name"
"""The metadata that holds a blob's name, percent-encoded, for metadata is ASCII."""

PIECE_BYTES = 8 << 20
"""What of a larger upload is in memory at once. Emulators take an upload as one piece."""


@dataclass(frozen=True, slots=True)
class Content:
    """What to upload: `file` from `start` on, with the checksum that Cloud Storage shall find too (base64)."""

    file: BinaryIO
    start: int
    bytes: int
    crc32c: str


def encoded(crc32c: int) -> str:
    """Return a checksum as Cloud Storage writes it."""
    return base64.b64encode(crc32c.to_bytes(4, "big")).decode()


class Deadline:
    """The end of what is done for one caller, whose calls share the time."""

    def __init__(self, seconds: float = CALL_SECONDS) -> None:
        self._end = time.monotonic() + seconds

    @property
    def trying(self) -> float:
        """Seconds within which the attempts at a call may begin, so that the last one ends in time."""
        return max(min(TRYING_SECONDS, self._end - time.monotonic() - sum(SILENCE)), 0.001)


class Objects:
    """A bucket, whose client is made with the first call and shared by all threads."""

    def __init__(self, settings: Settings, credentials: Credentials | None, server: str) -> None:
        self.emulator = settings.storage_emulator_host.rstrip("/")
        self.server = self.emulator or server
        self.name = settings.storage_bucket
        self._project = settings.google_cloud_project
        self._credentials = credentials
        self._lock = threading.Lock()
        self._session: AuthorizedSession | None = None
        self._bucket: Bucket | None = None

    def generation(self, name: str, deadline: Deadline) -> int:
        """Return the number that an object has until it is written anew, 0 if it is not there."""
        from google.api_core.exceptions import NotFound

        from service.backends.google.gcs import failures

        with failures.mapping():
            blob = self.blob(name)
            try:
                blob.reload(retry=failures.policy(deadline.trying), timeout=SILENCE)
            except NotFound as exc:
                if failures.is_absence(exc):
                    return 0
                raise
            return blob.generation or 0

    def write(self, name: str, content: Content, generation: int, told: str | None = None) -> None:
        """Write an object whole, unless it has another generation by then; `told` is the blob's name, if the object's does not tell it."""
        from google.api_core.exceptions import PreconditionFailed

        from service.backends.google.gcs import failures

        with failures.mapping():
            blob = self.blob(name)
            blob.crc32c = content.crc32c
            if told is not None:
                blob.metadata = {TOLD: quote(told, safe="")}
            blob.cache_control = "private, no-store"
            blob.chunk_size = None if self.emulator else PIECE_BYTES
            content.file.seek(content.start)
            try:
                blob.upload_from_file(
                    content.file,
                    size=content.bytes,
                    # What a user sent must never run in a browser; the media type stands in the document's record.
                    content_type="application/octet-stream",
                    if_generation_match=generation,
                    checksum=None,  # it is given above, so that the server refuses what differs before it is stored
                    retry=failures.policy(TRYING_SECONDS + content.bytes / BYTES_A_SECOND),
                    timeout=UPLOAD_SILENCE,
                )
            except PreconditionFailed:
                return

    def remove(self, name: str, generation: int, deadline: Deadline) -> None:
        """Remove an object if it is there with this generation."""
        from google.api_core.exceptions import NotFound, PreconditionFailed

        from service.backends.google.gcs import failures

        with failures.mapping():
            try:
                self.blob(name).delete(
                    if_generation_match=generation, retry=failures.policy(deadline.trying), timeout=SILENCE
                )
            except PreconditionFailed:
                return
            except NotFound as exc:
                if not failures.is_absence(exc):
                    raise

    def read(self, name: str, start: int = 0, generation: int | None = None) -> requests.Response:
        """Ask for an object from a byte on; the body is yet to be read. Raises `NotFound`."""
        from google.api_core.exceptions import from_http_response

        from service.backends.google.gcs import failures

        url = f"{self.server}/download/storage/v1/b/{quote(self.name, safe='')}/o/{quote(name, safe='')}"
        # Bytes as they are stored: what a client uploaded as gzip must not be unpacked to any size.
        headers = {"Accept-Encoding": "gzip", **({"Range": f"bytes={start}-"} if start else {})}
        params = {"alt": "media", **({} if generation is None else {"generation": str(generation)})}

        def ask() -> requests.Response:
            response = self.session().get(url, params=params, headers=headers, timeout=SILENCE, stream=True)
            if response.status_code not in (200, 206):
                raise from_http_response(response)  # type: ignore[no-untyped-call]
            return response

        with failures.mapping():
            return failures.policy(TRYING_SECONDS)(ask)()

    def listed(self, prefix: str) -> Iterator[tuple[str, str | None]]:
        """Yield the name of each object that begins with a prefix, and the name that it was told to be a blob's."""
        from service.backends.google.gcs import failures

        with failures.mapping():
            bucket = self._open()
            listed = bucket.client.list_blobs(
                bucket,
                prefix=prefix,
                page_size=PAGE,
                fields="items(name,metadata),nextPageToken",
                retry=failures.policy(TRYING_SECONDS),
                timeout=SILENCE,
            )
            for blob in listed:
                told = (blob.metadata or {}).get(TOLD)
                yield blob.name, told and unquote(told)

    def check(self) -> None:
        """Raise `Unavailable` if the bucket is not there or we may not read it."""
        from service.backends.google.gcs import failures

        with failures.mapping():
            bucket = self._open()
            listed = bucket.client.list_blobs(
                bucket,
                max_results=1,
                fields="items(name)",
                retry=failures.policy(TRYING_SECONDS),
                timeout=SILENCE,
            )
            for _ in listed:
                pass

    def blob(self, name: str) -> Blob:
        return self._open().blob(name)

    def session(self) -> AuthorizedSession:
        self._open()
        assert self._session
        return self._session

    def credentials(self) -> Credentials:
        credentials: Credentials = self.session().credentials
        return credentials

    def _open(self) -> Bucket:
        with self._lock:
            if self._bucket is None:
                from google.cloud.storage import Client

                self._session = self._sign_in()
                # Nothing closes an adapter, so its connections end with it.
                weakref.finalize(self, self._session.close)
                client = Client(
                    project=self._project,
                    credentials=self._session.credentials,
                    _http=self._session,
                    client_options={"api_endpoint": self.server},
                )
                self._bucket = client.bucket(self.name)
            return self._bucket

    def _sign_in(self) -> AuthorizedSession:
        """Make a session with Application Default Credentials, or with none for an emulator."""
        import google.auth
        import requests
        from google.auth.credentials import AnonymousCredentials
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import AuthorizedSession

        from service.backends.google.gcs import failures

        credentials = AnonymousCredentials() if self.emulator else self._credentials  # type: ignore[no-untyped-call]
        try:
            if credentials is None:
                credentials, _ = google.auth.default(scopes=SCOPES)
        except GoogleAuthError as exc:
            raise failures.mapped(exc) from None
        session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
        session.trust_env = not self.emulator  # a proxy of this machine does not lead to an emulator
        for scheme in ("https://", "http://"):
            session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS))
        return session
