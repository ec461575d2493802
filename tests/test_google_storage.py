"""What Cloud Storage promises beyond the contract: names, signatures, exactly one effect, and bounded answers."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import google.auth.exceptions
import psutil
import pytest
import requests
import urllib3
from google.api_core import exceptions
from google.cloud.storage import exceptions as storage_exceptions  # type: ignore[import-untyped]
from werkzeug.http import parse_options_header

from service.backends.google.gcs import CloudStorage, failures
from service.backends.google.gcs.names import object_name
from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
from service.errors import BrainstemError, ConfigError, NotFound, TooLarge, Unavailable
from service.models import Scope
from service.proof.process import free_port
from tests.contracts.conftest import SCOPES
from tests.contracts.test_blob_store import NAMES
from tests.kit.apps import write_app
from tests.kit.emulators import Emulators
from tests.kit.gcs import ACCOUNT, BUCKET, Fault, StorageServer, target
from tests.kit.server import ROOT, Server
from tests.kit.upstream import Upstream

ADA, BEN = Scope("recipes", "ada"), Scope("recipes", "ben")
NAME = "documents/d1/original"
OBJECT = "apps/recipes/users/ada/documents/d1/original"
MIB = 1 << 20


@pytest.fixture
def server() -> Iterator[StorageServer]:
    with StorageServer() as running:
        yield running


def store(server: StorageServer, **changes: Any) -> CloudStorage:
    settings = replace(server.settings, **changes)
    return CloudStorage(settings, EnvironmentSecrets(settings), credentials=server.credentials(), server=server.url, iam=server.url)  # fmt: skip


@pytest.fixture
def blobs(server: StorageServer) -> CloudStorage:
    return store(server)


def put(blobs: CloudStorage, content: bytes = b"content", scope: Scope = ADA, name: str = NAME) -> None:
    blob = blobs.put(scope, name, io.BytesIO(content), "text/html")
    assert (blob.bytes, blob.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def read(blobs: CloudStorage, scope: Scope = ADA, name: str = NAME) -> bytes:
    with blobs.open(scope, name) as file:
        return file.read()


def fetch(url: str, method: str = "GET", path: str | None = None) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Make one request with just this path and query, byte for byte."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request(method, path or target(url))
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


# Names


@pytest.mark.parametrize(
    "name",
    ["uploads/notes.pdf", "uploads/Über uns (2).pdf", "uploads/100% Leinen.pdf", "uploads/日本語.txt", "uploads/a b+c&d=e?.md", "uploads/%2e%2e"],
)  # fmt: skip
def test_what_a_client_uploads_is_found_under_its_very_name(
    blobs: CloudStorage, server: StorageServer, name: str
) -> None:
    server.buckets.write(BUCKET, {"name": f"apps/recipes/users/ada/{name}"}, b"from the client", None)
    assert read(blobs, name=name) == b"from the client"
    blobs.delete(ADA, name)
    assert server.buckets.objects == {}


def test_the_service_s_own_files_lie_beside_them(blobs: CloudStorage, server: StorageServer) -> None:
    put(blobs)
    put(blobs, scope=Scope("recipes", None))
    assert [name for _, name in server.buckets.objects] == [OBJECT, "apps/recipes/documents/d1/original"]


def test_no_two_blobs_share_an_object_and_none_leaves_its_scope() -> None:
    scopes = [*SCOPES, Scope("recipes", "日" * 128), Scope("recipes", "日" * 127 + "月")]
    names = [
        *NAMES,
        *(f"%/{name}" for name in NAMES[:20]),
        "users",
        "users/",
        "users/ada%/a",
        "documents/../a",
        "a\x85b",
    ]
    found = {(scope, name): object_name(scope, name) for scope in scopes for name in dict.fromkeys(names)}
    assert len(set(found.values())) == len(found)
    for (scope, _), name in found.items():
        assert len(name.encode()) <= 1024
        assert name.isprintable() or not any(ord(character) < 32 for character in name)
        assert not {"", ".", ".."}.intersection(name.split("/"))
        below = name.removeprefix("apps/").split("/")
        assert (below[1] == "users") == (scope.user is not None)


def test_a_client_cannot_put_what_an_encoded_name_stands_for(blobs: CloudStorage, server: StorageServer) -> None:
    put(blobs, b"ours", name="uploads/..")
    [(_, name)] = server.buckets.objects
    assert not name.startswith("apps/recipes/users/ada/uploads/")
    server.buckets.write(BUCKET, {"name": "apps/recipes/users/ada/uploads/.."}, b"a client's", None)
    assert read(blobs, name="uploads/..") == b"ours"


# What is stored


@pytest.mark.parametrize("size", [0, 1, 8 * MIB, 8 * MIB + 1, 20 * MIB])
def test_an_object_is_private_harmless_and_has_its_checksum(
    blobs: CloudStorage, server: StorageServer, size: int
) -> None:
    content = os.urandom(1024) * (size // 1024) + b"x" * (size % 1024)
    put(blobs, content)
    stored = server.object(OBJECT)
    assert stored.content == content
    assert stored.metadata["contentType"] == "application/octet-stream"
    assert stored.metadata["cacheControl"] == "private, no-store"
    assert stored.metadata["crc32c"] == stored.resource["crc32c"]
    pieces = server.requests.count("piece")
    assert pieces == (0 if size <= 8 * MIB else -(-size // (8 * MIB)))
    assert read(blobs) == content


def test_content_that_cannot_be_read_twice_is_stored_too(blobs: CloudStorage, server: StorageServer) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as file:
        file.write(b"from a pipe")
    with os.fdopen(reading, "rb") as content:
        assert blobs.put(ADA, NAME, content, "text/plain").bytes == 11
    assert server.object(OBJECT).content == b"from a pipe"


def test_content_is_taken_from_where_it_stands(blobs: CloudStorage, server: StorageServer) -> None:
    content = io.BytesIO(b"head, then the rest")
    content.seek(11)
    server.faults = [Fault("upload", "reset")]
    assert blobs.put(ADA, NAME, content, "text/plain").bytes == 8
    assert server.object(OBJECT).content == b"the rest"
    assert len(server.fired) == 1


# Exactly one effect

OPERATIONS = [
    ("upload", 100),
    ("start", 20 * MIB),
    ("piece", 20 * MIB),
]


@pytest.mark.parametrize(("operation", "size"), OPERATIONS)
@pytest.mark.parametrize("kind", ["reset", "lost", "busy"])
@pytest.mark.parametrize("before", [None, b"what was there"])
def test_a_write_whose_attempt_fails_takes_effect_once(
    blobs: CloudStorage, server: StorageServer, operation: str, size: int, kind: str, before: bytes | None
) -> None:
    if before:
        put(blobs, before)
    done = len(server.buckets.writes)
    server.faults = [Fault(operation, kind), Fault(operation, kind)]
    content = b"x" * size
    put(blobs, content)
    assert len(server.fired) == 2
    assert server.object(OBJECT).content == content
    assert len(server.buckets.writes) == done + 1


def test_the_last_piece_may_lose_its_reply(blobs: CloudStorage, server: StorageServer) -> None:
    server.faults = [Fault("piece", "slow"), Fault("piece", "slow"), Fault("piece", "lost")]
    put(blobs, b"y" * 20 * MIB)
    assert [fault.kind for fault in server.fired] == ["slow", "slow", "lost"]
    assert server.buckets.writes == [OBJECT]


@pytest.mark.parametrize("before", [None, b"what was there"])
def test_a_write_that_lost_its_reply_does_not_undo_what_came_after(
    blobs: CloudStorage, server: StorageServer, before: bytes | None
) -> None:
    other = store(server)
    if before:
        put(blobs, before)
    server.faults = [Fault("upload", "lost", then=lambda: put(other, b"later"))]
    put(blobs, b"ours")
    assert read(blobs) == b"later"
    server.faults = [Fault("upload", "lost", then=lambda: other.delete(ADA, NAME))]
    put(blobs, b"ours")
    with pytest.raises(NotFound):
        blobs.open(ADA, NAME)
    assert server.faults == []


def test_a_removal_that_lost_its_reply_does_not_remove_what_came_after(
    blobs: CloudStorage, server: StorageServer
) -> None:
    put(blobs, b"first")
    server.faults = [Fault("remove", "lost", then=lambda: put(store(server), b"later"))]
    blobs.delete(ADA, NAME)
    assert len(server.fired) == 1
    assert read(blobs) == b"later"


@pytest.mark.parametrize("kind", ["reset", "lost", "busy"])
@pytest.mark.parametrize("operation", ["find", "remove", "read", "token"])
def test_an_attempt_that_fails_is_made_again(
    server: StorageServer, blobs: CloudStorage, operation: str, kind: str
) -> None:
    put(store(server))
    server.faults = [Fault(operation, kind), Fault(operation, kind)]
    assert read(blobs) == b"content"
    blobs.delete(ADA, NAME)
    assert len(server.fired) == 2
    assert server.buckets.objects == {}


# Reading


def test_a_download_that_breaks_goes_on_where_it_was(blobs: CloudStorage, server: StorageServer) -> None:
    content = os.urandom(3 * MIB)
    put(blobs, content)
    server.faults = [Fault("read", "cut"), Fault("read", "cut"), Fault("read", "busy")]
    assert read(blobs) == content
    assert [fault.kind for fault in server.fired] == ["cut", "busy", "cut"] or len(server.fired) == 3


def test_the_rest_of_another_version_is_never_read(blobs: CloudStorage, server: StorageServer) -> None:
    put(blobs, b"a" * 3 * MIB)
    replacing = threading.Event()

    def replace_it() -> None:
        put(store(server), b"b" * 3 * MIB)
        replacing.set()

    server.faults = [Fault("read", "cut", then=replace_it)]
    with pytest.raises(Unavailable, match="changed"):
        read(blobs)
    assert replacing.is_set()
    assert read(blobs) == b"b" * 3 * MIB


def test_content_that_was_damaged_is_not_taken(blobs: CloudStorage, server: StorageServer) -> None:
    put(blobs)
    server.faults = [Fault("read", "damaged")]
    with pytest.raises(Unavailable):
        read(blobs)
    assert len(server.fired) == 1
    assert read(blobs) == b"content"


def test_what_a_client_compressed_is_not_unpacked(blobs: CloudStorage, server: StorageServer) -> None:
    metadata = {"name": "apps/recipes/users/ada/uploads/a.txt", "contentEncoding": "gzip"}
    server.buckets.write(BUCKET, metadata, b"\x1f\x8b, a bomb", None)
    assert read(blobs, name="uploads/a.txt") == b"\x1f\x8b, a bomb"


def test_a_reader_that_leaves_early_leaves_nothing_open(blobs: CloudStorage, server: StorageServer) -> None:
    put(blobs, b"x" * 2 * MIB)
    left = []
    for _ in range(10):
        with blobs.open(ADA, NAME) as file:
            assert file.read(10) == b"x" * 10
        left.append(file)
    port = int(server.host.rpartition(":")[2])
    connections = psutil.Process().net_connections("tcp")
    assert len([each for each in connections if each.raddr[1:] == (port,) and each.status == "ESTABLISHED"]) <= 2
    assert len(left) == 10


# Signed URLs

FILENAMES = ['Bericht "2" – ä.pdf', "a.txt", "日本語.md", "a;b,c'd%20e.txt", "a/b\\c.txt", "100% + 1 & 1 = ?#.csv"]


@pytest.mark.parametrize("filename", FILENAMES)
def test_a_signed_url_serves_the_file_as_a_download(blobs: CloudStorage, filename: str) -> None:
    put(blobs, b"<script>")
    url = blobs.sign(ADA, NAME, seconds=600, filename=filename)
    status, headers, content = fetch(url)
    assert (status, content) == (200, b"<script>")
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Cache-Control"] == "private, no-store"
    assert parse_options_header(headers["Content-Disposition"]) == ("attachment", {"filename": filename})


def test_a_filename_adds_no_header(blobs: CloudStorage) -> None:
    put(blobs)
    _, headers, _ = fetch(blobs.sign(ADA, NAME, seconds=600, filename="a\r\nSet-Cookie: x=1\0.txt"))
    assert headers["Set-Cookie"] is None
    assert parse_options_header(headers["Content-Disposition"])[1]["filename"] == "a__Set-Cookie: x=1_.txt"


@pytest.mark.parametrize("name", ["a", "..", "a//b", "é", "日本/語", "x" * 1024, "100% a+b.txt", "a\nb"])
def test_every_name_can_be_signed(blobs: CloudStorage, name: str) -> None:
    put(blobs, name=name)
    assert fetch(blobs.sign(ADA, name, seconds=600, filename="a.txt"))[0] == 200


def test_a_url_expires_after_its_seconds(blobs: CloudStorage, server: StorageServer) -> None:
    put(blobs)
    url = blobs.sign(ADA, NAME, seconds=600, filename="a.txt")
    for seconds, expected in ((595, 200), (601, 400)):
        server.now = lambda seconds=seconds: datetime.now(UTC) + timedelta(seconds=seconds)
        assert fetch(url)[0] == expected


def test_a_url_serves_one_file_to_read_and_nothing_else(blobs: CloudStorage, server: StorageServer) -> None:
    put(blobs, b"ada's")
    put(blobs, b"ben's", scope=BEN)
    url = blobs.sign(ADA, NAME, seconds=600, filename="a.txt")
    other = blobs.sign(BEN, NAME, seconds=600, filename="a.txt")
    wanted = target(url)
    assert fetch(url)[0] == 200
    for method in ("PUT", "POST", "DELETE"):
        assert fetch(url, method)[0] == 403
    path, _, query = wanted.partition("?")
    signature = query.partition("X-Goog-Signature=")[2]
    for changed in (
        wanted.replace("/ada/", "/ben/"),
        wanted.replace("/ada/", "/%61da/"),
        f"{target(other).partition('?')[0]}?{query}",
        wanted.replace("X-Goog-Expires=600", "X-Goog-Expires=604800"),
        wanted.replace("attachment", "inline"),
        wanted.replace("octet-stream", "html"),
        wanted.replace(signature, signature[:-1] + ("0" if signature[-1] != "0" else "1")),
        wanted.replace(signature, ""),
        wanted.replace(quote(ACCOUNT, safe=""), quote("evil@attacker.iam.gserviceaccount.com", safe="")),
        f"{wanted}&generation=1",
        path,
    ):
        status, _, content = fetch(url, path=changed)
        assert (status, b"'s" in content) == (403, False), changed
    assert server.object(OBJECT).content == b"ada's"


def test_a_url_is_not_made_for_what_is_not_there(blobs: CloudStorage) -> None:
    put(blobs, scope=BEN)
    with pytest.raises(NotFound):
        blobs.sign(ADA, NAME, seconds=600, filename="a.txt")


COMPUTE = """
import io, sys
from service.backends.google.gcs import CloudStorage
from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
from service.errors import Unavailable
from service.models import Scope
settings = Settings(storage_bucket="brainstem-files")
blobs = CloudStorage(settings, EnvironmentSecrets(settings), server=sys.argv[1], iam=sys.argv[1])
ada = Scope("recipes", "ada")
blobs.put(ada, "documents/d1/original", io.BytesIO(b"content"), "text/plain")
try:
    print(blobs.sign(ada, "documents/d1/original", seconds=600, filename="a.txt"))
except Unavailable as error:
    print(error.detail)
"""


def on_cloud_run(server: StorageServer, home: Path) -> str:
    """Run the adapter where credentials come from a metadata server, as on Cloud Run, and have no key."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "GCE_METADATA_HOST": server.host, "GCE_METADATA_IP": server.host}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COMPUTE, server.url],
        env=environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_a_key_iam_signs(server: StorageServer, tmp_path: Path) -> None:
    url = on_cloud_run(server, tmp_path)
    assert fetch(url)[::2] == (200, b"content")
    assert server.requests.count("sign") == 1
    assert fetch(url, path=target(url).replace("ada", "ben"))[0] == 403
    server.signs_for.clear()
    assert "roles/iam.serviceAccountTokenCreator" in on_cloud_run(server, tmp_path)


# Failures


def each_call(blobs: CloudStorage) -> dict[str, Callable[[], object]]:
    return {
        "put": lambda: put(blobs),
        "open": lambda: blobs.open(ADA, NAME),
        "sign": lambda: blobs.sign(ADA, NAME, seconds=600, filename="a.txt"),
        "delete": lambda: blobs.delete(ADA, NAME),
        "check": blobs.check,
    }


def fail_all(blobs: CloudStorage, seconds: float) -> dict[str, str]:
    """Make each call, all at once; each must be unavailable within its time. Return in which words."""
    details: dict[str, str] = {}

    def call(name: str, method: Callable[[], object]) -> None:
        started = time.monotonic()
        with pytest.raises(Unavailable, match="Cloud Storage cannot be used: ") as raised:
            method()
        if time.monotonic() - started < seconds:
            details[name] = raised.value.detail

    threads = [threading.Thread(target=call, args=pair) for pair in each_call(blobs).items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(details) == set(each_call(blobs))
    return details


def test_a_server_that_is_busy_hangs_or_is_not_there_is_unavailable_in_ten_seconds(
    server: StorageServer, blobs: CloudStorage
) -> None:
    put(blobs)
    server.down = Fault("", "busy")
    fail_all(blobs, 10)
    server.down = Fault("", "slow", seconds=20)
    fail_all(blobs, 10)
    assert len(server.fired) > 15
    settings = replace(server.settings, storage_emulator_host=f"http://127.0.0.1:{free_port()}")
    fail_all(CloudStorage(settings, EnvironmentSecrets(settings)), 10)


def test_a_bucket_that_is_not_there_is_no_missing_file(server: StorageServer) -> None:
    for detail in fail_all(store(server, storage_bucket="another-bucket"), 10).values():
        assert "STORAGE_BUCKET" in detail


def test_a_role_that_is_missing_is_named(server: StorageServer, blobs: CloudStorage) -> None:
    put(blobs)
    server.down = Fault("", "denied")
    for detail in fail_all(blobs, 10).values():
        assert "roles/storage.objectUser" in detail


def test_a_network_that_answers_in_its_stead_is_unavailable(server: StorageServer, blobs: CloudStorage) -> None:
    put(blobs)
    for operation, call in (("find", "sign"), ("find", "delete"), ("upload", "put"), ("list", "check")):
        server.faults = [Fault(operation, "nonsense")]
        with pytest.raises(Unavailable):
            each_call(blobs)[call]()
        server.faults = []


@pytest.mark.parametrize("name", ["storage_bucket", "google_cloud_project"])
def test_a_setting_that_is_missing_is_named(server: StorageServer, name: str) -> None:
    with pytest.raises(ConfigError, match=name.upper()):
        store(server, **{name: ""})


def test_without_credentials_it_is_unavailable(tmp_path: Path) -> None:
    """No Application Default Credentials and no metadata server: not a crash, and not a wait without end."""
    code = """
from service.backends.google.gcs import CloudStorage
from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
from service.errors import Unavailable
settings = Settings(storage_bucket="b")
try:
    CloudStorage(settings, EnvironmentSecrets(settings)).check()
except Unavailable as error:
    print(error.detail)
"""
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NO_GCE_CHECK": "true"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "Application Default Credentials" in done.stdout, done.stderr


def test_the_adapters_import_nothing_heavy_until_they_are_used() -> None:
    code = """
import sys
from service.backends.google.cloud_tasks import CloudTasks
from service.backends.google.gcs import CloudStorage
from service.backends.google.secrets import SecretManager
from service.config import Settings
settings = Settings(storage_bucket="b", service_url="https://s.example", tasks_service_account="t@example")
secrets = SecretManager(settings)
CloudStorage(settings, secrets), CloudTasks(settings, secrets)
print([name for name in ("google.auth", "google.api_core", "google.protobuf", "grpc", "requests", "urllib3", "google_crc32c") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for below in kind.__subclasses__():
        yield from subclasses(below)


def instance(kind: type[Exception]) -> Exception:
    for count in range(5):
        with suppress(TypeError, AttributeError):
            return kind(*["canary-of-google"] * count)
    raise AssertionError(kind)


def test_every_failure_of_the_libraries_has_a_meaning() -> None:
    roots = [
        exceptions.GoogleAPIError,
        google.auth.exceptions.GoogleAuthError,
        storage_exceptions.InvalidResponse,
        storage_exceptions.DataCorruption,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        http.client.HTTPException,
        OSError,
    ]
    kinds = [kind for root in roots for kind in subclasses(root) if kind.__module__.partition(".")[0] != "service"]
    assert len(kinds) > 100
    for kind in kinds:
        assert issubclass(kind, failures.FAILURES)
        try:
            error = failures.mapped(instance(kind))
        except AssertionError:
            continue  # one that no words make: it is mapped as the class above it is
        expected = NotFound if issubclass(kind, exceptions.NotFound) else Unavailable
        assert type(error) is expected, kind
        assert "canary" not in error.detail


def test_every_status_has_a_meaning() -> None:
    expected: dict[int, type[BrainstemError]] = {404: NotFound, 413: TooLarge}
    for status in range(300, 1000):
        error = failures.mapped(exceptions.from_http_status(status, "canary"))  # type: ignore[no-untyped-call]
        assert type(error) is expected.get(status, Unavailable)
        assert "canary" not in error.detail


# Firebase's own emulator


@pytest.fixture
def emulated(firebase: Emulators) -> CloudStorage:
    settings = Settings(
        storage_bucket=f"{uuid.uuid4().hex}.appspot.com",
        storage_emulator_host=firebase.environ["STORAGE_EMULATOR_HOST"],
    )
    return CloudStorage(settings, EnvironmentSecrets(settings))


def test_the_emulator_keeps_a_file_of_many_pieces_whole(emulated: CloudStorage) -> None:
    content = os.urandom(20 * MIB)
    put(emulated, content)
    assert read(emulated) == content


@pytest.mark.parametrize("name", [NAME, "..", "Über uns 100%.pdf"])
def test_the_emulator_serves_a_download(emulated: CloudStorage, name: str) -> None:
    put(emulated, name=name)
    status, headers, content = fetch(emulated.sign(ADA, name, seconds=600, filename="a.txt"))
    assert (status, content) == (200, b"content")
    assert headers["Content-Disposition"].startswith("attachment")
    assert headers["Content-Type"] == "application/octet-stream"


def test_an_original_can_be_downloaded_from_the_emulator(
    firebase: Emulators, tmp_path: Path, upstream: Upstream
) -> None:
    """As `make emulators` has it: the whole service, its files in the emulator."""
    write_app(tmp_path / "apps", "alpha", "")
    environ = {
        "BACKEND_BLOBS": "google",
        "STORAGE_EMULATOR_HOST": firebase.environ["STORAGE_EMULATOR_HOST"],
        "STORAGE_BUCKET": f"{uuid.uuid4().hex}.appspot.com",
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "sk-canary-key",
    }
    with Server(tmp_path / "data", environ, tmp_path / "apps") as running:
        headers = running.sign_in()
        document = running.upload("alpha", "notes.md", b"# Tea", headers)
        assert document["status"] == "COMPLETED"
        where = f"/v1/apps/alpha/documents/{document['id']}/original"
        status, link = running.request("GET", where, headers=headers)
        assert status == 200
        assert fetch(link["url"])[::2] == (200, b"# Tea")
        assert running.request("GET", where, headers=running.sign_in("ben"))[0] == 404


@pytest.mark.parametrize("name", ["uploads/notes.pdf", "uploads/Über uns 100%.pdf"])
def test_what_firebases_sdk_uploads_is_found_under_its_name(
    emulated: CloudStorage, firebase: Emulators, name: str
) -> None:
    bucket = emulated._objects.name
    url = f"{firebase.environ['STORAGE_EMULATOR_HOST']}/v0/b/{bucket}/o?name={quote(f'apps/recipes/users/ada/{name}', safe='')}"
    headers = {"Authorization": "Bearer owner", "Content-Type": "application/pdf", "X-Goog-Upload-Protocol": "raw"}
    request = urllib.request.Request(url, b"from the client", headers, method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        assert json.load(response)["name"] == f"apps/recipes/users/ada/{name}"
    assert read(emulated, name=name) == b"from the client"
    emulated.delete(ADA, name)
    with pytest.raises(NotFound):
        emulated.open(ADA, name)
