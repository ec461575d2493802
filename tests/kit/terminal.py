"""Commands as people run them: in this process, as a process of their own, or typed into on a pseudo-terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from service.cli import main
from service.config import Settings
from tests.kit.server import ROOT

# Makes the standard input the process's own terminal, so that what is typed there becomes signals.
ON_TERMINAL = """
import fcntl, runpy, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
runpy.run_module("service", run_name="__main__", alter_sys=True)
"""


def kept() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


def environment(settings: Settings) -> dict[str, str]:
    names = ("data_dir", "apps_dir", "openai_base_url", "openai_api_key", "ingest_workers")
    return {name.upper(): str(getattr(settings, name)) for name in names} | {"WEB_DIR": str(ROOT / "web")}


@dataclass
class Terminal:
    """Runs commands in this process, with the settings of a test in the environment."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def run(self, *args: str, stdin: str | None = None, **environ: str) -> Result:
        result = CliRunner().invoke(main, args, input=stdin, env={**self.environ, **environ})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def json(self, *args: str) -> Any:
        result = self.run(*args, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    def write(self, name: str, content: str | bytes) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def start(self, *args: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "service", *args],
            cwd=ROOT,
            env={**kept(), **self.environ},
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )


class Typist:
    """A command on a terminal of 100 columns."""

    def __init__(self, environ: dict[str, str], *args: str) -> None:
        self.seen = ""
        self.terminal, other = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", ON_TERMINAL, *args],
            cwd=ROOT,
            env={**kept(), **environ, "TERM": "xterm-256color", "COLUMNS": "100", "LANG": "C.UTF-8"},
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def until(self, words: str, seconds: float = 20.0) -> str:
        """Read until the words have come, from where the last call ended."""
        deadline = time.monotonic() + seconds
        while words not in self.seen:
            assert self.read(deadline), f"{words!r} did not come: {self.seen!r}"
        before, _, self.seen = self.seen.partition(words)
        return before

    def end(self) -> tuple[int, str]:
        """Read on until the command ends; returns its exit code and what it said."""
        while self.read(time.monotonic() + 20):
            pass
        os.close(self.terminal)
        return self.process.wait(10), self.seen

    def read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self.terminal], [], [], max(0.0, deadline - time.monotonic()))
        try:
            data = os.read(self.terminal, 65536) if ready else b""
        except OSError:  # the other end is closed
            data = b""
        self.seen += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)
