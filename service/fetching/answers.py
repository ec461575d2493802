"""What a server answers, read within its limits, and the text that is in it."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPResponse
from socket import socket
from typing import cast

from service.errors import SourceRefused, SourceUnavailable
from service.fetching.addresses import Address
from service.fetching.network import Deadline, Wire
from service.fetching.pages import readable

PIECE_BYTES = 65_536
MAX_FRAMING_BYTES = 200_000
"""How much more than a body may come: heads, sizes of chunks, trailers."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
PASSING = frozenset({408, 425, 429})
"""Refusals that may pass; so may all from 500 on."""

PAGES = frozenset({"text/html", "application/xhtml+xml"})
TEXTS = re.compile(r"text/[a-z0-9.+-]+|application/(?:[a-z0-9.+-]+\+)?(?:json|xml)|application/(?:x-ndjson|yaml|toml)")
ENCODINGS = frozenset(
    """utf-8 ascii utf-16 utf-16-le utf-16-be iso8859-1 iso8859-2 iso8859-3 iso8859-4 iso8859-5 iso8859-6 iso8859-7 iso8859-8 iso8859-9
    iso8859-10 iso8859-13 iso8859-14 iso8859-15 iso8859-16 cp866 cp874 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258
    koi8-r koi8-u mac-roman shift_jis euc_jp iso2022_jp euc_kr gb2312 gbk gb18030 big5""".split()
)
"""Those of the web, by Python's names: it knows others that are no encodings of text, or slow ones."""

MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
DECLARED = re.compile(rb"""<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}["']?([A-Za-z0-9_:-]{1,40})""", re.IGNORECASE)
DECLARED_WITHIN = 1_024

REQUEST = (
    "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Brainstem\r\nAccept: text/html, text/*;q=0.9, application/json;q=0.9, */*;q=0.1\r\n"
    "Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: `location` is where a redirect leads, else empty."""

    location: str
    media_type: str
    text: str


def ask(sock: socket, address: Address, deadline: Deadline, most: int) -> Answer:
    """Send the request and read its answer; raises `SourceRefused` and `SourceUnavailable`."""
    try:
        sock.settimeout(deadline.left())
        sock.sendall(REQUEST.format(target=address.target, host=address.authority).encode("ascii"))
        # It needs nothing of a socket but this.
        response = HTTPResponse(cast("socket", Wire(sock, deadline, 2 * most + MAX_FRAMING_BYTES)), method="GET")
        with response:
            response.begin()
            return answer(response, most)
    except (HTTPException, OSError, ValueError):
        raise SourceUnavailable("The source's answer broke off, or was none.") from None


def answer(response: HTTPResponse, most: int) -> Answer:
    status = response.status
    if status in REDIRECTS:
        if not (location := response.headers.get("Location")):
            raise SourceRefused("The source leads on, but not whereto.")
        return Answer(location, "", "")
    if status in PASSING or status >= 500:
        raise SourceUnavailable(f"The source answers with the status {status}.")
    if not 200 <= status < 300:
        raise SourceRefused(f"The source answers with the status {status}.")
    media_type = readable_type(response.headers)
    return Answer("", media_type, text_of(media_type, response.headers.get_content_charset(), body(response, most)))


def readable_type(headers: Message) -> str:
    """Return the media type of a text that comes as it is; anything else is refused before it is read."""
    if headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise SourceRefused("The source sends what is compressed, unasked.")
    if headers.get("Transfer-Encoding", "chunked").strip().lower() != "chunked":
        raise SourceRefused("The source sends what is compressed, unasked.")
    media_type = str(headers.get("Content-Type", "")).partition(";")[0].strip().lower()
    if media_type not in PAGES and not TEXTS.fullmatch(media_type):
        raise SourceRefused("The source is no text: a web page, a text file, JSON or XML can be read.")
    return media_type


def body(response: HTTPResponse, most: int) -> bytes:
    if (response.length or 0) > most:
        raise too_large(most)
    pieces: list[bytes] = []
    length = 0
    while piece := response.read(PIECE_BYTES):
        pieces.append(piece)
        length += len(piece)
        if length > most:
            raise too_large(most)
    if response.length:
        raise SourceUnavailable("The source's answer broke off, or was none.")
    return b"".join(pieces)


def too_large(most: int) -> SourceRefused:
    return SourceRefused(f"The source is larger than {most} bytes.")


def text_of(media_type: str, charset: str | None, content: bytes) -> str:
    """Decode a text by its mark, its header, its own word or as UTF-8, in this order; raises `SourceRefused` if it is none."""
    marked = next((encoding for mark, encoding in MARKS if content.startswith(mark)), None)
    if not charset and media_type in PAGES and (found := DECLARED.search(content[:DECLARED_WITHIN])):
        charset = found[1].decode()
    text = content.decode(marked or known(charset), errors="replace")
    if "\0" in text:
        raise SourceRefused("The source is no text, although it says so.")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    seen = readable(text) if media_type in PAGES else text
    if not seen.strip():
        raise SourceRefused("The source holds no text. A page that only a script fills cannot be read.")
    return seen


def known(charset: str | None) -> str:
    try:
        name = codecs.lookup(charset or "utf-8").name
    except (LookupError, ValueError):
        return "utf-8"
    # On the web Latin-1 means what Windows made of it.
    return {"iso8859-1": "cp1252", "ascii": "cp1252"}.get(name, name) if name in ENCODINGS else "utf-8"
