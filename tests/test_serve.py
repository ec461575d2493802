"""`brainstem serve` as people and machines meet it: it starts, says where it is, takes new apps and commands beside it, and ends."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.kit.apps import write_app
from tests.kit.server import ROOT, Server
from tests.kit.upstream import Gate, Upstream

FACT = "# Kettle\n\nThe kettle of the moon base boils water at sixty-one degrees.\n"
MESSAGES = "/v1/apps/alpha/chats/c1/messages"


@pytest.fixture
def apps(tmp_path: Path) -> Path:
    write_app(tmp_path / "apps", "alpha")
    return tmp_path / "apps"


@pytest.fixture
def environ(upstream: Upstream) -> dict[str, str]:
    return {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-canary"}


def command(server: Server, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the data of a running server."""
    return subprocess.run(
        [sys.executable, "-m", "service", *args],
        cwd=ROOT, env=server._environ, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def open_stream(server: Server, user: dict[str, str]) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {**user, "Content-Type": "application/json", "Accept": "text/event-stream"}
    connection.request("POST", MESSAGES, json.dumps({"text": "Tell me"}), headers)
    return connection, connection.getresponse()


def read_until(response: http.client.HTTPResponse, mark: bytes) -> None:
    while mark not in (line := response.readline()):
        assert line


def rest(response: http.client.HTTPResponse) -> tuple[bytes, bool]:
    """What is left of a response, and whether it was broken off."""
    try:
        return response.read(), False
    except http.client.IncompleteRead as error:
        return error.partial, True


def only_turn(server: Server, user: dict[str, str]) -> Any:
    _, chat = server.request("GET", "/v1/apps/alpha/chats/c1", headers=user)
    [turn] = chat["turns"]
    return turn


def ended(server: Server) -> int:
    assert server.process
    return server.process.wait(15)


def test_it_says_where_it_is_what_answers_and_where_the_data_are(
    apps: Path, tmp_path: Path, environ: dict[str, str]
) -> None:
    with Server(tmp_path / "data", environ, apps) as server:
        banner = server.log.read_text()
        assert f"Open     {server.url}\n" in banner
        assert "Model    gpt-5-mini\n" in banner
        assert f"Data     {tmp_path / 'data'}\n" in banner
        assert "Apps     alpha\n" in banner
        assert "commands of this terminal are `local`" in banner
        assert "sk-canary" not in banner
        status, page = page_of(server)
        assert status == 200
        assert b"<title>" in page
    without = {"PORT": "0"}
    with_stand_in = subprocess.Popen(
        [sys.executable, "-m", "service", "serve"],
        cwd=ROOT, env={**server._environ, **without, "OPENAI_BASE_URL": "", "OPENAI_API_KEY": ""},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert with_stand_in.stdout is not None
    said = "".join(line for line in iter(with_stand_in.stdout.readline, "Ctrl-C stops it.\n"))
    with_stand_in.terminate()
    with_stand_in.communicate(timeout=10)
    assert "no language model" in said
    assert "Set OPENAI_API_KEY" in said
    assert "Open     http://127.0.0.1:0\n" not in said


def page_of(server: Server) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/")
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def test_a_new_app_works_at_once_in_a_running_server_and_is_apart(
    apps: Path, tmp_path: Path, environ: dict[str, str]
) -> None:
    with Server(tmp_path / "data", environ, apps) as server:
        ada = server.sign_in()
        assert server.upload("alpha", "kettle.md", FACT.encode(), ada)["status"] == "COMPLETED"
        assert server.request("GET", "/v1/apps/recipes/chats", headers=ada)[0] == 404
        made = command(server, "apps", "new", "recipes", "--title", "Recipes of Ada")
        assert made.returncode == 0, made.stderr
        assert f"{server.url}/#/recipes" in made.stdout
        _, listed = server.request("GET", "/v1/apps", headers=ada)
        assert [(app["id"], app["name"]) for app in listed["apps"]] == [
            ("alpha", "Alpha"),
            ("recipes", "Recipes of Ada"),
        ]
        status, turn = server.request("POST", "/v1/apps/recipes/chats/first/messages", {"text": "kettle?"}, ada)
        assert (status, turn["status"], turn["citations"]) == (200, "COMPLETED", [])
        assert server.request("GET", "/v1/apps/recipes/documents", headers=ada)[1]["documents"] == []
        assert server.request("GET", "/v1/apps/alpha/chats", headers=ada)[1]["chats"] == []


def test_the_curl_line_of_a_new_app_works_as_it_is_printed(apps: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    with Server(tmp_path / "data", environ, apps) as server:
        token = command(server, "tokens", "mint").stdout.strip()
        status, turn = server.request("POST", MESSAGES, {"text": "Hello"}, {"Authorization": f"Bearer {token}"})
        assert (status, turn["status"]) == (200, "COMPLETED")
        asked = command(server, "chat", "alpha", "And now?", "--chat", "c1", "--json")
        assert json.loads(asked.stdout)["seq"] == 2


def test_commands_and_a_running_server_share_data_and_work(apps: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    paths = [tmp_path / f"note-{n}.md" for n in range(6)]
    for n, path in enumerate(paths):
        path.write_text(f"# Note {n}\n\nThe kettle number {n} is copper.\n")
    with Server(tmp_path / "data", environ, apps) as server:
        added = command(server, "documents", "add", "alpha", *map(str, paths), "--user", "ada")
        assert added.returncode == 0, added.stderr
        assert sorted(added.stdout.splitlines()) == [f"{path}: added, 1 passage" for path in paths]
        ada = server.sign_in("ada")
        _, found = server.request("POST", "/v1/apps/alpha/search", {"text": "kettle copper", "limit": 20}, ada)
        assert sorted(passage["title"] for passage in found["passages"]) == sorted(path.name for path in paths)
        _, usage = server.request("GET", "/v1/apps/alpha/usage", headers=ada)
        assert (
            sum(row["calls"] for row in usage["rows"] if row["kind"] == "embedding") == 6 + 1
        )  # each read once, one search
        assert command(server, "documents", "remove", "alpha", "note-*.md", "--user", "ada").returncode == 0
        _, found = server.request("POST", "/v1/apps/alpha/search", {"text": "kettle copper"}, ada)
        assert found["passages"] == []


@pytest.mark.parametrize(
    ("number", "group", "seconds"), [(signal.SIGTERM, False, 3), (signal.SIGINT, True, 3), (signal.SIGINT, False, 3)]
)
def test_an_idle_server_ends_at_once(
    apps: Path, tmp_path: Path, environ: dict[str, str], number: signal.Signals, group: bool, seconds: float
) -> None:
    with Server(tmp_path / "data", environ, apps) as server:
        assert server.process
        start = time.monotonic()
        os.killpg(server.process.pid, number) if group else server.process.send_signal(number)
        assert ended(server) == 0
        assert time.monotonic() - start < seconds
        log = server.log.read_text()
        assert "rror" not in log, log
        assert "Traceback" not in log, log


@pytest.mark.parametrize(("group", "number", "seconds"), [(True, signal.SIGINT, 4), (False, signal.SIGTERM, 9)])
def test_a_stream_is_cut_and_kept_when_the_server_ends(
    apps: Path,
    tmp_path: Path,
    upstream: Upstream,
    environ: dict[str, str],
    group: bool,
    number: signal.Signals,
    seconds: float,
) -> None:
    upstream.enqueue("The first half", gate := Gate(), " and the second")
    with Server(tmp_path / "data", environ, apps) as server:
        assert server.process
        ada = server.sign_in()
        connection, response = open_stream(server, ada)
        read_until(response, b"The first half")
        start = time.monotonic()
        os.killpg(server.process.pid, number) if group else server.process.send_signal(number)
        left, broken = rest(response)
        connection.close()
        assert broken
        assert b"event: done" not in left
        assert ended(server) == 0
        assert time.monotonic() - start < seconds
        log = server.log.read_text()
        assert "Traceback" not in log, log
    gate.open()
    with Server(tmp_path / "data", environ, apps) as server:
        turn = only_turn(server, ada)
        assert (turn["status"], turn["reply"]) == ("INTERRUPTED", "The first half")
        assert server.request("POST", MESSAGES, {"text": "Again"}, ada)[0] == 200


def test_a_stream_that_ends_soon_is_let_end(
    apps: Path, tmp_path: Path, upstream: Upstream, environ: dict[str, str]
) -> None:
    upstream.enqueue("The first half", gate := Gate(), " and the second")
    with Server(tmp_path / "data", environ, apps) as server:
        assert server.process
        connection, response = open_stream(server, server.sign_in())
        read_until(response, b"The first half")
        server.process.terminate()
        threading.Timer(1.0, gate.open).start()
        left, broken = rest(response)
        connection.close()
        assert not broken
        assert b"and the second" in left
        assert b"event: done" in left
        assert ended(server) == 0


def test_after_kill_9_the_next_gets_the_port(apps: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    with Server(tmp_path / "data", environ, apps) as server:
        assert server.process
        workers = server.processes()[1:]
        server.process.kill()
        again = Server(tmp_path / "data", {**environ, "PORT": str(server.port)}, apps)
        again.port = server.port
        with again:
            _, alive = psutil.wait_procs(workers, timeout=5)
            for worker in alive:
                worker.kill()
            assert not alive
            _, health = again.request("GET", "/health")
            assert health["status"] == "ok"


def test_a_port_in_use_is_one_sentence(apps: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = Server(tmp_path / "data", {**environ, "PORT": str(port)}, apps)
        done = command(server, "serve")
        assert (done.returncode, done.stdout) == (1, "")
        assert (
            done.stderr
            == f"Error: Port {port} is in use by another program. Take another: brainstem serve --port {port + 1}.\n"
        )


def test_a_doctor_sees_the_running_server(apps: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    with Server(tmp_path / "data", environ, apps) as server:
        seen = command(server, "doctor")
        assert seen.returncode == 0, seen.stdout
        assert f"Next: open {server.url}" in seen.stdout


def test_it_writes_nowhere_but_into_its_data(apps: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    with Server(tmp_path / "data", {**environ, "HOME": str(home), "TMPDIR": str(temporary)}, apps) as server:
        assert server.request("POST", MESSAGES, {"text": "Hello"}, server.sign_in())[0] == 200
        assert list(home.rglob("*")) == list(temporary.rglob("*")) == []


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="only Linux has this schedule")
def test_no_thread_that_answers_interrupts_another(apps: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    with Server(tmp_path / "data", environ, apps) as server:
        status, _ = server.request("POST", MESSAGES, {"text": "Tell me"}, server.sign_in())
        assert status == 200
        _, worker = server.processes()
        assert {os.sched_getscheduler(thread.id) for thread in worker.threads()} == {os.SCHED_BATCH}
