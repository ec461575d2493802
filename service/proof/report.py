"""What was tried and what succeeded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from service.proof.attempts import ACTORS, CHANNELS, Breach
from service.proof.sizes import SIZES


@dataclass(slots=True)
class Report:
    """The outcome of a proof. `refused` lists what owners were not let do, `broken` why it could not be carried through."""

    seed: int
    size: str
    backends: dict[str, str]
    tried: Counter[tuple[str, str]] = field(default_factory=Counter)
    breaches: list[Breach] = field(default_factory=list)
    positives: int = 0
    refused: list[str] = field(default_factory=list)
    canaries: int = 0
    routes: int = 0
    undeclared: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    prompts: int = 0
    log_lines: int = 0
    seconds: float = 0.0
    broken: str = ""
    stopped: bool = False

    @property
    def attempts(self) -> int:
        return sum(self.tried.values())

    @property
    def floor(self) -> int:
        return SIZES[self.size].floor

    @property
    def holds(self) -> bool:
        """Whether nothing succeeded, of enough."""
        enough = self.attempts >= self.floor
        return enough and not (self.breaches or self.refused or self.undeclared or self.broken)

    def rows(self) -> list[list[str]]:
        """The matrix: a row per way of naming, a column per actor, `tried` or `tried / succeeded`."""
        rows = [
            [channel, *(self.cell({(channel, actor)}) for actor in ACTORS), self.cell(of(channel))]
            for channel in self.channels()
        ]
        totals = [self.cell({(channel, actor) for channel in CHANNELS}) for actor in ACTORS]
        return [*rows, ["all", *totals, self.cell(set(self.tried) | {(b.channel, b.actor) for b in self.breaches})]]

    def channels(self) -> list[str]:
        return [channel for channel in CHANNELS if any(known == channel for known, _ in self.tried)]

    def cell(self, keys: set[tuple[str, str]]) -> str:
        tried = sum(self.tried[key] for key in keys)
        succeeded = sum((breach.channel, breach.actor) in keys for breach in self.breaches)
        return f"{tried} / {succeeded}" if tried or succeeded else ""

    def described(self) -> dict[str, object]:
        """The report as JSON has it."""
        return {
            "holds": self.holds,
            "attempts": self.attempts,
            "succeeded": len(self.breaches),
            "floor": self.floor,
            "positives": self.positives,
            "refused": self.refused,
            "canaries": self.canaries,
            "routes": self.routes,
            "undeclared": self.undeclared,
            "leftOut": self.left_out,
            "prompts": self.prompts,
            "logLines": self.log_lines,
            "broken": self.broken,
            "stopped": self.stopped,
            "seed": self.seed,
            "size": self.size,
            "seconds": round(self.seconds, 1),
            "backends": self.backends,
            "matrix": {
                channel: {actor: self.tried[channel, actor] for actor in ACTORS if self.tried[channel, actor]}
                for channel in self.channels()
            },
            "breaches": [{"attempt": breach.attempt, "why": breach.why} for breach in self.breaches[:100]],
        }


def of(channel: str) -> set[tuple[str, str]]:
    return {(channel, actor) for actor in ACTORS}
