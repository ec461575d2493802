"""The time to the first token when everything behind the service takes its time, beside the slowest branch alone.

Firestore is the emulator behind a proxy that delays each call; Vertex AI Vector Search, the embedder and the model are scripted servers
with delays of their own. The emulator, the proxy and those servers need time themselves, so the slowest branch is also measured as it is:
alone, through the same adapters, against the same servers.
"""

from __future__ import annotations

import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from service.backends import registry
from service.config import Settings
from service.models import Scope
from service.services import assemble
from tests.kit.apps import write_app
from tests.kit.emulators import why_none
from tests.kit.server import ROOT, Server

if TYPE_CHECKING:
    from tests.kit.emulators import Emulators

STREAM = {"Accept": "text/event-stream"}
FIRESTORE, EMBEDDING, VECTORS, MODEL = 0.008, 0.040, 0.015, 0.300
BRANCHES = {
    "accept: read, commit": 2 * FIRESTORE,
    "history": FIRESTORE,
    "user data": FIRESTORE,
    "embed, search, neighbours": EMBEDDING + VECTORS + FIRESTORE,
}
TURNS = 60
TEXT = "\n\n".join(f"# Part {n}\n\nThe zebra crossing number {n} lies behind the old mill." for n in range(40)).encode()


@contextmanager
def upstream(*options: str) -> Iterator[str]:
    """The scripted provider as a process of its own, so that it takes no time from ours."""
    command = [sys.executable, "-m", "tests.kit.upstream", "--port", "0", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().strip().split()[-1]
    finally:
        process.terminate()
        process.wait(10)


class Target:
    """One keep-alive connection that sends the same kind of request again and again."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        address = urlsplit(url)
        assert address.hostname
        self._connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        self._headers = {"Content-Type": "application/json", **headers}

    def first(self, path: str, body: object, mark: bytes) -> float:
        """Return the seconds until `mark` came; the rest of the answer is read too."""
        start = time.perf_counter()
        self._connection.request("POST", path, json.dumps(body), self._headers)
        response = self._connection.getresponse()
        first, seen = 0.0, b""
        while block := response.read1(65_536):
            seen = seen[-64:] + block
            if not first and mark in seen:
                first = time.perf_counter() - start
        response.close()
        assert response.status == 200, seen
        assert first, seen
        return first


def run() -> None:
    """Print the median time to the first token beside the sum that it should be."""
    if why := why_none():
        print(f"left out: {why}")
        return
    from tests.kit.emulators import emulators

    with emulators("firestore") as firebase, tempfile.TemporaryDirectory() as folder:
        measure(firebase, Path(folder))


def measure(firebase: Emulators, folder: Path) -> None:
    from tests.kit.firestore_proxy import FirestoreProxy
    from tests.kit.vertex import VertexServer

    write_app(folder / "apps", "alpha", '[context]\ndata = ["profile"]\n')
    with (
        FirestoreProxy(firebase.hosts["firestore"]) as firestore,
        VertexServer() as vertex,
        upstream("--words", "20", "--first", str(MODEL), "--embedding", str(EMBEDDING)) as model,
    ):
        vertex.faults.delay = VECTORS
        chosen = vertex.settings
        environ = {
            "OPENAI_BASE_URL": model,
            "OPENAI_API_KEY": "none",
            "BACKEND_DOCUMENTS": "google",
            "BACKEND_VECTORS": "vertex",
            "FIRESTORE_EMULATOR_HOST": firestore.host,
            "VERTEX_EMULATOR_HOST": chosen.vertex_emulator_host,
            "VERTEX_INDEX": chosen.vertex_index,
            "VERTEX_INDEX_ENDPOINT": chosen.vertex_index_endpoint,
            "VERTEX_DEPLOYED_INDEX": chosen.vertex_deployed_index,
        }
        with Server(folder / "data", environ, folder / "apps") as server:
            headers = server.sign_in()
            assert server.upload("alpha", "zebra.md", TEXT, headers)["status"] == "COMPLETED"
            firestore.delay(FIRESTORE)
            alone = branch(environ, folder)
            target = Target(server.url, {**headers, **STREAM})
            firsts = [first(target, n) for n in range(TURNS)][10:]
    slowest = max(BRANCHES.values())
    for name, seconds in BRANCHES.items():
        print(f"branch, injected: {name:27} {seconds * 1000:6.0f} ms")
    median = statistics.median(firsts)
    print(f"slowest branch, alone, measured               {alone * 1000:6.0f} ms")
    print(f"time to the first token, median of {len(firsts)}         {median * 1000:6.0f} ms")
    print(f"  to slowest branch + model, as injected      {median / (slowest + MODEL):6.3f}")
    print(f"  to slowest branch + model, as measured      {median / (alone + MODEL):6.3f}")


def branch(environ: dict[str, str], folder: Path) -> float:
    """Return the median seconds that the slowest branch takes when nothing else runs beside it."""
    folders = {"DATA_DIR": str(folder / "alone"), "APPS_DIR": str(folder / "apps")}
    settings = Settings.load({**environ, **folders}, dotenv=None)
    services = assemble(settings, registry.build(settings))
    app, scope = services.apps.get("alpha"), Scope("alpha", "ada")
    seconds = []
    for n in range(TURNS):
        start = time.perf_counter()
        found = services.context.retrieve(scope, app, question(n))
        seconds.append(time.perf_counter() - start)
        assert found.passages
    return statistics.median(seconds[10:])


def question(n: int) -> str:
    return f"Where does the zebra crossing number {n % 40} lie?"


def first(target: Target, n: int) -> float:
    path = f"/v1/apps/alpha/chats/c{n % 5}/messages"
    return target.first(path, {"text": question(n)}, b"event: delta")
