"""Signed URLs: whoever has one may use it until it expires, so nothing else may pass for one."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

from service.backends.local.blobs import FileBlobs
from service.ingestion.pipeline import blob_name
from service.proof.attacks.scene import Scene
from service.proof.attempts import Attempt, statuses
from service.proof.client import Request
from service.proof.credentials import Visitor
from service.proof.operations import DOWNLOAD
from service.proof.world import Belongings
from service.scope import of_job

PLACES = 12
"""Places of a token at which a letter is changed."""


def attacks(scene: Scene) -> Iterator[Attempt]:
    """Yield what is made of a link; only links of the local store are the service's own to check."""
    if not isinstance(scene.services.backends.blobs, FileBlobs):
        return
    links = scene.links
    for victim in scene.victims():
        link = links[victim.owner]
        thief = next(other for other in scene.victims() if other.user != victim.user)
        for technique, path in [
            *((f"a letter changed{where}", changed) for where, changed in letters(link)),
            ("without its seal", link.partition(".")[0]),
            ("with an empty seal", link.partition(".")[0] + "."),
            ("under another's seal", sealed_by(link, links[thief.owner])),
            ("an own link for a victim's file", retold(links[thief.owner], victim)),
            ("a link that holds for ever", retold(link, victim)),
            ("expired", expired(scene, victim)),
        ]:
            for actor, visitor in (
                ("nobody", Visitor("nobody", {})),
                ("same app", scene.world.visitor(victim.app, thief.user)),
                ("other app", scene.world.visitor("gamma", thief.user)),
            ):
                yield Attempt(
                    channel="signed URL",
                    actor=actor,
                    technique=technique,
                    operation=DOWNLOAD,
                    request=Request("GET", path),
                    visitor=Visitor(visitor.name, visitor.headers),
                    expected=statuses(404),
                )


def letters(link: str) -> Iterator[tuple[str, str]]:
    start = link.rindex("/") + 1
    for n in range(PLACES):
        place = start + n * (len(link) - start) // PLACES
        where = "" if place < link.rindex(".") else " in the seal"
        letter = "A" if link[place] != "A" else "B"
        yield where, link[:place] + letter + link[place + 1 :]


def sealed_by(link: str, other: str) -> str:
    return link.partition(".")[0] + "." + other.partition(".")[2]


def retold(link: str, victim: Belongings) -> str:
    """A link that says another scope, file and time under the seal that it has."""
    head, _, seal = link.rpartition("/")[2].partition(".")
    grant = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    grant |= {"scope": {"app": victim.app, "user": victim.user}, "name": blob_name(victim.document), "expires": 4e9}
    body = base64.urlsafe_b64encode(json.dumps(grant).encode()).decode().rstrip("=")
    return f"/local/blobs/{body}.{seal}"


def expired(scene: Scene, victim: Belongings) -> str:
    """A link that the service's own store has signed, for a time that is past."""
    scope = of_job(victim.app, victim.user)
    return scene.services.backends.blobs.sign(scope, blob_name(victim.document), seconds=-1, filename="notes.txt")
