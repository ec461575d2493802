"""Carries attempts out, on several connections at once, and judges each by all that comes back."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from service.proof.attacks.searches import FORGETS, SEARCH
from service.proof.attempts import Attempt, Breach
from service.proof.canaries import Canaries
from service.proof.client import Answer, Client, Request
from service.proof.credentials import Visitor

THREADS = 4
WEIGHTS = {"path": 3}
"""How much more of a channel is tried than of the others: every credential comes by a path."""


def chosen(attempts: Iterable[Attempt], most: int | None, dice: random.Random) -> list[Attempt]:
    """Return attempts in random order: all, or so many, of which there is one of each kind, and of each channel as many as it weighs."""
    shuffled = list(attempts)
    dice.shuffle(shuffled)
    if most is None:
        return shuffled
    seen: set[tuple[str, ...]] = set()
    places: Counter[str] = Counter()
    ranked: list[tuple[float, int, Attempt]] = []
    for n, attempt in enumerate(shuffled):
        kinds = kinds_of(attempt)
        places[attempt.channel] += 1
        place = places[attempt.channel] / WEIGHTS.get(attempt.channel, 1)
        ranked.append((0 if kinds - seen else place, n, attempt))
        seen |= kinds
    kept = [attempt for _, _, attempt in sorted(ranked, key=lambda each: each[:2])[:most]]
    dice.shuffle(kept)
    return kept


def kinds_of(attempt: Attempt) -> set[tuple[str, ...]]:
    """What an attempt is one of: a technique at an app, whose kind of membership may be what stops it, and an actor at an operation."""
    app = next(iter(attempt.request.path.split("/")[3:4]), "")
    kinds = {(attempt.channel, attempt.technique, app), (attempt.channel, attempt.actor, attempt.operation)}
    return kinds | ({(attempt.operation, attempt.technique)} if attempt.channel in ("job", "event") else set())


@dataclass(slots=True)
class Attackers:
    """Carry out attempts; a breach ends them all if `stop_early`."""

    client: Client
    canaries: Canaries
    stop_early: bool
    tried: Counter[tuple[str, str]] = field(default_factory=Counter)
    breaches: list[Breach] = field(default_factory=list)
    forgetful: dict[str, Attempt] = field(default_factory=dict)
    searches: Counter[str] = field(default_factory=Counter)
    _absent: dict[str, Answer] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def attack(self, attempts: Sequence[Attempt]) -> None:
        with ThreadPoolExecutor(THREADS) as threads:
            for _ in threads.map(self._try, attempts):
                pass

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def _try(self, attempt: Attempt) -> None:
        if self._stop.is_set():
            return
        answer = self.client.send(attempt.request, attempt.visitor.headers)
        why = self._why(attempt, answer)
        with self._lock:
            self.tried[attempt.channel, attempt.actor] += 1
            self._keep_book(attempt, answer)
            if why is not None:
                self.breaches.append(Breach(str(attempt), attempt.channel, attempt.actor, why))
                if self.stop_early:
                    self._stop.set()

    def _why(self, attempt: Attempt, answer: Answer) -> str | None:
        """Say by what an attempt has succeeded, or None."""
        if answer.status >= 500:
            return f"it crashes: {answer.status}"
        if foreign := self.canaries.foreign(answer.text, attempt.visitor.sees):
            return f"it shows what is of {', '.join(foreign)}"
        if answer.status not in attempt.expected:
            return f"it is answered {answer.status}, not {' or '.join(map(str, sorted(attempt.expected)))}"
        if attempt.absent and answer.bare != self._answer_for_absent(attempt.visitor, attempt.absent).bare:
            return "what is another's is told from what is not there"
        return attempt.check(answer) if attempt.check else None

    def _answer_for_absent(self, visitor: Visitor, request: Request) -> Answer:
        key = f"{visitor.name} {request}"
        known = self._absent.get(key)
        if known is None:
            known = self._absent[key] = self.client.send(request, visitor.headers)
        return known

    def _keep_book(self, attempt: Attempt, answer: Answer) -> None:
        if FORGETS in attempt.technique and answer.status == 200:
            self.forgetful[answer.header("x-request-id")] = attempt
        if attempt.operation == SEARCH and answer.status == 200:
            self.searches[f"{attempt.visitor.app}/{attempt.visitor.user}"] += 1
