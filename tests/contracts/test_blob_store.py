from __future__ import annotations

import hashlib
import io
import threading
from typing import BinaryIO, cast

import pytest

from service.backends.interfaces import BlobStore
from service.errors import BadRequest, NotFound, TooLarge
from service.models import Scope

NAME = "documents/d1/original"


def put(blobs: BlobStore, scope: Scope, content: bytes, name: str = NAME) -> None:
    blobs.put(scope, name, io.BytesIO(content), "text/plain")


def read(blobs: BlobStore, scope: Scope, name: str = NAME) -> bytes:
    with blobs.open(scope, name) as file:
        return file.read()


def is_there(blobs: BlobStore, scope: Scope, name: str = NAME) -> bool:
    try:
        blobs.open(scope, name).close()
    except NotFound:
        return False
    return True


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 20_000], ids=len)
def test_what_is_put_can_be_read_and_is_measured(blobs: BlobStore, ada: Scope, content: bytes) -> None:
    blob = blobs.put(ada, NAME, io.BytesIO(content), "application/octet-stream")
    assert (blob.bytes, blob.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert read(blobs, ada) == content


def test_putting_again_replaces(blobs: BlobStore, ada: Scope) -> None:
    put(blobs, ada, b"a longer first version")
    put(blobs, ada, b"second")
    assert read(blobs, ada) == b"second"


def test_a_reader_keeps_what_it_opened(blobs: BlobStore, ada: Scope) -> None:
    put(blobs, ada, b"first")
    with blobs.open(ada, NAME) as file:
        put(blobs, ada, b"second")
        blobs.delete(ada, NAME)
        assert file.read() == b"first"


def test_what_is_not_there_is_not_found(blobs: BlobStore, ada: Scope) -> None:
    with pytest.raises(NotFound):
        blobs.open(ada, NAME)
    with pytest.raises(NotFound):
        blobs.sign(ada, NAME, seconds=60, filename="a.txt")
    blobs.delete(ada, NAME)


def test_what_is_deleted_is_gone(blobs: BlobStore, ada: Scope) -> None:
    put(blobs, ada, b"x")
    blobs.delete(ada, NAME)
    assert not is_there(blobs, ada)
    put(blobs, ada, b"y")
    assert read(blobs, ada) == b"y"


class Broken(io.RawIOBase):
    """Gives some bytes and then fails, as an upload does whose client leaves or sends too much."""

    def __init__(self, error: Exception) -> None:
        self._answers: list[bytes | Exception] = [b"some", error]

    def read(self, size: int = -1) -> bytes:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize("error", [TooLarge(), ConnectionResetError(), ValueError()], ids=repr)
def test_content_that_breaks_off_leaves_what_was_there(blobs: BlobStore, ada: Scope, error: Exception) -> None:
    for name, before in (("new", None), ("old", b"old")):
        if before is not None:
            put(blobs, ada, before, name)
        with pytest.raises(type(error)):
            blobs.put(ada, name, cast("BinaryIO", Broken(error)), "text/plain")
        assert is_there(blobs, ada, name) == (before is not None)
    assert read(blobs, ada, "old") == b"old"


def test_a_signed_url_is_made_for_what_is_there(blobs: BlobStore, ada: Scope) -> None:
    put(blobs, ada, b"x")
    url = blobs.sign(ada, NAME, seconds=600, filename='Bericht "2" – ä.pdf')
    assert url.startswith(("/", "https://", "http://127.0.0.1:"))
    assert url.isascii()
    assert not any(character.isspace() for character in url)


def test_a_file_name_that_is_no_text_is_refused(blobs: BlobStore, ada: Scope) -> None:
    put(blobs, ada, b"x")
    with pytest.raises(BadRequest):
        blobs.sign(ada, NAME, seconds=600, filename="\ud800.pdf")


NAMES = [
    "a", "A", "a/b", "a/b/c", "a%2Fb", "..", "../a", ".", "/a", "a/", "a//b", "\0", "é", "\u00e9\u0301", "e\u0301",
    "\u00e9", "%", "CON", "con", "a.blob", ".draft", "users/ada/a", "drafts", "x" * 1024, "X" * 1024, "x" * 1023, "日" * 341,
]  # fmt: skip


def test_names_that_differ_are_files_that_differ(blobs: BlobStore, ada: Scope) -> None:
    distinct = list(dict.fromkeys(NAMES))
    for name in distinct:
        put(blobs, ada, name.encode(), name)
    assert [read(blobs, ada, name) for name in distinct] == [name.encode() for name in distinct]
    blobs.delete(ada, "a")
    assert [name for name in distinct if not is_there(blobs, ada, name)] == ["a"]


def test_the_names_of_a_scope_are_listed(blobs: BlobStore, ada: Scope, scopes: list[Scope]) -> None:
    distinct = list(dict.fromkeys(NAMES))
    assert list(blobs.names(ada)) == []
    for scope in scopes:
        put(blobs, scope, b"x")
    for name in distinct:
        put(blobs, ada, b"x", name)
    assert sorted(blobs.names(ada)) == sorted([*distinct, NAME])
    assert list(blobs.names(Scope(ada.app, None))) == [NAME]
    assert sorted(blobs.names(ada, "a/")) == sorted(name for name in distinct if name.startswith("a/"))
    for name in list(blobs.names(ada)):
        blobs.delete(ada, name)
    assert list(blobs.names(ada)) == []
    assert all(is_there(blobs, scope) for scope in scopes if scope != ada)


@pytest.mark.parametrize("name", ["", "x" * 1025, "é" * 513, "\ud800"], ids=lambda name: str(len(name)))
def test_a_name_that_no_store_takes_is_refused(blobs: BlobStore, ada: Scope, name: str) -> None:
    with pytest.raises(BadRequest):
        put(blobs, ada, b"x", name)
    with pytest.raises(BadRequest):
        blobs.open(ada, name)


def test_no_scope_sees_anothers_blobs(blobs: BlobStore, scopes: list[Scope]) -> None:
    for scope in scopes:
        put(blobs, scope, repr(scope).encode())
    assert [read(blobs, scope) for scope in scopes] == [repr(scope).encode() for scope in scopes]
    blobs.delete(scopes[0], NAME)
    assert [is_there(blobs, scope) for scope in scopes] == [False] + [True] * (len(scopes) - 1)


@pytest.mark.parametrize("name", [f"users/ada/{NAME}", f"../users/ada/{NAME}", f"users%2Fada%2F{NAME}"])
def test_no_name_leads_into_another_scope(blobs: BlobStore, ada: Scope, name: str) -> None:
    put(blobs, ada, b"ada's")
    shared = Scope(ada.app, None)
    assert not is_there(blobs, shared, name)
    put(blobs, shared, b"shared", name)
    assert read(blobs, ada) == b"ada's"


def test_of_many_that_put_one_name_one_whole_file_stays(blobs: BlobStore, ada: Scope) -> None:
    contents = [bytes([n]) * 3_000_000 for n in range(8)]
    threads = [threading.Thread(target=put, args=(blobs, ada, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read(blobs, ada) in contents


def test_it_is_ready(blobs: BlobStore) -> None:
    blobs.check()
