"""Credentials that do not hold, shown at every operation for a victim's things."""

from __future__ import annotations

from collections.abc import Iterator

from service.proof.attacks.scene import Scene
from service.proof.attempts import Attempt, statuses
from service.proof.client import Request
from service.proof.credentials import Visitor
from service.proof.forgeries import refused
from service.proof.operations import LIST_APPS, TARGETS, ids
from service.proof.world import ADMIN, APPS, Belongings


def attacks(scene: Scene) -> Iterator[Attempt]:
    """Yield every bad credential at every operation, and every member at an admin's."""
    world = scene.world
    for victim in scene.victims():
        named = ids(victim, world.shared[victim.app][0])
        for credential in refused(world.mint, victim.app, victim.user):
            visitor = Visitor(credential.technique, credential.headers)
            for target in TARGETS:
                yield Attempt(
                    channel="path",
                    actor=credential.actor,
                    technique=credential.technique,
                    operation=target.name,
                    request=target.request(victim.app, named),
                    visitor=visitor,
                    expected=statuses(credential.status),
                )
            yield list_apps(victim, credential.actor, credential.technique, visitor, credential.status)
        yield from members_at_admins(scene, victim)


def list_apps(victim: Belongings, actor: str, technique: str, visitor: Visitor, status: int) -> Attempt:
    """Ask which apps there are: a user who is not let into one must not see its card."""
    recorded = f"{victim.app}/members" if victim.app != "beta" else "nobody"
    elsewhere = frozenset(f"{app}/members" for app in APPS) - {recorded}
    return Attempt(
        channel="path",
        actor=actor,
        technique=technique,
        operation=LIST_APPS,
        request=Request("GET", "/v1/apps"),
        visitor=Visitor(visitor.name, visitor.headers, elsewhere),
        # Who is refused by one app is a user all the same; App Check is asked for by an app alone, but a bad token is bad.
        expected=statuses(200) if status == 403 or technique == "no App Check" else statuses(401),
    )


def members_at_admins(scene: Scene, victim: Belongings) -> Iterator[Attempt]:
    """Members of the app, and admins of others, at what only the app's admins may do."""
    world = scene.world
    named = ids(victim, world.shared[victim.app][0])
    for target in TARGETS:
        if target.role != "admin":
            continue
        for actor, user, role in (("same app", victim.user, "member"), ("same app", ADMIN.upper(), "member")):
            if victim.app == "beta" and user != victim.user:
                continue
            yield Attempt(
                channel="path",
                actor=actor,
                technique=f"a {role} at an admin's",
                operation=target.name,
                request=target.request(victim.app, named),
                visitor=world.visitor(victim.app, user, role),
                expected=statuses(403),
            )
