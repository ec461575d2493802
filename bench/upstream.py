"""`python -m bench.upstream`: an OpenAI-compatible server that is cheap enough to measure others with.

Each token of an answer is the moment at which it was sent, in microseconds of the monotonic clock, which all processes of a machine share:
whoever reads one knows how long it took. `POST /script` sets how many tokens an answer has, and the seconds between them (0 is at once).
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import re
import struct
import sys
import time
from functools import cache
from itertools import count

PORT_LINE = "listening on "
TICK = 0.001
BURST = 8
"""Tokens in one write of an answer without pauses: one by one, this server would be slower than those that it is to measure."""

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
ASKED_MODEL = re.compile(rb'"model": ?"([^"]*)"')
DIMENSIONS = re.compile(rb'"dimensions": ?(\d+)')
STREAMED = re.compile(rb'"stream": ?true')
DIRECTIONS = 64
"""How many different vectors there are; a text's length chooses one."""

CHUNK = b'{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[%s]%s}'
TOKEN = CHUNK % (b'{"index":0,"delta":{"content":"@%d "},"finish_reason":null}', b"")
FIRST = CHUNK % (b'{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}', b"")
LAST = CHUNK % (b'{"index":0,"delta":{},"finish_reason":"stop"}', b"")
USAGE = CHUNK % (b"", b',"usage":{"prompt_tokens":20,"completion_tokens":%d,"total_tokens":%d}')
WHOLE = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"%s"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":20,"completion_tokens":%d,"total_tokens":%d}}'
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def stamp() -> int:
    return time.monotonic_ns() // 1000


def event(data: bytes) -> bytes:
    """One server-sent event as a chunk of its own."""
    return b"%x\r\ndata: %s\n\n\r\n" % (len(data) + 8, data)


OPENING = STREAM_HEAD + event(FIRST)


class Script:
    """What every answer is, and the streams that are being written, each in the slot of the wheel in which its tokens are due."""

    def __init__(self) -> None:
        self.tokens = 32
        self.seconds = 0.0
        self.wheel: list[set[Connection]] = [set()]
        self.turn = 0

    def set(self, tokens: int, seconds: float) -> None:
        self.tokens, self.seconds = tokens, seconds
        self.wheel = [set() for _ in range(max(1, round(seconds / TICK)))]

    async def run(self) -> None:
        """Write each paced stream's next token whenever the wheel comes to it."""
        start = time.monotonic()
        for tick in count():
            await asyncio.sleep(max(0.0, start + tick * TICK - time.monotonic()))
            self.turn = tick % len(self.wheel)
            for connection in tuple(self.wheel[self.turn]):
                connection.tick()


class Connection(asyncio.Protocol):
    """One client, which asks the next only when it has its answer."""

    transport: asyncio.Transport

    def __init__(self, script: Script) -> None:
        self.script = script
        self.buffer = b""
        self.left = self.newest = 0
        self.slot: set[Connection] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.slot.discard(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end]
        found = LENGTH.search(head)
        whole = end + 4 + (int(found[1]) if found else 0)
        if len(self.buffer) >= whole:
            body, self.buffer = self.buffer[end + 4 : whole], self.buffer[whole:]
            self.answer(head.split(b" ", 2)[1], body)

    def answer(self, path: bytes, body: bytes) -> None:
        if path.endswith(b"/embeddings"):
            self.send_json(embedding(body))
        elif path == b"/script":
            asked = json.loads(body)
            self.script.set(asked["tokens"], asked["seconds"])
            self.send_json(b"{}")
        elif not path.endswith(b"/chat/completions"):
            self.send_json(b'{"object":"list","data":[{"id":"m","object":"model"}]}')
        elif STREAMED.search(body):
            self.stream()
        else:
            tokens = self.script.tokens
            self.send_json(WHOLE % (b"".join(b"@%d " % self.stamp() for _ in range(tokens)), tokens, 20 + tokens))

    def send_json(self, body: bytes) -> None:
        self.transport.write(JSON_HEAD % len(body) + body)

    def stream(self) -> None:
        self.left = self.script.tokens
        self.transport.write(OPENING)
        if not self.script.seconds:
            for begun in range(0, self.left, BURST):
                burst = range(min(BURST, self.left - begun))
                self.transport.write(b"".join([event(TOKEN % self.stamp()) for _ in burst]))
            self.end()
        else:
            self.slot = self.script.wheel[self.script.turn]
            self.slot.add(self)

    def stamp(self) -> int:
        """Return a moment that no earlier token of this connection has."""
        self.newest = max(stamp(), self.newest + 1)
        return self.newest

    def tick(self) -> None:
        if self.transport.is_closing():
            self.slot.discard(self)
            return
        self.left -= 1
        self.transport.write(event(TOKEN % self.stamp()))
        if not self.left:
            self.slot.discard(self)
            self.end()

    def end(self) -> None:
        tokens = self.script.tokens
        self.transport.write(event(LAST) + event(USAGE % (tokens, 20 + tokens)) + event(b"[DONE]") + b"0\r\n\r\n")


def embedding(body: bytes) -> bytes:
    """Answer for one text with a unit vector in base64, as the openai SDK asks for it."""
    model, dimensions = ASKED_MODEL.search(body), DIMENSIONS.search(body)
    vector = direction(len(body) % DIRECTIONS, int(dimensions[1]) if dimensions else 1536)
    data = b'{"object":"embedding","index":0,"embedding":"%s"}' % vector
    usage = b'"usage":{"prompt_tokens":12,"total_tokens":12}'
    return b'{"object":"list","model":"%s","data":[%s],%s}' % (model[1] if model else b"m", data, usage)


@cache
def direction(n: int, dimensions: int) -> bytes:
    random.seed(n)
    numbers = [random.gauss(0, 1) for _ in range(dimensions)]
    length = sum(number * number for number in numbers) ** 0.5
    return base64.b64encode(struct.pack(f"<{dimensions}f", *(number / length for number in numbers)))


async def serve() -> None:
    script = Script()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(script), "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{PORT_LINE}{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await script.run()


if __name__ == "__main__":
    asyncio.run(serve())
