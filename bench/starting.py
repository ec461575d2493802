"""How soon a server answers once it is started, and what it takes while nobody asks: with local adapters, and with those of the cloud."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.systems import Firestore, Upstream
from tests.kit.keys import KeyServer
from tests.kit.server import Server

TIMES = 5
PAUSE = 0.005
SETTLE_SECONDS = 1.0


@dataclass(frozen=True)
class Start:
    """Seconds since the process was begun; seconds of CPU until the first answer; megabytes of all its processes once it idles."""

    first: float
    ready: float
    cpu: float
    shared_once: float
    resident: float


def run() -> None:
    """Print the medians of several starts."""
    with KeyServer() as keys, Firestore() as firestore, Upstream() as model:
        cloud = {
            "BACKEND_TOKENS": "google",
            "BACKEND_DOCUMENTS": "google",
            "BACKEND_VECTORS": "google",
            "GOOGLE_KEYS_EMULATOR_HOST": keys.host,
            "FIRESTORE_EMULATOR_HOST": "{}:{}".format(*firestore.address),
            "OPENAI_BASE_URL": model.url,
            "OPENAI_API_KEY": "none",
        }
        measure("local", {})
        measure("Firebase, Firestore, OpenAI", cloud)


def measure(name: str, environ: Mapping[str, str]) -> None:
    starts = [start(environ) for _ in range(TIMES + 1)][1:]  # the first one writes bytecode

    def median(figure: str) -> float:
        return statistics.median(float(getattr(each, figure)) for each in starts)

    print(
        f"{name:28} first 200 {median('first'):.2f} s ({median('cpu'):.2f} s of CPU)   ready {median('ready'):.2f} s   "
        f"idle {median('shared_once'):.0f} MB (resident, shared pages counted twice: {median('resident'):.0f} MB)"
    )


def start(environ: Mapping[str, str]) -> Start:
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder) / "data", environ) as server:
        begun = time.monotonic() - server.start_seconds
        cpu = sum(sum(process.cpu_times()[:2]) for process in server.processes())
        while server.request("GET", "/ready")[0] != 200:
            time.sleep(PAUSE)
        ready = time.monotonic() - begun
        time.sleep(SETTLE_SECONDS)
        memory = [process.memory_full_info() for process in server.processes()]
        return Start(
            server.start_seconds,
            ready,
            cpu,
            sum(each.pss for each in memory) / 1e6,
            sum(each.rss for each in memory) / 1e6,
        )
