"""A model provider of the proof's own, on a loopback socket: it speaks OpenAI's protocol and keeps every prompt that it gets."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

from service.proof.loopback import Loopback

DIMENSIONS = 64


class Model(Loopback):
    """The provider, in threads of its own; `prompts` holds all that it was asked, as JSON."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self._replies: dict[str, str] = {}
        super().__init__(handler(self), "model")

    @property
    def url(self) -> str:
        return f"http://{self.host}/v1"

    def script(self, question: str, reply: str) -> None:
        """Have the next asker of a question, and nobody after them, told a reply."""
        self._replies[question] = reply

    def answer(self, prompt: str) -> str:
        """Keep a prompt and return what is said to it."""
        self.prompts.append(prompt)
        asked = json.loads(prompt)
        plain = "{}" if "response_format" in asked else "Noted."
        return self._replies.pop(asked["messages"][-1]["content"], plain)


def handler(model: Model) -> type[BaseHTTPRequestHandler]:
    """Make the class that answers in a model's name."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if self.path.endswith("/embeddings"):
                self.reply("application/json", json.dumps(embeddings(json.loads(asked))).encode())
            else:
                text = model.answer(asked.decode())
                self.reply("text/event-stream", b"".join(events(json.loads(asked)["model"], text)))

        def do_GET(self) -> None:
            self.reply("application/json", b'{"object":"list","data":[]}')

        def reply(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: what matters is kept."""

    return Handler


def events(model: str, text: str) -> Iterator[bytes]:
    """A streamed completion, word by word."""
    for word in text.split(" "):
        yield event(model, [{"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}])
    yield event(model, [{"index": 0, "delta": {}, "finish_reason": "stop"}])
    yield event(model, [], usage={"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12})
    yield b"data: [DONE]\n\n"


def event(model: str, choices: list[dict[str, Any]], **more: object) -> bytes:
    data = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": choices,
        **more,
    }
    return f"data: {json.dumps(data)}\n\n".encode()


def embeddings(asked: Mapping[str, Any]) -> dict[str, Any]:
    """A vector of hashed words for each text: alike for like texts, the same on every machine."""
    texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
    data = [{"object": "embedding", "index": n, "embedding": vector(text)} for n, text in enumerate(texts)]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return {"object": "list", "model": asked["model"], "data": data, "usage": usage}


def vector(text: str) -> list[float]:
    total = [0.01] * DIMENSIONS
    for word in re.findall(r"\w+", text.casefold()):
        for n, byte in enumerate(hashlib.sha256(word.encode()).digest()):
            total[2 * n] += (byte >> 4) - 7.5
            total[2 * n + 1] += (byte & 15) - 7.5
    return total
