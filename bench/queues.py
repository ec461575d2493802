"""The local queue beside huey's on SQLite, and how fast the API accepts documents: side by side, in one run.

Both write each commit to the disk. Ours keeps a job until it is done, which takes two commits for a delivery; huey deletes a task before
it runs, which takes one, so a process that is killed takes its tasks along.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from bench.compared import environment, install
from bench.measure import Figures
from service.backends.interfaces import JobAddress
from service.backends.local.queue import LocalQueue
from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
from service.models import Scope
from tests.kit.apps import write_app
from tests.kit.server import ROOT, Server

JOBS = 2000
ROUNDS = 40
WORKERS = 4
DOCUMENTS = 400
ADA = Scope("alpha", "ada")


def run() -> None:
    """Print a table of both queues, and the documents that are accepted in a second."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [("Brainstem's local queue", ours(Path(folder) / "ours"))]
        try:
            install("huey")
            rows.append(("huey, SqliteHuey with fsync", huey(Path(folder) / "huey.sqlite3")))
        except subprocess.CalledProcessError as failed:
            print(f"huey is left out, for it cannot be installed: {str(failed.stderr)[-300:].strip()}")
        for name, found in rows:
            print(
                f"{name:30} {found['enqueued']:6.0f} enqueued/s  {found['delivered']:6.0f} delivered/s"
                f"  idle: p50 {found['p50'] * 1000:6.1f} ms  p95 {found['p95'] * 1000:6.1f} ms"
            )
        print(f"{'POST documents until its 202':30} {accepted(Path(folder)):6.0f} accepted/s, one after another")


def ours(folder: Path) -> Figures:
    settings = Settings(data_dir=folder, batch_workers=WORKERS, batch_per_second=0)
    queue = LocalQueue(settings, EnvironmentSecrets(settings))
    done, arrived = threading.Semaphore(0), list[float]()

    def work(address: JobAddress) -> None:
        arrived.append(time.perf_counter())
        done.release()

    begun = time.perf_counter()
    for n in range(JOBS):
        queue.enqueue(JobAddress(ADA, f"j{n}"))
    enqueued = JOBS / (time.perf_counter() - begun)
    begun = time.perf_counter()
    queue.start(work)
    for _ in range(JOBS):
        done.acquire()
    delivered = JOBS / (time.perf_counter() - begun)
    delays = []
    for n in range(ROUNDS):
        time.sleep(0.1)
        begun = time.perf_counter()
        queue.enqueue(JobAddress(ADA, f"late{n}"))
        done.acquire()
        delays.append(arrived[-1] - begun)
    queue.stop()
    delays.sort()
    return {
        "enqueued": enqueued,
        "delivered": delivered,
        "p50": delays[ROUNDS // 2],
        "p95": delays[ROUNDS * 19 // 20],
    }


def huey(path: Path) -> Figures:
    python, script = environment("huey") / "bin" / "python", ROOT / "bench" / "peers" / "huey_queue.py"
    command = [str(python), str(script), str(path), str(JOBS), str(ROUNDS), str(WORKERS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    figures: Figures = json.loads(done.stdout)
    return figures


def accepted(folder: Path) -> float:
    """Return how many documents a second are stored, recorded with their job, and enqueued, while nobody ingests them."""
    write_app(folder / "apps", "alpha", "")
    nobody = {f"{queue}_WORKERS": "0" for queue in ("INTERACTIVE", "INGEST", "BATCH")}
    with Server(folder / "data", nobody, folder / "apps") as server:
        headers = {"Content-Type": "multipart/form-data; boundary=kit", **server.sign_in()}
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        begun = time.perf_counter()
        for n in range(DOCUMENTS):
            head = f'--kit\r\nContent-Disposition: form-data; name="file"; filename="{n}.md"\r\n\r\n'
            connection.request("POST", "/v1/apps/alpha/documents", f"{head}# {n}\r\n--kit--\r\n".encode(), headers)
            response = connection.getresponse()
            response.read()
            assert response.status == 202, response.status
        seconds = time.perf_counter() - begun
        connection.close()
        return DOCUMENTS / seconds


if __name__ == "__main__":
    run()
