"""What Brainstem is measured beside: proxies and servers that do less, and the engines that were weighed for it."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from bench.systems import QUESTION, System, completion, post
from tests.kit.server import ROOT

KEY = f"sk-{secrets.token_hex(32)}"


class FlaskProxy(System):
    """Flask, gthread and the openai SDK, which guarantee nothing; with threads enough for every stream."""

    name = "flask"

    def command(self) -> list[str]:
        options = ["--bind", f"127.0.0.1:{self.address[1]}", "--worker-class", "gthread", "--threads", "2048"]
        options += ["--worker-connections", "8192"]
        return [sys.executable, "-m", "gunicorn", *options, "--no-control-socket", "bench.peers.flask_proxy:app"]

    def environ(self) -> dict[str, str]:
        return {"OPENAI_BASE_URL": self.upstream.url, "PYTHONPATH": str(ROOT)}

    def request(self, user: int, chat: str, *, stream: bool) -> bytes:
        return post(self.address, "/chat/completions", completion(stream))


class Engine(System):
    """A prototype of `bench.engines`."""

    worker = application = ""

    def command(self) -> list[str]:
        options = ["--bind", f"127.0.0.1:{self.address[1]}", "--worker-class", self.worker, "--threads", "64"]
        options += ["--worker-connections", "8192", "--keep-alive", "75", "--no-control-socket"]
        return [sys.executable, "-m", "gunicorn", *options, self.application]

    def environ(self) -> dict[str, str]:
        return {"OPENAI_BASE_URL": self.upstream.url, "PYTHONPATH": str(ROOT)}

    def request(self, user: int, chat: str, *, stream: bool) -> bytes:
        headers = {"Accept": "text/event-stream"} if stream else {}
        return post(self.address, "/chat/completions", completion(stream), headers)


class AsgiEngine(Engine):
    """gunicorn's `asgi` worker, with Flask in threads beside it."""

    name, worker, application = "engine-asgi", "asgi", "bench.engines.asgi:app"


class HandedEngine(Engine):
    """gunicorn's `gthread` worker, which hands the socket of a stream to an event loop."""

    name, worker, application = "engine-handed", "bench.engines.handed.Worker", "bench.engines.handed:app"


class LiteLLM(System):
    """LiteLLM's proxy, without a database: it keeps nothing."""

    name = "litellm"
    health = "/health/liveliness"
    ready_path = "/health/readiness"

    def command(self) -> list[str]:
        model = {
            "model_name": "m",
            "litellm_params": {"model": "openai/m", "api_base": self.upstream.url, "api_key": "none"},
        }
        (self.folder / "config.yaml").write_text(json.dumps({"model_list": [model]}))
        options = ["--config", str(self.folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(self.address[1])]
        return [str(environment(self.name) / "bin" / "litellm"), *options, "--num_workers", "1", "--telemetry", "False"]

    def environ(self) -> dict[str, str]:
        return {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MASTER_KEY": KEY}

    def request(self, user: int, chat: str, *, stream: bool) -> bytes:
        return post(self.address, "/chat/completions", completion(stream), {"Authorization": f"Bearer {KEY}"})


class ADK(System):
    """Agent Development Kit's server, which keeps each chat in SQLite."""

    name = "adk"
    health = ready_path = "/list-apps"

    def command(self) -> list[str]:
        agent = self.folder / "agents" / "bench"
        agent.mkdir(parents=True, exist_ok=True)
        (agent / "__init__.py").write_text("from . import agent\n")
        shutil.copy(ROOT / "bench" / "peers" / "adk_agent.py", agent / "agent.py")
        options = ["--host", "127.0.0.1", "--port", str(self.address[1]), "--auto_create_session"]
        options += ["--session_service_uri", f"sqlite+aiosqlite:///{self.folder}/sessions.db"]
        return [str(environment(self.name) / "bin" / "adk"), "api_server", *options, str(self.folder / "agents")]

    def environ(self) -> dict[str, str]:
        return {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "BENCH_UPSTREAM": self.upstream.url}

    def request(self, user: int, chat: str, *, stream: bool) -> bytes:
        message = {"role": "user", "parts": [{"text": QUESTION}]}
        body = {
            "appName": "bench",
            "userId": f"user{user}",
            "sessionId": chat,
            "newMessage": message,
            "streaming": stream,
        }
        return post(self.address, "/run_sse" if stream else "/run", body)


def environment(peer: str) -> Path:
    """Return the folder of a peer's own Python environment."""
    return ROOT / ".brainstem" / "bench" / peer


def install(peer: str) -> None:
    """Make a peer's environment, unless there is one of these very requirements; raises `CalledProcessError`."""
    folder, wanted = environment(peer), ROOT / "bench" / "peers" / f"{peer}.txt"
    made = folder / wanted.name
    if made.exists() and made.read_bytes() == wanted.read_bytes():
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, capture_output=True)
    pip = [
        str(folder / "bin" / "pip"),
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
        str(wanted),
    ]
    subprocess.run(pip, check=True, capture_output=True, text=True)
    shutil.copy(wanted, made)
