"""The embedder of an OpenAI-compatible endpoint."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from service.backends.batching import batches
from service.backends.interfaces import Embeddings, Secrets
from service.backends.openai.calls import Call
from service.backends.openai.endpoint import Endpoint, StoredKey
from service.backends.openai.refusals import Retries
from service.backends.openai.sdk import SDK
from service.config import Settings
from service.errors import ContextTooLong, UpstreamProtocol

if TYPE_CHECKING:
    import openai

    from service.backends.interfaces import Vectors
    from service.backends.openai.waiting import WaitingClient

DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
# The API reference allows 8 192 tokens a text and 300 000 a request; a token is seldom less than three bytes of a text.
MAX_TEXT_CHARACTERS = 24_000
MAX_REQUEST_BYTES = 600_000
LEAST_CHARACTERS = 200
TEXTS_AT_A_TIME = 32
RETRIES = Retries(times=5, seconds=30.0, longest=20.0)
PACED = Retries(times=5, seconds=30.0, longest=20.0, limited=False)
UNREADABLE = "The embedding model's provider answered what cannot be read."


class Item(msgspec.Struct):
    embedding: str | list[float]
    index: int | None = None


class Counted(msgspec.Struct):
    prompt_tokens: int | None = None


class Answer(msgspec.Struct):
    data: list[Item]
    usage: Counted | None = None


decode = msgspec.json.Decoder(Answer).decode


class OpenAIEmbedder:
    """Embeds in batches; the dimensions of a model that is not known here are learned from its first answer."""

    batch_size = 256

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self._settings = settings
        self.model = settings.embedding_model
        self._endpoint = Endpoint(settings, StoredKey(settings, secrets))
        self._sdk = SDK(self._endpoint)
        self._encoded = True

    @cached_property
    def dimensions(self) -> int:
        """Asks the provider if nobody has told: a call, which raises as `embed` does."""
        known = self._settings.embedding_dimensions or DIMENSIONS.get(self.model)
        return known or len(self._ask(["dimensions"], RETRIES)[0][0])

    @cached_property
    def name(self) -> str:
        return f"{self.model}/{self.dimensions}"

    def embed(self, texts: Sequence[str], *, wait: bool = True) -> Embeddings:
        import numpy as np

        retries = RETRIES if wait else PACED

        vectors, tokens, estimated = [np.empty((0, self.dimensions), dtype=np.float32)], 0, False
        for batch in batches(texts, self.batch_size, MAX_REQUEST_BYTES, weight):
            found, counted = self._ask_cut(batch, retries)
            if found.shape[1] != self.dimensions:
                raise UpstreamProtocol(f"The embedding model gives {found.shape[1]} dimensions, not {self.dimensions}.")
            vectors.append(found)
            tokens += estimate(batch) if counted is None else counted
            estimated = estimated or counted is None
        return Embeddings(np.concatenate(vectors), tokens, estimated)

    def check(self) -> None:
        self._endpoint.check()

    def _ask_cut(self, texts: Sequence[str], retries: Retries) -> tuple[Vectors, int | None]:
        """Ask for vectors, with texts cut further as long as they are too long for the model."""
        limit = min(MAX_TEXT_CHARACTERS, max(map(len, texts)))
        while True:
            try:
                return self._ask([text[:limit] for text in texts], retries)
            except ContextTooLong:
                if limit <= LEAST_CHARACTERS:
                    raise
                limit //= 2

    def _ask(self, texts: Sequence[str], retries: Retries) -> tuple[Vectors, int | None]:
        """Return the vectors of a batch, and its tokens if the provider counts them."""
        from service.backends.openai.client import Refused

        # A model on a small machine takes its time for a large batch.
        seconds = self._settings.first_byte_seconds * (1 + len(texts) // TEXTS_AT_A_TIME)
        send = self._send_question if len(texts) == 1 else self._send_batch
        try:
            body = send(self._arguments(texts), seconds, retries)
        except Refused as exc:
            if self._encoded and exc.refusal.option({"encoding_format"}):
                self._encoded = False
                return self._ask(texts, retries)
            raise exc.refusal.error() from None
        return read(body, len(texts))

    def _send_question(self, arguments: dict[str, Any], seconds: float, retries: Retries) -> bytes:
        """Send what a turn waits for over a connection of our own: through the SDK it takes five times as much of the processor."""
        from service.backends.openai.client import FAILURES, Refused, mapped

        try:
            key = self._endpoint.key.at_hand() or self._endpoint.key.get()
            return self._client.post(msgspec.json.encode(arguments), key, seconds, retries)
        except Refused:
            raise
        except FAILURES as exc:
            raise mapped(exc) from None

    def _send_batch(self, arguments: dict[str, Any], seconds: float, retries: Retries) -> bytes:
        import httpx2

        from service.backends.openai.client import Refused
        from service.backends.openai.failures import FAILURES, mapped, refusal

        call = Call(seconds)

        def create(sdk: openai.OpenAI) -> bytes:
            call.allow(seconds)
            # `sdk.embeddings.create` does the same, and takes 90 µs longer to look through its arguments.
            return sdk.post("/embeddings", cast_to=httpx2.Response, body=arguments).content

        try:
            return self._sdk.send(call, create, retries)
        except FAILURES as exc:
            if refused := refusal(exc):
                raise Refused(refused) from None
            raise mapped(exc, eof=call.eof) from None

    @cached_property
    def _client(self) -> WaitingClient:
        from service.backends.openai.waiting import WaitingClient

        return WaitingClient(f"{self._endpoint.url.rstrip('/')}/embeddings", self._endpoint.connect_seconds)

    def _arguments(self, texts: Sequence[str]) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": self.model,
            # The API takes no empty text.
            "input": [text if text.strip() else "-" for text in texts],
            "encoding_format": "base64" if self._encoded else "float",
        }
        if self._settings.embedding_dimensions:
            arguments["dimensions"] = self._settings.embedding_dimensions
        return arguments


def weight(text: str) -> int:
    """The bytes that are sent of a text at most."""
    return min(len(text), MAX_TEXT_CHARACTERS) if text.isascii() else len(text[:MAX_TEXT_CHARACTERS].encode())


def estimate(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) // 4 + 1 for text in texts)


def read(body: bytes, count: int) -> tuple[Vectors, int | None]:
    """Read an answer's vectors in the order of the texts; raises `UpstreamProtocol` for whatever is no set of unit vectors."""
    import numpy as np

    try:
        answer = decode(body)
        items = sorted(answer.data, key=lambda item: item.index or 0)
        with np.errstate(all="ignore"):
            vectors = np.array([numbers(item) for item in items], dtype=np.float32)
    except (ValueError, RecursionError):
        raise UpstreamProtocol(UNREADABLE) from None
    if [item.index for item in items] not in ([*range(count)], [None] * count) or vectors.ndim != 2:
        raise UpstreamProtocol("The embedding model gave another number of vectors than there are texts.")
    with np.errstate(all="ignore"):
        # What `numpy.linalg.norm` does, which takes longer to look through its arguments.
        lengths: Vectors = np.sqrt(np.add.reduce(vectors * vectors, axis=1, keepdims=True))
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise UpstreamProtocol("The embedding model gave vectors that are none.")
    return vectors / lengths, answer.usage.prompt_tokens if answer.usage else None


def numbers(item: Item) -> Vectors:
    """Floats come as they are or as the base64 of little-endian float32."""
    import numpy as np

    if isinstance(item.embedding, str):
        return np.frombuffer(base64.b64decode(item.embedding, validate=True), dtype="<f4")
    return np.array(item.embedding, dtype=np.float32)
