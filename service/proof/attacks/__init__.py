"""The attacks, each family in a module of its own. `every` yields them all."""

from __future__ import annotations

from collections.abc import Iterator

from service.proof.attacks import credentials, internal, links, listings, names, searches, turns
from service.proof.attacks.scene import Scene
from service.proof.attempts import Attempt

FAMILIES = (
    credentials.attacks,
    names.attacks,
    listings.attacks,
    searches.attacks,
    turns.attacks,
    links.attacks,
    internal.attacks,
)


def every(scene: Scene) -> Iterator[Attempt]:
    """Yield every attack that there is on a scene."""
    for family in FAMILIES:
        yield from family(scene)
