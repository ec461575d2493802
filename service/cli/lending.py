"""A client's connection while an answer is sent to it from the event loop, and no thread waits for it."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from service.cli.connection import BLOCK_BYTES, LINGER_SECONDS

send = ctypes.PyDLL(None).send
"""As `socket.send`, but without letting go of the interpreter: for each token the loop would wait until a thread gives it back."""
send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
send.restype = ctypes.c_ssize_t


class LentConnection:
    """Speaks HTTP/1 on a socket that does not block, and waits for the client's next request.

    It ends with a call of `asked` when there is one, or of `returned`, which is told whether the connection may serve another.
    A client that has gone is noticed at once; one that takes no block of an answer within `send_seconds` counts as gone.
    """

    def __init__(
        self,
        client: socket.socket,
        headers: Sequence[tuple[str, str]],
        *,
        stays: bool,
        pieces: bool,
        send_seconds: float,
        idle_seconds: float,
        asked: Callable[[], None],
        returned: Callable[[bool], None],
    ) -> None:
        self._client = client
        self._file = client.fileno()
        self._headers = headers
        self._stays = stays
        self._pieces = pieces
        self._send_seconds = send_seconds
        self._idle_seconds = idle_seconds
        self._asked = asked
        self._returned = returned
        self._head = b""
        self._unsent = bytearray()
        self._taken = 0
        self._gone = self._ending = self._looking = self._idle = self._leaving = False
        self._left: Callable[[], None] | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._patience: asyncio.TimerHandle | None = None

    def lend(self, left: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = left
        if self._gone:
            self._loop.call_soon(left)
        else:
            self._loop.add_reader(self._file, self._look)
            self._looking = True

    def begin(self, status: int, headers: dict[str, str], length: int | None) -> None:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Date: {date(int(time.time()))}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [f"{name}: {value}" for name, value in self._headers if name not in headers]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        elif self._pieces:
            lines.append("Transfer-Encoding: chunked")
        else:
            self._stays = False
        self._pieces = self._pieces and length is None
        lines.append(f"Connection: {'keep-alive' if self._stays else 'close'}")
        # It goes with what is written first, which follows at once.
        self._head = "\r\n".join([*lines, "", ""]).encode("latin-1")

    def write(self, data: bytes, *, last: bool = False) -> None:
        if self._pieces:
            data = b"%x\r\n%b\r\n%b" % (len(data), data, b"0\r\n\r\n" if last else b"")
        self._send(data)

    def behind(self) -> asyncio.Future[None] | None:
        if self._gone or len(self._unsent) < BLOCK_BYTES:
            return None
        if self._waiting is None:
            self._waiting = self._loop.create_future()
        return self._waiting

    def end(self) -> None:
        self._ending = True
        if not self._unsent:
            self._return()

    def abort(self) -> None:
        if self._gone:
            return
        self._gone = True
        if self._left:
            self._forget_unsent()
            self._loop.remove_reader(self._file)
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Part with the client, which has gone or is treated as if it had."""
        if self._gone:
            return
        self.abort()
        if self._ending:
            self._return()
        elif self._left:
            self._left()

    def give_back(self) -> None:
        """Wait for no further request: at once, or after the answer."""
        self._leaving = True
        if self._idle:
            self._stop_waiting()
            self._returned(True)

    def _look(self) -> None:
        """See whether the client hung up, and leave what else it sends to the next request."""
        try:
            here = self._client.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            here = b""
        if not self._idle:
            if here:
                self._looking = False
                self._loop.remove_reader(self._file)
            else:
                self.cut()
            return
        self._stop_waiting()
        if here:
            self._asked()
        else:
            self._returned(False)

    def _wait(self) -> None:
        """Wait for the next request."""
        self._idle = True
        if not self._looking:
            self._loop.add_reader(self._file, self._look)
        self._patience = self._loop.call_later(self._idle_seconds, self._close)

    def _stop_waiting(self) -> None:
        self._idle = False
        self._loop.remove_reader(self._file)
        if self._patience:
            self._patience.cancel()

    def _send(self, data: bytes) -> None:
        if self._gone:
            return
        if self._head:
            data, self._head = self._head + data, b""
        if not self._unsent:
            # Whatever is wrong is told by the other way to send.
            sent = send(self._client.fileno(), data, len(data), 0)
            if sent < 0:
                sent = self._try(data)
            if sent == len(data) or self._gone:
                return
            data = data[sent:]
            self._loop.add_writer(self._file, self._send_on)
            self._expect()
        self._unsent += data

    def _send_on(self) -> None:
        sent = self._try(self._unsent)
        if self._gone:
            return
        del self._unsent[:sent]
        self._taken += sent
        if not self._unsent:
            self._forget_unsent()
            if self._ending:
                self._return()
        elif self._taken >= BLOCK_BYTES:
            self._expect()

    def _try(self, data: bytes | bytearray) -> int:
        try:
            return self._client.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.cut()
            return 0

    def _expect(self) -> None:
        """Begin the time within which the client must take a block."""
        if self._patience:
            self._patience.cancel()
        self._taken = 0
        self._patience = self._loop.call_later(self._send_seconds, self.cut)

    def _forget_unsent(self) -> None:
        self._unsent.clear()
        self._loop.remove_writer(self._file)
        if self._patience:
            self._patience.cancel()
            self._patience = None
        if self._waiting:
            self._waiting.set_result(None)
            self._waiting = None

    def _return(self) -> None:
        if self._gone:
            self._returned(False)
        elif not self._stays:
            self._say_goodbye()
        elif self._leaving:
            self._loop.remove_reader(self._file)
            self._returned(True)
        else:
            self._wait()

    def _say_goodbye(self) -> None:
        """Let the client take the end of the answer and hang up, for a moment; then nothing of it is waited for any more."""
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_WR)
        self._loop.add_reader(self._file, self._drain)
        self._patience = self._loop.call_later(LINGER_SECONDS, self._close)

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            try:
                here = self._client.recv(BLOCK_BYTES)
            except ConnectionError:
                here = b""
            if not here:
                self._close()

    def _close(self) -> None:
        self._stop_waiting()
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
        self._returned(False)


@lru_cache(maxsize=1)
def date(second: int) -> str:
    return formatdate(second, usegmt=True)
