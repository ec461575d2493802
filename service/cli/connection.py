"""A client's connection as the server's threads use it: who reads or sends too slowly counts as gone, and frees the thread."""

from __future__ import annotations

import errno
import socket
import time
from contextlib import suppress

BLOCK_BYTES = 1 << 16
LINGER_SECONDS = 1.0
LINGER_BYTES = 1 << 16


class ClientSocket(socket.socket):
    """A socket whose blocking calls end: a request must be read within a time, and each block of an answer be taken within one.

    Calls with a timeout of their own, or none to wait for, are left as they are.
    """

    _receive_seconds: float
    _send_seconds: float
    _receive_by: float

    @classmethod
    def adopt(cls, accepted: socket.socket, *, receive_seconds: float, send_seconds: float) -> ClientSocket:
        """Take over a socket that was accepted; the old object is of no use any more."""
        adopted = cls(fileno=accepted.detach())
        adopted._receive_seconds = receive_seconds
        adopted._send_seconds = send_seconds
        adopted.expect_request()
        return adopted

    def expect_request(self) -> None:
        """Begin the time within which a request, its body included, must have come."""
        self._receive_by = time.monotonic() + self._receive_seconds

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if self.gettimeout() is not None:
            return super().recv(size, flags)
        left = self._receive_by - time.monotonic()
        try:
            # Never 0, with which a socket does not wait for what is here already.
            self.settimeout(max(left, 0.001))
            return super().recv(size, flags)
        except TimeoutError:
            # The request may still be refused in words; nothing more of it is read.
            self._shut(socket.SHUT_RD)
            raise ConnectionResetError(errno.ECONNRESET, "The client sends too slowly.") from None
        finally:
            self.settimeout(None)

    def sendall(self, data: bytes | memoryview, flags: int = 0, /) -> None:  # type: ignore[override]  # what is sent here is bytes
        if self.gettimeout() is not None:
            return super().sendall(data, flags)
        blocks = memoryview(data)
        try:
            self.settimeout(self._send_seconds)
            # In blocks, for the timeout is of a whole call: a slow line may take long for a large answer.
            for start in range(0, len(blocks), BLOCK_BYTES):
                super().sendall(blocks[start : start + BLOCK_BYTES], flags)
        except TimeoutError:
            self._shut(socket.SHUT_RDWR)
            raise BrokenPipeError(errno.EPIPE, "The client does not read.") from None
        finally:
            self.settimeout(None)
        return None

    def say_goodbye(self) -> None:
        """Let the client take the end of an answer and hang up, for a moment; then nothing of it is waited for any more."""
        self._shut(socket.SHUT_WR)
        drained, end = 0, time.monotonic() + LINGER_SECONDS
        with suppress(OSError):
            while drained < LINGER_BYTES and (left := end - time.monotonic()) > 0:
                self.settimeout(left)
                piece = super().recv(4096)
                if not piece:
                    break
                drained += len(piece)
        self._shut(socket.SHUT_RD)

    def _shut(self, how: int) -> None:
        with suppress(OSError):
            self.shutdown(how)
