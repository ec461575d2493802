"""Each guard is needed: without it, `brainstem prove-isolation` ends with what succeeded. The guards are in guards.toml."""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.kit.emulators import ENVIRON, Emulators
from tests.kit.server import ROOT
from tests.test_proof import SECONDS, prove

AT_ONCE = 2
QUICK = ("--attempts", "quick", "--stop-early")
RULES = ("--only", "client SDK", "--emulators")


@dataclass(frozen=True, slots=True)
class Guard:
    """An edit that takes a guard away."""

    name: str
    file: str
    old: str
    new: str
    emulators: bool = False


GUARDS = [Guard(**found) for found in tomllib.loads((ROOT / "tests" / "guards.toml").read_text("utf-8"))["guard"]]
EVERY = int(os.environ.get("BRAINSTEM_TEST_EVERY_GUARD", "6"))
"""Each how many'th guard is taken away, another share every day: 1 tries them all, as `make guards` does."""
FIRST = datetime.now(UTC).toordinal() % EVERY
LOCAL = [guard for guard in GUARDS if not guard.emulators][FIRST::EVERY]
EMULATED = [guard for guard in GUARDS if guard.emulators][FIRST::EVERY]

Outcome = tuple[int, Any]


def tree(folder: Path) -> Path:
    """Copy what the command needs, by hard links where that goes."""
    link = shutil.copy2 if folder.stat().st_dev != ROOT.stat().st_dev else linked
    shutil.copytree(
        ROOT / "service", folder / "service", copy_function=link, ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("firestore.rules", "storage.rules"):
        shutil.copy2(ROOT / name, folder / name)
    (folder / "node_modules").symlink_to(ROOT / "node_modules")
    return folder


def linked(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def removed(guard: Guard, folder: Path) -> Path:
    """A copy of the tree without a guard."""
    edited = tree(folder) / guard.file
    text = edited.read_text("utf-8")
    edited.unlink()  # a hard link: the original stays as it is
    edited.write_text(text.replace(guard.old, guard.new), "utf-8")
    return folder


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Outcome]]]:
    """The proofs without each guard, some at a time."""

    def run(guard: Guard) -> Outcome:
        folder = removed(guard, tmp_path_factory.mktemp("guard"))
        return prove(*QUICK, "--seed", "1", cwd=folder)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        yield {guard.name: threads.submit(run, guard) for guard in LOCAL}
        threads.shutdown(cancel_futures=True)


def test_there_are_enough_guards_and_each_is_where_it_is_said_to_be() -> None:
    assert len(GUARDS) >= 40
    assert len({guard.name for guard in GUARDS}) == len(GUARDS)
    for guard in GUARDS:
        assert (ROOT / guard.file).read_text("utf-8").count(guard.old) == 1, f"{guard.name}: write its `old` anew"
        assert guard.old != guard.new


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("guard", LOCAL, ids=lambda guard: guard.name)
def test_without_a_guard_something_succeeds(guard: Guard, outcomes: dict[str, Future[Outcome]]) -> None:
    code, report = outcomes[guard.name].result()
    assert code == 1
    assert report["succeeded"] or report["undeclared"], report["broken"] or report["refused"]


@pytest.mark.timeout(SECONDS)
def test_with_all_guards_a_copy_of_the_tree_holds(tmp_path: Path) -> None:
    code, report = prove(*QUICK, cwd=tree(tmp_path))
    assert (code, report["succeeded"], report["refused"]) == (0, 0, [])


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("guard", EMULATED, ids=lambda guard: guard.name)
def test_without_a_guard_of_the_rules_something_succeeds(guard: Guard, firebase: Emulators, tmp_path: Path) -> None:
    environ = {**firebase.environ, **({"PATH": ENVIRON["PATH"]} if "PATH" in ENVIRON else {})}
    code, report = prove(*QUICK, *RULES, "--seed", "1", environ=environ, cwd=removed(guard, tmp_path))
    assert code == 1
    assert report["matrix"]["client SDK"]
    assert report["succeeded"], report["broken"] or report["refused"]
