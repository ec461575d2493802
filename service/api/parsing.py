"""What a client sends, read strictly: nothing is guessed, cut short or taken twice."""

from __future__ import annotations

import json
import re
from typing import NoReturn, TypeVar

import msgspec
from flask import Request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from service.errors import BadRequest, TooLarge, UnknownField, Unprocessable, UnsupportedMediaType
from service.records import learned

T = TypeVar("T")

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
KEY = re.compile(r"[\x21-\x7e]{1,255}")
MAX_DEPTH = 32
SURROGATE = re.compile("[\ud800-\udfff]")
BLOCK = 1 << 16


def read_body(request: Request, limit: int) -> bytes:
    """Read a whole body of at most `limit` bytes, also one sent in chunks.

    Werkzeug cuts a chunked body at its own limit without a word, so the limit is kept here, by a loop.
    """
    check_encoding(request)
    length = request.content_length
    if length is not None and length > limit:
        raise TooLarge(f"The body may have {limit} bytes.")
    blocks: list[bytes] = []
    size = 0
    while size != length and (block := read_block(request)):
        size += len(block)
        if size > limit:
            raise TooLarge(f"The body may have {limit} bytes.")
        blocks.append(block)
    if length is not None and size < length:
        raise BadRequest("The body ended before its Content-Length.")
    return b"".join(blocks)


def check_encoding(request: Request) -> None:
    """Refuse a compressed body, which nothing here unpacks."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body as it is, without a Content-Encoding.")


def read_block(request: Request) -> bytes:
    try:
        return request.stream.read(BLOCK)
    except (ClientDisconnected, RequestEntityTooLarge):
        raise BadRequest("The body ended before its Content-Length.") from None
    except Exception as error:  # the server's own parser errors escape through the stream
        raise BadRequest("The body's transfer coding is malformed.") from error


def read_json(request: Request, limit: int) -> object:
    """Read a JSON object: UTF-8, at most 32 deep, no key twice, no NaN, no lone surrogates."""
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Send the body as `application/json`.")
    if request.mimetype_params.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaType("Send the body in UTF-8.")
    body = read_body(request, limit)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest("The body is not UTF-8.") from None
    return parse_json(text)


def parse_json(text: str) -> dict[str, object]:
    check_depth(text)
    try:
        value = decode(text)
    except BadRequest:
        raise
    except (ValueError, RecursionError):
        raise BadRequest("The body is not valid JSON.") from None
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object.")
    if "\\u" in text or SURROGATE.search(text):
        refuse_surrogates(value)
    return value


def check_depth(text: str) -> None:
    """Refuse nesting before the parser recurses into it; brackets inside strings do not count."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text):
        if token[0] in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise BadRequest(f"The body is nested deeper than {MAX_DEPTH}.")
        elif token[0] in "]}":
            depth -= 1


def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BadRequest("The body has a key twice.")
    return found


def refuse_constant(_: str) -> NoReturn:
    raise BadRequest("NaN and Infinity are not JSON.")


def finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise BadRequest("A number is too large.")
    return value


decode = json.JSONDecoder(object_pairs_hook=unique, parse_constant=refuse_constant, parse_float=finite).decode


def refuse_surrogates(value: object) -> None:
    match value:
        case str() if SURROGATE.search(value):
            raise BadRequest("The body holds half of a character (a lone surrogate).")
        case dict():
            for key, item in value.items():
                refuse_surrogates(key)
                refuse_surrogates(item)
        case list():
            for item in value:
                refuse_surrogates(item)


def to_struct(value: object, kind: type[T], *, strict: bool = True) -> T:
    """Validate against a schema; raises `UnknownField` or `Unprocessable` that name our fields, never the client's text."""
    try:
        return msgspec.convert(value, learned(kind), strict=strict)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        field = place.strip("`").lstrip(".")
        if "unknown field" in problem:
            names = ", ".join(f"`{f.encode_name}`" for f in msgspec.structs.fields(kind))  # type: ignore[arg-type]
            raise UnknownField(f"This endpoint knows: {names}.") from None
        if "missing required field" in problem:
            raise Unprocessable(f"Missing{problem.removeprefix('Object missing')}.") from None
        where = f"`{field}`: " if field else ""
        raise Unprocessable(f"{where}{problem.partition(', got')[0].partition(' matching regex')[0]}.") from None


def query_struct(request: Request, kind: type[T]) -> T:
    """Validate the query string; a name given twice is refused, like one that is not known."""
    values: dict[str, str] = {}
    for name, given in request.args.lists():
        if len(given) > 1:
            raise BadRequest("A query parameter is given twice.")
        values[name] = given[0]
    try:
        return to_struct(values, kind, strict=False)
    except Unprocessable as error:
        raise BadRequest(f"Query: {error.detail}") from None


def idempotency_key(request: Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not KEY.fullmatch(key):
        raise BadRequest("An Idempotency-Key has 1 to 255 printable ASCII characters without spaces.")
    return key


def check_id(value: str) -> str:
    if not ID.fullmatch(value):
        raise BadRequest("An id has 1 to 64 letters, digits, - or _.")
    return value
