"""Which addresses may be asked: URLs of one plain form, and machines of the public internet alone.

A URL is read here once and never again by anything else, so nobody can disagree about where its host ends (RFC 3986, but for what
browsers and libraries read differently: user names, backslashes, hosts beyond ASCII, numbers in other forms).
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urljoin

from service.errors import SourceRefused

IPAddress = IPv4Address | IPv6Address

MAX_URL_CHARS = 2_000
PORTS = {"http": 80, "https": 443}
URL = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<host>[a-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:#.*)?",
    re.IGNORECASE | re.ASCII,
)
WRITABLE = re.compile(r"[!#-;=?-\[\]_a-z~]+", re.ASCII)
"""What a URL is written with: ASCII without spaces, quotes, backslashes, braces, `<>^|` and backquotes."""

NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
"""A host's name in full. Its last label begins with a letter, so no way to write an address as numbers is a name."""

PRIVATE_NAMES = frozenset("alt arpa corp home internal invalid lan local localdomain localhost onion test".split())
"""Last labels that are no public domains: RFC 6761, 6762 and 8375, ICANN's `internal`, and what routers and clouds call their own."""

GLOBAL_UNICAST = IPv6Network("2000::/3")
SPECIAL = [
    ip_network(block)
    for block in """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 168.63.129.16/32 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
    192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24
    224.0.0.0/4 240.0.0.0/4 2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20
    """.split()
]
"""IANA's special-purpose registries, multicast, and what Azure answers its machines from. Python's `is_global` lets several of them
through, and which ones depends on its version. Within 2000::/3 there is no translated form of an IPv4 address but 6to4 and Teredo."""


@dataclass(frozen=True, slots=True)
class Address:
    """A URL that may be asked once its host's addresses are checked: `target` is what the server is asked for."""

    scheme: str
    host: str
    is_literal: bool
    port: int
    target: str

    @property
    def authority(self) -> str:
        """The host as a URL and the `Host` header have it, without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def read_address(url: str, ports: Set[int]) -> Address:
    """Read a URL; raises `SourceRefused` for all that is not plainly one of the public web."""
    if len(url) > MAX_URL_CHARS:
        raise SourceRefused(f"The address is longer than {MAX_URL_CHARS} characters.")
    found = URL.fullmatch(url)
    if not found or not WRITABLE.fullmatch(url):
        raise SourceRefused(
            "The address is not a plain one: http:// or https://, a host in ASCII, no user name. Encode other characters."
        )
    scheme = found["scheme"].lower()
    port = int(found["port"] or PORTS[scheme])
    if port not in ports:
        raise SourceRefused("The address names a port that sources may not be on.")
    written = (found["six"] or found["host"]).lower()
    is_literal = bool(found["six"]) or not written.strip("0123456789.")
    host = read_literal(written) if is_literal else read_name(written)
    return Address(scheme, host, is_literal, port, (found["path"] or "/") + (found["query"] or ""))


def read_name(host: str) -> str:
    if len(host) > 253 or not NAME.fullmatch(host):
        raise SourceRefused("The address's host is neither the full name of one nor a plain IP address.")
    if host.rpartition(".")[2] in PRIVATE_NAMES:
        raise SourceRefused("The address's host is not on the public internet.")
    return host


def read_literal(written: str) -> str:
    try:
        return str(ip_address(written))
    except ValueError:
        raise SourceRefused("The address's host is no IP address in its plain form.") from None


def followed(address: Address, location: str, ports: Set[int]) -> Address:
    """Return where a redirect leads. What it says is checked before and after it is joined, for joining drops characters."""
    if not location or len(location) > MAX_URL_CHARS or not WRITABLE.fullmatch(location):
        raise SourceRefused("The source leads on to what is no plain address.")
    return read_address(urljoin(address.url, location), ports)


def is_public(ip: IPAddress) -> bool:
    """Tell whether an address is one machine of the public internet, in its plain form."""
    if isinstance(ip, IPv6Address) and (ip not in GLOBAL_UNICAST or ip.scope_id):
        return False
    return not any(ip in network for network in SPECIAL)
