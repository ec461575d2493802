"""A client's connection as the server's threads use it: who reads or sends too slowly counts as gone, and frees the thread."""

from __future__ import annotations

import errno
import select
import socket
import time
from contextlib import suppress

BLOCK_BYTES = 1 << 16
LINGER_SECONDS = 1.0
LINGER_BYTES = 1 << 16


class ClientSocket(socket.socket):
    """A socket whose calls end: a request must be read within a time, and each block of an answer be taken within one.

    It never blocks, whatever gunicorn sets, but waits itself where there is something to wait for: to switch from one to the
    other is a system call, at which a thread gives the interpreter up to the others. A timeout that gunicorn sets is kept to
    by what it reads.
    """

    _timeout: float | None
    _receive_seconds: float
    _send_seconds: float
    _receive_by: float

    @classmethod
    def adopt(cls, accepted: socket.socket, *, receive_seconds: float, send_seconds: float) -> ClientSocket:
        """Take over a socket that was accepted; the old object is of no use any more."""
        adopted = cls(fileno=accepted.detach())
        super(cls, adopted).setblocking(False)
        adopted._timeout = None
        adopted._receive_seconds = receive_seconds
        adopted._send_seconds = send_seconds
        adopted.expect_request()
        return adopted

    def expect_request(self) -> None:
        """Begin the time within which a request, its body included, must have come."""
        self._receive_by = time.monotonic() + self._receive_seconds

    def setblocking(self, flag: bool) -> None:
        self._timeout = None if flag else 0.0

    def settimeout(self, value: float | None) -> None:
        self._timeout = value

    def gettimeout(self) -> float | None:
        return self._timeout

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        try:
            return super().recv(size, flags)
        except BlockingIOError:
            if self._timeout == 0.0:
                raise
        if self._timeout is not None:
            self._wait(select.POLLIN, self._timeout)
        else:
            try:
                self._wait(select.POLLIN, self._receive_by - time.monotonic())
            except TimeoutError:
                # The request may still be refused in words; nothing more of it is read.
                self._shut(socket.SHUT_RD)
                raise ConnectionResetError(errno.ECONNRESET, "The client sends too slowly.") from None
        return super().recv(size, flags)

    def sendall(self, data: bytes | memoryview, flags: int = 0, /) -> None:  # type: ignore[override]  # what is sent here is bytes
        blocks = memoryview(data)
        try:
            # The time is a block's: a slow line may take long for a large answer.
            for start in range(0, len(blocks), BLOCK_BYTES):
                self._send_block(blocks[start : start + BLOCK_BYTES])
        except TimeoutError:
            self._shut(socket.SHUT_RDWR)
            raise BrokenPipeError(errno.EPIPE, "The client does not read.") from None

    def say_goodbye(self) -> None:
        """Let the client take the end of an answer and hang up, for a moment; then nothing of it is waited for any more."""
        self._shut(socket.SHUT_WR)
        drained, end = 0, time.monotonic() + LINGER_SECONDS
        with suppress(OSError):
            while drained < LINGER_BYTES and (left := end - time.monotonic()) > 0:
                self.settimeout(left)
                piece = self.recv(4096)
                if not piece:
                    break
                drained += len(piece)
        self._shut(socket.SHUT_RD)

    def _send_block(self, block: memoryview) -> None:
        end = time.monotonic() + self._send_seconds
        while block:
            try:
                block = block[self.send(block) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, end - time.monotonic())

    def _wait(self, event: int, seconds: float) -> None:
        waiting = select.poll()
        waiting.register(self, event)
        if not waiting.poll(max(seconds, 0.0) * 1000):
            raise TimeoutError

    def _shut(self, how: int) -> None:
        with suppress(OSError):
            self.shutdown(how)
