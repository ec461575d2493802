"""Bad input of every kind gets a typed 4xx, never a 5xx, never an echo."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.api.parsing import parse_json
from service.errors import BadRequest
from tests.kit.client import User

MARK = "zq-echo-7"

BODIES: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "not JSON": (b"{", 400),
    "an array": (b"[]", 400),
    "a text": (b'"x"', 400),
    "null": (b"null", 400),
    "a number": (b"1", 400),
    "deep arrays": (b"[" * 20_000, 400),
    "deep objects": (b'{"text":' * 20_000, 400),
    "deep but closed": (b'{"text":' + b"[" * 40 + b"]" * 40 + b"}", 400),
    "NaN": (b'{"text":NaN}', 400),
    "Infinity": (b'{"text":-Infinity}', 400),
    "too large a number": (b'{"text":1e999}', 400),
    "4000 digits": (b'{"text":' + b"9" * 4000 + b"}", 422),
    "5000 digits": (b'{"text":' + b"9" * 5000 + b"}", 400),
    "a key twice": (b'{"text":"a","text":"b"}', 400),
    "a key twice, below": (b'{"text":{"a":1,"a":2}}', 400),
    "a lone surrogate": (b'{"text":"\\ud800"}', 400),
    "a lone surrogate as key": (b'{"\\udfff":"x","text":"x"}', 400),
    "raw surrogate bytes": (b'{"text":"\xed\xa0\x80"}', 400),
    "UTF-16": ('{"text":"x"}'.encode("utf-16"), 400),
    "a byte order mark": (b'\xef\xbb\xbf{"text":"x"}', 400),
    "latin-1": ('{"text":"\xe9"}'.encode("latin-1"), 400),
    "trailing text": (b'{"text":"x"} zq-echo-7', 400),
    "an unknown field": (b'{"text":"x","zq-echo-7":1}', 422),
    "a field of another's": (b'{"text":"x","model":"gpt-99","api_base":"http://127.0.0.1:9/"}', 422),
    "a wrong type": (b'{"text":["zq-echo-7"]}', 422),
    "no text": (b'{"id":"m1"}', 422),
    "an empty text": (b'{"text":""}', 422),
    "only spaces": (b'{"text":" \\n "}', 422),
    "an id with a slash": (b'{"text":"x","id":"../zq-echo-7"}', 422),
    "an id too long": (b'{"text":"x","id":"' + b"a" * 65 + b'"}', 422),
    "an empty id": (b'{"text":"x","id":""}', 422),
    "too long a message": (json.dumps({"text": "x" * 8001}).encode(), 422),
    "too large": (json.dumps({"text": "x" * 1_000_001}).encode(), 413),
}


def assert_problem(answer: Any, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    body = answer.json
    assert set(body) == {"type", "title", "status", "code", "detail", "requestId", "retryable"}
    assert body["status"] == status
    assert body["requestId"] == answer.headers["X-Request-Id"]
    assert MARK not in answer.text


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_a_typed_4xx(ada: User, name: str) -> None:
    body, status = BODIES[name]
    answer = ada.post("chats/c1/messages", data=body, headers={"Content-Type": "application/json"})
    assert_problem(answer, status)
    assert ada.get("chats/c1").status_code == 404


def test_a_good_body_of_odd_characters_is_taken_as_it_is(ada: User) -> None:
    text = "Zero\u200bwidth, \U0001f600, \u202eRTL, NUL \x00, e\u0301, \U0010ffff"
    answer = ada.ask("c1", text)
    assert answer.status_code == 200
    assert ada.get("chats/c1").json["turns"][0]["prompt"] == text


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("text/plain", 415),
        ("", 415),
        ("application/json; charset=utf-16", 415),
        ("application/json; charset=utf-8", 200),
    ],
)
def test_only_json_in_utf_8_is_read(ada: User, content_type: str, status: int) -> None:
    answer = ada.post("chats/c1/messages", data=b'{"text":"x"}', headers={"Content-Type": content_type})
    assert answer.status_code == status


@pytest.mark.parametrize("chat", ["a.b", "a b", "a%2Fb", "é", "x" * 65, "%00", "a\u202eb", "..%2f..%2fbeta"])
def test_an_id_outside_the_alphabet_is_refused(ada: User, chat: str) -> None:
    for method, path, body in (("GET", "chats/{}", None), ("POST", "chats/{}/messages", {"text": "x"})):
        answer = ada.call(method, path.format(chat), json=body)
        assert answer.status_code in (400, 404), (method, chat)
        assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=1&limit=2", "cursor=%00", "cursor=x", "unknown=1",
     "cursor=" + "A" * 501, "limit=" + "9" * 4000],
)  # fmt: skip
def test_a_bad_query_is_a_400(ada: User, query: str) -> None:
    assert_problem(ada.get(f"chats?{query}"), 400)


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "caf\xe9"])
def test_a_bad_idempotency_key_is_a_400(ada: User, key: str) -> None:
    answer = ada.post("chats/c1/messages", json={"text": "x"}, headers={"Idempotency-Key": key})
    assert_problem(answer, 400)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer a b", "Bearer a,Bearer b", "Basic YTpi", "bearer x", "Bearer " + "x" * 8000,
     "Bearer \xff", "Bearer null", "Bearer ..", "Token x"],
)  # fmt: skip
def test_a_bad_authorization_header_is_a_401(ada: User, header: str) -> None:
    answer = ada.get("chats", headers={"Authorization": header})
    assert_problem(answer, 401)


def test_an_app_check_token_that_does_not_hold_is_a_401(ada: User) -> None:
    assert_problem(ada.get("chats", headers={"X-Firebase-AppCheck": "zq-echo-7"}), 401)


def test_what_no_route_knows_is_a_problem_too(ada: User) -> None:
    assert_problem(ada.get("/v1/apps/alpha/nothing"), 404)
    assert_problem(ada.call("PUT", "chats/c1"), 405)
    assert_problem(ada.post("chats/c1/messages", json={"text": "x"}, headers={"Accept": "image/png"}), 406)


def test_a_compressed_body_is_a_415(ada: User) -> None:
    gzipped = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert_problem(ada.post("chats/c1/messages", data=b'{"text":"x"}', headers=gzipped), 415)
    form = {"Content-Encoding": "gzip", "Content-Type": "multipart/form-data; boundary=b"}
    assert_problem(ada.post("documents", data=b"--b--", headers=form), 415)


@pytest.mark.parametrize("path", ["/v1/apps//alpha/chats", "/web//index.html", "/v1//apps"])
def test_slashes_are_never_merged(ada: User, path: str) -> None:
    assert_problem(ada.get(path), 404)


@pytest.mark.parametrize("name", [" ", "\x00", "a\nb", "\u202e", "\U0001f600" * 128, ""])
def test_a_name_that_cannot_be_shown_or_kept_does_not_sign_in(ada: User, name: str) -> None:
    assert_problem(ada.http.post("/local/sign-in", json={"user": name}), 422)


def test_a_body_where_none_belongs_is_a_400(ada: User) -> None:
    assert_problem(ada.call("DELETE", "chats/c1", data=b"x"), 400)


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"x", "text/plain", 415),
        (b"x", "multipart/form-data", 400),
        (b"--b\r\nno", "multipart/form-data; boundary=b", 400),
        (
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--',
            "multipart/form-data; boundary=b",
            400,
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="other"; filename="a.txt"\r\n\r\nx\r\n--b--',
            "multipart/form-data; boundary=b",
            400,
        ),
    ],
)
def test_a_bad_form_is_a_4xx(ada: User, data: bytes, content_type: str, status: int) -> None:
    assert_problem(ada.post("documents", data=data, headers={"Content-Type": content_type}), status)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b\\c.txt", "\u202etxt.exe", "x" * 5000, "\x00.txt", ".."])
def test_a_files_name_is_only_a_title(ada: User, name: str) -> None:
    answer = ada.upload(name, f"Text of {name!r}".encode())
    assert answer.status_code in (202, 400)
    if answer.status_code == 202:
        title = answer.json["title"]
        assert 0 < len(title) <= 200
        assert not set(title) & set("/\\\x00\u202e")
        ada.wait(answer.json["id"])


@pytest.mark.parametrize(
    "body",
    [b'{"a":[[1]]}', b'{"__x__":1}', b'{"":1}', b'{"a":9223372036854775808}', b'{"a":' * 25 + b"1" + b"}" * 25,
     b'{"a":NaN}', b'{"a":1.5e308}'],
)  # fmt: skip
def test_data_that_the_cloud_store_would_refuse_is_refused_here_or_kept_whole(ada: User, body: bytes) -> None:
    answer = ada.call("PUT", "data/profile", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400, 422)
    if answer.status_code == 200:
        assert ada.get("data/profile").json["data"] == json.loads(body)


def test_another_host_name_is_refused(flask: Flask) -> None:
    http = flask.test_client()
    assert http.get("/health", headers={"Host": "localhost:8080"}).status_code == 200
    assert http.get("/health", headers={"Host": "evil.example"}).status_code == 403
    assert http.post("/local/sign-in", json={"user": "ada"}, headers={"Host": "evil.example:8080"}).status_code == 403


@given(st.text(max_size=200))
@hypothesis_settings(max_examples=300)
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        value = parse_json(text)
    except BadRequest:
        return
    assert value == json.loads(text)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
@hypothesis_settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_good_json_comes_through_unchanged(value: dict[str, Any]) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False)) == value
