"""Takes the port to listen on, or says why it cannot be had."""

from __future__ import annotations

import errno
import socket
import time

from service.errors import ConfigError

BUSY_SECONDS = 2.0
"""A worker whose arbiter was killed holds the port for up to a second more."""

PAUSE_SECONDS = 0.1


def listen(host: str, port: int, *, patience: float = BUSY_SECONDS) -> socket.socket:
    """Listen, after at most `patience` seconds if the port is still in use; raises `ConfigError`."""
    if not 0 <= port <= 65535:
        raise ConfigError(f"PORT={port}: a port is a number from 0 to 65535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = time.monotonic() + patience
    while True:
        try:
            return socket.create_server((host, port), family=family, backlog=1024)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                raise ConfigError(refusal(exc, host, port)) from exc
        time.sleep(PAUSE_SECONDS)


def refusal(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < 65535 else 8080
        return f"Port {port} is in use by another program. Take another: brainstem serve --port {other}."
    if error.errno == errno.EACCES:
        return f"Port {port} is reserved for the system. Take one above 1023: brainstem serve --port 8080."
    return f"This machine cannot listen on {host}, port {port}: {error.strerror}. Set BIND_HOST=127.0.0.1."


def address(host: str, port: int) -> str:
    """The URL of a host and port."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
