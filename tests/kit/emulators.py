"""The real Firebase emulators, started by firebase-tools on free ports of 127.0.0.1."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from service.proof.process import free_port
from tests.kit.required import left_out
from tests.kit.server import ROOT

PROJECT = "demo-brainstem"
FIREBASE = ROOT / "node_modules" / ".bin" / "firebase"
OLDEST_JAVA = 21
START_SECONDS = 120.0
STOP_SECONDS = 20.0

# Read here, because a test itself runs without the environment: how firebase-tools finds Java and emulators that lie on this machine.
ENVIRON = {
    name: value
    for name, value in os.environ.items()
    if name in ("PATH", "HOME", "LANG", "TMPDIR", "JAVA_HOME", "XDG_CACHE_HOME", "FIREBASE_EMULATORS_PATH")
    or name.endswith("_EMULATOR_BINARY_PATH")
}


@dataclass(frozen=True, slots=True)
class Emulators:
    """Where each emulator listens, as `host:port`."""

    hosts: Mapping[str, str]
    log: Path

    @property
    def environ(self) -> dict[str, str]:
        """The variables that have Brainstem and Google's SDKs use these emulators."""
        found = {"GOOGLE_CLOUD_PROJECT": PROJECT}
        if "firestore" in self.hosts:
            found["FIRESTORE_EMULATOR_HOST"] = self.hosts["firestore"]
        if "auth" in self.hosts:
            found["FIREBASE_AUTH_EMULATOR_HOST"] = self.hosts["auth"]
        if "storage" in self.hosts:
            found["STORAGE_EMULATOR_HOST"] = f"http://{self.hosts['storage']}"
        return found

    def clear(self, project: str = PROJECT) -> None:
        """Remove every document of a project's default database."""
        url = f"http://{self.hosts['firestore']}/emulator/v1/projects/{project}/databases/(default)/documents"
        urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=10).close()


def why_none() -> str | None:
    """What this machine lacks to run the emulators, or None."""
    if not FIREBASE.exists():
        return "firebase-tools is not installed: it takes Node.js and `npm ci`"
    if java_version() < OLDEST_JAVA:
        return f"the Firebase emulators need Java {OLDEST_JAVA} or newer, and `java` is not that"
    return None


@cache
def java_version() -> int:
    java = shutil.which("java", path=ENVIRON.get("PATH"))
    if java is None:
        return 0
    said = subprocess.run([java, "-version"], env=ENVIRON, capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0


@contextmanager
def emulators(
    *names: str,
    config: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    prepare: Callable[[Path], None] = lambda folder: None,
) -> Iterator[Emulators]:
    """Run the named emulators; `config` is laid over a `firebase.json` that has the project's own rules.

    `prepare` may change what lies in their folder before they start.
    """
    if why := why_none():
        left_out("emulators", why)
    with tempfile.TemporaryDirectory(prefix="brainstem-emulators-") as folder:
        where = Path(folder)
        ports = {name: free_port() for name in names}
        (where / "firebase.json").write_text(json.dumps(configuration(ports) | dict(config or {})), encoding="utf-8")
        for rules in ("firestore.rules", "storage.rules"):
            if (ROOT / rules).exists():
                shutil.copy(ROOT / rules, where / rules)
        prepare(where)
        with (where / "emulators.log").open("wb") as log:
            process = subprocess.Popen(
                [str(FIREBASE), "emulators:start", "--project", PROJECT, "--only", ",".join(names)],
                cwd=where,
                # The Storage emulator keeps files below TMPDIR by a fixed name, which another one would clear.
                env={**ENVIRON, "TMPDIR": folder, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until_ready(process, where / "emulators.log")
            yield Emulators({name: f"127.0.0.1:{port}" for name, port in ports.items()}, where / "emulators.log")
        finally:
            stop(process)


def configuration(ports: Mapping[str, int]) -> dict[str, object]:
    listening: dict[str, object] = {name: {"host": "127.0.0.1", "port": port} for name, port in ports.items()}
    if "firestore" in ports:
        listening["firestore"] = {"host": "127.0.0.1", "port": ports["firestore"], "websocketPort": free_port()}
    return {
        "emulators": {
            **listening,
            "hub": {"host": "127.0.0.1", "port": free_port()},
            "logging": {"host": "127.0.0.1", "port": free_port()},
            "ui": {"enabled": False},
            "singleProjectMode": False,
        },
        **({"firestore": {"rules": "firestore.rules"}} if (ROOT / "firestore.rules").exists() else {}),
        **({"storage": {"rules": "storage.rules"}} if (ROOT / "storage.rules").exists() else {}),
    }


def wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if b"All emulators ready" in log.read_bytes():
            return
        time.sleep(0.1)
    raise RuntimeError(f"The emulators did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the emulators to end, and end them with their children if they do not."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
