"""What stands at an address on the web, fetched so that nobody can have the service ask a machine that is not on the public internet.

`fetch` is the only door. It blocks, so a caller on the event loop runs it in a thread.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from service.errors import SourceRefused
from service.fetching.addresses import followed, read_address
from service.fetching.answers import ask
from service.fetching.network import INTERNET, Deadline, Network, connected

__all__ = ["FetchLimits", "Fetched", "Network", "fetch"]


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


def fetch(url: str, limits: FetchLimits = FetchLimits(), *, network: Network = INTERNET) -> Fetched:
    """Read an HTTP or HTTPS source.

    Raises `SourceRefused` for an address that may not be asked and for an answer that stays unreadable (not found, no text, too
    large), and `SourceUnavailable`, which is retryable, if the server does not answer in time or fails. Only tests name a `network`.
    """
    deadline = Deadline(limits.seconds)
    address = read_address(url, network.ports)
    for _ in range(limits.redirects + 1):
        with closing(connected(network, address, deadline)) as sock:
            answer = ask(sock, address, deadline, limits.bytes)
        if not answer.location:
            return Fetched(address.url, answer.media_type, answer.text)
        address = followed(address, answer.location, network.ports)
    raise SourceRefused(f"The source leads on more than {limits.redirects} times.")
