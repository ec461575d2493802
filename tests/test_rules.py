"""The security rules, tried through the client SDK on the real emulators, and every mutant of them told apart."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.apps import App, AppCatalog
from service.cli import main
from service.config import Settings
from service.ingestion.formats import FORMATS
from service.rules import FILES, filled, outdated
from tests.kit.apps import write_app
from tests.kit.emulators import ENVIRON, Emulators
from tests.kit.server import ROOT

HERE = ROOT / "tests" / "rules"
ACCESS = {
    "alpha": "",
    "beta": 'membership = "claim"',
    "gamma": 'membership = "tenant"\ntenant = "t-1"',
    "delta": 'membership = "record"',
    "epsilon": "anonymous = true",
}
EVERY_MUTANT = os.environ.get("BRAINSTEM_TEST_EVERY_MUTANT", "5")
"""Each how many'th mutant is tried: 1 tries them all, as a release should."""


def some_apps(folder: Path) -> list[App]:
    for app, access in ACCESS.items():
        write_app(folder, app, f"[access]\n{access}")
    return AppCatalog(folder).check()


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A folder with the project's rules for apps of every kind of membership, which `tests/rules/world.mjs` knows."""
    apps = some_apps(tmp_path / "apps")
    for name in FILES:
        (tmp_path / name).write_text(filled((ROOT / name).read_text(), apps))
    return tmp_path


@pytest.fixture
def storage_rules_restored(firebase: Emulators) -> Iterator[None]:
    """The Storage emulator has one set of rules, so other tests are to find the project's own again."""
    yield
    rules = {"rules": {"files": [{"name": "storage.rules", "content": (ROOT / "storage.rules").read_text()}]}}
    url = f"http://{firebase.hosts['storage']}/internal/setRules"
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(rules).encode(), headers, method="PUT")
    urllib.request.urlopen(request, timeout=10).close()


def run(test: str, rules: Path, firebase: Emulators) -> dict[str, int]:
    """Run a file of `tests/rules` and return the figures that it counted."""
    environ = {
        **ENVIRON,
        "RULES_DIR": str(rules),
        "EVERY_MUTANT": EVERY_MUTANT,
        "FIRESTORE_EMULATOR_HOST": firebase.hosts["firestore"],
        "FIREBASE_STORAGE_EMULATOR_HOST": firebase.hosts["storage"],
    }
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", str(HERE / test)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        name: int(count)
        for line in re.findall(r"^ *# (.*)$", done.stdout, re.MULTILINE)
        for name, count in re.findall(r"([a-z]+) (\d+)", line)
    }


def test_every_attempt_on_firestore_ends_as_the_table_says(rules: Path, firebase: Emulators) -> None:
    counted = run("firestore.test.mjs", rules, firebase)
    assert counted["assertions"] >= 1500
    assert counted["allowed"] >= 140
    assert counted["expressions"] >= 140
    assert counted["conditions"] >= 45


@pytest.mark.timeout(600)
def test_no_guard_of_firestores_rules_can_be_weakened_unseen(rules: Path, firebase: Emulators) -> None:
    counted = run("firestore.mutants.test.mjs", rules, firebase)
    assert counted["killed"] == counted["mutants"] >= 180 // int(EVERY_MUTANT)


def test_every_attempt_on_storage_ends_as_the_table_says(
    rules: Path, firebase: Emulators, storage_rules_restored: None
) -> None:
    counted = run("storage.test.mjs", rules, firebase)
    assert counted["assertions"] >= 600
    assert counted["allowed"] >= 80


@pytest.mark.timeout(600)
def test_no_guard_of_storages_rules_can_be_weakened_unseen(
    rules: Path, firebase: Emulators, storage_rules_restored: None
) -> None:
    counted = run("storage.mutants.test.mjs", rules, firebase)
    assert counted["killed"] == counted["mutants"] >= 95 // int(EVERY_MUTANT)


def test_the_committed_rules_fit_the_apps() -> None:
    assert outdated(ROOT, AppCatalog(ROOT / "apps").check()) == {}


def test_an_upload_may_be_as_large_as_one_to_the_api() -> None:
    assert f"request.resource.size <= {Settings().max_upload_bytes}\n" in (ROOT / "storage.rules").read_text()


def test_rules_name_every_app_as_its_file_has_it(tmp_path: Path) -> None:
    text = filled((ROOT / "storage.rules").read_text(), some_apps(tmp_path))
    assert '"gamma": {"membership": "tenant", "tenant": "t-1", "anonymous": false}\n' in text
    assert '"delta"' not in text
    firestore = filled((ROOT / "firestore.rules").read_text(), some_apps(tmp_path))
    assert '"delta": {"membership": "record", "tenant": "", "anonymous": false},\n' in firestore
    assert '"assistant"' not in text
    assert all(f'"{media_type}"' in text for kind in FORMATS for media_type in kind.media_types)


def test_writing_rules_twice_changes_nothing(tmp_path: Path) -> None:
    apps = some_apps(tmp_path)
    for name in FILES:
        once = filled((ROOT / name).read_text(), apps)
        assert filled(once, apps) == once


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one app, and rules that do not know it."""
    write_app(tmp_path / "apps", "alpha", '[access]\nmembership = "claim"')
    for name in FILES:
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_tells_rules_that_do_not_fit_and_writes_them(project: Path) -> None:
    told = CliRunner().invoke(main, ["apps", "rules"])
    assert told.exit_code == 1
    assert "firestore.rules and storage.rules do not fit the apps. Run `brainstem apps rules --write`" in told.output
    assert CliRunner().invoke(main, ["apps", "rules", "--write"]).exit_code == 0
    assert all('"alpha": {"membership": "claim"' in (project / name).read_text() for name in FILES)
    assert CliRunner().invoke(main, ["apps", "rules"]).output == "firestore.rules and storage.rules fit the apps.\n"


def test_rules_without_their_markers_are_left_alone(project: Path) -> None:
    (project / "storage.rules").write_text('rules_version = "2";\n')
    told = CliRunner().invoke(main, ["apps", "rules", "--write"])
    assert told.exit_code == 1
    assert "storage.rules: it must have the lines `// <apps>` and `// </apps>` once" in told.output
    assert '"alpha"' not in (project / "firestore.rules").read_text()


def test_a_folder_without_rules_is_told(project: Path) -> None:
    (project / "firestore.rules").unlink()
    told = CliRunner().invoke(main, ["apps", "rules"])
    assert told.exit_code == 1
    assert "firestore.rules cannot be read" in told.output


def test_an_app_that_demands_app_check_is_not_read_directly(tmp_path: Path) -> None:
    write_app(tmp_path, "alpha")
    write_app(tmp_path, "bound", '[access]\nfirebase_apps = ["1:2:web:3"]\n')
    apps = AppCatalog(tmp_path).check()
    for name in FILES:
        rules = filled((ROOT / name).read_text(), apps)
        assert '"alpha"' in rules
        assert '"bound"' not in rules
