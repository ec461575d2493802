"""A real PostgreSQL with pgvector on a free port of 127.0.0.1, from the binaries that the package `pgserver` carries."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from service.proof.process import free_port
from tests.kit.required import left_out

PASSWORD = "canary-of-postgres-4711"
ADMIN = "canary-of-the-admin"
START_SECONDS = 30.0
# PostgreSQL does not run as root, so root has it run as this one.
UNPRIVILEGED = "nobody"


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server with the extension in its database, and a user who may make tables there but is no superuser."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def admin(self) -> str:
        return f"postgresql://postgres:{ADMIN}@127.0.0.1:{self.port}/brainstem"

    @property
    def url(self) -> str:
        return f"postgresql://brainstem:{PASSWORD}@127.0.0.1:{self.port}/brainstem"

    def fresh(self) -> str:
        """Return a URL whose tables nobody else uses: each has a schema of its own."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f"CREATE SCHEMA {name} AUTHORIZATION brainstem")
        return f"{self.url}?options=-csearch_path%3D{name},public"

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as the superuser."""
        return run(self.admin, statement)


def run(url: str, statement: str) -> list[tuple[Any, ...]]:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(statement.encode())
        return done.fetchall() if done.description else []


def binaries() -> Path | None:
    """Where the programs of PostgreSQL are; the package itself is not imported, for that starts to look for servers."""
    spec = find_spec("pgserver")
    found = [Path(place) / "pginstall" / "bin" for place in (spec.submodule_search_locations or () if spec else ())]
    return next((place for place in found if (place / "postgres").is_file()), None)


@contextmanager
def running() -> Iterator[Postgres]:
    """Run a server with an empty database."""
    programs = binaries()
    if programs is None:
        left_out("postgres", "there is no PostgreSQL: the package pgserver has no wheel for this Python")
    folder = Path(tempfile.mkdtemp(prefix="brainstem-postgres-"))
    demoted: dict[str, Any] = {"user": UNPRIVILEGED} if os.geteuid() == 0 else {}
    try:
        (folder / "password").write_text(ADMIN, encoding="utf-8")
        if demoted:
            for path in (folder, folder / "password"):
                shutil.chown(path, UNPRIVILEGED)
        initialise(programs, folder, demoted)
        server = start(programs, folder, demoted)
        try:
            yield server
        finally:
            stop(server.process)
    finally:
        shutil.rmtree(folder)


def initialise(programs: Path, folder: Path, demoted: dict[str, Any]) -> None:
    options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--username=postgres"]
    done = subprocess.run(
        [programs / "initdb", "-D", folder / "data", f"--pwfile={folder / 'password'}", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        **demoted,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def start(programs: Path, folder: Path, demoted: dict[str, Any]) -> Postgres:
    port = free_port()
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "fsync": "off",
        "max_connections": 60,
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", *options],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **demoted,
        )
    try:
        prepare(f"postgresql://postgres:{ADMIN}@127.0.0.1:{port}", process, folder / "log")
    except BaseException:
        stop(process)
        raise
    return Postgres(port, process)


def prepare(admin: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server answers, then make the database, its user and the extension."""
    import psycopg

    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            run(f"{admin}/postgres", f"CREATE ROLE brainstem LOGIN PASSWORD '{PASSWORD}'")
            break
        except psycopg.OperationalError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text(errors='replace')[-3000:]}") from None
            time.sleep(0.05)
    run(f"{admin}/postgres", "CREATE DATABASE brainstem OWNER brainstem")
    run(f"{admin}/brainstem", "CREATE EXTENSION vector")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and every connection to it."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
