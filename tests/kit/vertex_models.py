"""Vertex AI's models on a socket: the OpenAI-compatible endpoint, the REST method `predict`, and Google's sign-in.

It is the scripted provider (`tests.kit.upstream`) at Vertex AI's addresses, so all its scripts and faults serve here too:
`on="embeddings"` scripts what `predict` answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs

import jwt
import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import serialization

from service.config import Settings
from tests.kit.tokens import new_key
from tests.kit.upstream import Request, Response, Upstream, json_response, text_vector

PROJECT, REGION = "demo-brainstem", "us-central1"
PLACE = f"/v1/projects/{PROJECT}/locations/{REGION}"
CHAT = f"{PLACE}/endpoints/openapi/chat/completions"
PREDICT = re.compile(rf"{PLACE}/publishers/google/models/([^/:]+):predict")
EMAIL = "brainstem@demo-brainstem.iam.gserviceaccount.com"

REFRESH_TOKEN = "canary-refresh-token"

Embed = Callable[[str, int], tuple[npt.NDArray[np.float32], int]]


def by_words(text: str, dimensions: int) -> tuple[npt.NDArray[np.float32], int]:
    """A text's vector, not of unit length, and its tokens."""
    return text_vector(text, dimensions) * 3, len(text.split())


class VertexModels(Upstream):
    """Answers who shows a token: the emulator's (`emulator` or none at all), or one that its own sign-in has given out."""

    def __init__(self, embed: Embed = by_words) -> None:
        super().__init__()
        self.embed = embed
        self.tokens: list[str] = []
        self.token_seconds = 3600
        self.open = True

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def settings(self) -> Settings:
        return Settings(vertex_emulator_host=self.host, connect_seconds=0.5, first_byte_seconds=3.0, idle_seconds=0.5)

    @property
    def predicted(self) -> list[Request]:
        return [request for request in self.requests if PREDICT.fullmatch(request.path)]

    def key_file(self, folder: Path) -> Path:
        """Write a service account's key, whose sign-in is at this server."""
        self.key = new_key()
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        told = {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "k1",
            "private_key": pem.decode(),
            "client_email": EMAIL,
            "client_id": "1",
            "token_uri": f"http://{self.host}/token",
        }
        path = folder / "key.json"
        path.write_text(json.dumps(told), encoding="utf-8")
        return path

    def respond(self, request: Request) -> Response:
        if request.path == "/token":
            self.changed(lambda: self.requests.append(request))
            return self.sign_in(request)
        if not self.admits(request):
            self.changed(lambda: self.requests.append(request))
            return google_error(401, "UNAUTHENTICATED")
        if request.path == CHAT:
            return super().respond(replace(request, path="/v1/chat/completions"))
        if PREDICT.fullmatch(request.path):
            self.changed(lambda: self.requests.append(request))
            scripts = self._scripts["embeddings"]
            script = scripts.popleft() if scripts else self._default.get("embeddings") or self.predict(request)
            assert isinstance(script, Response)
            return script
        return google_error(404, "NOT_FOUND")

    def admits(self, request: Request) -> bool:
        shown = request.headers.get("authorization", "").removeprefix("Bearer ")
        return shown in self.tokens or (self.open and shown in ("", "emulator"))

    def sign_in(self, request: Request) -> Response:
        """Give an access token for a signed assertion (RFC 7523) or for a user's refresh token."""
        asked = parse_qs(request.body.decode())
        if asked["grant_type"] == ["refresh_token"]:
            assert asked["refresh_token"] == [REFRESH_TOKEN]
            return self.give_token()
        claims = jwt.decode(
            asked["assertion"][0],
            self.key.public_key(),
            algorithms=["RS256"],
            audience="https://oauth2.googleapis.com/token",
        )
        assert claims["iss"] == EMAIL
        assert "cloud-platform" in claims["scope"]
        return self.give_token()

    def give_token(self) -> Response:
        self.tokens.append(f"ya29.canary-token-{len(self.tokens)}")
        return json_response(
            {"access_token": self.tokens[-1], "expires_in": self.token_seconds, "token_type": "Bearer"}
        )

    def predict(self, request: Request) -> Response:
        found = PREDICT.fullmatch(request.path)
        assert found
        instances: Sequence[Mapping[str, Any]] = request.json["instances"]
        parameters = request.json["parameters"]
        most = 1 if found[1] == "gemini-embedding-001" else 250
        if not 0 < len(instances) <= most or not all(instance["content"] for instance in instances):
            return google_error(400, "INVALID_ARGUMENT")
        made = [self.embed(instance["content"], parameters["outputDimensionality"]) for instance in instances]
        return json_response(
            {
                "predictions": [
                    {"embeddings": {"values": v.tolist(), "statistics": {"truncated": False, "token_count": n}}}
                    for v, n in made
                ],
                "metadata": {"billableCharacterCount": sum(len(instance["content"]) for instance in instances)},
            }
        )


def google_error(code: int, status: str, retry_after: str = "") -> Response:
    """An error as Google's REST APIs tell it, with a canary that must go no further."""
    told = {"error": {"code": code, "message": "canary of Vertex AI", "status": status}}
    return json_response(told, code, {"retry-after": retry_after} if retry_after else {})


def predictions(*values: Sequence[float], tokens: int | None = 1) -> Response:
    """An answer of `predict` with these vectors."""
    statistics = {} if tokens is None else {"statistics": {"truncated": False, "token_count": tokens}}
    return json_response({"predictions": [{"embeddings": {"values": [*v], **statistics}} for v in values]})
