"""The local index and the offline embedder alone: a search and a question on one core, chunks while ingesting on all of them.

Passages are sentences of the retrieval corpus, drawn at random, so that words are as rare as in real text; vectors are random. A half
of the questions is asked first, so that the other half meets an index that knows the commonest words and not theirs.
"""

from __future__ import annotations

import os
import random
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.retrieval import CORPUS, read_questions
from service.backends.interfaces import Entry, Search
from service.backends.local.embedder import MiniLM
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.vectors import LocalVectors
from service.config import Settings
from service.ingestion.chunks import chunk
from service.ingestion.formats import markdown
from service.models import Passage, Scope

if TYPE_CHECKING:
    from service.backends.interfaces import Vectors

OWN, OTHER = Scope("bench", "reader"), Scope("bench", "somebody else")
SPACE, DIMENSIONS = "random", 384
PASSAGES, SENTENCES, BATCH, LIMIT = 10_000, 8, 500, 8
GROWTH = (1_000, 10_000, 100_000)
QUESTION = "How do I change the default timeout of requests to a plugin?"
TOKENS = 200
WORDS_OF_A_CHUNK = 130


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians of one call, by the clock and of the processor."""

    ms: float
    cpu_ms: float

    def __str__(self) -> str:
        return f"{self.ms:7.2f} ms {self.cpu_ms:7.2f} ms of CPU"


def run(quick: bool = False) -> dict[str, object]:
    """Measure, print the figures and return them."""
    found: dict[str, object] = {}

    def show(name: str, value: object) -> None:
        found[name] = value
        print(f"{name:58} {value}", flush=True)

    sizes = GROWTH[:-1] if quick else GROWTH
    with one_core():
        for name, cost in searches(PASSAGES, 0).items():
            show(f"{PASSAGES:,} passages, {name}", cost)
        for size in sizes:
            show(f"{PASSAGES:,} passages beside {size:,} of others, fused", searches(PASSAGES, size)["fused"])
        for size in sizes:
            show(f"{size:,} passages, fused", searches(size, 0)["fused"])
        embedder = MiniLM(*settings_of(Path()))
        embedder.check()
        show("embedding a question of 12 words", cost_of(lambda _: embedder.embed([QUESTION]), range(100)))
    show(f"chunks of {TOKENS} tokens a second, on all cores", ingesting(embedder, 64 if quick else 256))
    return found


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this thread to one processor, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def searches(own: int, others: int) -> dict[str, Cost]:
    """Return what searches cost in an index of one's own passages beside those of others."""
    questions = [question.text for question in read_questions()]
    vectors = unit_vectors(len(questions), seed=2)
    half = len(questions) // 2

    with tempfile.TemporaryDirectory(prefix="brainstem-bench-") as folder:
        index = LocalVectors(*settings_of(Path(folder)))
        fill(index, OWN, own, seed=0)
        fill(index, OTHER, others, seed=1)

        def ask(n: int, *, words: bool = True, vector: bool = True) -> None:
            search = Search(questions[n] if words else "", vectors[n] if vector else None, SPACE, LIMIT)
            assert index.search(OWN, search)

        cost_of(ask, range(half))
        return {
            "fused, words not asked before": cost_of(ask, range(half, len(questions))),
            "vectors": cost_of(lambda n: ask(n, words=False), range(len(questions))),
            "words": cost_of(lambda n: ask(n, vector=False), range(len(questions))),
            "fused": cost_of(ask, range(len(questions))),
        }


def ingesting(embedder: MiniLM, count: int) -> float:
    words = " ".join(sentences()).split()
    texts = [" ".join(words[n * WORDS_OF_A_CHUNK :][:WORDS_OF_A_CHUNK]) for n in range(count)]
    start, tokens = time.perf_counter(), 0
    for n in range(0, count, embedder.batch_size):
        tokens += embedder.embed(texts[n : n + embedder.batch_size]).tokens
    return round(tokens / TOKENS / (time.perf_counter() - start), 1)


def cost_of(call: Callable[[int], object], numbers: Sequence[int]) -> Cost:
    clock, processor = [], []
    for n in numbers:
        start, spent = time.perf_counter(), time.thread_time()
        call(n)
        clock.append(time.perf_counter() - start)
        processor.append(time.thread_time() - spent)
    return Cost(round(statistics.median(clock) * 1000, 2), round(statistics.median(processor) * 1000, 2))


def fill(index: LocalVectors, scope: Scope, count: int, seed: int) -> None:
    chance, pieces = random.Random(seed), sentences()
    vectors = unit_vectors(count, seed)
    for start in range(0, count, BATCH):
        entries = []
        for n in range(start, min(start + BATCH, count)):
            text = " ".join(chance.choices(pieces, k=SENTENCES))
            entries.append(Entry(Passage(document=f"d{start}", chunk=n, title="Title", text=text), vectors[n], SPACE))
        index.upsert(scope, entries)


def sentences() -> list[str]:
    found = []
    for path in sorted(CORPUS.glob("*.md")):
        with path.open("rb") as file:
            found += [part for piece in chunk(markdown.read(file)) for part in re.split(r"(?<=[.!?])\s+", piece.text)]
    return found


def unit_vectors(count: int, seed: int) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSIONS), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def settings_of(folder: Path) -> tuple[Settings, EnvironmentSecrets]:
    settings = Settings(data_dir=folder)
    return settings, EnvironmentSecrets(settings)


if __name__ == "__main__":
    run()
