"""The ONNX format, as far as one graph of float32 needs it: protobuf messages, with the field numbers of ONNX's `onnx.proto`.

A graph holds no weights. It says where in a file each of them lies, and the runtime maps that file.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

IR_VERSION, OPERATORS = 10, 20
"""Of the format, and of the standard operators."""

MICROSOFT = "com.microsoft"
"""The operators that ONNX Runtime adds: `docs/ContribOperators.md` in its repository."""

FLOAT, INT64 = 1, 7
EXTERNAL = 1


@dataclass(frozen=True, slots=True)
class Stored:
    """A float32 tensor in a file: its shape, and the bytes where it starts and how many it is."""

    shape: tuple[int, ...]
    start: int
    length: int


class Graph:
    """Collects nodes; each is given the names of its inputs and returns that of its output."""

    def __init__(self, file: str, tensors: Mapping[str, Stored]) -> None:
        self._file = file
        self._tensors = tensors
        self._nodes: list[bytes] = []
        self._weights: dict[str, bytes] = {}

    def weight(self, name: str) -> str:
        tensor = self._tensors[name]
        place = {"location": self._file, "offset": str(tensor.start), "length": str(tensor.length)}
        pairs = b"".join(message(13, text(1, key) + text(2, value)) for key, value in place.items())
        dims = b"".join(number(1, size) for size in tensor.shape)
        self._weights[name] = dims + number(2, FLOAT) + text(8, name) + pairs + number(14, EXTERNAL)
        return name

    def integers(self, name: str, values: Sequence[int]) -> str:
        raw = struct.pack(f"<{len(values)}q", *values)
        self._weights[name] = number(1, len(values)) + number(2, INT64) + text(8, name) + message(9, raw)
        return name

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: float) -> str:
        """Add a node; an attribute given as `float` is one, and as `int` an integer."""
        output = f"{operator}-{len(self._nodes)}"
        fields = [*(text(1, name) for name in inputs), text(2, output), text(4, operator), text(7, domain)]
        self._nodes.append(b"".join(fields + [message(5, attribute(*pair)) for pair in attributes.items()]))
        return output

    def model(self, inputs: Sequence[str], output: str, width: int) -> bytes:
        """Return the model from inputs, all of them integers in a row, to a vector."""
        graph = (
            b"".join(message(1, node) for node in self._nodes)
            + text(2, "graph")
            + b"".join(message(5, weight) for weight in self._weights.values())
            + b"".join(message(11, value(name, INT64, text(2, "length"))) for name in inputs)
            + message(12, value(output, FLOAT, number(1, width)))
        )
        sets = {"": OPERATORS, MICROSOFT: 1}
        versions = (message(8, text(1, domain) + number(2, version)) for domain, version in sets.items())
        return number(1, IR_VERSION) + b"".join(versions) + message(7, graph)


def attribute(name: str, value: float) -> bytes:
    if isinstance(value, int):
        return text(1, name) + number(3, value) + number(20, 2)
    return text(1, name) + varint(2 << 3 | 5) + struct.pack("<f", value) + number(20, 1)


def value(name: str, kind: int, dimension: bytes) -> bytes:
    shape = message(2, message(1, dimension))
    return text(1, name) + message(2, message(1, number(1, kind) + shape))


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def text(field: int, value: str) -> bytes:
    return message(field, value.encode())


def message(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    """Return a number that is not negative, seven bits to a byte, the lowest first."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
