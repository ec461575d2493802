"""The least that a backend in Python can be: Flask passes a question to the openai SDK, and the answer back. It guarantees nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator

import openai
from flask import Flask, Response, request

app = Flask(__name__)
client = openai.OpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="none", max_retries=0)


@app.get("/health")
def health() -> str:
    return "ok"


@app.post("/chat/completions")
def complete() -> Response:
    asked = request.get_json()
    if not asked.get("stream"):
        whole = client.chat.completions.create(model="m", messages=asked["messages"])
        return Response(whole.model_dump_json(), content_type="application/json")
    chunks = client.chat.completions.create(model="m", messages=asked["messages"], stream=True)

    def events() -> Iterator[str]:
        with chunks:
            for chunk in chunks:
                yield f"data: {chunk.model_dump_json()}\n\n"
        yield "data: [DONE]\n\n"

    return Response(events(), content_type="text/event-stream")
