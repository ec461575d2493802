"""How the cost of a turn grows with what is stored: the length of the chat, the number of users, documents of others and of one's own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import cycle

from bench.load import Client, ask
from bench.measure import TOKENS, Figures, Size
from bench.planting import backends_of, plant_chat, plant_chunks
from bench.systems import Brainstem, Upstream
from service.backends.interfaces import Backends
from service.models import Scope

USER = "user0"
SEARCH, PLAIN = "search", "plain"
MOST_TURNS = 10_000
CHATS = 8
"""Chats that are asked in turn, so that none of them grows much by being measured; the first turn of each does not count."""


def run(make: Callable[[], Brainstem], upstream: Upstream, size: Size) -> Iterator[tuple[str, list[Figures]]]:
    """Measure each kind of growth in a store of its own, and yield what it is of with its figures."""
    upstream.script(TOKENS)
    yield "chat_turns", chat_length(make(), size)
    yield "chunks_of_others", store(make(), size, SEARCH, plant_for("somebody else"))
    yield "chunks_of_ones_own", store(make(), size, SEARCH, plant_for(USER))
    yield "users", store(make(), size, PLAIN, plant_users)


def chat_length(system: Brainstem, size: Size) -> list[Figures]:
    lengths = [length for length in size.growth if length <= MOST_TURNS]
    backends = backends_of(system)
    for length in lengths:
        for n in range(CHATS):
            plant_chat(backends, Scope(PLAIN, USER), f"long{length}-{n}", length)
    with system:
        return [{"of": length, **cost(system, PLAIN, f"long{length}", size)} for length in lengths]


def store(system: Brainstem, size: Size, app: str, plant: Callable[[Backends, int, int], None]) -> list[Figures]:
    """Measure turns of one user in new chats while the store grows; the server is started anew at each size."""
    backends, found, there = backends_of(system), [], 0
    for count in size.growth:
        plant(backends, there, count)
        there = count
        with system:
            found.append({"of": count, **cost(system, app, f"at{count}", size)})
    shutil.rmtree(system.folder)  # the largest takes more than a gigabyte
    return found


def plant_users(backends: Backends, there: int, count: int) -> None:
    for n in range(there, count):
        plant_chat(backends, Scope(PLAIN, f"planted{n}"), "only", 2)


def plant_for(user: str) -> Callable[[Backends, int, int], None]:
    def plant(backends: Backends, there: int, count: int) -> None:
        plant_chunks(backends, Scope(SEARCH, user), there, count - there)

    return plant


def cost(system: Brainstem, app: str, chat: str, size: Size) -> Figures:
    """Measure whole turns one after another: the median milliseconds, and the milliseconds of CPU."""
    system.app = app
    requests = [system.request(0, f"{chat}-{n}", stream=False) for n in range(CHATS)]
    client = Client(system.address, cycle(requests), TOKENS)
    for _ in range(CHATS):
        ask(client)
    before = system.cpu_seconds()
    seconds = sorted(ask(client)[1] for _ in range(size.turns))
    spent = system.cpu_seconds() - before
    client.close()
    return {"p50_ms": seconds[len(seconds) // 2] * 1000, "cpu_ms": spent * 1000 / size.turns}
