"""Clients that talk to Firestore and Storage themselves, with Firebase's own SDK: the security rules alone keep them out."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from service.backends.paths import encode
from service.errors import ConfigError
from service.proof.attacks.scene import Scene
from service.proof.attempts import Breach
from service.proof.credentials import unsigned
from service.proof.forgeries import good_token, outsiders
from service.proof.world import ADMIN, DISABLED, NOBODY, PAIRS, Belongings

CHANNEL = "client SDK"
SCRIPT = Path(__file__).with_name("clients.mjs")
SECONDS = 300
NEEDS = "Node.js and the package `firebase` in ./node_modules"
NO_EMULATORS = "the client SDK against the rules: it takes the Firebase emulators (`--emulators`)."
COLLECTIONS = (
    "chats",
    "turns",
    "recent",
    "documents",
    "chunks",
    "jobs",
    "calls",
    "data",
    "users",
    "vectors",
    "erasures",
)


@dataclass(frozen=True, slots=True)
class Try:
    """One call of the SDK: `visitor` names whose token it carries."""

    actor: str
    technique: str
    visitor: str
    operation: str
    path: str
    allowed: bool = False

    def __str__(self) -> str:
        return f"{CHANNEL} · {self.actor} · {self.technique}: {self.operation} {self.path}"


def missing() -> str | None:
    """Say what this folder lacks for the SDK to run, or None."""
    there = shutil.which("node") and Path("node_modules/firebase/package.json").is_file()
    return None if there else f"the client SDK against the rules: it takes {NEEDS}."


class Tries:
    """Collects calls of the SDK and the tokens that they carry."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.tokens: dict[str, str | None] = {"nobody": None}
        self.all: list[Try] = []

    def collect(self, most: int | None) -> list[Try]:
        """Return the owners' calls, and of the attackers' so many at most, in random order."""
        owned, attacks = [], []
        for victim in self._scene.victims():
            if victim.user.isalpha():
                owned += [*self._owners(victim)]
                attacks += [*self._attacks(victim)]
            elif disguised := dict(PAIRS).get(victim.user):
                attacks += [*self._disguised(victim, disguised)]
        dice = self._scene.dice
        dice.shuffle(attacks)
        return [*owned, *self._varied(attacks, most)]

    def _varied(self, attacks: Sequence[Try], most: int | None) -> list[Try]:
        """Return so many attacks, but each technique with each operation at least once."""
        seen: set[tuple[str, str]] = set()
        first: list[Try] = []
        rest: list[Try] = []
        for attack in attacks:
            key = attack.technique, attack.operation
            (rest if key in seen else first).append(attack)
            seen.add(key)
        return [*first, *(rest if most is None else rest[: max(0, most - len(first))])]

    def _signed_in(self, name: str, token: str) -> str:
        self.tokens.setdefault(name, unsigned(token))
        return name

    def _owners(self, victim: Belongings) -> Iterator[Try]:
        """Yield what the rules let owners do; an app that demands App Check is not theirs to read directly."""
        mint = self._scene.world.mint
        owner = self._signed_in(victim.owner, good_token(mint, victim.app, victim.user))
        admin = self._signed_in(f"{victim.app}/{ADMIN}", good_token(mint, victim.app, ADMIN, "admin"))
        if victim.app == "gamma":
            return
        root = f"apps/{victim.app}/users/{victim.user}"
        for path in (f"chats/{victim.chat}", f"documents/{victim.document}", f"data/{victim.data}"):
            yield Try("same app", "an owner", owner, "get", f"{root}/{path}", allowed=True)
        for path in ("chats", f"chats/{victim.chat}/turns", "documents", "data"):
            yield Try("same app", "an owner", owner, "list", f"{root}/{path}", allowed=True)
        yield Try("admin", "an owner", admin, "write", f"apps/{victim.app}/users/{ADMIN}/data/client", allowed=True)
        if victim.app != "beta":  # the rules of Storage read no record
            yield Try("same app", "an owner", owner, "download", f"{root}/uploads/{victim.upload}", allowed=True)

    def _attacks(self, victim: Belongings) -> Iterator[Try]:
        for actor, technique, visitor in self._attackers(victim):
            for operation, path in targets(victim):
                yield Try(actor, technique, visitor, operation, path)
        admin, taken = (
            f"apps/{victim.app}/users/{ADMIN}/data/client",
            f"apps/{victim.app}/users/{victim.user}/data/profile",
        )
        yield Try("admin", "a batch with own data", f"{victim.app}/{ADMIN}", "batch", f"{admin} {taken}")
        yield from self._own_limits(victim)
        if victim.app == "beta":
            yield from self._unrecorded(victim.app)

    def _attackers(self, victim: Belongings) -> Iterator[tuple[str, str, str]]:
        """Yield (actor, technique, visitor) of those who are not the victim."""
        world = self._scene.world
        yield "nobody", "nobody", "nobody"
        for other in world.victims[victim.app]:
            if other.user != victim.user:
                actor = "same app" if other.user.isalpha() else "odd name"
                token = good_token(world.mint, victim.app, other.user)
                yield actor, "another user", self._signed_in(f"{other.owner}", token)
        yield "admin", "the app's admin", f"{victim.app}/{ADMIN}"
        for actor, technique, token in outsiders(world.mint, victim.app, victim.user):
            yield actor, technique, self._signed_in(f"{victim.owner} {technique}", token)

    def _unrecorded(self, app: str) -> Iterator[Try]:
        """Yield calls of users whom an app's records do not let in, on what would be theirs."""
        for name in (NOBODY, DISABLED):
            visitor = self._signed_in(f"{app}/{name}", good_token(self._scene.world.mint, app, name))
            root = f"apps/{app}/users/{name}"
            for operation, path in (
                ("write", "data/own"),
                ("get", "data/own"),
                ("list", "chats"),
                ("upload", "uploads/own.txt"),
            ):
                yield Try("outsider", "a subtree of one's own without membership", visitor, operation, f"{root}/{path}")

    def _disguised(self, victim: Belongings, name: str) -> Iterator[Try]:
        """Yield calls of a user whose name is a victim's in the spelling of a path, and so the path's own segment."""
        visitor = self._signed_in(f"{victim.app}/{name}", good_token(self._scene.world.mint, victim.app, name))
        for operation, path in targets(victim):
            yield Try("odd name", "a name in the spelling of a path", visitor, operation, path)

    def _own_limits(self, victim: Belongings) -> Iterator[Try]:
        """Yield what is an owner's to read at most, written by the owner: their role, what they pay, what the app shares."""
        owner, root = victim.owner, f"apps/{victim.app}/users/{victim.user}"
        shared, _ = self._scene.world.shared[victim.app]
        yield Try("same app", "makes itself an admin", owner, "promote", root)
        for path in (f"chats/{victim.chat}", f"documents/{victim.document}", f"jobs/{victim.job}", "calls/none"):
            for operation in ("write", "update", "delete"):
                yield Try("same app", "writes what is the service's", owner, operation, f"{root}/{path}")
        for path in (f"vectors/{victim.document}", "searchable/diary", "secrets/s1"):
            yield Try("same app", "reads what is the service's", owner, "get", f"{root}/{path}")
        for path in (
            f"apps/{victim.app}",
            f"apps/{victim.app}/shared/knowledge/documents/{shared}",
            "apps/gone",
            "users/x",
        ):
            for operation in ("get", "write", "delete"):
                yield Try("same app", "what is beside the users", owner, operation, path)
        for name in COLLECTIONS:
            yield Try("same app", "a collection group", owner, "group", name)
        for path in (f"{root}/documents/{victim.document}/original", f"apps/{victim.app}/documents/{shared}/original"):
            for operation in ("download", "upload", "remove file"):
                yield Try("same app", "files of the service", owner, operation, path)


def targets(victim: Belongings) -> Iterator[tuple[str, str]]:
    """Yield (operation, path) of everything that is a victim's."""
    root = f"apps/{victim.app}/users/{encode(victim.user)}"
    documents = (
        "",
        f"/chats/{victim.chat}",
        f"/chats/{victim.chat}/turns/{victim.message}",
        f"/documents/{victim.document}",
        f"/documents/{victim.document}/chunks/0",
        f"/jobs/{victim.job}",
        f"/data/{victim.data}",
        "/data/profile",
    )
    for path in documents:
        for operation in ("get", "write", "update", "delete"):
            yield operation, root + path
        if path:
            yield "list", (root + path).rpartition("/")[0]
    yield "list", root.rpartition("/")[0]
    yield "list", f"{root}/calls"
    for operation in ("download", "upload", "remove file"):
        yield operation, f"{root}/uploads/{victim.upload}"
    yield "list files", f"{root}/uploads"
    yield "upload", f"{root}/uploads/stolen.txt"
    yield "download", f"{root}/documents/{victim.document}/original"


def run(tries: Sequence[Try], tokens: Mapping[str, str | None], environ: Mapping[str, str]) -> list[tuple[str, Any]]:
    """Have Node make the calls, and return for each its outcome and what it showed."""
    sent = {
        "project": environ["GOOGLE_CLOUD_PROJECT"],
        "bucket": environ["STORAGE_BUCKET"],
        "firestore": environ["FIRESTORE_EMULATOR_HOST"],
        "storage": environ["STORAGE_EMULATOR_HOST"],
        "tokens": tokens,
        "attempts": [asdict(each) for each in tries],
    }
    node = shutil.which("node") or "node"
    done = subprocess.run(  # noqa: S603  # our own script
        [node, SCRIPT], input=json.dumps(sent), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode != 0:
        raise ConfigError(f"The client SDK cannot be run: {done.stderr.strip()[-300:]}")
    outcomes: list[tuple[str, Any]] = json.loads(done.stdout)
    return outcomes


def attack(scene: Scene, most: int | None, environ: Mapping[str, str]) -> tuple[list[Try], list[Breach], list[str]]:
    """Make the calls; return the attacks, those that succeeded, and what owners were refused."""
    tries = Tries(scene)
    collected = tries.collect(most)
    verdicts = [
        judged(scene, each, *outcome)
        for each, outcome in zip(collected, run(collected, tries.tokens, environ), strict=True)
    ]
    breaches = [verdict for verdict in verdicts if isinstance(verdict, Breach)]
    return [each for each in collected if not each.allowed], breaches, [v for v in verdicts if isinstance(v, str)]


def judged(scene: Scene, each: Try, outcome: str, content: object) -> Breach | str | None:
    """Return the breach that a call is, or in words what is wrong with an owner's, or None."""
    owners = scene.world.canaries.foreign(json.dumps(content), ())
    if each.allowed:
        app = each.visitor.partition("/")[0]
        shown = set(owners) <= {each.visitor, f"{app}/shared", f"{app}/members"} and bool(
            owners or each.operation == "write"
        )
        own = outcome == "allowed" and shown
        return None if own else f"{each}: {outcome}, seeing {', '.join(owners) or 'nothing'}"
    if outcome == "denied" and not owners:
        return None
    return Breach(str(each), CHANNEL, each.actor, f"it is {outcome}, and shows {', '.join(owners) or 'no canary'}")
