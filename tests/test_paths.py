from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.backends.paths import decode, encode, file_name, locate, root
from service.errors import BadRequest
from service.models import Scope

TRICKY = "/\\.%_~-A a0\0\n\u202e\u0301éÉİiſKk\U0001f600"

texts = st.one_of(
    st.text(max_size=12),
    st.text(st.sampled_from(TRICKY), max_size=12),
    st.sampled_from(["..", ".", "__x__", "users", "apps/a", "%2F", "%5F_x", "a" * 500, "É" * 120, "con", "."]),
)


def outcome(encoder: object, text: str) -> str | None:
    assert callable(encoder)
    try:
        return str(encoder(text))
    except BadRequest:
        return None


@settings(max_examples=3000, deadline=None)
@given(texts, texts)
@example("a/b", "a%2Fb")
@example("é", unicodedata.normalize("NFD", "é"))
@example("Ada", "ada")
@example("__x", "%5F_x")
def test_two_texts_never_share_an_id_or_a_file(one: str, other: str) -> None:
    if one == other:
        return
    first, second = outcome(encode, one), outcome(encode, other)
    assert first != second or first is None
    # A file system that ignores case and normal forms must not see one file either.
    names = [outcome(file_name, text) for text in (one, other)]
    folded = [name and unicodedata.normalize("NFC", name).casefold() for name in names]
    assert folded[0] != folded[1] or folded[0] is None


@settings(max_examples=1500, deadline=None)
@given(texts)
def test_an_encoded_text_is_one_harmless_segment_and_can_be_read_back(text: str) -> None:
    encoded, name = outcome(encode, text), outcome(file_name, text)
    if encoded is not None:
        assert decode(encoded) == text
        assert set(encoded) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_%")
        assert not encoded.startswith("__")
        assert 0 < len(encoded) <= 1500
    if name is not None:
        assert set(name) <= set("ABCDEFabcdefghijklmnopqrstuvwxyz0123456789-_%")
        assert 0 < len(name) <= 180


@settings(max_examples=1500, deadline=None)
@given(
    st.tuples(texts, st.none() | texts, st.lists(texts, max_size=4)),
    st.tuples(texts, st.none() | texts, st.lists(texts, max_size=4)),
)
@example(("a", None, ["users", "u", "chats", "c"]), ("a", "u", ["chats", "c"]))
@example(("a", None, ["users", "u"]), ("a", "u", []))
@example(("a", "u", ["b"]), ("a", "u/b", []))
def test_two_places_of_different_scopes_never_meet(
    one: tuple[str, str | None, list[str]], other: tuple[str, str | None, list[str]]
) -> None:
    if (one[:2], one[2]) == (other[:2], other[2]):
        return
    try:
        places = [locate(Scope(app, user), tuple(path)) for app, user, path in (one, other)]
    except BadRequest:
        return
    # The one exception is a user's own record, which the app keeps: nobody's path is empty.
    if one[2] and other[2]:
        assert places[0] != places[1]
        assert "/".join(places[0]) != "/".join(places[1])


def test_usual_ids_stay_as_they_are() -> None:
    for text in ("chats", "3f9a_B-7", "_x", "_", "0"):
        assert encode(text) == text
    assert [encode(text) for text in ("a.b", "a/b", "é", "__x__", "~")] == [
        "a%2Eb",
        "a%2Fb",
        "%C3%A9",
        "%5F_x__",
        "%7E",
    ]
    assert file_name("documents/d1/Original") == "documents%2Fd1%2F%4Friginal"


def test_long_names_are_told_apart_and_cannot_be_forged() -> None:
    long = file_name("x" * 500 + "y")
    assert len(long) <= 180
    assert file_name("x" * 500 + "z") != long
    # Whoever knows the hash may spell the whole name, but its mark is encoded then.
    assert file_name(long) != long
    assert file_name(long.replace("%", "")) != long


def test_a_scope_has_one_root() -> None:
    assert root(Scope("recipes", "a/b")) == ("apps", "recipes", "users", "a%2Fb")
    assert root(Scope("recipes", None)) == ("apps", "recipes")


@pytest.mark.parametrize("text", ["", "\ud800", "a\udfff", "x" * 1501, "é" * 251])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        encode(text)


def test_a_record_of_a_user_is_the_apps_but_nothing_below_it() -> None:
    shared = Scope("recipes", None)
    assert locate(shared, ("users", "ada")) == ("apps", "recipes", "users", "ada")
    for path in (("users", "ada", "chats"), ("users", "ada", "chats", "c1")):
        with pytest.raises(BadRequest):
            locate(shared, path)
    assert locate(Scope("recipes", "ada"), ("users", "bob", "x")) == (
        "apps",
        "recipes",
        "users",
        "ada",
        "users",
        "bob",
        "x",
    )
