"""The event loop that carries every turn of the process, in one thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from service.errors import Superseded

T = TypeVar("T")

SAVING_THREADS = 32
STOP_SECONDS = 5.0
WATCH_SECONDS = 0.25


class Loop:
    """Started by the first turn, so that nothing of it exists before the server forks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.saving = ThreadPoolExecutor(SAVING_THREADS, thread_name_prefix="save")
        """What waits for the store has threads of its own: the loop never waits."""

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop, from any other thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._running())

    def wait(self, coroutine: Coroutine[Any, Any, T], alive: Callable[[], bool]) -> T:
        """Run a coroutine on the loop and wait for it, in a thread of the caller's, which a job has.

        Once who waits is not `alive` any more, it is cancelled, and `Superseded` raised.
        """
        running = self.submit(coroutine)
        while True:
            try:
                return running.result(WATCH_SECONDS)
            except TimeoutError:
                if not alive():
                    running.cancel()
                    raise Superseded from None

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on the loop, from any other thread, which hears no more of it."""
        self.call(self._start, coroutine)

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call a function on the loop, soon, from any other thread."""
        self._running().call_soon_threadsafe(function, *args)

    async def aside(self, function: Callable[[], T]) -> T:
        """Wait, on the loop, for what blocks: it has a thread of those that wait for the store."""
        return await asyncio.get_running_loop().run_in_executor(self.saving, function)

    def stop(self) -> None:
        """End the loop and its thread, with what runs on it; a later call begins another."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop:
            asyncio.run_coroutine_threadsafe(cut(), loop).result(STOP_SECONDS)
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(STOP_SECONDS)
            loop.close()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        assert self._loop
        task = self._loop.create_task(coroutine)
        # The loop itself holds a task weakly.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="loop", daemon=True)
                self._thread.start()
            return self._loop


async def cut() -> None:
    """Cancel whatever else runs on the loop, and end its generators."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop, which takes less of the processor for each token; where there is none of it, Python's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
