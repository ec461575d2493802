"""Other Python processes of this project: what several of them do at once, and what one leaves when it is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

PREAMBLE = """
import sys, time
from pathlib import Path
from service.backends.interfaces import Create, JobAddress, Query, Set, Update
from service.backends.local.blobs import FileBlobs
from service.backends.local.documents import SQLiteDocuments
from service.backends.local.queue import LocalQueue
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.tokens import LocalTokens
from service.config import Settings
from service.errors import *
from service.models import Scope
settings = Settings(data_dir=Path(sys.argv[1]))
secrets = EnvironmentSecrets(settings)
ada = Scope("recipes", "ada")
def say(*words): print(*words, flush=True)
"""


@contextmanager
def python(code: str, data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Run code that has the local adapters, `settings`, `secrets` and `say()`; what still runs at the end is killed."""
    command = [sys.executable, "-W", "error", "-c", PREAMBLE + textwrap.dedent(code), str(data_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    """Wait for the next line that the process says."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def lines(process: subprocess.Popen[str]) -> list[str]:
    """Wait for the process to end and return what it said that was not read yet."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    output = process.stdout.read()  # `communicate` would miss what `line` has read ahead
    process.wait(60)
    return output.splitlines()


def freeze(process: subprocess.Popen[str], file: Path) -> None:
    """Stop a process at a moment at which it is not writing to a SQLite file: nobody else could, until it goes on."""
    deadline = time.monotonic() + 15.0
    while True:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            return
        except sqlite3.OperationalError:
            process.send_signal(signal.SIGCONT)
            assert time.monotonic() < deadline
            time.sleep(0.01)
