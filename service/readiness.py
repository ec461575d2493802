"""Whether the backends answer, and what makes them: they are opened behind the first requests, not before them."""

from __future__ import annotations

import gc
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from service.backends.interfaces import Backends
from service.errors import BrainstemError
from service.logging import event

READY_SECONDS = 1.0
"""How long the backends are believed."""

START_SECONDS = 10.0
"""How long they may be called starting: longer than they need, unless one of them does not answer."""

STARTING = "starting"

COLLECTIONS = (2_000, 5, 100)
"""After how many objects, and collections of the generation before, one of cycles is due. Python's own 700 objects are those of a single
turn; a middle generation of 100,000 stopped all streams for 80 ms."""

ORDER = ("tokens", "documents", "secrets", "model", "queue", "blobs", "vectors", "embedder")
"""First what every turn needs, last what takes longest to open."""


class Readiness:
    """Asks all backends at once whether they answer. Anyone may ask for it, so what they said serves for a moment."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._states: dict[str, str] = {}
        self._starting_until = float("-inf")

    def warm(self) -> None:
        """Check each backend once, in the background: a check imports and opens what calls need.

        One thread does it, one backend after another, for imports take the processor from the requests beside them. A request that
        needs a backend before its turn opens it itself.
        """
        self._starting_until = time.monotonic() + START_SECONDS
        threading.Thread(target=self._warm, name="warm", daemon=True).start()

    def states(self) -> dict[str, str]:
        """Return "ok", or what is wrong, by the backend's name."""
        if time.monotonic() < self._starting_until:
            return dict.fromkeys(self._backends.names, STARTING)
        # Who comes while someone asks gets what was said before, so that nobody holds threads by asking.
        if self._lock.acquire(blocking=not self._states):
            try:
                if time.monotonic() >= self._asked + READY_SECONDS:
                    self._states = self._ask()
                    self._asked = time.monotonic()
            finally:
                self._lock.release()
        return self._states

    def _warm(self) -> None:
        for name in ORDER:
            try:
                getattr(self._backends, name).check()
            except Exception as error:  # noqa: BLE001  # whatever it is, the others are opened, and those who ask are told
                event("backend_not_warm", logging.WARNING, error, backend=name)
        self._starting_until = float("-inf")
        # What is loaded by now stays: a collection that walked over it would hold up every stream.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECTIONS)

    def _ask(self) -> dict[str, str]:
        names = list(self._backends.names)
        with ThreadPoolExecutor(len(names), thread_name_prefix="ready") as threads:
            found = threads.map(state, [getattr(self._backends, name) for name in names])
            return dict(zip(names, found, strict=True))


def state(backend: object) -> str:
    try:
        backend.check()  # type: ignore[attr-defined]  # every Protocol has it
    except BrainstemError as error:
        return error.detail or error.title
    return "ok"
