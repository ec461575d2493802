"""What an answer other than 200 means, read from its status, headers and body alone: the SDK's errors and our own client's alike.

A provider's words are read here to tell one refusal from another, and go no further: they may hold the key or the prompt. So
errors of ours are raised `from None`, in our words.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

import msgspec

from service.errors import BrainstemError, ContextTooLong, UpstreamBusy, UpstreamConfig, UpstreamQuota

UNREACHABLE = "The model's provider cannot be reached."
UNSENDABLE = "The request cannot be sent: check OPENAI_API_KEY and OPENAI_BASE_URL."
UNREADABLE = "The model's provider answered what cannot be read."
BROKEN_OFF = "The connection to the model's provider broke off."
TOO_SLOW = "The model's provider did not answer in time."

TOO_LONG = re.compile(
    r"context[ _](length|window|size)|maximum (context|input)|(prompt|input) is too long|token count|maximum number of tokens",
    re.IGNORECASE,
)
UNKNOWN = re.compile(r"unrecogni|unsupported|not supported|unknown|unexpected|not permitted|not allowed", re.IGNORECASE)
STRUCTURE = re.compile(
    r"response_?format|json_?schema|json_object|schema|structured|guided|grammar|constraint", re.IGNORECASE
)
FILTERED = frozenset({"content_filter", "content_policy_violation"})
NO_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
# 408, 409 and 425 ask for another attempt just as the rest does; a provider without money left (402) is one without quota.
BUSY = frozenset({402, 408, 409, 425, 429})
ANOTHER_ATTEMPT = frozenset({429, 500, 502, 503, 504})
LIMITED = 429
LONGEST_RETRY_AFTER = 60
FIELDS = ("code", "type", "param")

decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is none. `message` is the whole body, for compatible servers have no common form of it."""

    status: int
    code: str = ""
    type: str = ""
    param: str = ""
    message: str = field(default="", repr=False)
    retry_after: float | None = None

    @classmethod
    def parse(cls, status: int, body: bytes, retry_after: str = "") -> Refusal:
        """Read OpenAI's form, `{"error": {"code", "type", "param", …}}`, with or without the outer object; any other has no code."""
        try:
            told = decode(body)
        except (ValueError, RecursionError):
            told = None
        error = told.get("error", told) if isinstance(told, dict) else None
        fields = error if isinstance(error, dict) else {}
        code, kind, param = ("" if (value := fields.get(name)) is None else str(value) for name in FIELDS)
        return cls(status, code, kind, param, body.decode(errors="replace"), seconds(retry_after))

    @property
    def codes(self) -> set[str]:
        return {self.code, self.type}

    @property
    def too_long(self) -> bool:
        """Compatible servers have no common code for it, so their words decide."""
        if self.status == 413 or "context_length_exceeded" in self.codes:
            return True
        return self.status in (400, 422) and bool(TOO_LONG.search(self.message))

    @property
    def without_quota(self) -> bool:
        return self.status == 402 or (self.status == 429 and bool(self.codes & NO_QUOTA))

    @property
    def filtered(self) -> bool:
        """Whether a provider's filter refused the prompt, which is an end of the answer and no fault of anybody's set-up."""
        return bool(self.codes & FILTERED)

    @property
    def unstructured(self) -> bool:
        """Whether a server refuses to hold the model to a schema: it knows of no such option, or takes no such schema."""
        if self.status not in (400, 422, 501) or self.too_long or self.filtered:
            return False
        return bool(STRUCTURE.search(f"{self.param} {self.message[:1000]}"))

    def option(self, options: Collection[str]) -> str | None:
        """Return the option that a server says it does not know, if that is why it refuses."""
        if self.status not in (400, 422) or self.too_long:
            return None
        words = f"{self.param} {self.message[:1000]}"
        if not UNKNOWN.search(words):
            return None
        return next((option for option in options if re.search(rf"\b{option}\b", words)), None)

    def error(self) -> BrainstemError:
        status = self.status
        if self.too_long:
            return ContextTooLong("The chat is longer than the model can read.")
        if self.without_quota:
            return UpstreamQuota("Our quota at the model's provider is used up.")
        if status in BUSY or status >= 500:
            wait = min(math.ceil(self.retry_after or 0), LONGEST_RETRY_AFTER)
            words = f"The model's provider is overloaded or failing ({status})."
            return UpstreamBusy(words, retry_after=wait or None, limited=status == LIMITED)
        if status in (401, 403):
            return UpstreamConfig(f"The model's provider refuses our key ({status}): check OPENAI_API_KEY.")
        if status == 404:
            return UpstreamConfig(
                "The model's provider knows no such model or path: check its name and OPENAI_BASE_URL."
            )
        if 300 <= status < 400:
            return UpstreamConfig("The model's provider redirects, which is not followed: check OPENAI_BASE_URL.")
        return UpstreamConfig(f"The model's provider refuses the request ({status}).")


def seconds(text: str) -> float | None:
    """Return the seconds that a `Retry-After` asks to wait (RFC 9110, section 10.2.3)."""
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is tried again, within how many seconds, and how long it waits at most when it is asked to.

    With `limited=False` it is not tried again where a provider says that we ask too much.
    """

    times: int
    seconds: float
    longest: float
    limited: bool = True

    def pause(self, refusal: Refusal | None, attempt: int, age: float) -> float | None:
        """Return the seconds to wait before another attempt, or None where none is made; no refusal is a call that reached nobody."""
        asked = 0.0
        if refusal:
            if refusal.status not in ANOTHER_ATTEMPT or refusal.without_quota:
                return None
            if refusal.status == LIMITED and not self.limited:
                return None
            asked = refusal.retry_after or 0.0
        # Chance spreads the attempts of many calls; it guards nothing.
        pause: float = max(asked, random.uniform(0.1, 0.4) * 2**attempt)  # noqa: S311
        if attempt >= self.times or asked > self.longest or age + pause > self.seconds:
            return None
        return pause
