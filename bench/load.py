"""The load: clients with a connection each, all in one thread, on the selector itself so that they cost little.

An answer is whole if it has status 200 and as many tokens as the upstream sent; anything else is an error, counted by its name.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench.upstream import stamp

Address = tuple[str, int]

TOKEN = re.compile(rb"@(\d{6,}) ")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
MOST_BYTES = 65_536
HEAD_END = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
TAIL = 64
"""Bytes of an answer that are kept, so that a token or an end which two reads bring is seen."""

FIRST_SECONDS = 5.0
"""A stream without a token after so long counts as an error: it was waiting for others to end."""

CONNECT_SECONDS = 30.0
RETRY_SECONDS = 0.1
REST_SECONDS = 10.0


@dataclass
class Answers:
    """What came of some load: seconds, and the microseconds that each token took from the upstream to here."""

    seconds: float = 0.0
    whole: int = 0
    firsts: list[float] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    delays: list[int] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def per_second(self) -> float:
        return self.whole / self.seconds


class Client:
    """One connection, and the requests to send on it one after another."""

    def __init__(self, address: Address, requests: Iterator[bytes], tokens: int) -> None:
        self._address = address
        self._requests = requests
        self._tokens = tokens
        self.socket: socket.socket | None = None

    def ask(self) -> None:
        """Send the next request."""
        request = next(self._requests)
        if self.socket is None:
            self.socket = socket.create_connection(self._address, CONNECT_SECONDS)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.asked, self.first = time.monotonic(), 0.0
        self._head, self._status, self._left = b"", b"", -1
        self._tail, self._seen, self._newest = b"", 0, 0
        self.socket.sendall(request)

    def read(self, answers: Answers) -> bool:
        """Take in what has arrived, and tell whether the answer has ended."""
        assert self.socket
        try:
            data = self.socket.recv(MOST_BYTES)
        except OSError:
            data = b""
        if not data:
            self.close()
            answers.errors["closed"] += 1
            return True
        if not self._status:
            self._head += data
            head, found, data = self._head.partition(HEAD_END)
            if not found:
                return False
            self._status = head[9:12]
            length = LENGTH.search(head)
            self._left = int(length[1]) if length else -1
        if not self._ends(data, answers):
            return False
        self._count(answers)
        return True

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def waits(self) -> bool:
        """Tell whether the first token of what was asked is overdue."""
        return self.socket is not None and not self.first and time.monotonic() - self.asked > FIRST_SECONDS

    def _ends(self, data: bytes, answers: Answers) -> bool:
        held = self._tail + data
        now = stamp()
        # What is not newer was here before: the tail, or a server that repeats the whole answer at its end.
        for moment in map(int, TOKEN.findall(held)):
            if moment > self._newest:
                self._newest = moment
                self._seen += 1
                answers.delays.append(now - moment)
        if self._seen and not self.first:
            self.first = time.monotonic() - self.asked
        self._tail = held[-TAIL:]
        if self._left < 0:
            return held.endswith(LAST_CHUNK)
        self._left -= len(data)
        return self._left == 0

    def _count(self, answers: Answers) -> None:
        if self._status != b"200":
            answers.errors[self._status.decode()] += 1
        elif self._seen != self._tokens:
            answers.errors["cut"] += 1
        elif self.first > FIRST_SECONDS:
            answers.errors["late"] += 1
        else:
            answers.whole += 1
            answers.firsts.append(self.first)
            answers.totals.append(time.monotonic() - self.asked)


class Load:
    """Clients that ask again as soon as they are answered; they begin one after another within `ramp` seconds."""

    def __init__(self, clients: Sequence[Client], ramp: float = 0.0) -> None:
        self._epoll = select.epoll()
        self._open: dict[int, Client] = {}
        self._waiting = list(reversed(clients))
        self._pause = ramp / len(clients)
        self._next = time.monotonic()

    def run(self, seconds: float) -> Answers:
        """Go on for some seconds, and return what came of these alone."""
        answers = Answers()
        start = time.monotonic()
        end = start + seconds
        while (now := time.monotonic()) < end:
            while self._waiting and now >= self._next:
                self._next += self._pause
                self._ask(self._waiting.pop(), answers)
            for number, _ in self._epoll.poll(min(end - now, 0.005 if self._waiting else 0.1), 4096):
                client = self._open[number]
                if client.read(answers):
                    if client.socket is None:
                        del self._open[number]
                    self._ask(client, answers)
        answers.seconds = time.monotonic() - start
        answers.errors["late"] += sum(client.waits() for client in self._open.values())
        return answers

    def rest(self) -> None:
        """Let what was asked be answered, for a while, and ask no more until the next run; its clients connect anew."""
        end = time.monotonic() + REST_SECONDS
        asked = dict(self._open)
        while asked and time.monotonic() < end:
            for number, _ in self._epoll.poll(0.1, 4096):
                if asked[number].read(Answers()):
                    asked.pop(number).close()
        for client in self._open.values():
            client.close()
        self._waiting += self._open.values()
        self._open.clear()

    def close(self) -> None:
        """Leave, in the middle of whatever is being answered."""
        for client in self._open.values():
            client.close()
        self._epoll.close()

    def _ask(self, client: Client, answers: Answers) -> None:
        try:
            client.ask()
        except OSError:
            answers.errors["refused"] += 1
            self._open = {number: other for number, other in self._open.items() if other is not client}
            client.close()
            self._waiting.append(client)
            self._next = time.monotonic() + RETRY_SECONDS
            return
        assert client.socket
        if client.socket.fileno() not in self._open:
            self._open[client.socket.fileno()] = client
            self._epoll.register(client.socket, select.EPOLLIN)


def ask(client: Client) -> tuple[float, float]:
    """Ask once and return the seconds to the first token and to the end."""
    answers = Answers()
    client.ask()
    while not client.read(answers):
        pass
    total = time.monotonic() - client.asked
    assert not answers.errors.keys() - {"late"}, answers.errors
    return client.first, total
