"""gunicorn, started from Python: one worker with many threads that ends open streams when it is told to stop.

The application is made in the worker, after the fork, so nothing that breaks in a fork exists before it.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]  # nothing of gunicorn has types
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]

from service import logging as log
from service.app import create_app
from service.cli.connection import ClientSocket
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

QUICK_SECONDS = 2
KEEPALIVE_SECONDS = 75


def run(settings: Settings, listener: socket.socket) -> None:
    """Serve until a signal ends it; leaves by `SystemExit`."""
    try:
        Server(settings, listener).run()
    except SystemExit as end:
        sys.exit(1 if end.code else 0)


class Application:
    """The WSGI application, whose responses can be cut: their clients are then gone, and what came of each answer is kept."""

    def __init__(self, settings: Settings) -> None:
        self._flask = create_app(settings)
        self.services: Services = self._flask.extensions["brainstem"]
        self.cut_at = float("inf")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return Cuttable(self, self._flask(environ, start_response))


class Cuttable:
    """A response's body, up to the moment when the application cuts it."""

    def __init__(self, application: Application, body: Iterable[bytes]) -> None:
        self._application = application
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._body:
            yield piece
            if time.monotonic() >= self._application.cut_at:
                # As if the client had left, which also closes the connection; an end that looks whole would be a lie.
                raise BrokenPipeError(errno.EPIPE, "The server is stopping.")

    def close(self) -> None:
        if hasattr(self._body, "close"):
            self._body.close()


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
    """gunicorn's threaded worker. SIGTERM lets streams go on for a while, Ctrl-C cuts them; both keep what came of them."""

    wsgi: Application

    def handle(self, conn: TConn) -> object:
        """Answer a connection's next request, in a thread of its own."""
        if not isinstance(conn.sock, ClientSocket):
            settings = self.wsgi.services.settings
            conn.sock = ClientSocket.adopt(
                conn.sock, receive_seconds=settings.upload_seconds, send_seconds=settings.send_seconds
            )
        conn.sock.expect_request()
        stays = super().handle(conn)
        if not stays:
            # Here, for gunicorn does it in the loop that accepts connections, which would stand still meanwhile.
            conn.sock.say_goodbye()
        return stays

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._stop(STREAM_SECONDS)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        self.cfg.set("graceful_timeout", QUICK_SECONDS)
        self._stop(0.0)

    def is_parent_alive(self) -> bool:
        # If the arbiter was killed outright, leave at once too: a new server may be waiting for the port.
        if not super().is_parent_alive():
            leave()
        return True

    def run(self) -> None:
        super().run()
        leave()

    def _stop(self, patience: float) -> None:
        """Have the main loop wind down: a signal's handler may interrupt anything, so it must take no lock itself."""
        self.alive = False
        self.method_queue.defer(self._wind_down, patience)

    def _wind_down(self, patience: float) -> None:
        self.wsgi.cut_at = min(self.wsgi.cut_at, time.monotonic() + patience)
        if patience == 0:
            self.murder_keepalived(force=True)
        try:
            self.wsgi.services.backends.queue.stop()
        except BrainstemError as error:
            log.event("queue_not_stopped", logging.ERROR, error)


def leave() -> NoReturn:
    """End this process without waiting for threads that are still at work; whatever must last is on disk already."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)
