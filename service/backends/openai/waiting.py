"""Calls that a thread waits for, over connections of our own: what comes is read and bounded as it is of the streams, without a loop."""

from __future__ import annotations

import asyncio
import select
import socket
import time
import weakref
from collections import deque
from functools import cached_property

import httpcore2

from service.backends.openai.client import (
    FAILURES,
    MAX_BODY_BYTES,
    MAX_ERROR_BYTES,
    TOO_MUCH,
    Address,
    Refused,
    another_connection,
    refused,
    see_encoding,
)
from service.backends.openai.connection import KEEP_ALIVE_SECONDS, Answer, Connection, Unreached
from service.backends.openai.refusals import Retries
from service.backends.openai.wire import Backend
from service.errors import UpstreamProtocol

READ_BYTES = 65_536
KEPT_OPEN = 64


class Wire(asyncio.Transport):
    """A socket that blocks, until its deadline, as the transport of a connection; idle, it is among those of its client."""

    def __init__(self, reached: socket.socket, idle: deque[Wire]) -> None:
        super().__init__()
        self.deadline = 0.0
        self.connection = Connection(self)
        self._socket = reached
        self._idle = idle
        self._used = time.monotonic()
        self.connection.connection_made(self)

    def is_fresh(self) -> bool:
        """Whether it may serve another call: nobody sends anything unasked but an end."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return time.monotonic() - self._used < KEEP_ALIVE_SECONDS and not poll.poll(0)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._limit()
        try:
            self._socket.sendall(data)
        except OSError as exc:
            self._lose(exc)

    def feed(self) -> None:
        """Wait for more of the answer, and give it to the connection."""
        self._limit()
        try:
            data = self._socket.recv(READ_BYTES)
        except OSError as exc:
            self._lose(exc)
            return
        if data:
            self.connection.data_received(data)
        else:
            self.connection.eof_received()

    def keep(self, connection: Connection) -> None:
        self._used = time.monotonic()
        if len(self._idle) < KEPT_OPEN:
            self._idle.append(self)
        else:
            self.abort()

    def forget(self, connection: Connection) -> None:
        """Do nothing: what is idle is taken out before it is used."""

    def abort(self) -> None:
        self._socket.close()

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """Do nothing, nor when it is to be resumed: it is read when what came was taken."""

    resume_reading = pause_reading

    def _lose(self, failure: OSError) -> None:
        if isinstance(failure, TimeoutError):
            raise failure
        self.connection.connection_lost(failure)

    def _limit(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)


class WaitingClient:
    """Asks one address, from whatever thread; its connections end with it."""

    def __init__(self, url: str, connect_seconds: float) -> None:
        self._url = url
        self._connect_seconds = connect_seconds
        self._idle: deque[Wire] = deque()
        weakref.finalize(self, close_all, self._idle)

    def post(self, body: bytes, key: str, seconds: float, retries: Retries) -> bytes:
        """Return the body of an answer with 2xx, for which each attempt has so many seconds; raises one of `client.FAILURES`."""
        request, began, attempt = self._address.request(body, key), time.monotonic(), 0
        while True:
            try:
                return self._ask(request, time.monotonic() + seconds)
            except FAILURES as exc:
                refusal = exc.refusal if isinstance(exc, Refused) else None
                if not refusal and not another_connection(exc, attempt):
                    raise
                pause = retries.pause(refusal, attempt, time.monotonic() - began)
                if pause is None:
                    raise
            time.sleep(pause)
            attempt += 1

    @cached_property
    def _address(self) -> Address:
        return Address.parse(self._url)

    def _ask(self, request: bytes, deadline: float) -> bytes:
        wire = self._at_hand() or self._connect()
        wire.deadline = deadline
        answer = wire.connection.ask(request)
        try:
            return read(answer, wire)
        finally:
            answer.close()

    def _at_hand(self) -> Wire | None:
        while self._idle:
            try:
                wire = self._idle.pop()
            except IndexError:  # another thread took it
                break
            if wire.is_fresh():
                return wire
            wire.abort()
        return None

    def _connect(self) -> Wire:
        address = self._address
        try:
            line = Backend().connect_tcp(address.host, address.port, self._connect_seconds)
            if address.tls:
                line = line.start_tls(httpcore2.default_ssl_context(), address.host.rstrip("."), self._connect_seconds)
        except (httpcore2.NetworkError, httpcore2.TimeoutException) as exc:
            raise Unreached(slowly=isinstance(exc, httpcore2.TimeoutException)) from None
        return Wire(line.get_extra_info("socket"), self._idle)


def read(answer: Answer, wire: Wire) -> bytes:
    while not answer.status:
        wait(answer, wire)
    see_encoding(answer)
    told, most = bytearray(answer.take()), MAX_BODY_BYTES if answer.is_well else MAX_ERROR_BYTES
    while not answer.ended and len(told) <= most:
        wait(answer, wire)
        told += answer.take()
    if not answer.is_well:
        raise refused(answer, bytes(told[:most]))
    if len(told) > most:
        raise UpstreamProtocol(TOO_MUCH)
    return bytes(told)


def wait(answer: Answer, wire: Wire) -> None:
    if answer.failure:
        raise answer.failure
    wire.feed()


def close_all(idle: deque[Wire]) -> None:
    while idle:
        idle.pop().abort()
