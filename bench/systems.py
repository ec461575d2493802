"""What is measured: each system as a process of its own on a core of its own, and how it is asked."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Self

import psutil

from bench.load import Address, Client
from bench.upstream import PORT_LINE
from service.proof.process import free_port
from tests.kit.server import ROOT

CORES = sorted(os.sched_getaffinity(0))
SERVER, OTHERS = CORES[0], CORES[-1]
"""The core of what is measured, and that of the load and of all that what is measured asks."""

PRIORITY = -15
START_SECONDS = 90.0
CHATS = 10
LOADS = count()
USERS = 50
DIMENSIONS = 384
QUESTION = "How do I keep a sourdough starter alive while I am away for two weeks?"


def pin(core: int) -> None:
    """Keep this process on one core, before all others there if the machine permits it."""
    os.sched_setaffinity(0, {core})
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
        # Linux shares a core out between sessions first, each of which has a priority of its own.
        Path("/proc/self/autogroup").write_text(str(PRIORITY))


def pinned(core: int) -> Callable[[], None]:
    return lambda: pin(core)


def post(address: Address, path: str, body: object, headers: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a POST request of JSON."""
    data = json.dumps(body).encode()
    lines = {"Host": f"127.0.0.1:{address[1]}", "Content-Type": "application/json", "Content-Length": str(len(data))}
    head = "".join(f"{name}: {value}\r\n" for name, value in {**lines, **(headers or {})}.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + data


def call(address: Address, method: str, path: str, body: object = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(*address, timeout=10)
    try:
        connection.request(
            method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        answer = response.read()
        return response.status, json.loads(answer) if answer[:1] in (b"{", b"[") else None
    finally:
        connection.close()


class Beside:
    """A server that what is measured asks, as a process on the core of the load; `python -m <module>` prints its port."""

    module = ""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", self.module]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=pinned(OTHERS))
        assert self.process.stdout
        self.address = ("127.0.0.1", int(self.process.stdout.readline().removeprefix(PORT_LINE)))
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


class Firestore(Beside):
    """The document store of `bench.firestore`."""

    module = "bench.firestore"


class Upstream(Beside):
    """The model's server of `bench.upstream`."""

    module = "bench.upstream"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.address[1]}/v1"

    def script(self, tokens: int, seconds: float = 0.0) -> None:
        """Set how many tokens each answer has from now on, and the seconds between two."""
        self.tokens = tokens
        call(self.address, "POST", "/script", {"tokens": tokens, "seconds": seconds})


class System:
    """A server that is measured. It runs while it is entered; `first` and `ready` are then the seconds that its start took."""

    name = ""
    health = ready_path = "/health"
    first = ready = 0.0

    def __init__(self, upstream: Upstream, folder: Path) -> None:
        self.upstream = upstream
        self.folder = folder
        self.address = ("127.0.0.1", free_port())
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def environ(self) -> dict[str, str]:
        return {}

    def request(self, user: int, chat: str, *, stream: bool) -> bytes:
        """Return one request for an answer."""
        raise NotImplementedError

    def signed_in(self) -> None:
        """Do what must be done before users may ask."""

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        begun = time.monotonic()
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env={**environ, **self.environ()},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=pinned(SERVER),
            )
        self.wait(self.health, begun)
        self.first = time.monotonic() - begun
        self.wait(self.ready_path, begun)
        self.ready = time.monotonic() - begun
        self.signed_in()
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def wait(self, path: str, begun: float) -> None:
        assert self.process
        while time.monotonic() - begun < START_SECONDS and self.process.poll() is None:
            try:
                if call(self.address, "GET", path)[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.005)
        self.__exit__()
        log = (self.folder / "log").read_text(errors="replace")
        raise RuntimeError(f"{self.name} does not start:\n{log[-2000:]}")

    def clients(self, number: int, *, stream: bool, chats: int = CHATS) -> list[Client]:
        """Return clients that ask in several chats of their own each, in turn."""
        load = next(LOADS)

        def requests(n: int) -> Iterator[bytes]:
            names = [f"{load}-{n}-{chat}" for chat in range(chats)]
            asked = [self.request(n % USERS, name, stream=stream) for name in names]
            while True:
                yield from asked

        return [Client(self.address, requests(n), self.upstream.tokens) for n in range(number)]

    def processes(self) -> list[psutil.Process]:
        if self.process is None:
            return []
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def cpu_seconds(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self.processes())

    def memory_mb(self) -> float:
        """Return what the processes hold, with each page that several share counted once."""
        return sum(process.memory_full_info().pss for process in self.processes()) / 1e6


class Direct(System):
    """The upstream itself: what the load and the upstream can do with nothing between them."""

    name = "upstream"

    def __init__(self, upstream: Upstream, folder: Path) -> None:
        super().__init__(upstream, folder)
        self.address = upstream.address

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def request(self, user: int, chat: str, *, stream: bool) -> bytes:
        return post(self.address, "/v1/chat/completions", completion(stream))


class Brainstem(System):
    """The whole turn by the local backends: verify, accept, history, user data, stream, save, ledger."""

    name = "brainstem"
    ready_path = "/ready"
    root = ROOT
    app = "plain"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "service", "serve"]

    def environ(self) -> dict[str, str]:
        return {
            "PYTHONPATH": str(self.root),
            "DATA_DIR": str(self.folder / "data"),
            "APPS_DIR": str(self.folder / "apps"),
            "WEB_DIR": str(self.root / "web"),
            "PORT": str(self.address[1]),
            "OPENAI_BASE_URL": self.upstream.url,
            "OPENAI_API_KEY": "none",
            "EMBEDDING_DIMENSIONS": str(DIMENSIONS),
        }

    def signed_in(self) -> None:
        self.tokens = [self.token(user) for user in range(USERS)]

    def token(self, user: int) -> str:
        status, answer = call(self.address, "POST", "/local/sign-in", {"user": f"user{user}"})
        assert status == 200, answer
        return str(answer["token"])

    def request(self, user: int, chat: str, *, stream: bool) -> bytes:
        accept = "text/event-stream" if stream else "application/json"
        headers = {"Authorization": f"Bearer {self.tokens[user]}", "Accept": accept}
        return post(self.address, f"/v1/apps/{self.app}/chats/{chat}/messages", {"text": QUESTION}, headers)


class BrainstemOnFirestore(Brainstem):
    """The same with its documents in Firestore, as `bench.firestore` speaks it."""

    name = "brainstem-firestore"

    def __enter__(self) -> Self:
        self.firestore = Firestore().__enter__()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.firestore.__exit__()

    def environ(self) -> dict[str, str]:
        host, port = self.firestore.address
        return {**super().environ(), "BACKEND_DOCUMENTS": "google", "FIRESTORE_EMULATOR_HOST": f"{host}:{port}"}


def completion(stream: bool) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": QUESTION}], "stream": stream}
