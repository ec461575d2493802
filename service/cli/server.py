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
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from service import logging as log
from service.app import create_app
from service.cli.output import sentence
from service.config import Settings
from service.errors import BrainstemError, ConfigError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from service.services import Services

GRACE_SECONDS = 7
"""Cloud Run kills 10 seconds after SIGTERM."""

STREAM_SECONDS = 4.0
"""How long open streams may go on after SIGTERM; each is cut at its next event, at most a heartbeat later."""

QUICK_SECONDS = 2
KEEPALIVE_SECONDS = 75
BUSY_SECONDS = 2.0
"""A worker whose arbiter was killed holds the port for up to a second more."""


def listen(host: str, port: int) -> socket.socket:
    """Take the port; raises `ConfigError` that says why it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return socket.create_server((host, port), family=family, backlog=1024)
        except OverflowError:
            raise ConfigError(f"PORT={port}: a port is a number from 0 to 65535.") from None
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise ConfigError(refusal(exc, host, port)) from exc
        time.sleep(0.1)


def refusal(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < 65535 else 8080
        return f"Port {port} is in use, perhaps by another Brainstem. Stop that, or take another: brainstem serve --port {other}."
    if error.errno == errno.EACCES:
        return f"Port {port} is reserved for the system. Take one above 1023: brainstem serve --port 8080."
    return f"This machine cannot listen on {host}, port {port}: {error.strerror}. Set HOST=127.0.0.1."


def address(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


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
        body = self._flask(environ, start_response)
        return body if isinstance(body, environ["wsgi.file_wrapper"]) else Cuttable(self, body)


class Cuttable:
    """A response's body, up to the moment when the application cuts it."""

    def __init__(self, application: Application, body: Iterable[bytes]) -> None:
        self._application = application
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._body:
            yield piece
            if time.monotonic() >= self._application.cut_at:
                return

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
            "loglevel": "error",
            "accesslog": None,
            "control_socket_disable": True,
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
