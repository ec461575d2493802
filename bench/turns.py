"""Speed of the whole turn beside the upstream called directly, in one run against the same scripted server."""

from __future__ import annotations

import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.kit.apps import write_app
from tests.kit.server import ROOT, Server

Seconds = float
PAIRS = 200
LOAD_SECONDS = 8.0
STREAM = {"Accept": "text/event-stream"}


@contextmanager
def upstream(*options: str) -> Iterator[str]:
    """The scripted provider as a process of its own, so that it takes no time from ours."""
    command = [sys.executable, "-m", "tests.kit.upstream", "--port", "0", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().strip().split()[-1]
    finally:
        process.terminate()
        process.wait(10)


class Target:
    """One keep-alive connection that sends the same kind of request again and again."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        address = urlsplit(url)
        assert address.hostname
        self._connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        self._headers = {"Content-Type": "application/json", **headers}

    def ask(self, path: str, body: object, mark: bytes) -> tuple[Seconds, Seconds]:
        """Return the seconds until `mark` came, and until the end."""
        start = time.perf_counter()
        self._connection.request("POST", path, json.dumps(body), self._headers)
        response = self._connection.getresponse()
        first, seen = 0.0, b""
        while block := response.read1(65_536):
            seen = seen[-64:] + block
            if not first and mark in seen:
                first = time.perf_counter() - start
        response.close()
        assert response.status == 200, seen
        assert first, seen
        return first, time.perf_counter() - start


def direct_body(stream: bool) -> object:
    return {"model": "m", "messages": [{"role": "user", "content": "Say something"}], "stream": stream}


def added(server: Server, direct: str, headers: dict[str, str], app: str, *, stream: bool) -> tuple[float, float]:
    """The median milliseconds that a turn takes longer than the same call sent to the upstream, pair by pair."""
    base = urlsplit(direct).path
    ours, theirs = Target(server.url, {**headers, **(STREAM if stream else {})}), Target(direct, {})
    firsts, totals = [], []
    for n in range(PAIRS + 20):
        path = f"/v1/apps/{app}/chats/{'s' if stream else 'j'}{n % 20}-{app}/messages"
        mine = ours.ask(path, {"text": "Say something"}, b"event: delta" if stream else b"COMPLETED")
        plain = theirs.ask(f"{base}/chat/completions", direct_body(stream), b"content")
        if n >= 20:
            firsts.append((mine[0] - plain[0]) * 1000)
            totals.append((mine[1] - plain[1]) * 1000)
    return statistics.median(firsts), statistics.median(totals)


def load(server: Server, app: str, users: int = 8) -> tuple[float, float]:
    """Whole JSON turns per second, and per second of the server's CPU, with `users` asking at once."""
    done = [0] * users
    end = time.monotonic() + LOAD_SECONDS

    def one(n: int) -> None:
        target = Target(server.url, server.sign_in(f"load-{n}"))
        while time.monotonic() < end:
            target.ask(f"/v1/apps/{app}/chats/l{done[n] % 10}/messages", {"text": "Say something"}, b"COMPLETED")
            done[n] += 1

    before, start = cpu_seconds(server), time.monotonic()
    threads = [threading.Thread(target=one, args=(n,)) for n in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.monotonic() - start), sum(done) / (cpu_seconds(server) - before)


def cpu_seconds(server: Server) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in server.processes())


def memory_mb(server: Server) -> float:
    return sum(process.memory_info().rss for process in server.processes()) / 1e6


def run() -> None:
    """Print every figure of this page."""
    with tempfile.TemporaryDirectory() as folder, upstream("--words", "20") as direct:
        data, apps = Path(folder) / "data", Path(folder) / "apps"
        write_app(apps, "plain", "[retrieval]\nenabled = false\n")
        write_app(apps, "search")
        environ = {"OPENAI_BASE_URL": direct, "OPENAI_API_KEY": "none"}
        starts, idle = [], []
        for _ in range(5):
            with Server(data, environ, apps) as server:
                starts.append(server.start_seconds)
                time.sleep(1)
                idle.append(memory_mb(server))
        print(f"cold start, process to first 200     {statistics.median(starts):8.2f} s")
        print(f"idle memory, all processes           {statistics.median(idle):8.0f} MB")
        with Server(data, environ, apps) as server:
            headers = server.sign_in()
            for app in ("plain", "search"):
                for stream in (False, True):
                    first, total = added(server, direct, headers, app, stream=stream)
                    kind = "streamed" if stream else "whole"
                    print(f"added, {app}, {kind:9} first / end    {first:8.1f} / {total:.1f} ms")
            for app in ("plain", "search"):
                per_second, per_cpu = load(server, app)
                print(f"turns, {app:7} per s / per CPU-second  {per_second:8.0f} / {per_cpu:.0f}")
            print(f"memory after the load                {memory_mb(server):8.0f} MB")


if __name__ == "__main__":
    run()
