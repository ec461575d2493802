"""Sources are read from the public internet and from nowhere else, however the address is written, and within their limits."""

from __future__ import annotations

import ast
import gzip
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from service.config import Settings
from service.errors import SourceRefused, SourceUnavailable
from service.fetching import FetchLimits, Network, fetch
from service.fetching.addresses import is_public, read_address
from service.fetching.answers import text_of
from service.fetching.network import INTERNET
from service.fetching.pages import readable
from tests.kit.certificates import certificate
from tests.kit.sources import Script, Source, endless, moved, page

ROOT = Path(__file__).parent.parent
LIMITS = FetchLimits(bytes=50_000)
QUICK = FetchLimits(seconds=0.5, bytes=50_000)


class Reader(Protocol):
    def __call__(self, script: Script, limits: FetchLimits = LIMITS) -> str: ...


WELCOME = "Grüße: αβγ, где."
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
GOOD = "127.0.0.2"
"""Where a good source is, with canaries beside it on 127.0.0.1 and ::1."""


@pytest.fixture
def good() -> Iterator[Source]:
    with Source({"/": page(WELCOME.encode())}, GOOD) as source:
        yield source


@pytest.fixture
def canaries(good: Source) -> Iterator[list[Source]]:
    """Servers that nobody may reach, on the good source's port."""
    with Source({}, "127.0.0.1", good.port) as four, Source({}, "::1", good.port) as six:
        yield [four, six]


@pytest.fixture
def network(good: Source) -> Network:
    """A network on which every name is the good source's, and that alone is admitted."""
    return Network(lambda host: [GOOD], INTERNET.ports | {good.port}, frozenset({GOOD}))


@pytest.fixture
def read(good: Source, network: Network) -> Reader:
    """Read an answer that the good source sends."""

    def read_answer(script: Script, limits: FetchLimits = LIMITS) -> str:
        good.scripts["/"] = script
        return fetch(f"http://good.example:{good.port}/", limits, network=network).text

    return read_answer


# What is good is read


def test_a_good_source_is_read(
    good: Source, network: Network, canaries: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{good.port}")
    found = fetch(f"http://good.example:{good.port}/", network=network)
    assert (found.url, found.media_type, found.text) == (f"http://good.example:{good.port}/", "text/plain", WELCOME)
    [head] = good.asked
    assert head.splitlines()[:2] == ["GET / HTTP/1.1", f"Host: good.example:{good.port}"]
    names = [line.partition(":")[0] for line in head.splitlines()[1:] if line]
    assert names == ["Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"]
    assert [canary.hits for canary in canaries] == [0, 0]


def test_over_tls_the_host_s_certificate_is_checked(tmp_path: Path) -> None:
    context, vouched = certificate(tmp_path, "good.example")
    asked: list[str | None] = []
    context.sni_callback = lambda sock, name, _: asked.append(name)
    with Source({"/a?b": page(b"safe")}, tls=context) as source:
        network = Network(
            lambda host: ["127.0.0.1"],
            frozenset({source.port}),
            frozenset({"127.0.0.1"}),
            lambda: ssl.create_default_context(cafile=str(vouched)),
        )
        assert fetch(f"https://good.example:{source.port}/a?b#c", network=network).text == "safe"
        assert asked == ["good.example"]
        with pytest.raises(SourceRefused, match="certificate"):
            fetch(f"https://other.example:{source.port}/", network=network)
        with pytest.raises(SourceRefused, match="certificate"):
            fetch(f"https://good.example:{source.port}/", network=replace(network, tls=ssl.create_default_context))
        assert len(source.asked) == 1


def test_the_next_address_is_tried_where_one_does_not_answer(good: Source, network: Network) -> None:
    both = replace(network, resolve=lambda host: ["127.0.0.3", GOOD], admitted=frozenset({"127.0.0.3", GOOD}))
    assert fetch(f"http://good.example:{good.port}/", network=both).text == WELCOME


# What is not is not asked

FORMS = """
http://127.0.0.1:{port}/
http://127.0.0.1:{port}
HTTP://127.0.0.1:{port}/
http://localhost:{port}/
http://LOCALHOST:{port}/
http://localhost.:{port}/
http://a.localhost:{port}/
http://localhost.localdomain:{port}/
http://127.1:{port}/
http://127.0.1:{port}/
http://127.000.000.001:{port}/
http://127.0.0.1.:{port}/
http://0177.0.0.1:{port}/
http://0177.1:{port}/
http://0x7f.0.0.1:{port}/
http://0x7f.1:{port}/
http://0x7f000001:{port}/
http://0X7F000001:{port}/
http://2130706433:{port}/
http://017700000001:{port}/
http://4294967297:{port}/
http://127.0.0.0x1:{port}/
http://0:{port}/
http://0.0.0.0:{port}/
http://127.127.127.127:{port}/
http://[::1]:{port}/
http://[::]:{port}/
http://[0:0:0:0:0:0:0:1]:{port}/
http://[0000::0001]:{port}/
http://[::1%25lo]:{port}/
http://[::1%lo]:{port}/
http://[::127.0.0.1]:{port}/
http://[::ffff:127.0.0.1]:{port}/
http://[::ffff:7f00:1]:{port}/
http://[::ffff:a9fe:a9fe]:{port}/
http://[::ffff:0:127.0.0.1]:{port}/
http://[64:ff9b::127.0.0.1]:{port}/
http://[64:ff9b::a9fe:a9fe]:{port}/
http://[64:ff9b:1::7f00:1]:{port}/
http://[2002:7f00:1::]:{port}/
http://[2002:a9fe:a9fe::1]:{port}/
http://[2001:0:7f00:1::]:{port}/
http://[fe80::1]:{port}/
http://[fc00::1]:{port}/
http://[fd00:ec2::254]:{port}/
http://[ff02::1]:{port}/
http://[fec0::1]:{port}/
http://[v1.127.0.0.1]:{port}/
http://224.0.0.1:{port}/
http://255.255.255.255:{port}/
http://10.0.0.1:{port}/
http://172.16.0.1:{port}/
http://192.168.0.1:{port}/
http://100.64.0.1:{port}/
http://169.254.169.254:{port}/latest/meta-data/
http://2852039166:{port}/
http://0xA9FEA9FE:{port}/
http://metadata.google.internal:{port}/computeMetadata/v1/
http://METADATA.google.INTERNAL:{port}/
http://metadata.google.internal.:{port}/
http://metadata:{port}/
http://metadata.goog:{port}/
http://127.0.0.1.nip.io:{port}/
http://rebind.example:{port}/
http://router.home:{port}/
http://printer.local:{port}/
http://server.lan:{port}/
http://hidden.onion:{port}/
http://ⓛocalhost:{port}/
http://loc\u00adalhost:{port}/
http://①②⑦.⓪.⓪.①:{port}/
http://１２７.０.０.１:{port}/
http://١٢٧.0.0.1:{port}/
http://127。0。0。1:{port}/
http://127%2e0%2e0%2e1:{port}/
http://%31%32%37.0.0.1:{port}/
http://localhos%74:{port}/
http://127.0.0.1%00.good.example:{port}/
http://good.example@127.0.0.1:{port}/
http://good.example:80@127.0.0.1:{port}/
http://user:secret@127.0.0.1:{port}/
http://127.0.0.1:{port}\\@good.example/
http://good.example\\@127.0.0.1:{port}/
http:\\\\127.0.0.1:{port}\\
http:/127.0.0.1:{port}/
http:127.0.0.1:{port}/
http:///127.0.0.1:{port}/
//127.0.0.1:{port}/
127.0.0.1:{port}
http://127.0.0.1:{port}#@good.example/
http://127.0.0.1:{port}?@good.example/
http://127.0.0.1:{port}/#@good.example
http://127.0.0.1:{port}&@good.example/
http://127.0.0.1 :{port}/
 http://127.0.0.1:{port}/
http://127.0.0.1\t:{port}/
ht\ntp://127.0.0.1:{port}/
http://127.0.0.1:{port}/\r\nX-Injected: 1
http://127.0.0.1:{port}:80/
http://127.0.0.1:-1/
http://127.0.0.1:99999/
http://127.0.0.1:٨٠/
http://127.0.0.1:22/
http://127.0.0.1:6379/
http://[::1]]:{port}/
http://[127.0.0.1]:{port}/
https://127.0.0.1:{port}/
https://[::1]:{port}/
ftp://127.0.0.1:{port}/
file:///etc/passwd
file://127.0.0.1/etc/passwd
gopher://127.0.0.1:{port}/_GET
dict://127.0.0.1:{port}/
data:text/plain,hello
javascript:alert(1)
jar:http://127.0.0.1:{port}!/
http://
http://:{port}/
""".strip("\n").split("\n")
FORMS = [form.replace("\\t", "\t").replace("\\r\\n", "\r\n").replace("\\n", "\n") for form in FORMS]


@pytest.mark.parametrize("form", FORMS, ids=ascii)
def test_a_machine_that_is_not_public_is_not_asked(form: str, good: Source, canaries: list[Source]) -> None:
    # The worst resolver there is: whatever looks like a name is this machine.
    network = Network(lambda host: ["127.0.0.1", "::1"], INTERNET.ports | {good.port})
    with pytest.raises(SourceRefused) as refused:
        fetch(form.format(port=good.port), network=network)
    assert refused.value.status == 422
    assert not refused.value.retryable
    assert [canary.hits for canary in canaries] == [0, 0]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_canaries_hear_whoever_reaches_them(address: str, good: Source, canaries: list[Source]) -> None:
    careless = Network(lambda host: [address], frozenset({good.port}), frozenset({address}))
    with pytest.raises(SourceRefused, match="404"):
        fetch(f"http://good.example:{good.port}/", network=careless)
    assert [canary.hits for canary in canaries] == [address == "127.0.0.1", address == "::1"]


@pytest.mark.parametrize(
    "addresses",
    [["93.184.215.14", "127.0.0.1"], ["::1", GOOD], [GOOD, "10.0.0.1"], ["fe80::1%lo"], ["::ffff:127.0.0.1"]],
)
def test_one_address_that_is_not_public_is_enough(
    addresses: list[str], good: Source, network: Network, canaries: list[Source]
) -> None:
    with pytest.raises(SourceRefused):
        fetch(f"http://good.example:{good.port}/", network=replace(network, resolve=lambda host: addresses))
    assert [good.hits, *(canary.hits for canary in canaries)] == [0, 0, 0]


def test_the_address_that_was_checked_is_the_one_that_is_asked(
    good: Source, network: Network, canaries: list[Source]
) -> None:
    answers = iter([[GOOD], ["127.0.0.1"], ["127.0.0.1"]])
    found = fetch(f"http://flips.example:{good.port}/", network=replace(network, resolve=lambda host: next(answers)))
    assert found.text == WELCOME
    assert next(answers) == ["127.0.0.1"], "the name was looked up once"
    assert [canary.hits for canary in canaries] == [0, 0]


def test_a_name_that_flips_between_redirects_is_checked_again(
    good: Source, network: Network, canaries: list[Source]
) -> None:
    answers = iter([[GOOD], ["127.0.0.1"]])
    good.scripts["/"] = moved("/again")
    with pytest.raises(SourceRefused):
        fetch(f"http://flips.example:{good.port}/", network=replace(network, resolve=lambda host: next(answers)))
    assert next(answers, None) is None
    assert [good.hits, *(canary.hits for canary in canaries)] == [1, 0, 0]


NOT_PUBLIC = """0.0.0.0 0.1.2.3 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.255 168.63.129.16
169.254.169.254 169.254.170.2 172.16.0.0 172.31.255.255 192.0.0.192 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.255.255
192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:8.8.8.8 64:ff9b::8.8.8.8 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1
2001::1 2001:2::1 2001:3::1 2001:4:112::1 2001:10::1 2001:20::1 2001:db8::1 2002:808:808::1 2620:4f:8000::1 3fff::1 3fff:fff::1
5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%lo febf::1 fec0::1 ff02::1 ff0e::1 4000::1 8000::1 2606:4700::1%lo""".split()
PUBLIC = """1.1.1.1 8.8.8.8 93.184.215.14 100.63.255.255 100.128.0.0 172.15.255.255 172.32.0.0 192.0.1.1 198.17.255.255 223.255.255.255
2001:200::1 2001:4860:4860::8888 2003::1 2606:4700::1 2a00:1450::1 3ffe::1""".split()


def test_what_is_public_is_told_strictly() -> None:
    assert [address for address in NOT_PUBLIC if is_public(ip_address(address))] == []
    assert [address for address in PUBLIC if not is_public(ip_address(address))] == []


@pytest.mark.parametrize(
    ("url", "authority", "target"),
    [
        ("https://example.com", "example.com", "/"),
        ("HTTPS://Example.COM:443/A?b=c#d", "example.com", "/A?b=c"),
        ("http://example.com:443?x", "example.com:443", "/?x"),
        ("http://xn--80ak6aa92e.xn--p1ai/%D0%B3", "xn--80ak6aa92e.xn--p1ai", "/%D0%B3"),
        ("https://[2606:4700:0::1]/", "[2606:4700::1]", "/"),
        ("https://1.1.1.1/dns", "1.1.1.1", "/dns"),
        ("https://example.com/@user/a:b;c=(d)'!$,*+~", "example.com", "/@user/a:b;c=(d)'!$,*+~"),
        ("https://good.example#@127.0.0.1/", "good.example", "/"),
    ],
)
def test_plain_addresses_are_read(url: str, authority: str, target: str) -> None:
    address = read_address(url, INTERNET.ports)
    assert (address.authority, address.target) == (authority, target)


PARTS = st.sampled_from(
    [
        *"/:@#?[]\\.%&=;0x1 \t\n",
        "http://",
        "https://",
        "127.0.0.1",
        "good.example",
        "::1",
        "80",
        "443",
        "%2e",
        "①",
        "ⓛ",
        "\u212a",
        "xn--a",
    ]
)


@profile(max_examples=300, deadline=None)
@given(st.lists(PARTS, max_size=8).map("".join), st.booleans())
def test_others_read_the_host_of_an_address_as_we_do(tail: str, secure: bool) -> None:
    try:
        address = read_address(("https://" if secure else "http://") + tail, INTERNET.ports)
    except SourceRefused:
        return
    again = urlsplit(address.url)
    assert (again.hostname, again.port or address.port) == (address.host, address.port)
    assert (again.username, again.password, again.fragment) == (None, None, "")
    assert address.url.isascii()
    assert read_address(address.url, INTERNET.ports) == address


@pytest.mark.parametrize(
    "part",
    [
        "/a b",
        "/\r\nX-Injected: 1",
        "/\t",
        "/é",
        "/\u212a",
        "/\u2028",
        '/"',
        "/<",
        "/^",
        "/`",
        "/{}",
        "/|",
        "/a\\b",
        "?\n",
        "#\0",
    ],
)
def test_what_is_no_part_of_a_url_is_refused(part: str, good: Source, network: Network) -> None:
    with pytest.raises(SourceRefused):
        fetch(f"http://good.example:{good.port}{part}", network=network)
    assert good.hits == 0


# Redirects


def test_redirects_are_followed_three_times(good: Source, network: Network) -> None:
    good.scripts |= {
        "/0": moved("1?x=y", "301 Moved"),
        "/1?x=y": moved("//other.example:" + str(good.port) + "/2", "307 Go"),
        "/2": moved(f"http://good.example:{good.port}/", "303 See"),
        "/-1": moved("/0", "308 Moved"),
    }
    found = fetch(f"http://good.example:{good.port}/0", network=network)
    assert (found.url, found.text) == (f"http://good.example:{good.port}/", WELCOME)
    assert [head.split()[4] for head in good.asked] == [
        f"{h}.example:{good.port}" for h in ("good", "good", "other", "good")
    ]
    with pytest.raises(SourceRefused, match="3 times"):
        fetch(f"http://good.example:{good.port}/-1", network=network)


def test_what_a_redirect_sets_is_not_sent_on(good: Source, network: Network) -> None:
    good.scripts["/0"] = page(b"", "Location: /", "Set-Cookie: a=b", "WWW-Authenticate: Basic", status="302 Found")
    assert fetch(f"http://good.example:{good.port}/0", network=network).text == WELCOME
    assert not any(name in head.lower() for head in good.asked for name in ("cookie", "authorization", "referer"))


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{port}/", "http://[::1]:{port}/", "//127.0.0.1:{port}/", "http://127.1:{port}/", "http://2130706433:{port}/",
        "http://localhost:{port}/", "http://169.254.169.254/", "http://metadata.google.internal/", "http://[64:ff9b::a9fe:a9fe]/",
        "file:///etc/passwd", "ftp://good.example/", "http://good.example:22/", "http://a@good.example/", "\\\\127.0.0.1:{port}\\",
        "/\\127.0.0.1:{port}/", "http://①②⑦.⓪.⓪.①:{port}/", "/a b", "/\tb", "", "javascript:alert(1)", "/" + "a" * 3_000,
    ],
)  # fmt: skip
def test_where_a_redirect_leads_is_checked(
    location: str, good: Source, network: Network, canaries: list[Source]
) -> None:
    good.scripts["/"] = moved(location.format(port=good.port))
    with pytest.raises(SourceRefused):
        fetch(f"http://good.example:{good.port}/", network=network)
    assert [good.hits, *(canary.hits for canary in canaries)] == [1, 0, 0]


# Limits


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
TOO_MUCH: dict[str, Script] = {
    "endless": endless(HEAD + b"\r\n", b"x" * 10_000),
    "endless chunks": endless(CHUNKED, chunked(b"x" * 1_000)),
    "endless tiny chunks": endless(CHUNKED, chunked(b"x") * 1_000),
    "endless chunk extensions": endless(CHUNKED, b"1;" + b"e" * 10_000 + b"\r\nx\r\n"),
    "endless chunk": endless(CHUNKED + b"fffffffffffffff\r\n", b"x" * 10_000),
    "a length that is too long": HEAD + b"Content-Length: 50001\r\n\r\nx",
    "a length that is false": HEAD + b"Content-Length: 5e4\r\n\r\n" + b"x" * 50_001,
    "compressed": page(gzip.compress(bytes(10_000_000)), "Content-Encoding: gzip"),
    "compressed in another way": page(b"x", "Content-Encoding: br"),
    "compressed for the way": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunked(b"x" * 100),
    "endless early hints": endless(b"", b"HTTP/1.1 100 Continue\r\nA: " + b"b" * 1_000 + b"\r\n\r\n"),
}


@pytest.mark.parametrize("script", TOO_MUCH.values(), ids=TOO_MUCH)
def test_too_much_is_not_read(script: Script, read: Reader, good: Source) -> None:
    with pytest.raises(SourceRefused):
        read(script)
    assert len(good.asked) == 1


BROKEN: dict[str, Script] = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.9\r\n",
    "half a body": HEAD + b"Content-Length: 10\r\n\r\nhalf",
    "half a chunk": CHUNKED + b"5\r\nhal",
    "no chunk": CHUNKED + b"zzz\r\n",
    "a chunk less than nothing": CHUNKED + b"-5\r\nhello\r\n",
    "endless headers": endless(HEAD, b"A: b\r\n"),
    "an endless header": endless(HEAD + b"A: ", b"b" * 10_000),
    "busy": page(b"", status="429 Too Many Requests"),
    "out of order": page(b"", status="503 Service Unavailable"),
}


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN)
def test_what_may_pass_is_to_be_tried_again(script: Script, read: Reader, good: Source) -> None:
    with pytest.raises(SourceUnavailable) as failed:
        read(script)
    assert failed.value.retryable
    assert len(good.asked) == 1


SLOW: dict[str, Script] = {
    "says nothing": lambda client: time.sleep(5),
    "drips its head": endless(b"HTTP/1.1 200 OK\r\nA: ", b"b", 0.1),
    "drips its body": endless(HEAD + b"Content-Length: 40000\r\n\r\n", b"b", 0.1),
    "drips its chunks": endless(CHUNKED, chunked(b"b"), 0.1),
}


@pytest.mark.parametrize("script", SLOW.values(), ids=SLOW)
def test_a_slow_source_is_cut_off(script: Script, read: Reader, good: Source) -> None:
    began = time.monotonic()
    with pytest.raises(SourceUnavailable, match="too long"):
        read(script, QUICK)
    assert time.monotonic() - began < 4.5
    assert len(good.asked) == 1


def test_the_deadline_is_one_for_all_redirects(good: Source, network: Network) -> None:
    def slowly(client: socket.socket) -> None:
        time.sleep(0.3)
        client.sendall(moved("/"))

    good.scripts["/"] = slowly
    with pytest.raises(SourceUnavailable, match="too long"):
        fetch(f"http://good.example:{good.port}/", QUICK, network=network)
    assert good.hits == 2


def test_a_server_that_shakes_no_hands_is_cut_off(good: Source, network: Network) -> None:
    good.scripts["/"] = page(b"")
    began = time.monotonic()
    with pytest.raises(SourceUnavailable, match="secure"):
        fetch(f"https://good.example:{good.port}/", QUICK, network=network)
    assert time.monotonic() - began < 4.5
    assert good.hits == 1


def raising(error: Exception) -> Callable[[str], Sequence[str]]:
    def resolve(host: str) -> Sequence[str]:
        raise error

    return resolve


def test_a_name_that_is_not_known_is_no_source() -> None:
    unknown = Network(raising(socket.gaierror(socket.EAI_NONAME, "none")))
    with pytest.raises(SourceRefused, match="no host"):
        fetch("https://good.example/", network=unknown)


def test_a_resolver_that_fails_or_sleeps_is_not_waited_for() -> None:
    def sleep(host: str) -> Sequence[str]:
        time.sleep(5)
        return []

    resolvers: list[Callable[[str], Sequence[str]]] = [
        raising(socket.gaierror(socket.EAI_AGAIN, "again")),
        raising(UnicodeError()),
    ]
    for resolve in (*resolvers, lambda host: [], sleep):
        began = time.monotonic()
        with pytest.raises(SourceUnavailable):
            fetch("https://good.example/", FetchLimits(seconds=0.3), network=Network(resolve))
        assert time.monotonic() - began < 4.0


def test_a_server_that_takes_no_connection_is_cut_off(good: Source, network: Network) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.3", 0))
        full.listen(0)
        # Linux answers one more than it was told to keep waiting, and then none.
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        port = full.getsockname()[1]
        deaf = replace(
            network, resolve=lambda host: ["127.0.0.3"] * 3, ports=frozenset({port}), admitted=frozenset({"127.0.0.3"})
        )
        began = time.monotonic()
        with pytest.raises(SourceUnavailable):
            fetch(f"http://good.example:{port}/", QUICK, network=deaf)
        assert time.monotonic() - began < 5.0


def test_a_port_that_nobody_is_on_is_unavailable(network: Network) -> None:
    with Source({}, GOOD) as source:
        port = source.port
    with pytest.raises(SourceUnavailable, match="connection"):
        fetch(f"http://good.example:{port}/", network=replace(network, ports=frozenset({port})))


# What is read of an answer


@pytest.mark.parametrize(
    ("status", "media_type"),
    [
        ("404 Not Found", "text/plain"), ("401 Unauthorized", "text/plain"), ("304 Not Modified", "text/plain"), ("200 OK", "application/pdf"),
        ("200 OK", "image/png"), ("200 OK", "application/octet-stream"), ("200 OK", "application/javascript"), ("200 OK", None),
        ("200 OK", "nonsense"), ("200 OK", "multipart/form-data"), ("302 Found", "text/plain"),
    ],
)  # fmt: skip
def test_what_is_no_text_is_refused(status: str, media_type: str | None, read: Reader) -> None:
    with pytest.raises(SourceRefused):
        read(page(b"hello", status=status, media_type=media_type))


@pytest.mark.parametrize(
    ("media_type", "content", "text"),
    [
        ("text/plain", WELCOME.encode(), WELCOME),
        ("text/plain; charset=iso-8859-1", "5 € – déjà".encode("cp1252"), "5 € – déjà"),
        ("text/plain; charset=koi8-r", "где".encode("koi8-r"), "где"),
        ("text/plain; charset=shift_jis", "日本".encode("shift_jis"), "日本"),
        ("text/plain; charset=idna", b"xn--a", "xn--a"),
        ("text/plain; charset=\0", b"plain", "plain"),
        ("text/plain; charset=utf-8", "hé".encode("utf-16"), "hé"),
        ("text/plain; charset=latin-1", "hé".encode("utf-8-sig"), "hé"),
        ("text/plain", b"\xff\r\nx\ry", "\ufffd\nx\ny"),
        ("application/ld+json", b'{"a": "<b>"}', '{"a": "<b>"}'),
        ("text/csv", b"a,b\r\n", "a,b\n"),
        ("text/html", b'<meta charset="windows-1251"><p>' + "где".encode("cp1251"), "где"),
    ],
)
def test_text_is_decoded(media_type: str, content: bytes, text: str, read: Reader) -> None:
    assert read(page(content, media_type=media_type)) == text


@pytest.mark.parametrize(
    "script", [HEAD, page(b""), page(b"<p></p><script>draw()</script>", media_type="text/html"), page(b" \n")]
)
def test_a_source_without_a_word_is_refused(script: Script, read: Reader) -> None:
    with pytest.raises(SourceRefused, match="no text"):
        read(script)


def test_binary_data_that_claims_to_be_text_is_refused(read: Reader) -> None:
    with pytest.raises(SourceRefused, match="although"):
        read(page(b"PK\x03\x04\0\0", media_type="text/html"))


PAGE = """<!DOCTYPE html><html><head><title>Acme &amp; Sons</title><script>if (a < b) hide("</p>")</script>
<style>p { color: red }</style></head><body><!-- a <p>comment</p> --><h1>Annual
report</h1><p>Revenue<br>rose by 5&nbsp;% &lt;net&gt; &#8364; &#99999999999;</p><table><tr><th>Year</th><th>Sum</th></tr>
<tr><td>2025</td><td>10</td></tr></table><template><p>not yet</p></template><ul><li>one<li>two</ul>3 < 4 <svg><text>x</text></svg></body>"""


def test_of_a_page_what_a_reader_sees_is_read(read: Reader) -> None:
    assert read(page(PAGE.encode(), media_type="text/html")).split("\n") == [
        "Acme & Sons", "Annual report", "Revenue", "rose by 5 % <net> € \ufffd", "Year | Sum", "2025 | 10", "one", "two", "3 < 4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "<!--",
        "<!-",
        "<a ",
        "<p",
        "</script",
        "<script>",
        "<script></script",
        "&",
        "&#1",
        "&#x1",
        "<!",
        "<a b='",
        "</",
        "<p>",
    ],
)
def test_no_page_takes_longer_than_it_is_long(piece: str) -> None:
    began = time.monotonic()
    readable(piece * (300_000 // len(piece)))
    readable("&#" + "1" * 1_000_000)
    assert time.monotonic() - began < 5.0


@profile(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([None, "utf-8", "utf-16", "gb18030", "big5", "iso2022_jp", "utf-7"]))
def test_any_bytes_are_text_or_refused(content: bytes, charset: str | None) -> None:
    with suppress(SourceRefused):
        assert text_of("text/html", charset, content)


# The door of tests stays shut


def test_only_tests_name_a_network() -> None:
    for path in (ROOT / "service").rglob("*.py"):
        source = path.read_text("utf-8")
        if path.parent.name == "fetching" or "fetch" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("service.fetching"):
                assert node.module == "service.fetching", path
                assert "Network" not in {alias.name for alias in node.names}, path
            if isinstance(node, ast.Call):
                assert "network" not in {keyword.arg for keyword in node.keywords}, path


def test_no_setting_opens_another_network() -> None:
    assert frozenset({80, 443}) == INTERNET.ports
    assert not INTERNET.admitted
    assert not any(word in name for name in Settings.__dataclass_fields__ for word in ("fetch", "source", "network"))
    for module in (ROOT / "service" / "fetching").glob("*.py"):
        assert "environ" not in module.read_text("utf-8")
        assert "service.config" not in module.read_text("utf-8")
