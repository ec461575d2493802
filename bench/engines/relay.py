"""What both engines do alike: ask the upstream with aiohttp, read its events, and write each anew."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import aiohttp
import msgspec
from flask import Flask, Response, request

URL = os.environ.get("OPENAI_BASE_URL", "") + "/chat/completions"
JSON = {"Content-Type": "application/json"}
EVENT_STREAM = "text/event-stream"


class Delta(msgspec.Struct):
    content: str | None = None


class Choice(msgspec.Struct):
    delta: Delta


class Chunk(msgspec.Struct):
    choices: list[Choice]


decoder = msgspec.json.Decoder(Chunk)


class Relay:
    """The upstream, and the loop on which it is asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._session: aiohttp.ClientSession | None = None

    async def whole(self, asked: bytes) -> bytes:
        async with self._open().post(URL, data=asked, headers=JSON) as response:
            return await response.read()

    async def pieces(self, asked: bytes) -> AsyncIterator[bytes]:
        """Yield the answer's text as server-sent events, those together that came together."""
        async with self._open().post(URL, data=asked, headers=JSON) as response:
            held = b""
            async for data in response.content.iter_any():
                *lines, held = (held + data).split(b"\n\n")
                chunks = [decoder.decode(line[6:]) for line in lines if line[6:] != b"[DONE]"]
                texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
                if events := b"".join(b"data: %s\n\n" % msgspec.json.encode({"text": text}) for text in texts if text):
                    yield events

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
        return self._session


def flask_app(relay: Relay) -> Flask:
    """Make the Flask application, which every request goes through; an event stream that it answers is the engine's to pump."""
    app = Flask("engine")

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.post("/chat/completions")
    def complete() -> Response:
        if request.headers.get("Accept") == EVENT_STREAM:
            return Response(content_type=EVENT_STREAM)
        asked = asyncio.run_coroutine_threadsafe(relay.whole(request.get_data()), relay.loop)
        return Response(asked.result(), content_type="application/json")

    return app
