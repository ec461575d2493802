"""What the scripted server says when nothing goes wrong: completions, embeddings, models."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.kit.upstream.script import (
    Close,
    Gate,
    Hang,
    Pause,
    Request,
    Reset,
    Response,
    Step,
    choice,
    chunk,
    json_response,
)

DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}


@dataclass(frozen=True, slots=True)
class Answer:
    """A chat completion, streamed or not as the request asks; `usage` is (input, output), or counted, or (False) left out."""

    steps: Sequence[Step]
    finish: str | None = "stop"
    usage: tuple[int, int] | bool = True
    pause: float = 0.0

    def response(self, request: Request) -> Response:
        asked = request.json
        if not asked.get("stream"):
            return self.whole(asked)
        return Response([*self.events(asked)], media_type="text/event-stream")

    def events(self, asked: Mapping[str, Any]) -> Iterator[Step]:
        model = asked["model"]
        yield chunk(model, [choice({"role": "assistant", "content": ""})])
        for step in self.steps:
            if self.pause:
                yield Pause(self.pause)
            yield step
        if self.finish is not None:
            yield chunk(model, [choice({}, self.finish)])
        if self.usage and (asked.get("stream_options") or {}).get("include_usage"):
            yield {**chunk(model, []), "usage": self.count(asked)}
        yield b"data: [DONE]\n\n"

    def whole(self, asked: Mapping[str, Any]) -> Response:
        text = "".join(step for step in self.steps if isinstance(step, str))
        message = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": self.finish}
        told = {**chunk(asked["model"], [message]), "object": "chat.completion", "usage": self.count(asked)}
        waits = [step for step in self.steps if isinstance(step, Gate | Pause | Hang | Reset | Close)]
        return Response([*waits, *json_response(told).steps], framing="length")

    def count(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        words = sum(len(str(message.get("content")).split()) for message in asked["messages"])
        counted = (words, sum(isinstance(step, str) for step in self.steps))
        given, made = counted if isinstance(self.usage, bool) else self.usage
        details = {"prompt_tokens_details": {"cached_tokens": 0}}
        return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made, **details}


def echo(request: Request) -> Answer:
    """The answer to a question that nobody scripted: its first eight words, and always the same."""
    asked = [str(message.get("content")) for message in request.json["messages"] if message["role"] == "user"]
    start = " ".join((asked[-1] if asked else "").split()[:8])
    return Answer([word + " " for word in f"You asked: {start} – and this answer is scripted.".split()])


@lru_cache(maxsize=50_000)
def word_vector(word: str, dimensions: int) -> npt.NDArray[np.float64]:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dimensions)


def text_vector(text: str, dimensions: int) -> npt.NDArray[np.float32]:
    """Return a unit vector made of the text's words alone, so that texts with common words are near each other."""
    words = re.findall(r"\w+", text.casefold()) or [""]
    total = np.sum([word_vector(word, dimensions) for word in words], axis=0)
    return np.asarray(total / np.linalg.norm(total), dtype=np.float32)


def embeddings(request: Request) -> Response:
    asked = request.json
    texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
    dimensions = asked.get("dimensions") or DIMENSIONS.get(asked["model"], 64)
    data = [
        {"object": "embedding", "index": n, "embedding": packed(text_vector(text, dimensions), asked)}
        for n, text in enumerate(texts)
    ]
    tokens = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_response({"object": "list", "model": asked["model"], "data": data, "usage": usage})


def packed(vector: npt.NDArray[np.float32], asked: Mapping[str, Any]) -> str | list[float]:
    if asked.get("encoding_format") == "base64":
        return base64.b64encode(vector.tobytes()).decode()
    numbers: list[float] = vector.tolist()
    return numbers


def models(_: Request) -> Response:
    names = ["gpt-5-mini", *DIMENSIONS]
    listed = [{"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "scripted"} for name in names]
    return json_response({"object": "list", "data": listed})
