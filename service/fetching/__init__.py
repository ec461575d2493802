"""What stands at an address on the web, fetched so that nobody can have the service ask a machine that the internet cannot reach.

`fetch` is the only door. It blocks, so a caller on the event loop runs it in a thread.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FetchLimits", "Fetched", "fetch"]


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What one fetch may take: `seconds` in all, redirects and name look-ups included; `bytes` of a body; `redirects` to follow."""

    seconds: float = 10.0
    bytes: int = 1_000_000
    redirects: int = 3


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was read: `url` is where it was found after redirects, `media_type` has no parameters.

    `text` is what a reader sees: of HTML the words without markup, scripts and styles; of anything else the body as it is.
    """

    url: str
    media_type: str
    text: str


def fetch(url: str, limits: FetchLimits = FetchLimits()) -> Fetched:
    """Read an HTTP or HTTPS source.

    Raises `SourceRefused` for an address that may not be asked and for an answer that stays unreadable (not found, no text, too
    large), and `SourceUnavailable`, which is retryable, if the server does not answer in time or fails.
    """
    raise NotImplementedError
