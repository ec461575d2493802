"""The figures of one system, each measured in the same way for all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from bench.load import Answers, Load, ask
from bench.systems import Direct, System, Upstream

Figures: TypeAlias = dict[str, Any]

TOKENS = 32
PACE = 0.05
"""Seconds between two tokens of a paced stream: 20 tokens/s."""

HOPELESS_MS = 2000
"""With such a median delay, or errors in most streams, more of them are not tried."""


@dataclass(frozen=True)
class Size:
    """How much is measured: seconds, counts, and the numbers of streams that are open at once."""

    load: float = 2.0
    settle: float = 0.3
    rounds: int = 5
    warm: float = 2.0
    clients: int = 16
    hold: float = 8.0
    paced_tokens: int = 200
    pairs: int = 200
    turns: int = 80
    starts: int = 3
    streams: tuple[int, ...] = (50, 100, 200, 500, 1000, 2000)
    growth: tuple[int, ...] = (10, 100, 1_000, 10_000, 100_000)
    chunks: int = 10_000


FULL = Size()
QUICK = Size(
    load=0.7,
    settle=0.1,
    rounds=1,
    warm=0.3,
    clients=4,
    hold=1.0,
    paced_tokens=20,
    pairs=10,
    turns=16,
    starts=1,
    streams=(5, 20),
    growth=(10, 100),
    chunks=200,
)


def starts(system: Callable[[], System], size: Size) -> Figures:
    """Measure cold starts: seconds to the first 200 and to ready, the memory a second later, and the first answer of all."""
    first, ready, memory, answer = [], [], [], []
    for _ in range(size.starts):
        with system() as started:
            first.append(started.first)
            ready.append(started.ready)
            time.sleep(1)
            memory.append(started.memory_mb())
            [client] = started.clients(1, stream=False)
            answer.append(ask(client)[1])
            client.close()
    return {
        "start_s": statistics.median(first),
        "ready_s": statistics.median(ready),
        "idle_mb": statistics.median(memory),
        "first_answer_s": statistics.median(answer),
    }


def throughputs(systems: Sequence[System], size: Size, *, stream: bool) -> list[Figures]:
    """Measure answers per second, and per second of the system's CPU, with some clients that ask at once.

    In rounds, in which one system after the other has its turn: a machine that others slow down for a while does so to all of them. Of
    the rounds the one in the middle counts.
    """
    rounds: list[list[Figures]] = [[] for _ in systems]
    loads = [warmed(system, size, stream=stream) for system in systems]
    for _ in range(size.rounds):
        for system, load, found in zip(systems, loads, rounds, strict=True):
            load.run(size.settle)
            before = system.cpu_seconds()
            answers = load.run(size.load)
            spent = system.cpu_seconds() - before
            load.rest()
            per_cpu = answers.whole / spent if spent else None
            found.append({"per_s": answers.per_second, "per_cpu_s": per_cpu, "errors": dict(+answers.errors)})
    for load in loads:
        load.close()
    return [sorted(found, key=lambda one: float(one["per_s"]))[len(found) // 2] for found in rounds]


def warmed(system: System, size: Size, *, stream: bool) -> Load:
    # The first answer is not like others: it waits for what a start leaves to be imported.
    [first] = system.clients(1, stream=stream)
    ask(first)
    first.close()
    load = Load(system.clients(size.clients, stream=stream))
    load.run(size.warm)
    load.rest()
    return load


def added(system: System, direct: Direct, size: Size) -> Figures:
    """Measure how many milliseconds longer answers take than the same from the upstream: the median over pairs, of whole answers
    and to the first token of streamed ones."""
    return {
        "added_plain_ms": later(system, direct, size, stream=False)[1],
        "added_first_ms": later(system, direct, size, stream=True)[0],
    }


def later(system: System, direct: Direct, size: Size, *, stream: bool) -> tuple[float, float]:
    """Return how many milliseconds later than the upstream's a system's answers begin and end."""
    [ours], [theirs] = system.clients(1, stream=stream), direct.clients(1, stream=stream)
    pairs = [(ask(ours), ask(theirs)) for _ in range(size.pairs + 10)][10:]
    ours.close()
    theirs.close()
    first = statistics.median(mine[0] - plain[0] for mine, plain in pairs)
    end = statistics.median(mine[1] - plain[1] for mine, plain in pairs)
    return first * 1000, end * 1000


def streams(system: System, count: int, size: Size) -> Figures:
    """Measure so many streams that are open at once, each of which begins anew when it has ended: tokens' delays, CPU, memory."""
    lifetime = size.paced_tokens * PACE
    load = Load(system.clients(count, stream=True, chats=2), ramp=lifetime)
    load.run(lifetime + size.warm)
    before = system.cpu_seconds()
    answers = load.run(size.hold)
    spent, memory = system.cpu_seconds() - before, system.memory_mb()
    load.close()
    return {
        "streams": count,
        **delays(answers),
        "tokens_per_s": len(answers.delays) / answers.seconds,
        "cpu_us_per_token": spent * 1e6 / len(answers.delays) if answers.delays and spent else None,
        "cpu_share": spent / answers.seconds,
        "memory_mb": memory,
        "errors": dict(+answers.errors),
    }


def delays(answers: Answers) -> Figures:
    found = sorted(answers.delays) or [0]
    return {"p50_ms": found[len(found) // 2] / 1000, "p99_ms": found[len(found) * 99 // 100] / 1000}


def every_stream(system: Callable[[], System], upstream: Upstream, size: Size) -> list[Figures]:
    """Measure each number of streams in a process of its own, up to the first that is hopeless."""
    upstream.script(size.paced_tokens, PACE)
    found: list[Figures] = []
    for count in size.streams:
        with system() as started:
            found.append(streams(started, count, size))
        if found[-1]["p50_ms"] > HOPELESS_MS or sum(found[-1]["errors"].values()) > count / 2:
            break
    return found
