"""The stand-in for a language model: it quotes what answers best from the passages found, and says that it is none."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from itertools import groupby

from service.backends.interfaces import Delta, Finish, ModelEvent, ModelRequest, Secrets, Usage
from service.backends.local.extract import choose
from service.backends.local.questions import is_greeting
from service.backends.local.quoting import quotation, source
from service.backends.local.samples import smallest
from service.config import Settings
from service.models import Passage

SET_UP = (
    "For that, set `OPENAI_API_KEY` – or `OPENAI_BASE_URL` for Ollama, vLLM and the like – in `.env`, then start again."
)
AN_EXTRACT = (
    "No language model is set up, so this is an extract: sentences copied from your documents, not an answer written for you. "
    + SET_UP
)
NO_EXTRACT = f"No language model is set up, so I can only quote your documents, not write answers. {SET_UP}"
WELCOME = "Hello! Ask about your documents, and you will get the sentences that answer best, each with its place."
INVITATION = (
    "There is nothing to answer from yet. Add a document – PDF, Word, HTML, Markdown, CSV or plain text – and ask about it: you "
    "will get the sentences that answer best, each with its place."
)
NOTHING = "I found nothing on this in your documents."

CHARACTERS_PER_TOKEN = 4


class StandInModel:
    """Answers offline, always alike, at the pace that the settings give."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self.name = "stand-in"
        self._pace = settings.stand_in_words_per_second

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent], None]:
        """Answer word by word, or at once where no pace is set; the usage is estimated.

        Where the answer is to fit a schema, it is the smallest value that does.
        """
        if request.schema:
            text = await asyncio.to_thread(smallest, request.schema.text)
        else:
            text = await asyncio.to_thread(answer, request.question, request.passages)
        words = [Delta(word) for word in re.findall(r"\S+\s*", text)]
        read = sum(len(message.content) for message in request.messages)
        end = (Finish("stop"), Usage(-(-read // CHARACTERS_PER_TOKEN), -(-len(text) // CHARACTERS_PER_TOKEN)))
        if not self._pace:
            yield [*words, *end]
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        for n, word in enumerate(words):
            await asyncio.sleep(began + n / self._pace - loop.time())
            yield [word]
        yield end

    def check(self) -> None:
        """Do nothing: it needs nothing."""


def answer(question: str, passages: Sequence[Passage]) -> str:
    """Return the answer in Markdown, in which `[n]` cites passage n, counted from 1."""
    if not passages:
        return f"{INVITATION}\n\n{NO_EXTRACT}"
    if is_greeting(question):
        return f"{WELCOME}\n\n{NO_EXTRACT}"
    quotes = choose(question, passages)
    if not quotes:
        return f"{NOTHING} The passage that comes nearest is in {source(passages[0])} [1].\n\n{NO_EXTRACT}"
    parts = [
        f"{where}:\n\n{quotation(list(group))}"
        for where, group in groupby(quotes, key=lambda quote: source(passages[quote.passage]))
    ]
    return "\n\n".join([*parts, AN_EXTRACT])
