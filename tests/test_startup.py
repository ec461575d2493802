"""A served process starts light: it answers before anything heavy is imported, and is ready when its backends are open."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.tokens import LocalTokens
from service.config import Settings
from tests.kit.apps import write_app
from tests.kit.held import GO, SECRET
from tests.kit.server import Server
from tests.kit.upstream import Upstream
from tests.test_architecture import HEAVY

HELD = {"BACKEND_TOKENS": "tests.kit.held:HeldTokens"}
FAILING = {"BACKEND_TOKENS": "tests.kit.held:FailingTokens"}
KINDS = {
    "local": {},
    "openai": {"OPENAI_API_KEY": "sk-canary"},
    "google": {
        "BACKENDS": "google",
        "GOOGLE_CLOUD_PROJECT": "demo-brainstem",
        "STORAGE_BUCKET": "demo-brainstem.appspot.com",
        "SERVICE_URL": "https://brainstem.example",
        "TASKS_SERVICE_ACCOUNT": "tasks@demo-brainstem.iam.gserviceaccount.com",
        "INTERNAL_CALLERS": "tasks@demo-brainstem.iam.gserviceaccount.com",
    },
}
NEEDLESS = ["cryptography", "gunicorn.asgi", "gunicorn.dirty", "unittest"]


@pytest.fixture
def apps(tmp_path: Path) -> Path:
    write_app(tmp_path / "apps", "alpha")
    return tmp_path / "apps"


def imported(server: Server) -> set[str]:
    """What a server and its worker have imported so far, as Python itself reports it."""
    lines = server.log.read_text(errors="replace").splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


def wait_until_ready(server: Server, seconds: float = 10.0) -> Any:
    deadline = time.monotonic() + seconds
    while (answer := server.request("GET", "/ready"))[0] != 200:
        assert time.monotonic() < deadline, answer
        time.sleep(0.02)
    return answer[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_answers_before_anything_heavy_is_imported(apps: Path, tmp_path: Path, kind: str) -> None:
    environ = {**KINDS[kind], **HELD, "PYTHONPROFILEIMPORTTIME": "1"}
    with Server(tmp_path / "data", environ, apps) as server:
        for path in ("/health", "/config.json", "/openapi.json", "/v1/apps"):
            server.request("GET", path)
        assert server.request("GET", "/ready")[0] == 503
        names = imported(server)
        assert {"flask", "msgspec", "service.app", "gunicorn.arbiter", "service.backends.local.tokens"} <= names
        assert sorted(names & {*HEAVY, *NEEDLESS}) == []


def test_a_server_is_ready_when_its_backends_are_open(apps: Path, tmp_path: Path, upstream: Upstream) -> None:
    environ = {**HELD, "OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-canary", "PYTHONPROFILEIMPORTTIME": "1"}
    data = tmp_path / "data"
    with Server(data, environ, apps) as server:
        status, answer = server.request("GET", "/ready")
        assert (status, answer["ready"], set(answer["backends"].values())) == (503, False, {"starting"})
        assert len(answer["backends"]) == 8
        assert server.request("GET", "/health")[0] == 200
        assert "cryptography" not in imported(server)
        (data / GO).touch()
        assert set(wait_until_ready(server)["backends"].values()) == {"ok"}
        assert "cryptography" in imported(server)


def test_a_request_does_not_wait_for_the_start(apps: Path, tmp_path: Path, upstream: Upstream) -> None:
    data = tmp_path / "data"
    environ = {**HELD, "OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-canary"}
    settings = Settings(data_dir=data)
    token = LocalTokens(settings, EnvironmentSecrets(settings)).mint("ada")
    with Server(data, environ, apps) as server:
        user = {"Authorization": f"Bearer {token}"}
        status, turn = server.request("POST", "/v1/apps/alpha/chats/c1/messages", {"text": "Hello"}, user)
        assert (status, turn["status"]) == (200, "COMPLETED")
        assert set(server.request("GET", "/ready")[1]["backends"].values()) == {"starting"}


def test_a_backend_that_cannot_be_opened_is_told_and_ends_nothing(
    apps: Path, tmp_path: Path, upstream: Upstream
) -> None:
    environ = {**FAILING, "OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-canary"}
    with Server(tmp_path / "data", environ, apps) as server:
        deadline = time.monotonic() + 10
        while "starting" in (answer := server.request("GET", "/ready")[1])["backends"].values():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        states = answer["backends"]
        assert (answer["ready"], states.pop("tokens"), set(states.values())) == (False, "The keys are away.", {"ok"})
        assert server.request("GET", "/health")[0] == 200
        log = server.log.read_text()
        events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        told = [event for event in events if event["message"] == "backend_not_warm"]
        assert [(event["error"], event["backend"]) for event in told] == [("RuntimeError", "tokens")]
        assert SECRET not in log
        assert "Traceback" not in log
