"""One call of a flow, or of a job, to the model, and the ledger's row for it."""

from __future__ import annotations

import logging
import time
from contextlib import aclosing

from service import logging as log
from service.backends.interfaces import Delta, Finish, LanguageModel, ModelRequest, Usage
from service.errors import BrainstemError, InvalidOutput, UpstreamInterrupted, UpstreamProtocol
from service.models import Call, Rate, timestamp
from service.tokenizer import count_tokens
from service.usage import UNPAID, usd

MAX_ANSWER_CHARS = 200_000
"""So many, of at most four bytes each, still fit into a stored document."""

WITHHELD = "The model's provider withheld the answer."


class Asking:
    """Asks once, on the event loop. What came is there even if the asking was cancelled."""

    def __init__(
        self,
        request: ModelRequest,
        rate: Rate,
        call_id: str,
        flow: str | None,
        request_id: str,
        job: str | None,
        *,
        kind: str = "flow",
    ) -> None:
        self._request = request
        self._rate = rate
        self._id = call_id
        self._flow = flow
        self._request_id = request_id
        self._job = job
        self._kind = kind
        self._created = timestamp()
        self._began = self._ended = time.monotonic()
        self._first: float | None = None
        self._pieces: list[str] = []
        self._characters = 0
        self._usage: Usage | None = None
        self._unpaid = False
        self.finish: str | None = None
        self.outcome = "interrupted"
        """What becomes of the call: `completed`, `invalid`, `failed` or `interrupted`."""

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    async def ask(self, model: LanguageModel) -> None:
        """Read the answer to its end; raises `DependencyError` or `ContextTooLong`, also for one that broke off."""
        try:
            async with aclosing(model.stream(self._request)) as stream:
                async for events in stream:
                    for event in events:
                        self._hear(event)
        except BrainstemError as error:
            self._unpaid = isinstance(error, UNPAID) and not self._pieces
            # An answer that the model ended is whole, whatever came after.
            if self.finish is None:
                self.outcome = "failed"
                raise
        except Exception as error:  # an adapter's mistake must not leave the client waiting
            log.event("model_crashed", logging.ERROR, error, request=self._request_id)
            self.outcome = "failed"
            raise UpstreamProtocol from error
        finally:
            self._ended = time.monotonic()
        if self.finish in (None, "content_filter"):
            self.outcome = "failed"
            raise UpstreamInterrupted if self.finish is None else InvalidOutput(WITHHELD)

    def _hear(self, event: Delta | Finish | Usage) -> None:
        match event:
            case Delta(text):
                if self._first is None:
                    self._first = time.monotonic()
                self._pieces.append(text)
                self._characters += len(text)
                if self._characters > MAX_ANSWER_CHARS:
                    raise InvalidOutput("The model's answer is longer than an answer may be.")
            case Finish(reason):
                self.finish = reason
            case Usage():
                self._usage = event

    def row(self) -> Call:
        """The ledger's row: the provider's count, or an estimate where it gave none but is to be paid."""
        estimated = self._usage is None and not self._unpaid
        usage = self._usage or Usage(0, 0)
        if estimated:
            usage = Usage(estimate(self._request), count_tokens(self.text))
        first = self._first
        return Call(
            id=self._id,
            kind=self._kind,
            model=self._request.model,
            created=self._created,
            outcome=self.outcome,
            input_tokens=usage.input_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
            estimated=estimated,
            cost=self._rate.cost(usage.input_tokens, usage.output_tokens, usage.cached_tokens),
            first_token_ms=None if first is None else (first - self._began) * 1000,
            total_ms=(self._ended - self._began) * 1000,
            request_id=self._request_id,
            flow=self._flow,
            job=self._job,
        )

    def log_call(self, app: str) -> None:
        """Log the call: figures, never content."""
        row = self.row()
        log.event(
            "model_call",
            logging.INFO if self.outcome == "completed" else logging.WARNING,
            app=app,
            flow=self._flow,
            request=self._request_id,
            model=row.model,
            outcome=row.outcome,
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            cost_usd=usd(row.cost),
            first_token_ms=None if row.first_token_ms is None else round(row.first_token_ms, 1),
            total_ms=round(row.total_ms, 1),
        )


def estimate(request: ModelRequest) -> int:
    return sum(count_tokens(message.content) for message in request.messages)
