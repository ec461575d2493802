"""Proves isolation from beginning to end: a service of its own, a world in it, the owners, the attacks, and what came of them."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.app import create_flask
from service.config import Settings
from service.errors import BrainstemError, ConfigError
from service.proof import afterwards, clients, rules
from service.proof.attacks import every
from service.proof.attacks.scene import Scene
from service.proof.attempts import Breach
from service.proof.belongings import State, changes, states
from service.proof.canaries import Canaries
from service.proof.carrying_out import Attackers, chosen
from service.proof.client import Client, Request
from service.proof.credentials import Mint
from service.proof.grounds import on_emulators, on_local
from service.proof.keys import Keys
from service.proof.model import Model
from service.proof.planting import converse_all, plant
from service.proof.positives import Positives
from service.proof.process import Process
from service.proof.report import Report
from service.proof.sizes import SIZES
from service.proof.world import APPS, World, write_apps
from service.services import Services

Open = Callable[[Settings], Services]
"""Assembles the rooms of settings; who may build backends gives it."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much is tried, in which order, whether the first success ends it, and the settings of emulators to run on, if any.

    `only` names channels to try; without the others there is no proof, but a closer look.
    """

    size: Literal["quick", "full", "all"]
    seed: int
    stop_early: bool = False
    emulators: Settings | None = None
    only: tuple[str, ...] = ()


def prove(options: Options, open_rooms: Open) -> Report:
    """Prove isolation. What keeps the proof from being carried through is in the report, as `broken`."""
    report = Report(options.seed, options.size, {})
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="brainstem-proof-") as name, Model() as model, ExitStack() as stack:
            environ = on_local(Path(name), model)
            if options.emulators is not None:
                keys = stack.enter_context(Keys(Mint(Settings.load(environ, dotenv=None))))
                environ |= on_emulators(options.emulators, keys)
            Proof(Path(name), environ, model, options, report).carry_through(open_rooms)
    except BrainstemError as error:
        report.broken = error.detail or error.title
    report.seconds = time.monotonic() - started
    return report


class Proof:
    """One proof: the service under it runs with `environ`, and what comes of it goes into `report`."""

    def __init__(
        self, folder: Path, environ: Mapping[str, str], model: Model, options: Options, report: Report
    ) -> None:
        self._folder = folder
        self._environ = environ
        self._model = model
        self._report = report
        self._only = options.only
        self._over_http = not options.only or bool({*options.only} - {clients.CHANNEL})
        self._emulated = options.emulators is not None
        self._size = SIZES[options.size]
        self._dice = random.Random(options.seed)  # noqa: S311  # an order, no secret
        self._canaries = Canaries()
        settings = Settings.load(environ, dotenv=None)
        self._mint = Mint(settings)
        self._client = Client(settings.port)
        self._settings = settings
        self._attackers = Attackers(self._client, self._canaries, options.stop_early)

    def carry_through(self, open_rooms: Open) -> None:
        """Let the owners do what is theirs, then attack, then look what became of everything."""
        write_apps(self._folder / "apps", self._canaries)
        write_pages(self._folder / "web")
        services = open_rooms(self._settings)
        self._report.backends = dict(services.backends.names)
        with Process(self._folder, self._environ) as process:
            scene = self._settle(services, process)
            self._let_owners(scene)
            before = states(services, self._client, scene.world)
            self._model.prompts.clear()
            self._attack(scene)
            self._attack_as_clients(scene)
            if not self._attackers.stopped:
                self._compare(scene, before)
        self._look_through(scene, process)

    def _settle(self, services: Services, process: Process) -> Scene:
        """Give everyone what is theirs."""
        world = World(self._mint, self._canaries, {app: [] for app in APPS}, {})
        files = plant(services, world)
        process.wait()
        converse_all(world, self._client, self._model, files)
        routes = frozenset(rule.endpoint for rule in create_flask(services).url_map.iter_rules())
        self._report.canaries, self._report.routes = len(self._canaries), len(routes)
        return Scene(world, services, routes, self._dice, self._size, *seen(self._client, world))

    def _let_owners(self, scene: Scene) -> None:
        if self._over_http:
            positives = Positives(scene, self._client)
            positives.run()
            self._report.positives, self._report.refused = positives.succeeded, positives.failed

    def _attack(self, scene: Scene) -> None:
        if not self._over_http:
            return
        attempts = list(every(scene))
        self._report.undeclared = sorted(scene.routes - {attempt.operation for attempt in attempts})
        wanted = [attempt for attempt in attempts if not self._only or attempt.channel in self._only]
        self._attackers.attack(chosen(wanted, self._size.attempts, self._dice))
        self._report.tried = self._attackers.tried
        self._report.breaches = self._attackers.breaches
        self._report.stopped = self._attackers.stopped

    def _attack_as_clients(self, scene: Scene) -> None:
        if self._attackers.stopped or (self._only and clients.CHANNEL not in self._only):
            return
        why = clients.missing() or rules.missing() if self._emulated else clients.NO_EMULATORS
        if why:
            self._report.left_out.append(why)
            return
        with rules.in_force(scene.services.apps.check(), self._environ):
            tried, breaches, refused = clients.attack(scene, self._size.client_attempts, self._environ)
        self._report.tried.update((clients.CHANNEL, each.actor) for each in tried)
        self._report.breaches += breaches
        self._report.refused += refused

    def _compare(self, scene: Scene, before: Mapping[str, State]) -> None:
        after = states(scene.services, self._client, scene.world)
        for name in changes(before, after, self._attackers.searches):
            self._report.breaches.append(Breach("an attack", "path", "same app", f"it changes {name}"))

    def _look_through(self, scene: Scene, process: Process) -> None:
        report, model = self._report, self._model
        report.breaches += afterwards.prompts(model.prompts, self._canaries)
        if not report.stopped:
            seals = [link.rpartition(".")[2] for link in scene.links.values()]
            report.breaches += afterwards.log(process.log, self._canaries, seals, self._attackers.forgetful)
        if not scene.links:
            report.left_out.append("signed URLs: a Storage emulator neither signs them nor checks them.")
        report.prompts, report.log_lines = len(model.prompts), process.log.read_bytes().count(b"\n")


def write_pages(folder: Path) -> None:
    folder.mkdir()
    for name in ("index.html", "reports.html", "early.js"):
        (folder / name).write_text("\n", encoding="utf-8")


def seen(client: Client, world: World) -> tuple[Mapping[str, list[tuple[str, str]]], Mapping[str, str]]:
    """What owners get to see that others might use: the cursors of their listings and, where the service checks them, their links."""
    cursors: dict[str, list[tuple[str, str]]] = {}
    links: dict[str, str] = {}
    for mine in world.everyone():
        headers = world.headers(mine.app, mine.user)
        for path in ("chats", "documents", "data"):
            answer = client.send(Request("GET", f"/v1/apps/{mine.app}/{path}?limit=1"), headers).json()
            if cursor := answer.get("nextCursor"):
                cursors.setdefault(mine.owner, []).append((path, str(cursor)))
        link = client.send(Request("GET", f"/v1/apps/{mine.app}/documents/{mine.document}/original"), headers)
        url = str(link.json().get("url", ""))
        if link.status != 200:
            raise ConfigError(f"{mine.owner} gets no link to their own document.")
        if url.startswith("/"):
            links[mine.owner] = url
    return cursors, links
