"""Many answers at once, on one event loop of the real server: connections are kept, cut and given back as HTTP has it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.apps import write_app
from tests.kit.server import Server
from tests.kit.upstream import Answer, Gate, Hang, Upstream

MESSAGES = "/v1/apps/alpha/chats/{}/messages"
STREAMS = "text/event-stream"
MANY = 200


@pytest.fixture
def apps(tmp_path: Path) -> Path:
    write_app(tmp_path / "apps", "alpha", "[retrieval]\nenabled = false\n")
    return tmp_path / "apps"


@pytest.fixture
def environ(upstream: Upstream) -> dict[str, str]:
    return {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-canary", "THREADS": "4"}


@pytest.fixture
def server(apps: Path, tmp_path: Path, environ: dict[str, str]) -> Iterator[Server]:
    with Server(tmp_path / "data", environ, apps) as server:
        yield server


class Client:
    """A connection on which requests are written as they are, and answers read as they come."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), 20)
        self.file = self.socket.makefile("rb")

    def ask(self, user: dict[str, str], chat: str, accept: str = STREAMS, version: str = "1.1") -> None:
        self.socket.sendall(question(user, chat, accept, version))

    def head(self) -> bytes:
        lines = []
        while (line := self.file.readline()) not in (b"\r\n", b""):
            lines.append(line)
        return b"".join(lines)

    def until(self, mark: bytes) -> bytes:
        seen = b""
        while mark not in seen and (line := self.file.readline()):
            seen += line
        return seen

    def chunked(self) -> bytes:
        """A body to its last piece."""
        body = b""
        while size := int(self.file.readline(), 16):
            body += self.file.read(size)
            assert self.file.read(2) == b"\r\n"
        assert self.file.readline() == b"\r\n"
        return body

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def question(user: dict[str, str], chat: str, accept: str, version: str = "1.1") -> bytes:
    body = json.dumps({"text": f"Tell me of {chat}"}).encode()
    headers = {**user, "Host": "localhost", "Content-Type": "application/json", "Accept": accept}
    lines = [f"{name}: {value}" for name, value in {**headers, "Content-Length": str(len(body))}.items()]
    return "\r\n".join([f"POST {MESSAGES.format(chat)} HTTP/{version}", *lines, "", ""]).encode() + body


def opened(server: Server, user: dict[str, str], many: int) -> list[Client]:
    """Streams in chats of their own, each of which has begun to answer."""
    clients = [Client(server) for _ in range(many)]
    for n, client in enumerate(clients):
        client.ask(user, f"c{n}")
    for client in clients:
        assert client.head().startswith(b"HTTP/1.1 200 ")
        assert b"The first half" in client.until(b"first half")
    return clients


def turns(server: Server, user: dict[str, str], chat: str) -> list[tuple[str, str]]:
    _, found = server.request("GET", f"/v1/apps/alpha/chats/{chat}", headers=user)
    return [(turn["status"], turn["reply"]) for turn in found["turns"]]


def threads(server: Server) -> int:
    return sum(process.num_threads() for process in server.processes())


def test_streams_hold_no_thread(server: Server, upstream: Upstream) -> None:
    upstream.always(Answer(["The first half", gate := Gate(), " and the second"]))
    ada = server.sign_in()
    clients = opened(server, ada, MANY)
    # Four that answer requests, and those that save: far fewer than streams.
    assert threads(server) < 100
    assert server.request("GET", "/health")[0] == 200
    gate.open()
    for client in clients:
        assert b"event: done" in client.until(b"event: done")
        client.close()
    assert turns(server, ada, f"c{MANY - 1}") == [("COMPLETED", "The first half and the second")]


def test_whole_answers_hold_no_thread(server: Server, upstream: Upstream) -> None:
    upstream.always(Answer([gate := Gate(), "At last"]))
    ada = server.sign_in()
    clients = [Client(server) for _ in range(20)]
    for n, client in enumerate(clients):
        client.ask(ada, f"c{n}", accept="application/json")
    assert upstream.until(lambda: len(upstream.asked()) == 20)
    assert server.request("GET", "/health")[0] == 200
    gate.open()
    for client in clients:
        head = client.head()
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        length = next(line for line in head.splitlines() if line.lower().startswith(b"content-length:"))
        assert json.loads(client.file.read(int(length.split(b":")[1])))["reply"] == "At last"
        client.close()


def test_a_connection_serves_one_stream_after_the_other(server: Server) -> None:
    ada = server.sign_in()
    client = Client(server)
    for chat in ("c1", "c2", "c3"):
        client.ask(ada, chat)
        head = client.head().lower()
        assert b"connection: keep-alive" in head
        assert b"event: done" in client.chunked()
    client.ask(ada, "c4", accept="application/json")
    assert client.head().startswith(b"HTTP/1.1 200 ")
    client.close()


def test_a_connection_that_waits_after_its_stream_does_not_keep_the_server(server: Server) -> None:
    client = Client(server)
    client.ask(server.sign_in(), "c1")
    client.head()
    client.chunked()
    start = time.monotonic()
    assert server.terminate() == 0
    assert time.monotonic() - start < 4
    assert client.file.read() == b""
    client.close()


def test_a_request_sent_during_a_stream_is_answered_after_it(server: Server, upstream: Upstream) -> None:
    upstream.enqueue("The first half", gate := Gate(), " and the second")
    ada = server.sign_in()
    client = Client(server)
    client.ask(ada, "c1")
    client.head()
    client.until(b"first half")
    client.socket.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    time.sleep(0.2)
    gate.open()
    assert b"and the second" in client.until(b"event: done")
    assert b'{"status":"ok"' in client.file.read()
    client.close()


def test_a_request_sent_along_with_a_question_is_answered_after_it(server: Server) -> None:
    client = Client(server)
    asked = question(server.sign_in(), "c1", STREAMS)
    client.socket.sendall(asked + b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    client.head()
    assert b"event: done" in client.chunked()
    assert b'{"status":"ok"' in client.file.read()
    client.close()


def test_a_client_of_http_1_0_gets_its_stream_to_the_end_of_the_connection(server: Server) -> None:
    client = Client(server)
    client.ask(server.sign_in(), "c1", version="1.0")
    head = client.head().lower()
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert b"event: done" in client.file.read()
    client.close()


def test_the_calls_upstream_end_soon_after_their_clients_left(server: Server, upstream: Upstream) -> None:
    upstream.always(Answer(["The first half", Hang()]))
    ada = server.sign_in()
    clients = opened(server, ada, 50)
    assert upstream.disconnects == 0
    for client in clients:
        client.close()
    assert upstream.until(lambda: upstream.disconnects == 50, seconds=3)
    deadline = time.monotonic() + 5
    while turns(server, ada, "c49")[0][0] != "INTERRUPTED" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [turns(server, ada, f"c{n}") for n in range(50)] == [[("INTERRUPTED", "The first half")]] * 50


@pytest.mark.parametrize("accept", [STREAMS, "application/json"])
def test_the_call_upstream_ends_within_a_second_after_the_client_left(
    server: Server, upstream: Upstream, accept: str
) -> None:
    upstream.always(Answer([Hang()]))
    client = Client(server)
    client.ask(server.sign_in(), "c1", accept)
    assert upstream.until(lambda: len(upstream.asked()) == 1)
    client.close()
    assert upstream.until(lambda: upstream.disconnects == 1, seconds=1)


def test_two_hundred_streams_are_cut_and_kept_when_the_server_ends(
    server: Server, apps: Path, tmp_path: Path, upstream: Upstream, environ: dict[str, str]
) -> None:
    upstream.always(Answer(["The first half", Hang()]))
    ada = server.sign_in()
    clients = opened(server, ada, MANY)
    start = time.monotonic()
    assert server.terminate() == 0
    assert time.monotonic() - start < 9
    for client in clients:
        assert b"event: done" not in client.file.read()
        client.close()
    assert "Traceback" not in server.log.read_text()
    with Server(tmp_path / "data", environ, apps) as again:
        kept = [turns(again, ada, f"c{n}") for n in range(MANY)]
    assert kept == [[("INTERRUPTED", "The first half")]] * MANY


def test_two_hundred_streams_of_a_killed_server_are_interrupted_with_what_was_saved(
    apps: Path, tmp_path: Path, upstream: Upstream, environ: dict[str, str]
) -> None:
    upstream.always(Answer(["The first half", Hang()]))
    environ["LEASE_SECONDS"] = "2"
    with Server(tmp_path / "data", environ, apps) as server:
        ada = server.sign_in()
        clients = opened(server, ada, MANY)
        deadline = time.monotonic() + 10
        while any(turns(server, ada, f"c{n}")[0][0] != "STREAMING" for n in range(MANY)):
            assert time.monotonic() < deadline
        server.kill()
    for client in clients:
        client.close()
    time.sleep(2.5)
    with Server(tmp_path / "data", environ, apps) as again:
        kept = [turns(again, ada, f"c{n}") for n in range(MANY)]
    assert kept == [[("INTERRUPTED", "The first half")]] * MANY
