"""The Firebase emulators as a process: their configuration, ports and functions, started and ended."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from service.errors import ConfigError

PROJECT = "demo-brainstem"
HOST = "127.0.0.1"
PORTS = {
    "auth": 9099,
    "firestore": 8089,
    "storage": 9199,
    "functions": 5001,
    "tasks": 9499,
    "eventarc": 9299,
    "hub": 4400,
}
OF_FUNCTIONS = ("functions", "tasks", "eventarc")
FIREBASE = Path("node_modules/.bin/firebase")
CONFIG = Path("firebase.json")
FUNCTIONS = Path("functions")
LOG = Path(".brainstem/emulators.log")
START_SECONDS = 180.0
STOP_SECONDS = 20.0
LAST_LINES = 25


@contextmanager
def emulators(folder: Path, environ: Mapping[str, str]) -> Iterator[Mapping[str, int]]:
    """Run the emulators and yield the port of each; their words go to a file, of which an error tells the end.

    `folder` is for what is written for them, `environ` is added to this process's environment. Raises `ConfigError`.
    """
    config = configuration(folder)
    ports = ports_of(config)
    check_ports(ports)
    LOG.parent.mkdir(mode=0o700, exist_ok=True)
    only = ",".join(name for name in ports if name != "hub")
    click.echo("Starting the Firebase emulators: up to a minute, longer the first time …")
    with LOG.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  # no shell
            [FIREBASE.resolve(), "emulators:start", "--project", PROJECT, "--config", config, "--only", only],
            env={**os.environ, **environ},
            cwd=LOG.parent,  # where they put logs of their own
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the service first: it still has answers to save
        )
    try:
        wait_until_ready(process)
        yield ports
    finally:
        click.echo("Stopping the Firebase emulators …")
        stop(process)


def configuration(folder: Path) -> Path:
    """The project's `firebase.json`, or one that has the project's rules."""
    if CONFIG.exists():
        return CONFIG.resolve()
    for rules in ("firestore.rules", "storage.rules"):
        shutil.copy(rules, folder)
    content = {
        "firestore": {"rules": "firestore.rules"},
        "storage": {"rules": "storage.rules"},
        "emulators": {**{name: {"host": HOST, "port": PORTS[name]} for name in PORTS}, "ui": {"enabled": False}},
    }
    written = folder / CONFIG.name
    written.write_text(json.dumps(content), encoding="utf-8")
    return written


def ports_of(config: Path) -> dict[str, int]:
    """The port of each emulator that is to run."""
    content = json.loads(config.read_text(encoding="utf-8"))
    listed = content.get("emulators", {})
    left_out = () if has_functions(content.get("functions", [])) else OF_FUNCTIONS
    return {name: listed.get(name, {}).get("port", PORTS[name]) for name in PORTS if name not in left_out}


def has_functions(configured: list[Mapping[str, str]]) -> bool:
    """Whether the functions can run: the emulator starts them with the Python of their own folder."""
    if not configured:
        return False
    wanted = configured[0].get("runtime", "").replace("python3", "python3.")
    found = [folder.name for folder in FUNCTIONS.glob("venv/lib/python3.*")]
    if wanted in found:
        return True
    there = f"is of {', '.join(found)}" if found else "is not there"
    click.echo(f"Without functions: they run on {wanted}, and functions/venv {there}.")
    return False


def check_ports(ports: Mapping[str, int]) -> None:
    for name, port in ports.items():
        try:
            socket.create_server((HOST, port)).close()
        except OSError:
            raise ConfigError(
                f"Port {port}, of the {name} emulator, is in use. Perhaps the emulators run already in another terminal; "
                "else end what holds the port, or give the emulator another in firebase.json."
            ) from None


@contextmanager
def functions_call(port: int) -> Iterator[None]:
    """Have the functions call the service at a port, by a file that only the emulator reads."""
    settings = FUNCTIONS / ".env.local"
    line = f"SERVICE_URL=http://{HOST}:"
    if not FUNCTIONS.is_dir() or (settings.exists() and not settings.read_text(encoding="utf-8").startswith(line)):
        yield  # there are none, or their developer has them call something else
        return
    settings.write_text(f"{line}{port}\n", encoding="utf-8")
    try:
        yield
    finally:
        settings.unlink(missing_ok=True)


def wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if b"All emulators ready" in LOG.read_bytes():
            return
        time.sleep(0.2)
    text = re.sub(r"\x1b\[[0-9;]*m", "", LOG.read_text(encoding="utf-8", errors="replace"))
    last = "\n".join(f"  {line}" for line in [line for line in text.splitlines() if line.strip()][-LAST_LINES:])
    raise ConfigError(
        f"The Firebase emulators did not start. The end of {LOG}:\n\n{last}\n\n"
        "At its first start each emulator is fetched from Google, which needs the internet once."
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the emulators to end, and end them with their children if they do not."""
    with suppress(KeyboardInterrupt):
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
