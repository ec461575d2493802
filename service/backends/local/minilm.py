"""all-MiniLM-L6-v2 as ONNX Runtime computes it: a BERT of 6 layers, mean pooling, unit length, all in float32.

Each text is computed by itself, on one thread, so that no vector depends on what else is in its batch.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from onnxruntime import InferenceSession, SessionOptions

from service.backends.local.onnx import MICROSOFT, Graph, Stored

Array: TypeAlias = npt.NDArray[np.float32]

LAYERS, HEADS, WIDTH = 6, 12, 384
EPSILON = 1e-12

IDS, POSITIONS = "ids", "positions"


@dataclass(frozen=True, slots=True)
class Model:
    session: InferenceSession
    threads: ThreadPoolExecutor

    def encode(self, texts: Sequence[Sequence[int]]) -> Array:
        """Return one unit vector per list of token ids, in their order; no list is empty."""
        vectors = self.threads.map(self.encode_one, texts) if len(texts) > 1 else map(self.encode_one, texts)
        return np.array(list(vectors), np.float32).reshape(-1, WIDTH)

    def encode_one(self, ids: Sequence[int]) -> Array:
        vector: Array = self.session.run(None, {IDS: np.array(ids), POSITIONS: np.arange(len(ids))})[0]
        return vector


def load(path: Path) -> Model:
    """Open the weights; their file stays mapped, so that words which never occur take no memory."""
    options = SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    session = InferenceSession(build(path), options, providers=["CPUExecutionProvider"])
    return Model(session, ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="embed"))


def build(path: Path) -> bytes:
    """Return the model as an ONNX graph over the weights of a file, which lies in the folder that the session is told."""
    graph = Graph(path.name, read_tensors(path))
    zero = graph.integers("zero", [0])

    def norm(x: str, name: str) -> str:
        weights = (graph.weight(f"{name}.LayerNorm.{part}") for part in ("weight", "bias"))
        return graph.node("LayerNormalization", x, *weights, epsilon=EPSILON)

    def linear(x: str, name: str) -> str:
        return graph.node("Gemm", x, graph.weight(f"{name}.weight"), graph.weight(f"{name}.bias"), transB=1)

    def embedded(kind: str, ids: str) -> str:
        return graph.node("Gather", graph.weight(f"embeddings.{kind}_embeddings.weight"), ids)

    def attention(x: str, name: str) -> str:
        # This operator wants a batch: here of one text.
        parts = (linear(x, f"{name}.self.{part}") for part in ("query", "key", "value"))
        mixed = graph.node(
            "MultiHeadAttention",
            *(graph.node("Unsqueeze", part, zero) for part in parts),
            domain=MICROSOFT,
            num_heads=HEADS,
        )
        return linear(graph.node("Squeeze", mixed, zero), f"{name}.output.dense")

    # Every token is of the first segment.
    x = graph.node("Add", embedded("word", IDS), embedded("position", POSITIONS))
    x = norm(graph.node("Add", x, embedded("token_type", zero)), "embeddings")
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        x = norm(graph.node("Add", attention(x, f"{layer}.attention"), x), f"{layer}.attention.output")
        wide = graph.node("Gelu", linear(x, f"{layer}.intermediate.dense"))
        x = norm(graph.node("Add", linear(wide, f"{layer}.output.dense"), x), f"{layer}.output")
    mean = graph.node("ReduceMean", x, zero, keepdims=0)
    return graph.model([IDS, POSITIONS], graph.node("LpNormalization", mean, axis=0, p=2), WIDTH)


def read_tensors(path: Path) -> dict[str, Stored]:
    """Read a safetensors file's table: the header's length, a JSON header of shapes and offsets, the numbers (little-endian)."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    return {
        name: Stored(tuple(entry["shape"]), 8 + size + entry["data_offsets"][0], length(entry["data_offsets"]))
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] == "F32"
    }


def length(offsets: Sequence[int]) -> int:
    start, end = offsets
    return end - start
