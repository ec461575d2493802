"""A turn's answer on its way to the client.

A server that sets `TAKES_OVER` in a request's environment gets an `Answer` as the response's body and has it carried by the event loop:
then a turn holds no thread. Any other WSGI server finds a body to iterate. `Whole` is the same for what is no turn.
"""

from __future__ import annotations

import asyncio
import logging
import queue
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from service import logging as log
from service.api import problems
from service.api.encoders import sse, turn_answer
from service.api.pump import Listener
from service.chat.events import ClientEvent, Done, Error
from service.loop import Loop
from service.models import TurnStatus

TAKES_OVER = "brainstem.takes_over"
EVENT_STREAM = "text/event-stream"
CLIENT_LEFT = 499
"""What the log says of a request whose client did not wait; nobody is sent it."""


class Turning(Protocol):
    """A turn that is answered, or followed."""

    async def run(self, listener: Listener) -> None: ...

    def leave(self) -> None: ...


class Connection(Protocol):
    """A client's connection, lent by the server for one answer; used on the loop only."""

    def lend(self, left: Callable[[], None]) -> None:
        """Begin; `left` is called at most once, when the client has gone before the answer's end."""

    def begin(self, status: int, headers: dict[str, str], length: int | None) -> None:
        """Send the head, in which these headers come before the response's; without a length the body comes in pieces."""

    def write(self, data: bytes, *, last: bool = False) -> None:
        """Send a piece of the body, which the last one ends."""

    def behind(self) -> asyncio.Future[None] | None:
        """What to wait for before more is written, while the client takes less than it is sent."""

    def abort(self) -> None:
        """Break the answer off: an end that looks whole would be a lie."""

    def end(self) -> None:
        """Give the connection back, once all is sent."""


class Answer:
    """What became of a question, streamed as events or whole as JSON."""

    def __init__(self, loop: Loop, turning: Turning, request_id: str, *, streams: bool) -> None:
        self._loop = loop
        self._turning = turning
        self._request_id = request_id
        self._streams = streams
        self._body = self._stream()
        self.report: Callable[[int], None] = lambda status: None
        """Told the response's status when all of it is known."""

    def carry(self, connection: Connection) -> None:
        """Answer on a client's connection, from any thread, without waiting for it."""
        self._loop.start(self._carry(connection))

    async def _carry(self, connection: Connection) -> None:
        connection.lend(self._turning.leave)
        try:
            if self._streams:
                connection.begin(200, {}, None)
                streamed = Streamed(self._request_id, connection)
                await self._turning.run(streamed)
                if not streamed.whole:
                    connection.abort()
                self.report(200)
            else:
                last = Last()
                await self._turning.run(last)
                status, headers, body = whole(last, self._request_id)
                connection.begin(status, headers, len(body))
                connection.write(body, last=True)
                self.report(status)
        except Exception as error:  # noqa: BLE001  # nobody awaits this: the connection must not be left open
            log.event("answer_crashed", logging.ERROR, error, request=self._request_id)
            connection.abort()
        finally:
            connection.end()

    def wait(self) -> tuple[int, dict[str, str], bytes]:
        """Answer whole, in the thread that asks; return status, headers and body."""
        last = Last()
        for event in told(self._loop, self._turning):
            last.hear([event])
        return whole(last, self._request_id)

    def __iter__(self) -> Iterator[bytes]:
        """Stream, in the thread that asks."""
        return self._body

    def close(self) -> None:
        """The client is gone or served; returns when what came is saved."""
        self._body.close()

    def _stream(self) -> Generator[bytes]:
        try:
            for number, event in enumerate(told(self._loop, self._turning), 1):
                yield sse(event, number, self._request_id)
        finally:
            self.report(200)


class Whole:
    """An answer that is made on the event loop and sent whole. `make` returns its status, headers and body."""

    def __init__(
        self,
        loop: Loop,
        make: Callable[[], Coroutine[Any, Any, tuple[int, dict[str, str], bytes]]],
        request_id: str,
        *,
        outlives_client: bool,
    ) -> None:
        self._loop = loop
        self._make = make
        self._request_id = request_id
        self._outlives_client = outlives_client
        self.report: Callable[[int], None] = lambda status: None
        """Told the response's status when it is known."""

    def carry(self, connection: Connection) -> None:
        """Answer on a client's connection, from any thread, without waiting for it."""
        self._loop.start(self._carry(connection))

    async def _carry(self, connection: Connection) -> None:
        making = asyncio.ensure_future(self._make())

        def leave() -> None:
            if not self._outlives_client:
                making.cancel()

        connection.lend(leave)
        try:
            status, headers, body = await making
            connection.begin(status, headers, len(body))
            connection.write(body, last=True)
            self.report(status)
        except asyncio.CancelledError:
            connection.abort()
            self.report(CLIENT_LEFT)
        except Exception as error:  # noqa: BLE001  # nobody awaits this: the connection must not be left open
            log.event("answer_crashed", logging.ERROR, error, request=self._request_id)
            connection.abort()
        finally:
            connection.end()

    def wait(self) -> tuple[int, dict[str, str], bytes]:
        """Answer in the thread that asks."""
        return self._loop.submit(self._make()).result()

    def __iter__(self) -> Iterator[bytes]:
        yield self.wait()[2]


def told(loop: Loop, turning: Turning) -> Generator[ClientEvent]:
    """The events of a turn, in the thread that asks. Closed before the end it leaves the turn, and what came is saved."""
    heard: queue.SimpleQueue[ClientEvent | None] = queue.SimpleQueue()
    over = loop.submit(turning.run(Queued(heard)))
    over.add_done_callback(lambda _: heard.put(None))
    try:
        while event := heard.get():
            yield event
    finally:
        loop.call(turning.leave)
        over.result()


class Queued:
    """Leaves the events to another thread."""

    def __init__(self, heard: queue.SimpleQueue[ClientEvent | None]) -> None:
        self._heard = heard

    def hear(self, events: Sequence[ClientEvent]) -> None:
        for event in events:
            self._heard.put(event)

    def behind(self) -> None:
        """Never: an answer is bounded, and all of it may wait here."""


class Streamed:
    """Sends each event on, encoded."""

    def __init__(self, request_id: str, connection: Connection) -> None:
        self._request_id = request_id
        self._connection = connection
        self._number = 0
        self.behind = connection.behind
        self.whole = False
        """Whether the last event was sent."""

    def hear(self, events: Sequence[ClientEvent]) -> None:
        frames = [sse(event, number, self._request_id) for number, event in enumerate(events, self._number + 1)]
        self._number += len(events)
        self.whole = isinstance(events[-1], Done | Error)
        self._connection.write(b"".join(frames), last=self.whole)


class Last:
    """Remembers how the turn ended."""

    def __init__(self) -> None:
        self.event: ClientEvent | None = None

    def hear(self, events: Sequence[ClientEvent]) -> None:
        self.event = events[-1]

    def behind(self) -> None:
        """Never: nothing is sent before the end."""


def whole(last: Last, request_id: str) -> tuple[int, dict[str, str], bytes]:
    """The turn at its end. One that failed, or that could not be kept, is a problem; one that broke off is what came of it."""
    event = last.event
    assert isinstance(event, Done | Error)
    turn, kept = event.turn, isinstance(event, Done) or event.kept
    if turn.error is not None and (turn.status is TurnStatus.FAILED or not kept):
        return problems.answer(turn.error, request_id)
    return 200, {"Content-Type": "application/json"}, msgspec.json.encode(turn_answer(turn))
