"""`python -m bench`: measures this machine and prints what it finds; of a whole run, `bench/results` and the docs hold it too."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from bench import growth, measure, report
from bench.compared import ADK, AsgiEngine, FlaskProxy, HandedEngine, LiteLLM, environment, install
from bench.measure import FULL, QUICK, TOKENS, Figures, Size
from bench.planting import backends_of, plant_chunks
from bench.systems import DIMENSIONS, OTHERS, Brainstem, BrainstemOnFirestore, Direct, System, Upstream, pin
from service.models import Scope
from tests.kit.apps import write_app
from tests.kit.server import ROOT

Kind = TypeVar("Kind", bound=System)
SYSTEMS: list[type[System]] = [Direct, FlaskProxy, LiteLLM, ADK, Brainstem, BrainstemOnFirestore]
RESULTS = ROOT / "bench" / "results"
PEERS: list[type[System]] = [LiteLLM, ADK]
COMPARED = [*(kind.name for kind in SYSTEMS), "engines", "growth"]
ALONE = ["parts", "identity", "starting", "latency", "search", "queues", "retrieval"]
"""Modules that print figures of their own."""

QUICK_PARTS = [part for part in COMPARED if part not in [peer.name for peer in PEERS]]
OURS = ("aiohttp", "flask", "grpcio", "gunicorn", "httptools", "openai", "uvloop")


class Bench:
    """One run: the systems that can be started, and a folder of their own for each start."""

    def __init__(self, upstream: Upstream, folder: Path, size: Size) -> None:
        self.upstream = upstream
        self.size = size
        self._folder = folder
        self._started = 0

    def maker(self, kind: type[Kind]) -> Callable[[], Kind]:
        """Return what makes a system anew, with nothing stored."""

        def make() -> Kind:
            self._started += 1
            folder = self._folder / f"{kind.name}-{self._started}"
            write_app(folder / "apps", "plain", "[retrieval]\nenabled = false\n")
            write_app(folder / "apps", "search")
            return kind(self.upstream, folder)

        return make

    def answers(self, kinds: Sequence[type[System]]) -> dict[str, Figures]:
        """Measure the answers per second of all systems, with and without retrieval, side by side."""
        self.upstream.script(TOKENS)
        found: dict[str, Figures] = {kind.name: {} for kind in kinds}
        with ExitStack() as running:
            measured = [("", running.enter_context(self.maker(kind)())) for kind in kinds]
            searching = [kind for kind in kinds if issubclass(kind, Brainstem)]
            measured += [("_with_retrieval", running.enter_context(self.planted(kind))) for kind in searching]
            for name, stream in (("plain", False), ("streamed", True)):
                figures = measure.throughputs([system for _, system in measured], self.size, stream=stream)
                for (how, system), figure in zip(measured, figures, strict=True):
                    found[system.name][name + how] = figure
        return found

    @contextmanager
    def planted(self, kind: type[Brainstem]) -> Iterator[Brainstem]:
        """A system whose users' app searches what it shares, each question embedded by the upstream."""
        with self.maker(kind)() as system:
            plant_chunks(backends_of(system), Scope("search", None), 0, self.size.chunks)
            system.app = "search"
            yield system

    def alone(self, kind: type[System], direct: Direct) -> Figures:
        """Measure what is measured of one system after the other: its start, what it adds, its streams."""
        make, size = self.maker(kind), self.size
        if kind is Direct:
            return {"streams": measure.every_stream(make, self.upstream, size)}
        self.upstream.script(TOKENS)
        figures = measure.starts(make, size)
        with make() as system:
            figures |= measure.added(system, direct, size)
        return figures | {"streams": measure.every_stream(make, self.upstream, size)}

    def engine(self, kind: type[System]) -> Figures:
        """Measure what one of the engines that were weighed spends; with few and with many streams is enough."""
        self.upstream.script(TOKENS)
        figures: Figures = {}
        with self.maker(kind)() as system:
            for name, stream in (("plain", False), ("streamed", True)):
                [figures[name]] = measure.throughputs([system], self.size, stream=stream)
        return figures | {"streams": measure.every_stream(self.maker(kind), self.upstream, few_and_many(self.size))}


def few_and_many(size: Size) -> Size:
    return replace(size, streams=size.streams[::3])


def can_start(kind: type[System]) -> bool:
    """Make the environment of a peer that has one; tell whether the system can be measured."""
    return kind not in PEERS or installed(kind.name)


def installed(name: str) -> bool:
    try:
        install(name)
    except subprocess.CalledProcessError as failed:
        print(f"{name} is left out, for it cannot be installed: {str(failed.stderr)[-300:].strip()}")
        return False
    return True


def run(size: Size, parts: Sequence[str], path: Path | None) -> Figures:
    """Measure the parts that are named, and return all figures; what there is of them is kept as soon as it is there."""
    pin(OTHERS)
    found: Figures = {"about": about(), "systems": {}, "engines": {}, "growth": {}}
    with tempfile.TemporaryDirectory(prefix="brainstem-bench-") as folder, Upstream() as upstream:
        bench, direct = Bench(upstream, Path(folder), size), Direct(upstream, Path(folder))
        kinds = [kind for kind in SYSTEMS if kind.name in parts and can_start(kind)]
        if kinds:
            print("Measuring answers per second, side by side …", flush=True)
            found["systems"] = bench.answers(kinds)
        for kind in kinds:
            print(f"Measuring {kind.name} …", flush=True)
            found["systems"][kind.name] |= bench.alone(kind, direct)
            keep(found, path)
        for engine in (AsgiEngine, HandedEngine):
            if "engines" in parts:
                print(f"Measuring {engine.name} …", flush=True)
                found["engines"][engine.name] = bench.engine(engine)
                keep(found, path)
        if "growth" in parts:
            print("Measuring growth …", flush=True)
            for name, measured in growth.run(bench.maker(Brainstem), upstream, size):
                found["growth"][name] = measured
                keep(found, path)
    return found


def keep(found: Figures, path: Path | None) -> None:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n")


def about() -> dict[str, str]:
    """Describe the machine and the versions: what figures mean nothing without."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    pins = [line for peer in ("litellm", "adk") for line in (ROOT / "bench/peers" / f"{peer}.txt").read_text().split()]
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{', '.join(sorted(models))}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": ", ".join(f"{name} {version(name)}" for name in OURS),
        "peers": ", ".join(pins),
        "retrieval": f"{DIMENSIONS} dimensions",
    }


def publish(results: Path) -> None:
    """Put tables and plots into the docs; matplotlib has an environment of its own."""
    docs = ROOT / "docs"
    subprocess.run(
        [sys.executable, "-m", "bench.report", str(results), str(docs / "performance.md")], cwd=ROOT, check=True
    )
    if installed("plots"):
        python = str(environment("plots") / "bin" / "python")
        subprocess.run([python, "-m", "bench.plots", str(results), str(docs / "performance")], cwd=ROOT, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description="Measure speed on this machine.")
    parser.add_argument(
        "--quick", action="store_true", help="measure little of each: whether it works, not how fast it is"
    )
    parser.add_argument("--only", choices=[*ALONE, *COMPARED], nargs="+", help="measure these parts alone")
    parser.add_argument(
        "--results", type=Path, help="file to write; of a whole run it is one of today in bench/results"
    )
    parser.add_argument(
        "--service", type=Path, help="folder of another checkout, whose service is measured instead of this one's"
    )
    options = parser.parse_args()
    if options.service:
        Brainstem.root = options.service.resolve()
    parts = options.only or (QUICK_PARTS if options.quick else [*ALONE, *COMPARED])
    for name in ALONE:
        if name in parts:
            print(f"\n{name}", flush=True)
            import_module(f"bench.{name}").run()
    if not set(COMPARED) & set(parts):
        return
    whole = not options.only and not options.quick
    path = options.results or (RESULTS / f"{datetime.now(UTC):%Y-%m-%d}.json" if whole else None)
    found = run(QUICK if options.quick else FULL, parts, path)
    print("", *report.tables(found).values(), sep="\n\n")
    if path:
        print(f"\nKept in {path}")
    if path and whole:
        publish(path)


if __name__ == "__main__":
    main()
