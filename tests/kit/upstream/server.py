"""The scripted server itself: an event loop in a thread, raw enough to break every rule of HTTP."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal, TypeAlias

from tests.kit.upstream.replies import Answer, echo, embeddings, models
from tests.kit.upstream.script import (
    Close,
    Gate,
    Hang,
    Pause,
    Raw,
    Repeat,
    Request,
    Reset,
    Response,
    Step,
    event,
    json_response,
)

Script: TypeAlias = Answer | Response
Endpoint: TypeAlias = Literal["chat", "embeddings"]
ENDPOINTS: dict[str, Endpoint] = {"/v1/chat/completions": "chat", "/v1/embeddings": "embeddings"}


class Upstream:
    """The server, in a thread of its own; everything here may be used from any thread."""

    def __init__(self, port: int = 0, *, record: bool = True, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.tls = tls
        self.record = record
        self.requests: list[Request] = []
        self.accepted = 0
        self.connections = 0
        self.disconnects = 0
        self._scripts: dict[Endpoint, deque[Script]] = {"chat": deque(), "embeddings": deque()}
        self._default: dict[Endpoint, Script] = {}
        self._changed = threading.Condition()
        self._open: set[Connection] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="upstream", daemon=True)

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/v1"

    def enqueue(self, *steps: Step, finish: str | None = "stop", usage: tuple[int, int] | bool = True) -> None:
        """Script the next chat completion."""
        self.script(Answer(steps, finish, usage))

    def script(self, script: Script, *, times: int = 1, on: Endpoint = "chat") -> None:
        """Script what the next calls of an endpoint get."""
        self._scripts[on].extend([script] * times)

    def always(self, script: Script, *, on: Endpoint = "chat") -> None:
        """Set what an endpoint gives when nothing is scripted."""
        self._default[on] = script

    def forget(self) -> None:
        """Drop what was recorded and what is scripted."""
        self.requests.clear()
        for scripts in self._scripts.values():
            scripts.clear()

    def asked(self, on: Endpoint = "chat") -> list[Request]:
        """Return the requests that one endpoint got."""
        return [request for request in self.requests if ENDPOINTS.get(request.path) == on]

    def until(self, condition: Callable[[], bool], seconds: float = 5.0) -> bool:
        """Wait until a condition on this server holds, which is True then; fails the test if it does not in time."""
        with self._changed:
            assert self._changed.wait_for(condition, seconds), f"not within {seconds} s"
        return True

    def start(self) -> Upstream:
        self._thread.start()
        assert self._ready.wait(10), "the scripted upstream does not start"
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    def __enter__(self) -> Upstream:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def respond(self, request: Request) -> Response:
        """Choose what a request gets: what is scripted next, what is always given, or a plain answer."""
        if self.record:
            self.changed(lambda: self.requests.append(request))
        endpoint = ENDPOINTS.get(request.path)
        if endpoint is None:
            return models(request) if request.path == "/v1/models" else json_response({}, 404)
        scripts = self._scripts[endpoint]
        script = scripts.popleft() if scripts else self._default.get(endpoint)
        if script is None:
            script = embeddings(request) if endpoint == "embeddings" else echo(request)
        return script.response(request) if isinstance(script, Answer) else script

    def changed(self, change: Callable[[], object]) -> None:
        """Apply a change to what tests look at, and wake those who wait for it."""
        with self._changed:
            change()
            self._changed.notify_all()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = await self._loop.create_server(
            lambda: Connection(self), "127.0.0.1", self.port, ssl=self.tls, backlog=1024
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        # A connection that is being accepted, or whose handshake failed, is known to the loop alone: let it come or go.
        await asyncio.sleep(0.05 if self.tls else 0.01)
        server.close()
        still_open = list(self._open)
        for connection in still_open:
            connection.transport.abort()
        await asyncio.gather(*(connection.task for connection in still_open))


class Gone(Exception):
    """The client left, or the script closed the connection."""


class Connection(asyncio.Protocol):
    """One client: reads its requests and plays the response of each."""

    transport: asyncio.Transport
    task: asyncio.Task[None]

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.buffer = bytearray()
        self.head = b""
        self.answering = False
        self.arrived, self.left, self.writable = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.upstream._open.add(self)
        self.upstream.changed(lambda: self.count(accepted=1, connections=1))
        self.task = asyncio.get_running_loop().create_task(self.serve())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        for waited_for in (self.left, self.arrived, self.writable):
            waited_for.set()
        self.upstream._open.discard(self)
        self.upstream.changed(lambda: self.count(connections=-1, disconnects=int(self.answering)))

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def count(self, *, accepted: int = 0, connections: int = 0, disconnects: int = 0) -> None:
        self.upstream.accepted += accepted
        self.upstream.connections += connections
        self.upstream.disconnects += disconnects

    async def serve(self) -> None:
        with suppress(Gone):
            while True:
                request = await self.read_request()
                self.answering = True
                await self.answer(self.upstream.respond(request))
                self.answering = False
        self.transport.close()

    async def read_request(self) -> Request:
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            await self.more()
        first, *lines = self.take(end + 4).decode("latin-1").rstrip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self.buffer) < length:
            await self.more()
        return Request(method, path, headers, self.take(length), time.monotonic())

    async def more(self) -> None:
        self.arrived.clear()
        self.stay()
        await self.arrived.wait()

    def take(self, count: int) -> bytes:
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def stay(self) -> None:
        if self.left.is_set():
            raise Gone

    async def answer(self, response: Response) -> None:
        self.head = response.head()
        for step in response.steps:
            await self.play(step, response)
        await self.send(b"0\r\n\r\n" if response.framing == "chunked" else b"")
        if response.framing == "close":
            self.leave()

    async def play(self, step: Step, response: Response) -> None:
        match step:
            case bytes():
                await self.send(response.framed(step))
            case Raw(content):
                await self.send(content)
            case Gate():
                await self.wait_at(step)
            case Pause(seconds):
                await self.wait(seconds)
            case Hang():
                await self.wait(None)
            case Reset() | Close():
                self.leave(reset=isinstance(step, Reset))
            case Repeat():
                await self.repeat(step, response)
            case _:
                await self.send(response.framed(event(step)))

    async def repeat(self, step: Repeat, response: Response) -> None:
        count = 0
        while step.times is None or count < step.times:
            await self.send(response.framed(step.content))
            await self.wait(step.pause)
            count += 1

    async def wait(self, seconds: float | None) -> None:
        if seconds == 0:
            await asyncio.sleep(0)
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.left.wait()
        self.stay()

    async def wait_at(self, gate: Gate) -> None:
        gate.reached.set()
        while not gate.is_open:
            await asyncio.sleep(0.002)
            self.stay()

    async def send(self, content: bytes) -> None:
        """Send bytes, after the response's head if it has not begun."""
        self.stay()
        self.transport.write(self.head + content)
        self.head = b""
        await self.writable.wait()

    def leave(self, *, reset: bool = False) -> None:
        self.answering = False
        if reset:
            no_lingering = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_lingering)
            self.transport.abort()
        raise Gone


@contextmanager
def blackhole() -> Iterator[int]:
    """Yield a port at which a connection is neither made nor refused: its queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        with socket.create_connection(listener.getsockname()):
            yield listener.getsockname()[1]
