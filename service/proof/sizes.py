"""How much a proof tries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """Attempts over HTTP and with the client SDK, those below which there is no proof; victims of each app, thieves of each kind.

    None is all of them.
    """

    attempts: int | None
    floor: int
    client_attempts: int | None = None
    victims: int | None = None
    thieves: int | None = None


SIZES = {
    "quick": Size(1_500, 1_000, 300, victims=1, thieves=1),
    "full": Size(12_000, 10_000, 3_000, thieves=3),
    "all": Size(None, 100_000),
}
