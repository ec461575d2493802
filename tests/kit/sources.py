"""Servers that sources are fetched from: each sends what a test scripts, byte by byte, and keeps what it was asked."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

Script = bytes | Callable[[socket.socket], None]


def page(
    content: bytes, *headers: str, status: str = "200 OK", media_type: str | None = "text/plain; charset=utf-8"
) -> bytes:
    """A whole answer with its length."""
    kind = [f"Content-Type: {media_type}"] if media_type else []
    lines = [f"HTTP/1.1 {status}", *kind, f"Content-Length: {len(content)}", *headers]
    return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + content


def moved(location: str, status: str = "302 Found") -> bytes:
    return page(b"", f"Location: {location}", status=status)


def endless(begin: bytes, piece: bytes, pause: float = 0.0) -> Callable[[socket.socket], None]:
    """Send a beginning, then a piece again and again until the other side goes."""

    def send(client: socket.socket) -> None:
        client.sendall(begin)
        while True:
            client.sendall(piece)
            time.sleep(pause)

    return send


class Source:
    """An HTTP server on an address of this machine; `asked` are the heads of requests, `hits` the connections that came."""

    def __init__(
        self,
        scripts: Mapping[str, Script] | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.scripts = dict(scripts or {})
        self.asked: list[str] = []
        self.hits = 0
        self.failures: list[type[OSError]] = []
        self._tls = tls
        self._listener = socket.create_server(
            (address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET
        )
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A thread in `accept` keeps the socket open until it is shut down.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.hits += 1
                threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        client.settimeout(10)
        try:
            if self._tls:
                client = self._tls.wrap_socket(client, server_side=True)
            head = b""
            while b"\r\n\r\n" not in head:
                if not (got := client.recv(65_536)):
                    return
                head += got
            self.asked.append(head.decode())
            script = self.scripts.get(head.split()[1].decode(), page(b"", status="404 Not Found"))
            script(client) if callable(script) else client.sendall(script)
        except OSError as error:
            self.failures.append(type(error))
        finally:
            client.close()
