"""The embedder of a compatible endpoint, against a scripted one."""

from __future__ import annotations

import base64
import traceback
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from service.backends.interfaces import (
    Embedder,
)
from service.config import Settings
from service.errors import (
    BrainstemError,
    UpstreamBusy,
    UpstreamConfig,
    UpstreamProtocol,
    UpstreamQuota,
)
from tests.kit.models import (
    embedder_of,
    impatient,
)
from tests.kit.upstream import (
    DIMENSIONS,
    Repeat,
    Response,
    Upstream,
    faults,
    json_response,
    text_vector,
)


@pytest.fixture
def settings(upstream: Upstream) -> Settings:
    return impatient(upstream)


@pytest.fixture
def embedder(settings: Settings) -> Embedder:
    return embedder_of(settings)


def vectors(*items: dict[str, Any]) -> Response:
    return json_response({"object": "list", "data": list(items)})


def packed(*numbers: float) -> str:
    return base64.b64encode(np.array(numbers, dtype="<f4").tobytes()).decode()


def test_vectors_come_in_the_order_of_the_texts(embedder: Embedder, upstream: Upstream) -> None:
    texts = ["cats and dogs", "dogs and cats", "a red car"]
    told = embedder.embed(texts)
    assert told.vectors.shape == (3, 1536)
    assert told.vectors.dtype == np.float32
    np.testing.assert_allclose(told.vectors, np.stack([text_vector(text, 1536) for text in texts]), atol=1e-6)
    assert (told.tokens, told.estimated) == (9, False)


def test_vectors_are_ordered_by_their_index_and_of_unit_length(settings: Settings, upstream: Upstream) -> None:
    embedder = embedder_of(replace(settings, embedding_model="other", embedding_dimensions=2))
    upstream.script(vectors({"index": 1, "embedding": [0, 5]}, {"index": 0, "embedding": [3, 4]}), on="embeddings")
    told = embedder.embed(["a", "b"])
    np.testing.assert_allclose(told.vectors, np.array([[0.6, 0.8], [0, 1]]), atol=1e-6)
    assert told.estimated
    assert told.tokens > 0
    assert upstream.requests[-1].json["dimensions"] == 2


def test_no_text_makes_no_call(embedder: Embedder, upstream: Upstream) -> None:
    assert embedder.embed([]).vectors.shape == (0, 1536)
    assert upstream.requests == []


def test_large_batches_are_split(embedder: Embedder, upstream: Upstream) -> None:
    many = embedder.embed([f"text {n}" for n in range(600)])
    assert [len(request.json["input"]) for request in upstream.requests] == [256, 256, 88]
    np.testing.assert_allclose(many.vectors[599], text_vector("text 599", 1536), atol=1e-6)
    upstream.forget()
    embedder.embed(["word " * 4_000] * 50)
    assert all(len(request.body) < 1_000_000 for request in upstream.requests)
    assert len(upstream.requests) > 1


def test_the_dimensions_of_known_models_need_no_call(settings: Settings, upstream: Upstream) -> None:
    for model, dimensions in DIMENSIONS.items():
        embedder = embedder_of(replace(settings, embedding_model=model))
        assert (embedder.dimensions, embedder.name) == (dimensions, f"{model}/{dimensions}")
    assert upstream.requests == []


def test_the_dimensions_of_other_models_are_learned_once(settings: Settings, upstream: Upstream) -> None:
    embedder = embedder_of(replace(settings, embedding_model="nomic-embed-text"))
    assert (embedder.dimensions, embedder.name) == (64, "nomic-embed-text/64")
    assert embedder.embed(["a", "b"]).vectors.shape == (2, 64)
    assert len(upstream.requests) == 2


def test_a_server_that_knows_no_encoding_is_asked_for_numbers(embedder: Embedder, upstream: Upstream) -> None:
    upstream.script(faults.option_refused("encoding_format"), on="embeddings")
    for _ in range(2):
        np.testing.assert_allclose(embedder.embed(["a"]).vectors[0], text_vector("a", 1536), atol=1e-6)
    assert [request.json["encoding_format"] for request in upstream.requests] == ["base64", "float", "float"]


def test_a_text_that_is_too_long_is_cut(embedder: Embedder, upstream: Upstream) -> None:
    for _ in range(2):
        upstream.script(faults.status(400, {"message": "maximum context length is 512 tokens"}), on="embeddings")
    assert embedder.embed(["short", "long " * 2_000, ""]).vectors.shape == (3, 1536)
    lengths = [[len(text) for text in request.json["input"]] for request in upstream.requests]
    assert lengths == [[5, 10_000, 1], [5, 5_000, 1], [5, 2_500, 1]]


def test_a_busy_embedder_is_asked_up_to_five_times_more(embedder: Embedder, upstream: Upstream) -> None:
    upstream.script(faults.rate_limited(retry_after=0.01), times=3, on="embeddings")
    assert embedder.embed(["a"]).vectors.shape == (1, 1536)
    assert len(upstream.requests) == 4


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.insufficient_quota(), UpstreamQuota),
        (faults.rate_limited(retry_after=3600), UpstreamBusy),
        (faults.key_leak(), UpstreamConfig),
        (faults.html(), UpstreamProtocol),
        (faults.gzip_bomb(50_000_000), UpstreamProtocol),
        (faults.empty(), UpstreamProtocol),
        (json_response({"data": []}), UpstreamProtocol),
        (json_response({"data": None}), UpstreamProtocol),
        (json_response([["["] * 100]), UpstreamProtocol),
    ],
)
def test_an_embedder_that_refuses_or_talks_nonsense(
    embedder: Embedder, upstream: Upstream, fault: Response, error: type[BrainstemError]
) -> None:
    upstream.always(fault, on="embeddings")
    with pytest.raises(error) as caught:
        embedder.embed(["a"])
    assert faults.LEAKED_KEY not in "".join(traceback.format_exception(caught.value))
    assert len(upstream.requests) == 1


def test_an_answer_without_end_is_cut_off(embedder: Embedder, upstream: Upstream) -> None:
    upstream.script(Response([Repeat(b" " * 1_000_000)]), on="embeddings")
    with pytest.raises(UpstreamProtocol, match="too long"):
        embedder.embed(["a"])
    upstream.until(lambda: upstream.connections == 0, seconds=1)


NO_VECTORS = [
    [{"index": 0, "embedding": [1, 0]}],
    [{"index": 0, "embedding": [1, 0]}, {"index": 0, "embedding": [1, 0]}],
    [{"index": 0, "embedding": [1, 0]}, {"index": 2, "embedding": [1, 0]}],
    [{"index": 0, "embedding": [1, 0]}, {"index": 1, "embedding": [1, 0, 0]}],
    [{"index": 0, "embedding": [1, 0, 0]}, {"index": 1, "embedding": [1, 0, 0]}],
    [{"index": 0, "embedding": [1, 0]}, {"index": 1, "embedding": [0, 0]}],
    [{"index": 0, "embedding": [1, 0]}, {"index": 1, "embedding": [1e300, 0]}],
    [{"index": 0, "embedding": [1, 0]}, {"index": 1, "embedding": []}],
    [{"index": 0, "embedding": [1, 0]}, {"index": 1, "embedding": ["1", None]}],
    [{"index": 0, "embedding": "AAAA"}, {"index": 1, "embedding": "not base64"}],
    [{"index": 0, "embedding": packed(1, 0)}, {"index": 1, "embedding": packed(float("nan"), 1)}],
    [{"index": 0, "embedding": packed(1, 0)}, {"index": 1, "embedding": packed(float("inf"), 1)}],
]


@pytest.mark.parametrize("items", NO_VECTORS)
def test_what_is_no_set_of_vectors_is_refused(
    settings: Settings, upstream: Upstream, items: list[dict[str, Any]]
) -> None:
    embedder = embedder_of(replace(settings, embedding_dimensions=2))
    upstream.always(vectors(*items), on="embeddings")
    with pytest.raises(UpstreamProtocol):
        embedder.embed(["a", "b"])


def test_check_asks_for_a_connection_alone(embedder: Embedder, upstream: Upstream) -> None:
    embedder.check()
    assert upstream.requests == []
