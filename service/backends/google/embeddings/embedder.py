"""The embedder: Vertex AI's text embedding models, at the REST method `predict`.

Source: "Text embeddings API" in the Vertex AI documentation. REST and not the SDK's client, whose import takes 0.6 s for one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from service.backends import vertex_ai
from service.backends.batching import batches
from service.backends.google.embeddings.calls import Calls
from service.backends.interfaces import Embeddings, Secrets
from service.config import Settings
from service.errors import UpstreamProtocol

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from service.backends.interfaces import Vectors

ONE_AT_A_TIME = "gemini-embedding-001"
"""This model takes one text a request; the others take 250, of 20 000 tokens together."""

MAX_TEXTS = 250
MAX_REQUEST_BYTES = 40_000
"""A token is seldom less than two bytes of a text."""

MAX_TEXT_CHARACTERS = 16_000
"""A model reads 2 048 tokens of a text and cuts the rest itself; so much need not be sent."""

DIMENSIONS = 768
"""All models give so many. Firestore searches 2 048 at most, and more than these cost more than they find."""

UNREADABLE = "Vertex AI's embedding model answered what cannot be read."


class Counted(msgspec.Struct):
    token_count: float | None = None


class Embedded(msgspec.Struct):
    values: list[float]
    statistics: Counted | None = None


class Prediction(msgspec.Struct):
    embeddings: Embedded


class Answer(msgspec.Struct):
    predictions: list[Prediction]


decode = msgspec.json.Decoder(Answer).decode
encode = msgspec.json.encode


class VertexEmbedder:
    """Embeds with `VERTEX_EMBEDDING_MODEL`; several requests of one call are under way at once."""

    batch_size = 32

    def __init__(self, settings: Settings, secrets: Secrets, *, credentials: Credentials | None = None) -> None:
        settings.require(
            "The Vertex AI embedder", "google_cloud_project", "google_cloud_region", "vertex_embedding_model"
        )
        self.model = settings.vertex_embedding_model
        self.dimensions = settings.embedding_dimensions or DIMENSIONS
        self.name = f"{self.model}/{self.dimensions}"
        model = f"{vertex_ai.location(settings)}/publishers/google/models/{quote(self.model, safe='')}"
        self._calls = Calls(settings, f"{vertex_ai.server(settings)}/v1/{model}:predict", credentials)

    def embed(self, texts: Sequence[str], *, wait: bool = True) -> Embeddings:
        import numpy as np

        size = 1 if self.model == ONE_AT_A_TIME else MAX_TEXTS
        parts = list(batches(map(sendable, texts), size, MAX_REQUEST_BYTES, lambda text: len(text.encode())))
        answers = self._calls.post([self._body(part) for part in parts], wait=wait)
        read_ones = [read(answer, len(part), self.dimensions) for answer, part in zip(answers, parts, strict=True)]
        counts = [counted for _, counted in read_ones]
        tokens = sum(estimate(part) if n is None else n for n, part in zip(counts, parts, strict=True))
        nothing = np.empty((0, self.dimensions), dtype=np.float32)
        return Embeddings(np.concatenate([nothing, *(found for found, _ in read_ones)]), tokens, None in counts)

    def check(self) -> None:
        self._calls.check()

    def _body(self, texts: Sequence[str]) -> bytes:
        # One kind of task for passages and questions: who embeds does not know which of them a text is.
        instances = [{"content": text, "task_type": "SEMANTIC_SIMILARITY"} for text in texts]
        parameters = {"outputDimensionality": self.dimensions, "autoTruncate": True}
        return encode({"instances": instances, "parameters": parameters})


def sendable(text: str) -> str:
    """Return what the API takes of a text: no empty one, no half characters, and not more than a model reads."""
    return text.strip()[:MAX_TEXT_CHARACTERS].encode("utf-8", "replace").decode("utf-8") or "-"


def estimate(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) // 4 + 1 for text in texts)


def read(body: bytes, count: int, dimensions: int) -> tuple[Vectors, int | None]:
    """Read an answer's vectors, made of unit length (those that the model cut are not), and its tokens if it counts them."""
    import numpy as np

    try:
        found = [prediction.embeddings for prediction in decode(body).predictions]
        with np.errstate(all="ignore"):
            vectors = np.array([one.values for one in found], dtype=np.float32)
            lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    except (ValueError, RecursionError):
        raise UpstreamProtocol(UNREADABLE) from None
    if vectors.shape != (count, dimensions):
        raise UpstreamProtocol(
            "Vertex AI's embedding model gave another number of vectors, or of dimensions, than asked."
        )
    if not np.all(np.isfinite(lengths)) or not np.all(lengths > 0):
        raise UpstreamProtocol("Vertex AI's embedding model gave vectors that are none.")
    counts = [one.statistics.token_count if one.statistics else None for one in found]
    return vectors / lengths, None if None in counts else round(sum(n for n in counts if n is not None))
