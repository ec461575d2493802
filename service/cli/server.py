"""gunicorn, started from Python: one worker with many threads that ends open streams when it is told to stop.

The application is made in the worker, after the fork, so nothing that breaks in a fork exists before it.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]  # nothing of gunicorn has types
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.http.message import Request  # type: ignore[import-untyped]
from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]

from service import logging as log
from service.api.answers import TAKES_OVER, Answer, Whole
from service.app import create_app
from service.cli.connection import ClientSocket
from service.cli.lending import LentConnection
from service.cli.output import sentence
from service.config import Settings
from service.errors import BrainstemError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from service.services import Services

GRACE_SECONDS = 7
"""Cloud Run kills 10 seconds after SIGTERM."""

STREAM_SECONDS = 4.0
"""How long open streams may go on after SIGTERM; each is cut at its next event, at most a heartbeat later."""

MAX_CONNECTIONS = 4000
OTHER_FILES = 500

LENT = object()
"""What becomes of a request whose connection is lent to the event loop."""

QUICK_SECONDS = 2
KEEPALIVE_SECONDS = 75


def run(settings: Settings, listener: socket.socket) -> None:
    """Serve until a signal ends it; leaves by `SystemExit`."""
    # What is loaded by now stays as it is: pages that no collection writes to are shared with the worker.
    gc.collect()
    gc.freeze()
    interrupt_no_thread()
    try:
        Server(settings, listener).run()
    except SystemExit as end:
        sys.exit(1 if end.code else 0)


class HandedOver(BrokenPipeError):
    """An answer left for the event loop; an error only so that gunicorn does nothing more with its connection."""

    def __init__(self, answer: Answer | Whole, headers: list[tuple[str, str]]) -> None:
        super().__init__(errno.EPIPE, "The answer was handed over.")
        self.answer = answer
        self.headers = headers


class Application:
    """The WSGI application, whose turns are handed over to the event loop."""

    def __init__(self, settings: Settings) -> None:
        self._flask = create_app(settings)
        self.services: Services = self._flask.extensions["brainstem"]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[TAKES_OVER] = True
        headers: list[tuple[str, str]] = []

        def start(status: str, told: list[tuple[str, str]], *rest: Any) -> Callable[[bytes], object]:
            headers[:] = told
            return start_response(status, told, *rest)

        body = self._flask(environ, start)
        if isinstance(body, Answer | Whole):
            raise HandedOver(body, headers)
        return body


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn's configuration; nothing is read from files, arguments or its own environment variable."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._bind = f"fd://{listener.detach()}"
        super().__init__()

    def load_config(self) -> None:
        choices = {
            "bind": self._bind,
            "worker_class": Worker,
            "workers": 1,
            "threads": self._settings.threads,
            "worker_connections": connections(),
            # The loop that beats is not the threads that answer, so a stream may last as long as it likes.
            "timeout": 60,
            "graceful_timeout": GRACE_SECONDS,
            "keepalive": KEEPALIVE_SECONDS,
            # It would wait for a client that does not read without an end.
            "sendfile": False,
            "loglevel": "error",
            "accesslog": None,
            "control_socket_disable": True,
            # Every local client is on loopback, which gunicorn takes for a proxy whose headers may rewrite the path.
            "forwarder_headers": "",
            "forwarded_allow_ips": "",
            "secure_scheme_headers": {},
        }
        for name, value in choices.items():
            self.cfg.set(name, value)

    def load(self) -> Application:
        try:
            return Application(self._settings)
        except BrainstemError as error:
            sys.stderr.write(f"Error: {sentence(error)}\n")
            sys.exit(Arbiter.APP_LOAD_ERROR)


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's threaded worker, which lends a connection to the event loop while a turn is answered on it.

    SIGTERM lets turns go on for a while, Ctrl-C cuts them; both keep what came of them.
    """

    wsgi: Application

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lent: set[LentConnection] = set()
        self._thread = threading.local()
        self._cut_at = float("inf")
        self._notified = 0.0

    def handle(self, conn: TConn) -> object:
        """Answer a connection's next request, in a thread of the pool."""
        if not isinstance(conn.sock, ClientSocket):
            settings = self.wsgi.services.settings
            conn.sock = ClientSocket.adopt(
                conn.sock, receive_seconds=settings.upload_seconds, send_seconds=settings.send_seconds
            )
        conn.sock.expect_request()
        self._thread.lent = False
        stays = super().handle(conn)
        if self._thread.lent:
            return LENT
        if not stays:
            # Here, for gunicorn does it in the loop that accepts connections, which would stand still meanwhile.
            conn.sock.say_goodbye()
        return stays

    def handle_request(self, req: Request, conn: TConn) -> bool:
        try:
            stays: bool = super().handle_request(req, conn)
            return stays
        except HandedOver as handed:
            # What the client sent beyond the request's body would be taken for its next request.
            whole = self._keepalive_after(conn, True)
            stays = whole and self.alive and not req.should_close() and len(self._lent) < self.max_keepalived
            self._lend(conn, handed, stays=stays, pieces=req.version >= (1, 1))
            return False

    def _lend(self, conn: TConn, handed: HandedOver, *, stays: bool, pieces: bool) -> None:
        def asked() -> None:
            self._lent.discard(connection)
            self.enqueue_req(conn)

        def returned(stays: bool) -> None:
            self._lent.discard(connection)
            self.method_queue.defer(self._take_back, conn, stays)

        conn.sock.setblocking(False)
        self._thread.lent = True
        connection = LentConnection(
            conn.sock,
            handed.headers,
            stays=stays,
            pieces=pieces,
            send_seconds=self.wsgi.services.settings.send_seconds,
            idle_seconds=KEEPALIVE_SECONDS,
            asked=asked,
            returned=returned,
        )
        # A request that was read already would not be seen on the socket.
        if not self.alive or conn.parser.unreader.buf.getvalue():
            connection.give_back()
        self._lent.add(connection)
        handed.answer.carry(connection)
        if time.monotonic() >= self._cut_at:
            self._cut()

    def _cut(self) -> None:
        for connection in list(self._lent):
            self.wsgi.services.loop.call(connection.cut)

    def _take_back(self, conn: TConn, stays: bool) -> None:
        result: Future[bool] = Future()
        result.set_result(stays)
        self.finish_request(conn, result)

    def enqueue_req(self, conn: TConn) -> None:
        """Have a request answered by a thread of the pool; what follows, if its connection was not lent, is for the main loop."""

        def over(answered: Future[object]) -> None:
            if answered.cancelled() or answered.exception() or answered.result() is not LENT:
                self.method_queue.defer(self.finish_request, conn, answered)

        self.tpool.submit(self.handle, conn).add_done_callback(over)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._stop(STREAM_SECONDS)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        self.cfg.set("graceful_timeout", QUICK_SECONDS)
        self._stop(0.0)

    def notify(self) -> None:
        # After each event, of which there may be thousands in a second; the arbiter looks once a minute.
        if time.monotonic() - self._notified >= 1:
            self._notified = time.monotonic()
            super().notify()

    def is_parent_alive(self) -> bool:
        # If the arbiter was killed outright, leave at once too: a new server may be waiting for the port.
        if not super().is_parent_alive():
            leave()
        return True

    def run(self) -> None:
        self.wsgi.services.readiness.warm()
        if (
            not self.wsgi.services.settings.k_service
        ):  # there a scheduler has it done, for between requests nothing runs
            self.wsgi.services.sweeper.start()
        super().run()
        leave()

    def murder_keepalived(self, force: bool = False) -> None:
        # Here, after the events of a round, for one of them may be about a connection that is closed.
        super().murder_keepalived(force=force or time.monotonic() >= self._cut_at)

    def _stop(self, patience: float) -> None:
        """Have the main loop wind down: a signal's handler may interrupt anything, so it must take no lock itself."""
        self.alive = False
        self.method_queue.defer(self._wind_down, patience)

    def _wind_down(self, patience: float) -> None:
        self._cut_at = min(self._cut_at, time.monotonic() + patience)
        for connection in list(self._lent):
            self.wsgi.services.loop.call(connection.give_back)
        timer = threading.Timer(patience, self._cut)
        timer.daemon = True
        timer.start()
        self.wsgi.services.sweeper.stop()
        # A store that hangs does not keep the process.
        threading.Thread(target=self.wsgi.services.jobs.release, daemon=True).start()
        try:
            self.wsgi.services.backends.queue.stop()
        except BrainstemError as error:
            log.event("queue_not_stopped", logging.ERROR, error)


def connections() -> int:
    """Return how many connections there may be at once: each turn has another one to the model, and some files are open besides."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS + OTHER_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(MAX_CONNECTIONS, (soft - OTHER_FILES) // 2)


def interrupt_no_thread() -> None:
    """Let a thread that wakes wait for the one that runs: it would only find the interpreter taken. What is started later inherits it."""
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def leave() -> NoReturn:
    """End this process without waiting for threads that are still at work; whatever must last is on disk already."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)
