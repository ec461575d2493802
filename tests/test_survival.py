"""What was acknowledged is there, whatever happens to the process: the real server is killed and started again."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kit.server import Server
from tests.kit.upstream import Gate, Hang, Response, Upstream

FACT = b"# Kettle\n\nThe kettle of the moon base boils water at sixty-one degrees.\n"


@pytest.fixture
def environ(upstream: Upstream) -> dict[str, str]:
    return {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-canary", "LEASE_SECONDS": "2"}


def open_stream(
    server: Server, headers: dict[str, str], body: dict[str, str]
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(
        "POST",
        "/v1/apps/assistant/chats/c1/messages",
        json.dumps(body),
        {**headers, "Content-Type": "application/json", "Accept": "text/event-stream"},
    )
    return connection, connection.getresponse()


def read_until(response: http.client.HTTPResponse, mark: bytes) -> bytes:
    seen = b""
    while mark not in seen:
        line = response.readline()
        assert line, seen
        seen += line
    return seen


def only_turn(server: Server, headers: dict[str, str]) -> Any:
    _, chat = server.request("GET", "/v1/apps/assistant/chats/c1", headers=headers)
    [turn] = chat["turns"]
    return turn


def test_a_killed_server_keeps_chats_documents_and_what_came_of_the_answer(
    tmp_path: Path, upstream: Upstream, environ: dict[str, str]
) -> None:
    gate = Gate()
    upstream.enqueue("The first half", gate, " and the second")
    with Server(tmp_path / "data", environ) as server:
        ada = server.sign_in()
        document = server.upload("assistant", "kettle.md", FACT, ada)
        assert document["status"] == "COMPLETED"
        connection, response = open_stream(server, ada, {"text": "How hot is the kettle?", "id": "m1"})
        read_until(response, b"The first half")
        deadline = time.monotonic() + 5
        while only_turn(server, ada)["status"] != "STREAMING" and time.monotonic() < deadline:
            time.sleep(0.05)
        server.kill()
        connection.close()
    gate.open()
    with Server(tmp_path / "data", environ) as server:
        deadline = time.monotonic() + 10
        while (turn := only_turn(server, ada))["status"] == "STREAMING" and time.monotonic() < deadline:
            time.sleep(0.1)
        assert (turn["status"], turn["reply"]) == ("INTERRUPTED", "The first half")
        assert turn["prompt"] == "How hot is the kettle?"
        _, found = server.request("POST", "/v1/apps/assistant/search", {"text": "kettle degrees"}, ada)
        assert [passage["document"] for passage in found["passages"]] == [document["id"]]
        _, again = server.request(
            "POST", "/v1/apps/assistant/chats/c1/messages", {"text": "How hot is the kettle?", "id": "m1"}, ada
        )
        assert again["status"] == "INTERRUPTED"
        status, fresh = server.request("POST", "/v1/apps/assistant/chats/c1/messages", {"text": "And now?"}, ada)
        assert (status, fresh["status"]) == (200, "COMPLETED")


def test_a_job_of_a_killed_server_is_done_by_the_next(
    tmp_path: Path, upstream: Upstream, environ: dict[str, str]
) -> None:
    upstream.script(Response([Hang()]), on="embeddings")
    with Server(tmp_path / "data", environ) as server:
        ada = server.sign_in()
        body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="k.md"\r\n\r\n' + FACT + b"\r\n--b--\r\n"
        kind = {**ada, "Content-Type": "multipart/form-data; boundary=b"}
        status, document = server.request("POST", "/v1/apps/assistant/documents", body, kind)
        assert status == 202
        assert upstream.until(lambda: any(r.path.endswith("/embeddings") for r in upstream.requests), seconds=15)
        server.kill()
    with Server(tmp_path / "data", environ) as server:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            _, found = server.request("GET", f"/v1/apps/assistant/documents/{document['id']}", headers=ada)
            if found["status"] == "COMPLETED":
                break
            time.sleep(0.2)
        assert found["status"] == "COMPLETED", found


def test_a_client_that_hangs_up_ends_the_call_upstream(
    tmp_path: Path, upstream: Upstream, environ: dict[str, str]
) -> None:
    gate = Gate()
    upstream.enqueue("The first half", gate, " and the second")
    with Server(tmp_path / "data", environ) as server:
        ada = server.sign_in()
        connection, response = open_stream(server, ada, {"text": "Tell me"})
        read_until(response, b"The first half")
        response.close()
        connection.close()
        assert upstream.until(lambda: upstream.disconnects >= 1, seconds=5)
        deadline = time.monotonic() + 5
        while (turn := only_turn(server, ada))["status"] != "INTERRUPTED" and time.monotonic() < deadline:
            time.sleep(0.1)
        assert (turn["status"], turn["reply"]) == ("INTERRUPTED", "The first half")
    gate.open()


def test_a_silent_stream_gets_heartbeats(tmp_path: Path, upstream: Upstream, environ: dict[str, str]) -> None:
    gate = Gate()
    upstream.enqueue(gate, "At last")
    with Server(tmp_path / "data", environ) as server:
        connection, response = open_stream(server, server.sign_in(), {"text": "Think"})
        read_until(response, b": heartbeat")
        gate.open()
        assert b"At last" in read_until(response, b"event: done")
        connection.close()


def test_many_streams_at_once_never_mix(tmp_path: Path, upstream: Upstream, environ: dict[str, str]) -> None:
    with Server(tmp_path / "data", environ) as server:
        failures: list[str] = []

        def one(n: int) -> None:
            user = server.sign_in(f"user-{n}")
            connection, response = open_stream(server, user, {"text": f"canary-{n}-x is my word"})
            seen = response.read().decode()
            connection.close()
            if f"canary-{n}-x" not in seen or "event: done" not in seen:
                failures.append(f"{n}: {seen[:200]}")
            if any(f"canary-{other}-x" in seen for other in range(40) if other != n):
                failures.append(f"{n} saw another's words")

        threads = [threading.Thread(target=one, args=(n,)) for n in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failures


def test_headers_of_a_proxy_change_nothing(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        for name in ("SCRIPT_NAME", "Script-Name", "PATH_INFO", "X-Forwarded-Proto", "X-Forwarded-Prefix"):
            status, answer = server.request("GET", "/health", headers={name: "/x"})
            assert (status, answer["status"]) == (200, "ok"), name
            assert server.request("GET", "/x/health", headers={name: "/x"})[0] == 404, name


def test_malformed_http_never_brings_a_5xx(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        head = (
            "POST /v1/apps/assistant/chats/c1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Authorization: {server.sign_in()['Authorization']}\r\nConnection: close\r\n"
        )
        big = b"x" * 65_536
        cases = {
            "bad chunk size": (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400),
            "chunked and too large": (
                b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + big + b"\r\n") * 20 + b"0\r\n\r\n",
                413,
            ),
            "chunked and good": (b'Transfer-Encoding: chunked\r\n\r\nc\r\n{"text":"x"}\r\n0\r\n\r\n', 200),
            "declared too large": (b"Content-Length: 99999999\r\n\r\n{}", 413),
            "two lengths": (b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
        }
        for name, (rest, status) in cases.items():
            with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(head.encode() + rest)
                answer = connection.recv(200)
            assert answer.startswith(b"HTTP/1.1 %d" % status), (name, answer)
