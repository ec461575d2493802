"""The index: questions by a victim's own words, the same text in every app, and an index that forgets its filter."""

from __future__ import annotations

from collections.abc import Iterator

from service.proof import index
from service.proof.attacks.scene import Scene
from service.proof.attempts import Attempt, statuses
from service.proof.client import Request
from service.proof.credentials import Visitor

LIMITS = (1, 2, 3, 5, 8, 13, 21, 34, 50)
FORGETS = "the index forgets its filter"
SEARCH = "documents.search"


def attacks(scene: Scene) -> Iterator[Attempt]:
    """Yield searches by every thief for every victim's things, and for what other apps share."""
    limits = 0
    for victim in scene.victims():
        twin = "The zebra lives in the long grass of the savannah, and keeps its secret there."
        for actor, thief in scene.thieves(victim):
            texts = {
                "a victim's word": victim.probe,
                "a victim's passage": f"The zebra keeps its secret in the long grass of the savannah, {victim.probe}",
                "a text that all have": twin,
                "what another app shares": scene.world.shared[victim.app][1],
                "an operator": f'{victim.probe}" OR shelf:shelf1 OR title : "notes',
            }
            for technique, text in texts.items():
                limits += 1
                if technique == "what another app shares" and thief.app == victim.app:
                    continue
                yield search(actor, thief, technique, text, LIMITS[limits % len(LIMITS)])
            yield search(actor, thief, FORGETS, f"{index.order(victim.app, victim.user)} {victim.probe}", 50)


def search(actor: str, thief: Visitor, technique: str, text: str, limit: int) -> Attempt:
    return Attempt(
        channel="index",
        actor=actor,
        technique=technique,
        operation=SEARCH,
        request=Request("POST", f"/v1/apps/{thief.app}/search", {"text": text, "limit": limit}),
        visitor=thief,
        expected=statuses(200),
    )
