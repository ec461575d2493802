"""What the attacks are made of: the world, and what was seen of it beforehand, like its cursors and links."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from secrets import token_hex

from service.proof.credentials import Visitor
from service.proof.sizes import Size
from service.proof.world import ADMIN, APPS, THIEVES, Belongings, World
from service.services import Services

ALIKE = str.maketrans("aocxy", "\u0430\u043e\u0441\u0445\u0443")
"""Cyrillic letters that look like Latin ones."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A world to attack, and the names of all routes. `cursors` holds, for each owner, (path, cursor) of their listings; `links` their signed URLs."""

    world: World
    services: Services
    routes: frozenset[str]
    dice: random.Random
    size: Size
    cursors: Mapping[str, list[tuple[str, str]]]
    links: Mapping[str, str]

    def victims(self) -> list[Belongings]:
        """Whom the attacks are for: everyone, or of each app some, and those whose names are paths."""
        few = self.size.victims
        return [
            victim
            for victims in self.world.victims.values()
            for n, victim in enumerate(self.dice.sample(victims, len(victims)))
            if few is None or n < few or not victim.user.isalpha()
        ]

    def thieves(self, victim: Belongings) -> Iterator[tuple[str, Visitor]]:
        """Yield (actor, visitor) of those who attack a victim: all, or some of each kind of actor."""
        few, seen = self.size.thieves, Counter[str]()
        everyone = [*self._strangers(victim)]
        for actor, thief in self.dice.sample(everyone, len(everyone)):
            seen[actor] += 1
            if few is None or seen[actor] <= few:
                yield actor, thief

    def _strangers(self, victim: Belongings) -> Iterator[tuple[str, Visitor]]:
        """Yield (actor, visitor) of those who are let into some app and have no business with a victim's things."""
        world = self.world
        for app in APPS:
            if app != victim.app:
                yield "other app", world.visitor(app, victim.user)
                yield "admin", world.visitor(app, ADMIN, "admin")
            for other in world.victims[app]:
                if other.user != victim.user:
                    actor = "other app" if app != victim.app else "same app" if other.user.isalpha() else "odd name"
                    yield actor, world.visitor(app, other.user)
        yield "admin", world.visitor(victim.app, ADMIN, "admin")
        for name in odd_names(victim):
            yield "odd name", world.visitor("gamma" if victim.app == "gamma" else "alpha", name)

    def newcomer(self, app: str) -> Visitor:
        """A member who has nothing yet."""
        return self.world.visitor(app, THIEVES[-1] if app == "beta" else f"newcomer-{token_hex(6)}")


def odd_names(victim: Belongings) -> list[str]:
    """Names of users that would lead into a victim's things if they were taken for paths, or for the victim's name."""
    user = victim.user
    names = [
        f"{user}/chats/{victim.chat}",
        f"x/../{user}",
        f"../../{victim.app}/users/{user}",
        f"..%2F{user}",
        "..",
        ".",
        "__x__",
        f"{user} ",
        user.upper(),
        f"{user}\u0000",
        user.translate(ALIKE),
        f"users/{user}",
        f"{user}%2e",
        "*",
    ]
    return [name for name in names if name != user]
