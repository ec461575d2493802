"""`brainstem prove-isolation`: ten thousand attempts on what is another's, and none of them succeeds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from service.proof import Report
from service.proof.attempts import ACTORS, CHANNELS, Breach
from service.proof.process import free_port
from service.proof.sizes import SIZES
from tests.kit.emulators import ENVIRON, Emulators
from tests.kit.server import ROOT

SECONDS = 400
ONLY_LOCAL, ONLY_EMULATED = {"signed URL"}, {"client SDK"}


def prove(*options: str, environ: Mapping[str, str] | None = None, cwd: Path = ROOT) -> tuple[int, Any]:
    """Run the command and return its exit code and its report."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    command = [sys.executable, "-m", "service", "prove-isolation", "--json", *options]
    done = subprocess.run(
        command, cwd=cwd, env={**kept, **(environ or {})}, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.timeout(SECONDS)
def test_ten_thousand_attempts_on_local_backends_all_fail() -> None:
    code, report = prove("--attempts", "full")
    assert (report["breaches"], report["refused"], report["undeclared"], report["broken"]) == ([], [], [], "")
    assert code == 0
    assert report["attempts"] >= 10_000
    assert report["positives"] >= 130
    assert set(report["matrix"]) == set(CHANNELS) - ONLY_EMULATED
    assert {actor for row in report["matrix"].values() for actor in row} == set(ACTORS)


@pytest.mark.timeout(SECONDS)
def test_attempts_on_the_emulators_and_with_the_client_sdk_all_fail(firebase: Emulators) -> None:
    path = {"PATH": ENVIRON["PATH"]} if "PATH" in ENVIRON else {}
    code, report = prove("--attempts", "quick", "--emulators", environ={**firebase.environ, **path})
    assert (report["breaches"], report["refused"], report["undeclared"], report["broken"]) == ([], [], [], "")
    assert code == 0
    assert {seam: report["backends"][seam] for seam in ("tokens", "documents", "blobs")} == dict.fromkeys(
        ("tokens", "documents", "blobs"), "google"
    )
    assert set(report["matrix"]) == set(CHANNELS) - ONLY_LOCAL
    assert sum(report["matrix"]["client SDK"].values()) >= 300
    assert [what.partition(":")[0] for what in report["leftOut"]] == ["signed URLs"]


def test_without_emulators_it_says_what_it_lacks() -> None:
    code, report = prove("--attempts", "quick", "--emulators")
    assert code == 1
    assert "FIRESTORE_EMULATOR_HOST" in report["broken"]
    assert report["attempts"] == 0


def test_too_few_attempts_are_no_proof() -> None:
    code, report = prove("--attempts", "quick", "--only", "signed URL")
    assert code == 1
    assert (report["holds"], report["succeeded"]) == (False, 0)
    assert 0 < report["attempts"] < report["floor"]


@pytest.mark.parametrize("size", SIZES)
def test_a_proof_holds_if_enough_was_tried_and_nothing_succeeded(size: str) -> None:
    enough = Counter({("path", "nobody"): SIZES[size].floor})
    assert Report(1, size, {}, tried=enough).holds
    assert not Report(1, size, {}, tried=Counter({("path", "nobody"): SIZES[size].floor - 1})).holds
    assert not Report(1, size, {}, tried=enough, breaches=[Breach("a", "path", "nobody", "b")]).holds
    assert not Report(1, size, {}, tried=enough, refused=["an owner"]).holds
    assert not Report(1, size, {}, tried=enough, undeclared=["a route"]).holds
    assert not Report(1, size, {}, tried=enough, broken="a reason").holds


def test_node_is_there_where_nothing_is_left_out() -> None:
    if "emulators" in os.environ.get("BRAINSTEM_TEST_REQUIRE", ""):
        assert shutil.which("node")
        assert (ROOT / "node_modules" / "firebase" / "package.json").exists()


def test_no_port_is_given_twice_or_is_one_that_an_outgoing_connection_may_have() -> None:
    """One port in two places made one test server in 14,000 answer for another."""
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = [free_port() for _ in range(1_000)]
    assert len(set(ports)) == len(ports)
    assert max(ports) < outgoing
