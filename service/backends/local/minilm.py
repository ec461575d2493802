"""The forward pass of all-MiniLM-L6-v2 in numpy: a BERT of 6 layers, mean pooling, unit length.

The texts of a batch are laid end to end instead of padded: every linear layer is one product over all their tokens, and only
attention looks at one text at a time. All arrays are float32.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from service.backends.local.blas import use_calling_thread_only

Array: TypeAlias = npt.NDArray[np.float32]

LAYERS, HEADS, WIDTH = 6, 12, 384
HEAD_WIDTH = WIDTH // HEADS
EPSILON = np.float32(1e-12)
BLOCK_TOKENS = 512
"""Tokens that one thread computes at once: enough for BLAS to be at its best, few enough to stay within some megabytes."""

GELU_ROWS = 64
"""Rows of the widest layer that fit in a core's cache together with one scratch array."""


@dataclass(frozen=True, slots=True)
class Linear:
    weight: Array
    bias: Array

    def __call__(self, x: Array) -> Array:
        y: Array = x @ self.weight.T
        y += self.bias
        return y


@dataclass(frozen=True, slots=True)
class LayerNorm:
    weight: Array
    bias: Array

    def __call__(self, x: Array) -> Array:
        """Normalise each row in place."""
        x -= x.mean(axis=1, keepdims=True)
        variance = np.einsum("ij,ij->i", x, x) / np.float32(WIDTH)
        x /= np.sqrt(variance + EPSILON)[:, None]
        x *= self.weight
        x += self.bias
        return x


@dataclass(frozen=True, slots=True)
class Layer:
    qkv: Linear
    attended: Linear
    attended_norm: LayerNorm
    wide: Linear
    narrow: Linear
    narrow_norm: LayerNorm

    def __call__(self, x: Array, bounds: Sequence[int]) -> Array:
        y = self.attended(attention(self.qkv(x), bounds))
        y += x
        x = self.attended_norm(y)
        y = self.narrow(gelu(self.wide(x)))
        y += x
        return self.narrow_norm(y)


@dataclass(frozen=True, slots=True)
class Model:
    words: Array
    positions: Array
    norm: LayerNorm
    layers: tuple[Layer, ...]
    threads: ThreadPoolExecutor

    def encode(self, texts: Sequence[Sequence[int]]) -> Array:
        """Return one unit vector per list of token ids, in their order; no list is empty."""
        parts = list(blocks(texts))
        if len(parts) > 1:
            means = list(self.threads.map(self.encode_block, parts))
        else:
            means = [self.encode_block(part) for part in parts]
        vectors = np.concatenate([np.empty((0, WIDTH), np.float32), *means])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def encode_block(self, texts: Sequence[Sequence[int]]) -> Array:
        bounds = [0, *np.cumsum([len(ids) for ids in texts]).tolist()]
        x = self.words[np.concatenate([np.asarray(ids) for ids in texts])]
        x += self.positions[np.concatenate([np.arange(len(ids)) for ids in texts])]
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, bounds)
        means = np.add.reduceat(x, bounds[:-1], axis=0)
        means /= np.diff(bounds).astype(np.float32)[:, None]
        return means


def blocks(texts: Sequence[Sequence[int]]) -> Iterator[Sequence[Sequence[int]]]:
    start = tokens = 0
    for i, ids in enumerate(texts):
        if i > start and tokens + len(ids) > BLOCK_TOKENS:
            yield texts[start:i]
            start, tokens = i, 0
        tokens += len(ids)
    if start < len(texts):
        yield texts[start:]


def attention(qkv: Array, bounds: Sequence[int]) -> Array:
    """Attend within each text; the queries come already scaled (see `load`)."""
    mixed = np.empty((len(qkv), WIDTH), np.float32)
    for start, end in pairwise(bounds):
        q, k, v = qkv[start:end].reshape(-1, 3, HEADS, HEAD_WIDTH).transpose(1, 2, 0, 3)
        scores = q @ k.transpose(0, 2, 1)
        scores -= scores.max(axis=2, keepdims=True)
        np.exp(scores, out=scores)
        context = scores @ v
        context /= scores.sum(axis=2, keepdims=True)
        mixed[start:end] = context.transpose(1, 0, 2).reshape(-1, WIDTH)
    return mixed


def gelu(x: Array) -> Array:
    """Compute x·Φ(x) in place, within 2e-7·|x|: the complementary error function is Abramowitz & Stegun's 7.1.26."""
    scratch = np.empty((3, min(GELU_ROWS, len(x)), x.shape[1]), np.float32)
    for start in range(0, len(x), GELU_ROWS):
        rows = x[start : start + GELU_ROWS]
        size, t, tail = scratch[:, : len(rows)]
        np.abs(rows, out=size)
        np.multiply(size, np.float32(0.3275911 / np.sqrt(2)), out=t)
        t += np.float32(1)
        np.reciprocal(t, out=t)
        np.multiply(t, np.float32(1.061405429), out=tail)
        for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
            tail += np.float32(coefficient)
            tail *= t
        np.multiply(size, size, out=t)
        t *= np.float32(-0.5)
        np.exp(t, out=t)
        tail *= t
        tail *= size
        tail *= np.float32(0.5)
        np.maximum(rows, np.float32(0), out=rows)
        rows -= tail
    return x


def load(path: Path) -> Model:
    """Read the weights; the file stays mapped, so that words which never occur take no memory."""
    use_calling_thread_only()
    tensors = read_tensors(path)

    def norm(name: str) -> LayerNorm:
        return LayerNorm(tensors[f"{name}.LayerNorm.weight"], tensors[f"{name}.LayerNorm.bias"])

    def linear(name: str) -> Linear:
        return Linear(tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def layer(name: str) -> Layer:
        query, key, value = (linear(f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
        scale = np.float32(HEAD_WIDTH**-0.5)
        return Layer(
            qkv=Linear(
                np.concatenate([query.weight * scale, key.weight, value.weight]),
                np.concatenate([query.bias * scale, key.bias, value.bias]),
            ),
            attended=linear(f"{name}.attention.output.dense"),
            attended_norm=norm(f"{name}.attention.output"),
            wide=linear(f"{name}.intermediate.dense"),
            narrow=linear(f"{name}.output.dense"),
            narrow_norm=norm(f"{name}.output"),
        )

    return Model(
        words=tensors["embeddings.word_embeddings.weight"],
        # Every token is of the first segment, so its vector is added once here.
        positions=tensors["embeddings.position_embeddings.weight"]
        + tensors["embeddings.token_type_embeddings.weight"][0],
        norm=norm("embeddings"),
        layers=tuple(layer(f"encoder.layer.{i}") for i in range(LAYERS)),
        threads=ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="embed"),
    )


def read_tensors(path: Path) -> dict[str, Array]:
    """Map a safetensors file: the header's length, a JSON header of shapes and offsets, the numbers (little-endian)."""
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    (size,) = struct.unpack_from("<Q", mapped)
    header = json.loads(mapped[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            start, end = entry["data_offsets"]
            numbers = np.frombuffer(mapped, "<f4", (end - start) // 4, 8 + size + start)
            tensors[name] = numbers.reshape(entry["shape"])
    return tensors
