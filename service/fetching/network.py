"""The network as sources are reached over it: names become addresses, each is checked, and the one that was checked is connected to."""

from __future__ import annotations

import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

from service.errors import SourceRefused, SourceUnavailable
from service.fetching.addresses import PORTS, Address, is_public

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_ADDRESSES = 8
CONNECT_SECONDS = 3.0
"""What one of several addresses may take to connect."""

NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


def resolved(host: str) -> Sequence[str]:
    """Return the addresses of a host as the system knows them; raises `OSError`."""
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)))


@dataclass(frozen=True, slots=True)
class Network:
    """What is asked through. `INTERNET` is the only one outside of tests; no setting makes another.

    A test's own names other ports, admits servers on this machine by address, resolves names and trusts certificates itself.
    """

    resolve: Callable[[str], Sequence[str]] = resolved
    ports: frozenset[int] = frozenset(PORTS.values())
    admitted: frozenset[str] = frozenset()
    tls: Callable[[], ssl.SSLContext] = field(default=ssl.create_default_context)


INTERNET = Network()


class Deadline:
    """The time that is left for all of a fetch."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left; raises `SourceUnavailable` once there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise SourceUnavailable("The source took too long.")
        return left


class Wire(io.RawIOBase):
    """What comes over a socket: never after the deadline, however slowly, and never more than `most` bytes, whatever they are."""

    def __init__(self, sock: socket.socket, deadline: Deadline, most: int) -> None:
        self._sock = sock
        self._deadline = deadline
        self._left = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if self._left <= 0:
            raise SourceRefused("The source sends more than may be read of one.")
        self._sock.settimeout(self._deadline.left())
        try:
            got = self._sock.recv_into(buffer)
        except TimeoutError:
            raise SourceUnavailable("The source took too long.") from None
        self._left -= got
        return got

    def makefile(self, mode: str) -> io.BufferedReader:
        """What `http.client` reads an answer from."""
        return io.BufferedReader(self)


def checked(network: Network, address: Address, deadline: Deadline) -> list[str]:
    """Return the addresses of a host, looked up once; raises `SourceRefused` if any of them is not public."""
    found = [address.host] if address.is_literal else look_up(network, address.host, deadline)[:MAX_ADDRESSES]
    if any(each not in network.admitted and not is_public(ip_address(each)) for each in found):
        raise SourceRefused("The address's host is not on the public internet.")
    return found


def look_up(network: Network, host: str, deadline: Deadline) -> list[str]:
    """Resolve a host within the deadline: in a thread of its own, for the system's resolver has none and cannot be stopped."""
    answers: queue.SimpleQueue[Sequence[str] | OSError | UnicodeError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(network.resolve(host))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.left())
    except queue.Empty:
        raise SourceUnavailable("The name of the source's host could not be looked up in time.") from None
    if isinstance(answer, socket.gaierror) and answer.errno in NO_SUCH_NAME:
        raise SourceRefused("There is no host of the name that the address has.")
    if isinstance(answer, OSError | UnicodeError) or not answer:
        raise SourceUnavailable("The name of the source's host could not be looked up.")
    return list(answer)


def connected(network: Network, address: Address, deadline: Deadline) -> socket.socket:
    """Connect to an address of a host that was checked, to that very address; under TLS the host's certificate is checked."""
    sock = reached(checked(network, address, deadline), address.port, deadline)
    if address.scheme == "http":
        return sock
    try:
        sock.settimeout(deadline.left())
        return network.tls().wrap_socket(sock, server_hostname=address.host)
    except ssl.SSLCertVerificationError:
        sock.close()
        raise SourceRefused("The source's certificate does not hold.") from None
    except (OSError, ValueError):
        sock.close()
        raise SourceUnavailable("No secure connection to the source could be made.") from None
    except SourceUnavailable:
        sock.close()
        raise


def reached(addresses: Sequence[str], port: int, deadline: Deadline) -> socket.socket:
    for address in addresses:
        seconds = deadline.left() if len(addresses) == 1 else min(deadline.left(), CONNECT_SECONDS)
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        sock.settimeout(seconds)
        with suppress(OSError):
            sock.connect((address, port))
            return sock
        sock.close()
    raise SourceUnavailable("No connection to the source could be made.")
