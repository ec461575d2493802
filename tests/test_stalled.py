"""Clients that stall: one that does not read, or does not send on, holds a thread of the real server for a bounded time only."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from service.config import Settings
from service.errors import ConfigError
from tests.kit.server import Server
from tests.kit.upstream import Upstream
from tests.kit.upstream.script import Repeat, Response, choice, chunk, event

PATIENCE = 1.0
MARK = "\x01"
MESSAGES = "/v1/apps/assistant/chats/{}/messages"
DOCUMENTS = "/v1/apps/assistant/documents"
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="k.md"\r\n\r\n'


@pytest.fixture
def server(tmp_path: Path, upstream: Upstream) -> Iterator[Server]:
    environ = {
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "sk-canary",
        "THREADS": "2",
        "SEND_SECONDS": str(PATIENCE),
        "UPLOAD_SECONDS": "1",
        "MAX_UPLOAD_BYTES": "1000000",
    }
    with Server(tmp_path / "data", environ) as server:
        yield server


def connect(server: Server, receive_bytes: int | None = None) -> socket.socket:
    client = socket.socket()
    if receive_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.settimeout(6)
    client.connect(("127.0.0.1", server.port))
    return client


def head(method: str, path: str, user: dict[str, str], **headers: object) -> bytes:
    given = {"Host": "localhost", **user, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return "\r\n".join([f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in given.items()), "", ""]).encode()


def everything(client: socket.socket) -> bytes:
    """What comes until the server closes the connection, which it must."""
    received = b""
    try:
        while piece := client.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def until_health(server: Server) -> float:
    started = time.monotonic()
    assert server.request("GET", "/health")[0] == 200
    return time.monotonic() - started


def flood() -> Response:
    """An answer without an end, of deltas that are few bytes to keep, and ten times as many on the way to the client."""
    deltas = event(chunk("scripted", [choice({"content": MARK * 10})])) * 50
    return Response([Repeat(deltas, pause=0.002)], media_type="text/event-stream")


def test_clients_that_do_not_read_their_streams_give_the_threads_back(server: Server, upstream: Upstream) -> None:
    upstream.script(flood(), times=2)
    ada = server.sign_in()
    clients = []
    for chat in ("c1", "c2"):
        client = connect(server, 2048)
        body = json.dumps({"text": "Tell me"}).encode()
        client.sendall(
            head("POST", MESSAGES.format(chat), ada, Content_Type="application/json", Accept="text/event-stream",
                 Content_Length=len(body)) + body
        )  # fmt: skip
        clients.append(client)
    upstream.until(lambda: len(upstream.asked()) == 2)
    assert until_health(server) < 20  # the system's buffers must fill first
    for chat in ("c1", "c2"):
        turn = only_turn(server, ada, chat)
        assert turn["status"] == "INTERRUPTED"
        assert turn["reply"].startswith(MARK * 10)
    upstream.until(lambda: upstream.disconnects == 2, seconds=15)
    for client in clients:
        client.close()
    assert "Traceback" not in server.log.read_text()


def only_turn(server: Server, user: dict[str, str], chat: str) -> Any:
    for _ in range(150):
        _, found = server.request("GET", f"/v1/apps/assistant/chats/{chat}", headers=user)
        [turn] = found["turns"]
        if turn["status"] not in ("ACCEPTED", "STREAMING"):
            break
        time.sleep(0.1)
    return turn


def test_a_client_that_does_not_read_its_download_gives_the_thread_back(server: Server) -> None:
    ada = server.sign_in()
    document = server.upload("assistant", "kettle.md", b"The kettle is copper.\n" + b" " * 950_000, ada)
    _, link = server.request("GET", f"{DOCUMENTS}/{document['id']}/original", headers=ada)
    clients = []
    for _ in range(2):
        client = connect(server, 2048)
        # Asked for again and again on one connection, so that no buffer of the system's can take it all.
        client.sendall(head("GET", link["url"], {}) * 12)
        clients.append(client)
    time.sleep(0.3)
    assert until_health(server) < PATIENCE + 4
    for client in clients:
        client.close()
    assert "Traceback" not in server.log.read_text()


def test_a_slow_reader_that_reads_gets_all_of_its_stream(server: Server, upstream: Upstream) -> None:
    upstream.enqueue(*["many words " * 500] * 20)
    ada = server.sign_in()
    client = connect(server, 4096)
    body = json.dumps({"text": "Tell me"}).encode()
    client.sendall(
        head("POST", MESSAGES.format("c1"), ada, Content_Type="application/json", Accept="text/event-stream",
             Content_Length=len(body), Connection="close") + body
    )  # fmt: skip
    started, received = time.monotonic(), b""
    while piece := client.recv(16384):
        received += piece
        time.sleep(0.05)
    client.close()
    assert time.monotonic() - started > PATIENCE
    assert b"event: done" in received
    assert only_turn(server, ada, "c1")["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("path", "kind", "sent"),
    [
        (MESSAGES.format("c1"), "application/json", b'{"text": "Tell'),
        (DOCUMENTS, "multipart/form-data; boundary=b", FORM + b"half a file"),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_stops_halfway_gives_the_thread_back(
    server: Server, path: str, kind: str, sent: bytes, chunked: bool
) -> None:
    ada = server.sign_in()
    framing: dict[str, object] = {"Transfer_Encoding": "chunked"} if chunked else {"Content_Length": 5000}
    content = b"1388\r\n" + sent if chunked else sent
    clients = [connect(server) for _ in range(2)]
    for client in clients:
        client.sendall(head("POST", path, ada, Content_Type=kind, **framing) + content)
    time.sleep(0.2)
    assert until_health(server) < 4
    for client in clients:
        with client:
            assert everything(client).startswith(b"HTTP/1.1 400 ")
    assert "Traceback" not in server.log.read_text()


def test_a_body_and_headers_that_trickle_give_the_thread_back(server: Server) -> None:
    ada = server.sign_in()
    body = connect(server)
    body.sendall(head("POST", MESSAGES.format("c1"), ada, Content_Type="application/json", Content_Length=5000))
    headers = connect(server)
    headers.sendall(b"GET /health HTTP/1.1\r\nHost: local")
    done = threading.Event()
    trickling = threading.Thread(target=trickle, args=([body, headers], done))
    trickling.start()
    try:
        time.sleep(0.2)
        assert until_health(server) < 4
    finally:
        done.set()
        trickling.join()
        body.close()
        headers.close()
    assert "Traceback" not in server.log.read_text()


def trickle(clients: list[socket.socket], done: threading.Event) -> None:
    while not done.wait(0.1):
        for client in clients:
            with suppress(OSError):  # one of them is cut off first
                client.sendall(b"x")


def test_a_client_that_does_not_hang_up_keeps_nobody_waiting(server: Server) -> None:
    clients = [connect(server) for _ in range(6)]
    for client in clients:
        client.sendall(head("GET", "/health", {}, Connection="close"))
        client.recv(10)
    assert until_health(server) < 3
    for client in clients:
        client.close()


def test_a_huge_chunked_upload_is_cut_while_it_is_read(server: Server, tmp_path: Path) -> None:
    ada = server.sign_in()
    before = memory(server)
    megabyte = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
    sent = 0
    client = connect(server)
    client.sendall(
        head("POST", DOCUMENTS, ada, Content_Type="multipart/form-data; boundary=b", Transfer_Encoding="chunked")
        + b"%x\r\n%b\r\n" % (len(FORM), FORM)
    )
    try:
        for _ in range(200):
            client.sendall(megabyte)
            sent += 1
    except OSError:
        pass
    assert sent < 30  # of 200: what the limit, and the buffers of the system, hold
    assert memory(server) - before < 50_000_000
    kept = [path for path in (tmp_path / "data" / "blobs").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in kept) < 1_100_000
    client.close()
    assert server.request("GET", DOCUMENTS, headers=ada)[1]["documents"] == []


def test_a_chunked_upload_beyond_the_limit_is_a_413(server: Server) -> None:
    ada = server.sign_in()
    client = connect(server)
    client.sendall(
        head("POST", DOCUMENTS, ada, Content_Type="multipart/form-data; boundary=b", Transfer_Encoding="chunked")
        + b"%x\r\n%b\r\n" % (len(FORM), FORM)
    )
    for _ in range(17):
        client.sendall(b"10000\r\n" + b"x" * (1 << 16) + b"\r\n")
    answer = client.recv(1000)
    client.close()
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("name", ["UPLOAD_SECONDS", "SEND_SECONDS"])
def test_no_patience_at_all_is_a_mistake(name: str) -> None:
    with pytest.raises(ConfigError, match=f".*{name}.*more than 0"):
        Settings.load({name: "0"}, None)


def memory(server: Server) -> int:
    return sum(process.memory_info().rss for process in server.processes())
