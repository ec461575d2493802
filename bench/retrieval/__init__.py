"""How well passages are found: by vectors alone, by words alone, and by both fused, with the offline embedder and index.

The corpus is documentation that nobody here wrote (`corpus/SOURCE.txt`). The questions were written by reading it, each with
every passage that answers it: a passage does if it holds one of the question's snippets. hit@5 is the share of questions with an
answer among the first five passages, MRR the mean of 1 / rank of the first answer (0 beyond the first 20).
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from service.backends.interfaces import Embedder, Entry, Search, VectorIndex
from service.backends.local.embedder import MiniLM
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.vectors import LocalVectors
from service.config import Settings
from service.ingestion.chunks import chunk, embedding_text
from service.ingestion.formats import markdown
from service.models import Passage, Scope

CORPUS = Path(__file__).parent / "corpus"
QUESTIONS = Path(__file__).parent / "questions.jsonl"
SCOPE = Scope("bench", "reader")
DEPTH = 20
WAYS = ("vectors", "words", "fused")
KINDS = ("paraphrase", "identifier", "ordinary")


@dataclass(frozen=True, slots=True)
class Question:
    """`answers` are (file, snippet) pairs. A paraphrase shares no telling word with its answers; an identifier is one."""

    kind: str
    text: str
    answers: tuple[tuple[str, str], ...]

    def answered_by(self, passage: Passage) -> bool:
        text = plain(passage.text)
        return any(passage.title == file and plain(snippet) in text for file, snippet in self.answers)


@dataclass(frozen=True, slots=True)
class Figures:
    questions: int
    hit_at_5: float
    mrr: float


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of each way to search, and the same for each kind of question."""

    passages: int
    ways: dict[str, Figures]
    kinds: dict[str, dict[str, Figures]]


def run() -> dict[str, object]:
    """Measure, print the figures and return them."""
    report = measure()
    print("\n".join(lines(report)))
    return asdict(report)


def measure() -> Report:
    """Read, chunk, embed and index the corpus as an upload is, and ask all questions in each of the three ways."""
    with tempfile.TemporaryDirectory(prefix="brainstem-bench-") as folder:
        settings = Settings(data_dir=Path(folder))
        secrets = EnvironmentSecrets(settings)
        index, embedder = LocalVectors(settings, secrets), MiniLM(settings, secrets)
        passages = fill(index, embedder)
        questions = read_questions()
        check(questions, passages)
        ranks: dict[str, list[int | None]] = {way: [] for way in WAYS}
        for question, vector in zip(questions, embedder.embed([q.text for q in questions]).vectors, strict=True):
            searches = (
                Search("", vector, embedder.name, DEPTH),
                Search(question.text, None, embedder.name, DEPTH),
                Search(question.text, vector, embedder.name, DEPTH),
            )
            for way, search in zip(WAYS, searches, strict=True):
                ranks[way].append(rank(index, question, search))
    kinds = [question.kind for question in questions]
    return Report(
        passages=len(passages),
        ways={way: figures(ranks[way]) for way in WAYS},
        kinds={
            kind: {way: figures(r for r, k in zip(ranks[way], kinds, strict=True) if k == kind) for way in WAYS}
            for kind in KINDS
        },
    )


def fill(index: VectorIndex, embedder: Embedder) -> list[Passage]:
    pieces = []
    for path in sorted(CORPUS.glob("*.md")):
        with path.open("rb") as file:
            pieces += [(path.name, piece) for piece in chunk(markdown.read(file))]
    passages = [
        Passage(document=name, chunk=p.n, title=name, text=p.text, headings=p.headings, line=p.line)
        for name, p in pieces
    ]
    for start in range(0, len(pieces), embedder.batch_size):
        batch = slice(start, start + embedder.batch_size)
        vectors = embedder.embed([embedding_text(*piece) for piece in pieces[batch]]).vectors
        entries = [Entry(p, vector, embedder.name) for p, vector in zip(passages[batch], vectors, strict=True)]
        index.upsert(SCOPE, entries)
    return passages


def rank(index: VectorIndex, question: Question, search: Search) -> int | None:
    """Return the rank of the first passage that answers a question, if it is among those found."""
    hits = index.search(SCOPE, search)
    return next((n for n, hit in enumerate(hits, start=1) if question.answered_by(hit.passage)), None)


def figures(ranks: Iterable[int | None]) -> Figures:
    ranks = list(ranks)
    found = [rank for rank in ranks if rank]
    hits = sum(rank <= 5 for rank in found)
    return Figures(len(ranks), hits / len(ranks), sum(1 / rank for rank in found) / len(ranks))


def read_questions() -> list[Question]:
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [Question(row["kind"], row["question"], tuple(map(tuple, row["answers"]))) for row in rows]


def check(questions: Sequence[Question], passages: Sequence[Passage]) -> None:
    """Refuse to measure with a question that no passage answers: its snippet is wrong, or was cut in two."""
    if lost := [q.text for q in questions if not any(map(q.answered_by, passages))]:
        raise ValueError(f"No passage answers: {lost}")


def plain(text: str) -> str:
    """Return a text's words alone, so that markup and line breaks make no difference."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def lines(report: Report) -> Iterator[str]:
    """Yield the report as a table."""
    yield f"{'retrieval':12}{'questions':>10}" + "".join(f"{way + ' hit@5':>15}{'MRR':>7}" for way in WAYS)
    for name, row in [("all", report.ways), *report.kinds.items()]:
        cells = "".join(f"{row[way].hit_at_5:>15.3f}{row[way].mrr:>7.3f}" for way in WAYS)
        yield f"{name:12}{row[WAYS[0]].questions:>10}{cells}"
    yield f"{report.passages} passages"
