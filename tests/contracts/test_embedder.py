"""What every embedder promises: vectors of one shape and length, in order, whatever the text."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from service.backends.google.embeddings import VertexEmbedder
from service.backends.interfaces import Embedder
from service.backends.local.embedder import MiniLM
from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
from tests.kit.vertex_models import VertexModels

if TYPE_CHECKING:
    from service.backends.interfaces import Vectors

pytestmark = pytest.mark.offline_model

ODD = [
    "",
    "   \n\t ",
    "\0",
    "…",
    "👩‍👩‍👧‍👦🇫🇷",
    "東京の天気は？",
    "שלום",
    "e\u0301",
    "\ud800",
    "x" * 5000,
    " " * 300_000 + "end",
]


@pytest.fixture(scope="module", params=["local", "google"])
def embedder(request: pytest.FixtureRequest) -> Iterator[Embedder]:
    settings = Settings()
    minilm = MiniLM(settings, EnvironmentSecrets(settings))
    if request.param == "local":
        yield minilm
        return

    def embed(text: str, dimensions: int) -> tuple[Vectors, int]:
        """Answer as a model would that knows what words mean: this machine's own."""
        embeddings = minilm.embed([text])
        assert dimensions == minilm.dimensions
        return embeddings.vectors[0], embeddings.tokens

    with VertexModels(embed) as server:
        chosen = replace(server.settings, embedding_dimensions=minilm.dimensions, first_byte_seconds=60.0)
        yield VertexEmbedder(chosen, EnvironmentSecrets(chosen))


def test_each_text_becomes_one_unit_vector_in_its_order(embedder: Embedder) -> None:
    texts = ["bread and butter", "a sonnet", "bread and butter"]
    vectors = embedder.embed(texts).vectors
    assert vectors.shape == (3, embedder.dimensions)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] == pytest.approx(vectors[2], abs=1e-5)
    assert vectors[0] @ vectors[1] < 0.9


def test_no_text_gives_no_vector(embedder: Embedder) -> None:
    embeddings = embedder.embed([])
    assert embeddings.vectors.shape == (0, embedder.dimensions)
    assert embeddings.vectors.dtype == np.float32
    assert embeddings.tokens == 0


def test_a_batch_gives_what_each_text_gives_alone(embedder: Embedder) -> None:
    texts = [" ".join(["word", "another", "third"] * n) for n in range(1, embedder.batch_size)] + ["the last one"]
    together = embedder.embed(texts).vectors
    alone = np.concatenate([embedder.embed([text]).vectors for text in texts])
    assert np.abs(together - alone).max() < 1e-5


@pytest.mark.parametrize("text", ODD, ids=[f"{text[:6]!a}-{len(text)}" for text in ODD])
def test_any_text_has_a_vector(embedder: Embedder, text: str) -> None:
    vectors = embedder.embed([text, "something ordinary"]).vectors
    assert np.isfinite(vectors).all()
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_a_very_long_text_is_cut(embedder: Embedder) -> None:
    vectors = embedder.embed(["A whale is a mammal that lives in the sea. " * 50_000, "whales"]).vectors
    assert vectors[0] @ vectors[1] > 0.4


def test_tokens_grow_with_the_text(embedder: Embedder) -> None:
    short, longer = embedder.embed(["one two"]), embedder.embed(["one two three four five six"])
    assert 0 < short.tokens < longer.tokens
    assert embedder.embed(["one two"] * 3).tokens == 3 * short.tokens


def test_a_paraphrase_is_nearer_than_another_subject(embedder: Embedder) -> None:
    question, answer, other = embedder.embed(
        [
            "How do I get my money back?",
            "Refunds are paid within two weeks of the return.",
            "The committee meets on the first Monday of the month.",
        ]
    ).vectors
    assert question @ answer > question @ other + 0.1


def test_threads_may_share_an_embedder(embedder: Embedder) -> None:
    texts = [f"sentence number {n} " * (n % 7 + 1) for n in range(24)]
    expected = np.concatenate([embedder.embed([text]).vectors for text in texts])
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda text: embedder.embed([text]).vectors[0], texts))
    assert np.abs(np.stack(found) - expected).max() < 1e-5


def test_a_usable_embedder_passes_its_check(embedder: Embedder) -> None:
    embedder.check()
