"""The service under proof: `brainstem serve` as a process of its own, in a temporary folder, on a free port of loopback."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import service
from service.errors import ConfigError

START_SECONDS = 60.0
STOP_SECONDS = 15.0
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "SYSTEMROOT")
PACKAGE = Path(service.__file__).parent.parent
PORTS = range(10_000, 32_768)
TURN = count(random.randrange(len(PORTS)))  # noqa: S311  # where to begin, no secret


class Process:
    """Begun on entering, stopped on leaving; `wait()` before it is asked anything. `log` is what it writes."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self.port = int(environ["PORT"])
        self.log = folder / "service.log"
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        self._environ = {**kept, "PYTHONPATH": str(PACKAGE), **environ}

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service", "serve"],
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def wait(self) -> None:
        """Wait until it listens; raises `ConfigError` with its last words if it does not."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        said = self.log.read_text(errors="replace").strip().splitlines()
        raise ConfigError(f"The service under proof does not start: {said[-1] if said else 'it says nothing'}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def free_port() -> int:
    """Return a port of loopback that is free, and that this process was not given before.

    It is none of those that systems take for outgoing connections, so none of them can be there before the listener.
    """
    while True:
        port = PORTS[next(TURN) % len(PORTS)]
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
