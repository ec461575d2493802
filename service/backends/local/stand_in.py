"""The stand-in for a language model: it quotes what answers best from the passages found, and says that it is none."""

from __future__ import annotations

import re
import threading
import time
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby

from service.backends.interfaces import Delta, Finish, ModelEvent, ModelRequest, Secrets, Usage
from service.backends.local.extract import Quote, choose
from service.backends.local.questions import is_greeting
from service.config import Settings
from service.models import Passage

NOTICE = (
    "No language model is set up, so this is an extract: sentences copied from your documents, not an answer written for you. "
    "For that, set `OPENAI_API_KEY` – or `OPENAI_BASE_URL` for Ollama, vLLM and the like – in `.env`, then start again."
)
INVITATION = (
    "Add a document – PDF, Word, HTML, Markdown, CSV or plain text – and ask about it: you will get the sentences that answer best, "
    "each with the place that it comes from.\n\n"
    "No language model is set up, so I can quote documents, but not write answers. For that, set `OPENAI_API_KEY` – or "
    "`OPENAI_BASE_URL` for Ollama, vLLM and the like – in `.env`, then start again."
)
WELCOME = "Hello! Ask about your documents, and you will get the sentences that answer best, each with its place."
NOTHING = "I found nothing on this in your documents."
LONGEST_QUOTE, LONGEST_TITLE, LONGEST_LISTING = 600, 80, 15

MARKUP = re.compile(r"[\\`*\[\]<~]|(?<!\w)_|_(?!\w)|&(?=[#\w]+;)|(?<=:)/(?=/)|(?<=\bwww)\.|(?<=\w)@(?=\w)")
BULLET = re.compile(r"^[-*+•‣▪–◦·] +")
FIRST = re.compile(r"(?:[-+=#>|]|(?<=\d)[.)])")
LIKE_A_CITATION = re.compile(r"\[(?=\s*\d)")


class StandInModel:
    """Answers offline, always alike, at the pace that the settings give."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self.name = "stand-in"
        self._pace = settings.stand_in_words_per_second

    def stream(self, request: ModelRequest) -> StandInStream:
        return StandInStream(request, self._pace)

    def check(self) -> None:
        """Do nothing: it needs nothing."""


class StandInStream:
    """One answer, word by word."""

    def __init__(self, request: ModelRequest, pace: int) -> None:
        self._request = request
        self._pace = pace
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[ModelEvent]:
        text = answer(self._request.question, self._request.passages)
        began = time.monotonic()
        for n, word in enumerate(re.findall(r"\S+\s*", text)):
            due = began + n / self._pace if self._pace else 0.0
            if self._closed.wait(max(0.0, due - time.monotonic())):
                return
            yield Delta(word)
        yield Finish("stop")
        yield Usage(sum(len(told.content) for told in self._request.messages) // 4, len(text) // 4)

    def close(self) -> None:
        self._closed.set()


def answer(question: str, passages: Sequence[Passage]) -> str:
    """Return the answer in Markdown, in which `[n]` cites passage n, counted from 1."""
    if not passages:
        return INVITATION
    if is_greeting(question):
        return f"{WELCOME}\n\n{NOTICE}"
    quotes = choose(question, passages)
    if not quotes:
        return f"{NOTHING} The passage that comes nearest is in {source(passages[0])} [1].\n\n{NOTICE}"
    parts = [
        f"{where}:\n\n{quotation(list(group))}"
        for where, group in groupby(quotes, key=lambda quote: source(passages[quote.passage]))
    ]
    return "\n\n".join([*parts, NOTICE])


def source(passage: Passage) -> str:
    """Name a document, with the place in it."""
    place = f", page {passage.page}" if passage.page else f", line {passage.line}" if passage.line else ""
    below = f" – {escaped(shortened(passage.headings[-1], LONGEST_TITLE))}" if passage.headings else ""
    return f"**{escaped(shortened(passage.title, LONGEST_TITLE))}**{place}{below}"


def quotation(quotes: Sequence[Quote]) -> str:
    """Quote pieces from one place in one block; sentences that stand side by side there do so here."""
    lines: list[str] = []
    before: Quote | None = None
    for quote in quotes:
        cited = f"[{quote.passage + 1}]"
        if quote.unit.kind == "code":
            lines += ["", *listing(quote.unit.text), "", cited]
        elif before and runs_on(before, quote):
            lines[-1] += f" {line(quote.unit.text)} {cited}"
        else:
            lines += ["", f"{line(quote.unit.text)} {cited}"]
        before = quote
    return "\n".join(f"> {text}".rstrip() for text in lines[1:])


def runs_on(before: Quote, quote: Quote) -> bool:
    sentences = before.unit.kind == quote.unit.kind == "sentence"
    beside = before.passage == quote.passage and before.place + 1 == quote.place
    return sentences and beside and before.unit.paragraph == quote.unit.paragraph


def listing(text: str) -> list[str]:
    """Fence a listing with more backticks than it has itself."""
    lines = [visible(line, keep="\t") for line in text.splitlines()]
    shown = lines[:LONGEST_LISTING] + ["…"] * (len(lines) > LONGEST_LISTING)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return [fence, *(line[:200] for line in shown), fence]


def line(text: str) -> str:
    return escaped(shortened(BULLET.sub("• ", text), LONGEST_QUOTE))


def shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length].rstrip()} …"


def visible(text: str, keep: str = "") -> str:
    """Drop control characters, and those that turn the direction of text around."""
    return "".join(c for c in text if c in keep or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))


def escaped(text: str) -> str:
    """Keep a document's text from being Markdown, and its bracketed numbers from being read as citations of ours."""
    text = LIKE_A_CITATION.sub("[\u2060", visible(" ".join(text.split())))
    text = MARKUP.sub(lambda mark: f"\\{mark[0]}", text)
    return FIRST.sub(lambda mark: f"\\{mark[0]}", text, count=1) if starts_a_block(text) else text


def starts_a_block(text: str) -> bool:
    return re.match(r"[-+=#>|]|\d{1,9}[.)](?:\s|$)", text) is not None
