"""Chats, users and documents, put there through the adapters as if there had been a lifetime of requests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from bench.systems import QUESTION, Brainstem
from service.backends import registry
from service.backends.interfaces import Backends, Create, Entry, Write
from service.chunks import group_writes
from service.config import Settings
from service.context import documents_path
from service.conversations import chat_path, fingerprint, turn_path
from service.models import Call, Chat, Chunk, Passage, Scope, Turn, TurnStatus, timestamp
from service.records import to_record
from service.tokenizer import count_tokens
from service.usage import ledger_write

BATCH = 400
WORDS_OF_A_CHUNK = 150
CHUNKS_OF_A_DOCUMENT = 400
VOCABULARY = 20_000


def backends_of(system: Brainstem) -> Backends:
    """Return the adapters of a system's own settings."""
    return registry.build(Settings.load(system.environ(), dotenv=None))


def plant_chat(backends: Backends, scope: Scope, chat: str, turns: int) -> None:
    """Store a chat with so many answered turns, each with its row in the ledger."""
    now = timestamp()
    stored = Chat(id=chat, title=QUESTION, created=now, updated=now, turns=turns)
    writes: list[Write] = [Create(chat_path(chat), to_record(stored))]
    for n in range(1, turns + 1):
        one = turn(chat, n, now)
        writes += [Create(turn_path(chat, one.id), to_record(one)), ledger_write(row(one))]
    for start in range(0, len(writes), BATCH):
        backends.documents.commit(scope, writes[start : start + BATCH])


def turn(chat: str, n: int, now: str) -> Turn:
    return Turn(
        id=f"{chat}-{n}",
        chat=chat,
        seq=n,
        prompt=QUESTION,
        reply="Feed it, keep it cold, and feed it again when you are back. " * 3,
        status=TurnStatus.COMPLETED,
        created=now,
        updated=now,
        fingerprint=fingerprint(QUESTION),
        run=f"{chat}-{n}",
        model="m",
        finish_reason="stop",
        input_tokens=200,
    )


def row(turn: Turn) -> Call:
    return Call(
        id=f"{turn.run}.answer",
        kind="answer",
        model=turn.model,
        created=turn.created,
        outcome="ok",
        input_tokens=turn.input_tokens,
        output_tokens=40,
        chat=turn.chat,
        turn=turn.id,
    )


def plant_chunks(backends: Backends, scope: Scope, first: int, count: int) -> None:
    """Store chunks with vectors in all directions, whose words are as frequent as words are, the question's among them."""
    words = vocabulary()
    weights = [*accumulate(1 / rank for rank in range(1, len(words) + 1))]
    chance, directions = random.Random(first), np.random.default_rng(first)
    for start in range(first, first + count, CHUNKS_OF_A_DOCUMENT):
        document = f"planted-{start}"
        chunks = [
            chunk(n, " ".join(chance.choices(words, cum_weights=weights, k=WORDS_OF_A_CHUNK)))
            for n in range(min(CHUNKS_OF_A_DOCUMENT, first + count - start))
        ]
        vectors = directions.standard_normal((len(chunks), backends.embedder.dimensions), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        backends.documents.commit(scope, group_writes(documents_path(scope, document), chunks))
        passages = [
            Passage(document=document, chunk=piece.n, title=document, text=piece.text, shared=scope.user is None)
            for piece in chunks
        ]
        entries = zip(passages, vectors, strict=True)
        backends.vectors.upsert(scope, [Entry(passage, vector, backends.embedder.name) for passage, vector in entries])


def chunk(n: int, text: str) -> Chunk:
    return Chunk(n=n, text=text, tokens=count_tokens(text))


def vocabulary() -> Sequence[str]:
    """Return words, the most frequent first; the question's stand among the frequent and the rare ones alike."""
    words = [f"word{n}" for n in range(VOCABULARY)]
    for n, word in enumerate(QUESTION.lower().strip("?").split()):
        words[2**n] = word
    return words
