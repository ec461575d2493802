"""The event loop that carries a process's streams, as the service has it: one, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator, Sequence
from concurrent.futures import Future
from functools import cache
from typing import Any, TypeVar

from service.backends.interfaces import ModelEvent

T = TypeVar("T")
Stream = AsyncGenerator[Sequence[ModelEvent], None]


@cache
def loop() -> asyncio.AbstractEventLoop:
    """Return the loop, which runs for as long as the process."""
    running = asyncio.new_event_loop()
    threading.Thread(target=running.run_forever, name="loop", daemon=True).start()
    return running


def begin(work: Coroutine[Any, Any, T]) -> Future[T]:
    return asyncio.run_coroutine_threadsafe(work, loop())


def run(work: Coroutine[Any, Any, T]) -> T:
    return begin(work).result()


def events(stream: Stream) -> Generator[ModelEvent, None, None]:
    """Yield the events of a stream one by one; whoever stops reading closes it."""

    async def following() -> Sequence[ModelEvent] | None:
        return await anext(stream, None)

    try:
        while (together := run(following())) is not None:
            yield from together
    finally:
        run(stream.aclose())
