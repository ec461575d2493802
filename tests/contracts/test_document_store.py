from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from service.backends.interfaces import Create, Delete, DocumentStore, Path, Query, Set, Snapshot, Update, Write
from service.errors import AlreadyExists, BadRequest, PreconditionFailed, RequestError, TooLarge
from service.models import JSON, Scope

CHAT = ("chats", "c1")
MIB = 1_048_576


def read(documents: DocumentStore, scope: Scope, path: Path = CHAT) -> Snapshot:
    (found,) = documents.get(scope, path)
    assert found is not None
    return found


def names(found: list[Snapshot]) -> list[str]:
    return [snapshot.path[-1] for snapshot in found]


def test_what_is_written_is_read(documents: DocumentStore, ada: Scope) -> None:
    data: dict[str, JSON] = {
        "text": "Grüße 👋 \0 \u2028",
        "big": 2**63 - 1,
        "small": -(2**63),
        "float": 0.1 + 0.2,
        "one": 1.0,
        "no": None,
        "yes": True,
        "list": [1, {"a": [None, "b"]}],
        "map": {"a.b": 1, "ключ": "значение", "_": []},
    }
    (version,) = documents.commit(ada, [Create(CHAT, data)])
    assert documents.get(ada, CHAT) == [Snapshot(CHAT, data, version)]
    assert isinstance(read(documents, ada).data["one"], float)


def test_tuples_are_lists(documents: DocumentStore, ada: Scope) -> None:
    documents.commit(ada, [Set(CHAT, cast("dict[str, JSON]", {"citations": ({"headings": ("a", "b")},)}))])
    assert read(documents, ada).data == {"citations": [{"headings": ["a", "b"]}]}


def test_many_are_read_in_the_order_asked_and_what_is_missing_is_none(documents: DocumentStore, ada: Scope) -> None:
    documents.commit(ada, [Set(("chats", "a"), {"n": 1}), Set(("chats", "b"), {"n": 2})])
    found = documents.get(ada, ("chats", "b"), ("chats", "z"), ("chats", "a"), ("chats", "b"))
    assert [snapshot and snapshot.data["n"] for snapshot in found] == [2, None, 1, 2]
    assert documents.get(ada) == []


def test_create_refuses_what_is_there(documents: DocumentStore, ada: Scope) -> None:
    documents.commit(ada, [Create(CHAT, {"n": 1})])
    with pytest.raises(AlreadyExists):
        documents.commit(ada, [Create(CHAT, {"n": 2})])
    assert read(documents, ada).data == {"n": 1}


def test_set_replaces_the_whole_document(documents: DocumentStore, ada: Scope) -> None:
    documents.commit(ada, [Set(CHAT, {"a": 1, "b": 2})])
    documents.commit(ada, [Set(CHAT, {"b": 3})])
    assert read(documents, ada).data == {"b": 3}


def test_update_replaces_the_fields_it_names(documents: DocumentStore, ada: Scope) -> None:
    documents.commit(ada, [Set(CHAT, {"a": 1, "map": {"x": 1, "y": 2}, "a.b": 0})])
    documents.commit(ada, [Update(CHAT, {"map": {"z": 3}, "a.b": 4, "new": None})])
    assert read(documents, ada).data == {"a": 1, "map": {"z": 3}, "a.b": 4, "new": None}


def test_update_needs_the_document_and_the_version_that_was_read(documents: DocumentStore, ada: Scope) -> None:
    with pytest.raises(PreconditionFailed):
        documents.commit(ada, [Update(CHAT, {"n": 0})])
    (old,) = documents.commit(ada, [Set(CHAT, {"n": 1})])
    (new,) = documents.commit(ada, [Update(CHAT, {"n": 2}, old)])
    for version in (old, "", "nonsense"):
        with pytest.raises(PreconditionFailed):
            documents.commit(ada, [Update(CHAT, {"n": 3}, version)])
    assert read(documents, ada) == Snapshot(CHAT, {"n": 2}, new)


def test_delete_needs_nothing_but_the_version_if_one_is_given(documents: DocumentStore, ada: Scope) -> None:
    assert documents.commit(ada, [Delete(CHAT)]) == [""]
    (old,) = documents.commit(ada, [Set(CHAT, {})])
    (new,) = documents.commit(ada, [Set(CHAT, {})])
    for version in (old, ""):
        with pytest.raises(PreconditionFailed):
            documents.commit(ada, [Delete(CHAT, version)])
    documents.commit(ada, [Delete(CHAT, new)])
    assert documents.get(ada, CHAT) == [None]
    with pytest.raises(PreconditionFailed):
        documents.commit(ada, [Delete(CHAT, new)])


def test_a_version_never_comes_back(documents: DocumentStore, ada: Scope) -> None:
    versions = []
    for _ in range(20):
        versions += documents.commit(ada, [Create(CHAT, {"n": 1})])
        versions += documents.commit(ada, [Set(CHAT, {"n": 1})])
        versions += documents.commit(ada, [Update(CHAT, {"n": 1})])
        assert read(documents, ada).version == versions[-1]
        documents.commit(ada, [Delete(CHAT)])
    assert len(set(versions)) == 60
    assert all(versions)


def test_deleting_a_document_leaves_what_lies_below_it(documents: DocumentStore, ada: Scope) -> None:
    turn = (*CHAT, "turns", "t1")
    documents.commit(ada, [Set(CHAT, {}), Set(turn, {"n": 1})])
    documents.commit(ada, [Delete(CHAT)])
    assert read(documents, ada, turn).data == {"n": 1}


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (Create(("chats", "there"), {}), AlreadyExists),
        (Update(("chats", "missing"), {"n": 1}), PreconditionFailed),
        (Update(("chats", "there"), {"n": 1}, "old"), PreconditionFailed),
        (Update(("chats", "there"), {"big": "x" * 700_000}), TooLarge),
        (Delete(("chats", "there"), "old"), PreconditionFailed),
        (Set(("chats", "there"), {"n": math.nan}), BadRequest),
        (Set(("chats", ""), {}), BadRequest),
    ],
)
def test_a_commit_that_fails_writes_nothing(documents: DocumentStore, ada: Scope, last: Write, error: type) -> None:
    before = documents.commit(ada, [Set(("chats", "there"), {"old": "x" * 700_000}), Set(("chats", "gone"), {})])
    writes: list[Write] = [
        Create(("chats", "new"), {}),
        Update(("chats", "gone"), {"n": 1}),
        Set(("chats", "other"), {}),
        last,
    ]
    with pytest.raises(error):
        documents.commit(ada, writes)
    found = documents.get(ada, *(("chats", name) for name in ("there", "gone", "new", "other")))
    assert [snapshot and snapshot.version for snapshot in found] == [*before, None, None]


def test_an_update_changes_at_least_one_field(documents: DocumentStore, ada: Scope) -> None:
    documents.commit(ada, [Set(CHAT, {"n": 1})])
    with pytest.raises(BadRequest):
        documents.commit(ada, [Update(CHAT, {})])


def test_a_snapshot_says_how_old_it_is(documents: DocumentStore, ada: Scope) -> None:
    documents.commit(ada, [Create(CHAT, {"n": 1})])
    time.sleep(1.1)
    [found] = documents.get(ada, CHAT)
    [queried] = documents.query(ada, Query(CHAT[:1], "n"))
    for snapshot in (found, queried):
        assert snapshot
        assert 1 <= snapshot.age < 10
    documents.commit(ada, [Update(CHAT, {"n": 2})])
    [found] = documents.get(ada, CHAT)
    assert found
    assert found.age < 1


def test_a_commit_returns_one_version_per_write(documents: DocumentStore, ada: Scope) -> None:
    documents.commit(ada, [Set(("chats", "a"), {}), Set(("chats", "b"), {})])
    paths = [("chats", name) for name in "abc"]
    versions = documents.commit(ada, [Update(paths[0], {"n": 1}), Delete(paths[1]), Create(paths[2], {})])
    assert versions == [snapshot.version if snapshot else "" for snapshot in documents.get(ada, *paths)]
    assert documents.commit(ada, []) == []


def test_five_hundred_writes_are_a_commit_and_one_more_is_not(documents: DocumentStore, ada: Scope) -> None:
    writes = [Set(("chats", f"c{n}"), {"n": n}) for n in range(501)]
    with pytest.raises(TooLarge):
        documents.commit(ada, writes)
    assert len(documents.commit(ada, writes[:500])) == 500
    assert read(documents, ada, ("chats", "c499")).data == {"n": 499}


def test_a_commit_writes_each_document_once(documents: DocumentStore, ada: Scope) -> None:
    for second in (Set(CHAT, {"n": 2}), Update(CHAT, {"n": 2}), Delete(CHAT), Create(CHAT, {})):
        with pytest.raises(BadRequest):
            documents.commit(ada, [Set(CHAT, {"n": 1}), second])
    assert documents.get(ada, CHAT) == [None]


def nested(depth: int) -> dict[str, JSON]:
    """Return a document whose deepest value lies so many maps deep."""
    value: dict[str, JSON] = {"leaf": 1}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "data",
    [
        {"n": math.nan},
        {"n": math.inf},
        {"a": {"b": [-math.inf]}},
        {"n": 2**63},
        {"n": -(2**63) - 1},
        {"n": 10**400},
        {"list": [[1]]},
        {"list": [{"a": [[]]}]},
        nested(21),
        nested(900),
        {"text": "\ud800"},
        {"\udfff": 1},
        {"": 1},
        {"__name__": 1},
        {"a": {"__x__": 1}},
        {"k" * 1501: 1},
        {7: 1},
        {"a": {None: 1}},
        {"bytes": b"x"},
        {"set": {1}},
        {"object": object()},
    ],
    ids=lambda data: repr(data)[:30],
)
def test_what_firestore_cannot_hold_is_refused(documents: DocumentStore, ada: Scope, data: dict[Any, Any]) -> None:
    documents.commit(ada, [Set(CHAT, {"n": 1})])
    for write in (Create(("chats", "new"), data), Set(CHAT, data), Update(CHAT, data)):
        with pytest.raises(BadRequest):
            documents.commit(ada, [write])
    assert read(documents, ada).data == {"n": 1}
    assert documents.get(ada, ("chats", "new")) == [None]


def test_the_field_that_marks_a_commit_is_the_stores_own(documents: DocumentStore, ada: Scope) -> None:
    documents.commit(ada, [Set(CHAT, {"n": 1})])
    for write in (
        Create(("chats", "new"), {"_commit": 1}),
        Set(CHAT, {"_commit": "x"}),
        Update(CHAT, {"_commit": None}),
    ):
        with pytest.raises(BadRequest):
            documents.commit(ada, [write])
    for query in (Query(("chats",), "_commit"), Query(("chats",), "n", where=[("_commit", "==", "x")])):
        with pytest.raises(BadRequest):
            documents.query(ada, query)
    documents.commit(ada, [Set(CHAT, {"map": {"_commit": 1}})])
    assert read(documents, ada).data == {"map": {"_commit": 1}}


def test_a_write_that_changes_nothing_is_one_all_the_same(documents: DocumentStore, ada: Scope) -> None:
    (version,) = documents.commit(ada, [Set(CHAT, {"n": 1})])
    won = race(lambda _: documents.commit(ada, [Update(CHAT, {"n": 1}, version)]), PreconditionFailed)
    assert len(won) == 1
    assert read(documents, ada).version != version


def test_what_firestore_can_just_hold_is_stored(documents: DocumentStore, ada: Scope) -> None:
    just: list[dict[str, JSON]] = [
        nested(20),
        {"k" * 1499: 1},
        {"__x": 1, "x__": 1},
        {},
        {"list": [{"list": [1]}]},
    ]
    for n, data in enumerate(just):
        documents.commit(ada, [Set(("chats", f"c{n}"), data)])
        assert read(documents, ada, ("chats", f"c{n}")).data == data


def test_a_document_holds_a_mebibyte_and_no_more(documents: DocumentStore, ada: Scope) -> None:
    for text in ("x" * MIB, "é" * (MIB // 2), "日" * (MIB // 3)):
        with pytest.raises(TooLarge):
            documents.commit(ada, [Set(CHAT, {"text": text})])
    documents.commit(ada, [Set(CHAT, {"text": "x" * (MIB - 200)})])
    with pytest.raises(TooLarge):
        documents.commit(ada, [Update(CHAT, {"more": "x" * 200})])
    assert set(read(documents, ada).data) == {"text"}


def test_a_commit_holds_ten_mebibytes(documents: DocumentStore, ada: Scope, emulated: bool) -> None:
    writes = [Set(("chats", f"c{n}"), {"text": "x" * (MIB - 200)}) for n in range(11)]
    with pytest.raises(TooLarge):
        documents.commit(ada, writes)
    most = 3 if emulated else 9
    documents.commit(ada, writes[:most])
    assert read(documents, ada, ("chats", f"c{most - 1}")).data == writes[0].data


@pytest.mark.parametrize(
    "path", [(), ("chats",), ("chats", "c1", "turns"), ("chats", ""), ("", "c1"), ("chats", "\ud800")]
)
def test_a_path_that_names_no_document_is_refused(documents: DocumentStore, ada: Scope, path: Path) -> None:
    with pytest.raises(BadRequest):
        documents.get(ada, path)
    with pytest.raises(BadRequest):
        documents.commit(ada, [Set(path, {})])


@pytest.mark.parametrize("collection", [(), ("chats", "c1"), ("",), ("chats", "", "turns")])
def test_a_path_that_names_no_collection_is_refused(documents: DocumentStore, ada: Scope, collection: Path) -> None:
    with pytest.raises(BadRequest):
        documents.query(ada, Query(collection, "created"))


@pytest.mark.parametrize(
    "name", ["a/b", "..", ".", "__x__", "a\0b", "\u00e9", "e\u0301", "%2F", "A", " ", "'; --", "日本語" * 40]
)
def test_an_id_may_be_any_text(documents: DocumentStore, ada: Scope, name: str) -> None:
    documents.commit(ada, [Set(("chats", name, "turns", name), {"created": name})])
    assert read(documents, ada, ("chats", name, "turns", name)).data == {"created": name}
    (found,) = documents.query(ada, Query(("chats", name, "turns"), "created"))
    assert found.path == ("chats", name, "turns", name)


# Queries


def fill(documents: DocumentStore, scope: Scope, values: dict[str, JSON], field: str = "created") -> None:
    documents.commit(scope, [Set(("calls", name), {field: value, "n": name}) for name, value in values.items()])


ORDERED = ["created", "updated", "seq", "title"]
"""Fields with an index of their own, and one without."""


@pytest.mark.parametrize("field", ORDERED)
def test_a_query_orders_by_value_and_then_by_id(documents: DocumentStore, ada: Scope, field: str) -> None:
    fill(documents, ada, {"d": "2", "a": "1", "c": "1", "b": "3", "e": "10"}, field)
    up = documents.query(ada, Query(("calls",), field))
    down = documents.query(ada, Query(("calls",), field, descending=True))
    assert names(up) == ["a", "c", "e", "d", "b"]
    assert names(down) == ["b", "d", "e", "c", "a"]
    assert up == documents.get(ada, *(snapshot.path for snapshot in up))


@pytest.mark.parametrize("field", ORDERED)
def test_values_sort_by_type_and_then_by_size(documents: DocumentStore, ada: Scope, field: str) -> None:
    values: list[JSON] = [
        None, False, True, -(2**63), -5.5, -1, -0.5, 0, 1e-9, 0.5, 1, 2, 2**53, 2**53 + 1, 2**53 + 2,
        2**63 - 1, 1e300, "", "\0", "\0a", "A", "B", "a", "aa", "é", "日", "😀",
    ]  # fmt: skip
    named = {f"{len(values) - n:03}": value for n, value in enumerate(values)}
    fill(documents, ada, named, field)
    assert [snapshot.data[field] for snapshot in documents.query(ada, Query(("calls",), field))] == values
    down = documents.query(ada, Query(("calls",), field, descending=True))
    assert [snapshot.data[field] for snapshot in down] == values[::-1]


@pytest.mark.parametrize("field", ORDERED)
@pytest.mark.parametrize("descending", [False, True])
def test_pages_join_without_gap_or_repetition(
    documents: DocumentStore, ada: Scope, field: str, descending: bool
) -> None:
    values: list[JSON] = [1, 1.0, 2, "1", "2"]
    fill(documents, ada, {f"{n:02}": values[n % 5] for n in range(23)}, field)
    whole = documents.query(ada, Query(("calls",), field, descending))
    pages: list[Snapshot] = []
    after: tuple[str | int | float, str] | None = None
    while page := documents.query(ada, Query(("calls",), field, descending, after=after, limit=4)):
        pages += page
        last = page[-1]
        after = cast("str | int | float", last.data[field]), last.path[-1]
    assert pages == whole
    assert len(whole) == 23


def test_a_page_may_continue_behind_what_is_gone(documents: DocumentStore, ada: Scope) -> None:
    fill(documents, ada, {"a": 1, "b": 3})
    assert names(documents.query(ada, Query(("calls",), "created", after=(2, "x")))) == ["b"]


def test_documents_without_the_ordering_field_are_left_out(documents: DocumentStore, ada: Scope) -> None:
    documents.commit(ada, [Set(("calls", "a"), {"created": None, "title": None}), Set(("calls", "b"), {"n": 1})])
    for field in ("created", "title"):
        assert names(documents.query(ada, Query(("calls",), field))) == ["a"]


@pytest.mark.parametrize("order", ["created", "title"])
@pytest.mark.parametrize("field", ["created", "title", "seq", "a.b", "a b", "a'b\"", "n"])
def test_conditions_compare_values_of_one_type(documents: DocumentStore, ada: Scope, field: str, order: str) -> None:
    values: list[JSON] = [None, True, False, 0, 1, 2, 2.5, "1", "2", "a\0b", [1], {"a": 1}]
    records: list[dict[str, JSON]] = [{order: n, "v": value} for n, value in enumerate(values)]
    for record in records:
        record[field] = record["v"]
    documents.commit(ada, [Set(("calls", f"{n:02}"), record) for n, record in enumerate(records)])

    def found(op: Any, value: str | int | float | bool) -> list[JSON]:
        query = Query(("calls",), order, where=[(field, op, value)])
        return sorted((snapshot.data["v"] for snapshot in documents.query(ada, query)), key=repr)

    assert found("==", 1) == [1]
    assert found("==", True) == [True]
    assert found("==", "a") == []
    assert found("==", "a\0b") == ["a\0b"]
    assert found(">", 1) == [2, 2.5]
    assert found(">=", 1.0) == [1, 2, 2.5]
    assert found("<", 2) == [0, 1]
    assert found("<=", 2) == [0, 1, 2]
    assert found(">", "1") == ["2", "a\0b"]
    assert found("<", "2") == ["1"]
    assert found("<", True) == [False]


def test_conditions_add_up_and_the_limit_counts_what_meets_them(documents: DocumentStore, ada: Scope) -> None:
    writes = [Set(("calls", f"{n:03}"), {"created": n, "kind": "chat" if n % 3 else "embed"}) for n in range(60)]
    documents.commit(ada, writes)
    query = Query(("calls",), "created", where=[("created", ">=", 10), ("kind", "==", "embed"), ("created", "<", 40)])
    assert [snapshot.data["created"] for snapshot in documents.query(ada, query)] == list(range(12, 40, 3))
    page = Query(("calls",), "created", where=query.where, after=(15, "015"), limit=2)
    assert names(documents.query(ada, page)) == ["018", "021"]


@pytest.mark.parametrize("descending", [False, True])
def test_a_condition_on_another_field_leaves_the_order_and_the_pages(
    documents: DocumentStore, ada: Scope, descending: bool
) -> None:
    writes = [Set(("calls", f"{n:03}"), {"created": n // 50, "tokens": 299 - n, "b": n % 2 == 0}) for n in range(300)]
    documents.commit(ada, writes)
    query = Query(
        ("calls",), "created", descending, where=[("tokens", ">", 9), ("b", "==", True), ("created", "<", 5)], limit=40
    )
    expected = [f"{n:03}" for n in range(0, 250, 2)]
    pages: list[str] = []
    after: tuple[str | int | float, str] | None = None
    while page := documents.query(ada, replace(query, after=after)):
        pages += names(page)
        after = cast("int", page[-1].data["created"]), page[-1].path[-1]
        assert len(page) == 40 or len(pages) == 125
    assert pages == (expected[::-1] if descending else expected)


def test_a_query_sees_its_collection_alone(documents: DocumentStore, ada: Scope) -> None:
    for path in [("a", "1"), ("a", "1", "a", "2"), ("ab", "3"), ("A", "4"), ("a", "b", "c", "5")]:
        documents.commit(ada, [Set(path, {"created": 1})])
    assert names(documents.query(ada, Query(("a",), "created"))) == ["1"]
    assert names(documents.query(ada, Query(("a", "1", "a"), "created"))) == ["2"]
    assert documents.query(ada, Query(("nothing",), "created")) == []


def test_a_query_follows_every_kind_of_write(documents: DocumentStore, ada: Scope) -> None:
    query = Query(("calls",), "created")
    fill(documents, ada, {"a": 1, "b": 2, "c": 3})
    documents.commit(ada, [Update(("calls", "a"), {"created": 4}), Set(("calls", "b"), {}), Delete(("calls", "c"))])
    assert names(documents.query(ada, query)) == ["a"]
    documents.commit(ada, [Update(("calls", "b"), {"created": 5}), Create(("calls", "c"), {"created": 6})])
    assert names(documents.query(ada, query)) == ["a", "b", "c"]


def test_a_query_is_limited(documents: DocumentStore, ada: Scope) -> None:
    fill(documents, ada, {f"{n:03}": n for n in range(120)})
    assert len(documents.query(ada, Query(("calls",), "created"))) == 100
    assert len(documents.query(ada, Query(("calls",), "created", limit=1))) == 1
    assert documents.query(ada, Query(("calls",), "created", limit=0)) == []
    with pytest.raises(BadRequest):
        documents.query(ada, Query(("calls",), "created", limit=-1))


@pytest.mark.parametrize(
    "query",
    [
        Query(("calls",), "created", where=[("n", cast("Any", "!="), 1)]),
        Query(("calls",), "created", where=[("n", cast("Any", "OR 1=1 --"), 1)]),
        Query(("calls",), "created", where=[("created", "==", math.nan)]),
        Query(("calls",), "created", where=[("n", "<", 2**70)]),
        Query(("calls",), "created", where=[("n", "==", "\ud800")]),
        Query(("calls",), "created", after=(math.inf, "a")),
        Query(("calls",), "created", after=(1, "")),
        Query(("calls",), "title", after=(1, "")),
        Query(("calls",), "created", after=(1, "\ud800")),
        Query(("calls",), ""),
        Query(("calls",), "__name__"),
        Query(("calls",), "created", where=[("__name__", ">", "apps/a")]),
    ],
    ids=repr,
)
def test_a_query_that_means_nothing_is_refused(documents: DocumentStore, ada: Scope, query: Query) -> None:
    with pytest.raises(RequestError):
        documents.query(ada, query)


# What every user of an app has

CALLS = Query(("calls",), "created", of_every_user=True)


def test_what_every_user_has_is_read_at_once(documents: DocumentStore) -> None:
    for n, user in enumerate(("bob", "ada", "a/b", "b")):
        documents.commit(
            Scope("recipes", user),
            [
                Set(("calls", f"c{n}"), {"created": n}),
                Set(("calls", "same"), {"created": 9}),
                Set(("calls", "x"), {"n": 1}),
            ],
        )
    found = documents.query(Scope("recipes", None), CALLS)
    assert [snapshot.path for snapshot in found] == [
        ("users", "bob", "calls", "c0"),
        ("users", "ada", "calls", "c1"),
        ("users", "a/b", "calls", "c2"),
        ("users", "b", "calls", "c3"),
        *(("users", user, "calls", "same") for user in ("a/b", "ada", "b", "bob")),
    ]
    assert [snapshot.data for snapshot in found[:4]] == [{"created": n} for n in range(4)]
    assert found[0].version == read(documents, Scope("recipes", "bob"), ("calls", "c0")).version
    down = documents.query(Scope("recipes", None), replace(CALLS, descending=True))
    assert down == found[::-1]


def test_of_every_user_conditions_and_the_limit_hold(documents: DocumentStore) -> None:
    for user in ("ada", "bob"):
        writes = [Set(("calls", f"{n:02}"), {"created": n, "kind": "chat" if n % 2 else "embed"}) for n in range(20)]
        documents.commit(Scope("recipes", user), writes)
    query = replace(CALLS, where=[("created", ">=", 5), ("kind", "==", "chat")], limit=5, descending=True)
    found = documents.query(Scope("recipes", None), query)
    assert [(s.path[1], s.data["created"]) for s in found] == [
        ("bob", 19),
        ("ada", 19),
        ("bob", 17),
        ("ada", 17),
        ("bob", 15),
    ]
    assert len(documents.query(Scope("recipes", None), replace(query, limit=100))) == 16
    assert documents.query(Scope("recipes", None), replace(query, limit=0)) == []


def test_of_every_user_means_of_this_app(documents: DocumentStore, scopes: list[Scope]) -> None:
    near = [
        Scope(app, "ada")
        for app in ("recipe", "recipes2", "recipes!", "recipes-", "recipes/users", "re%63ipes", "RECIPES")
    ]
    for n, scope in enumerate([*scopes, *near]):
        documents.commit(scope, [Set(("calls", str(n)), {"created": n})])
    for app in ("recipes", "Recipes", "travel", *(scope.app for scope in near)):
        found = documents.query(Scope(app, None), CALLS)
        mine = [
            (scope.user, n) for n, scope in enumerate([*scopes, *near]) if scope.app == app and scope.user is not None
        ]
        assert [(s.path[1], s.data["created"]) for s in found] == mine
        assert mine


def test_of_every_user_is_what_lies_right_below_them(documents: DocumentStore, ada: Scope) -> None:
    shared = Scope(ada.app, None)
    deep = [("shared", "knowledge", "calls", f"s{n}") for n in range(120)]
    documents.commit(shared, [Set(path, {"created": 1}) for path in deep])
    documents.commit(shared, [Set(("calls", "app"), {"created": 1}), Set(("users", "ada"), {"created": 1})])
    documents.commit(ada, [Set((*CHAT, "calls", f"d{n}"), {"created": 1}) for n in range(120)])
    documents.commit(ada, [Set(("calls", f"c{n}"), {"created": 1}) for n in range(5)])
    documents.commit(ada, [Set(("CALLS", "c"), {"created": 1}), Set(("_alls", "c"), {"created": 1})])
    for limit in (3, 5, 100):
        found = documents.query(shared, replace(CALLS, limit=limit))
        assert [s.path for s in found] == [("users", "ada", "calls", f"c{n}") for n in range(min(limit, 5))]
    assert len(documents.query(shared, replace(CALLS, collection=("_alls",)))) == 1


@pytest.mark.parametrize(
    ("user", "query"),
    [
        ("ada", CALLS),
        (None, replace(CALLS, after=(1, "a"))),
        (None, replace(CALLS, collection=("chats", "c1", "turns"))),
        (None, replace(CALLS, collection=("chats", "c1"))),
        (None, replace(CALLS, collection=())),
        (None, replace(CALLS, collection=("",))),
    ],
)
def test_who_may_not_ask_for_every_user_is_refused(documents: DocumentStore, user: str | None, query: Query) -> None:
    with pytest.raises(BadRequest):
        documents.query(Scope("recipes", user), query)


# Isolation


def test_no_scope_sees_anothers_documents(documents: DocumentStore, scopes: list[Scope]) -> None:
    for n, scope in enumerate(scopes):
        documents.commit(scope, [Create(CHAT, {"created": n}), Create(("data", "me"), {"created": n})])
    for n, scope in enumerate(scopes):
        assert [snapshot and snapshot.data for snapshot in documents.get(scope, CHAT)] == [{"created": n}]
        found = documents.query(scope, Query(("chats",), "created"))
        assert [snapshot.data["created"] for snapshot in found] == [n]
    documents.commit(scopes[0], [Delete(CHAT)])
    assert all(documents.get(scope, CHAT)[0] for scope in scopes[1:])


@pytest.mark.parametrize(
    "path",
    [
        ("users", "ada", "chats", "c1"),
        ("users", "ada/chats", "c1", "x"),
        ("users", "ada/chats/c1"),
        ("users/ada/chats", "c1"),
    ],
)
def test_a_scope_without_user_reaches_no_users_documents(documents: DocumentStore, ada: Scope, path: Path) -> None:
    documents.commit(ada, [Set(CHAT, {"created": 1})])
    shared = Scope(ada.app, None)
    try:
        found = documents.get(shared, path)
        documents.commit(shared, [Set(path, {"created": 2})])
        assert found == [None]
    except BadRequest:
        pass
    assert read(documents, ada).data == {"created": 1}


def test_a_scope_without_user_lists_no_users_collection(documents: DocumentStore, ada: Scope) -> None:
    documents.commit(ada, [Set(CHAT, {"created": 1})])
    shared = Scope(ada.app, None)
    with pytest.raises(BadRequest):
        documents.query(shared, Query(("users", "ada", "chats"), "created"))
    assert documents.query(shared, Query(("users",), "created")) == []


@pytest.mark.parametrize(
    "scope", [Scope("", "ada"), Scope("recipes", ""), Scope("\ud800", None), Scope("recipes", "\ud800")]
)
def test_a_scope_that_names_nobody_is_refused(documents: DocumentStore, scope: Scope) -> None:
    calls: list[Callable[[], object]] = [
        lambda: documents.get(scope, CHAT),
        lambda: documents.query(scope, Query(("chats",), "created")),
        lambda: documents.commit(scope, [Set(CHAT, {})]),
    ]
    for call in calls:
        with pytest.raises(BadRequest):
            call()


# Threads


def test_of_many_that_create_one_document_one_wins(documents: DocumentStore, ada: Scope) -> None:
    won = race(lambda n: documents.commit(ada, [Create(CHAT, {"by": n})]), AlreadyExists)
    assert [read(documents, ada).data["by"]] == won


def test_of_many_that_update_one_version_one_wins(documents: DocumentStore, ada: Scope) -> None:
    (version,) = documents.commit(ada, [Set(CHAT, {"by": None})])
    won = race(lambda n: documents.commit(ada, [Update(CHAT, {"by": n}, version)]), PreconditionFailed)
    assert [read(documents, ada).data["by"]] == won


def race(attempt: Callable[[int], object], lost: type[Exception]) -> list[int]:
    """Let 16 threads attempt at once and return the numbers of those that did not lose."""
    start, won = threading.Barrier(16), []

    def run(n: int) -> None:
        start.wait()
        try:
            attempt(n)
        except lost:
            return
        won.append(n)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


def test_a_reader_never_sees_half_a_commit(documents: DocumentStore, ada: Scope, emulated: bool) -> None:
    pair = ("chats", "a"), ("chats", "b")
    documents.commit(ada, [Set(path, {"n": 0}) for path in pair])
    done = threading.Event()

    def write() -> None:
        for n in range(1, 100):
            documents.commit(ada, [Set(path, {"n": n}) for path in pair])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        first, second = documents.get(ada, *pair)
        assert first is not None
        assert second is not None
        assert emulated or first.data == second.data
    writer.join()
    assert [read(documents, ada, path).data for path in pair] == [{"n": 99}, {"n": 99}]


def test_everything_of_a_user_is_listed_page_by_page(documents: DocumentStore, ada: Scope, scopes: list[Scope]) -> None:
    others = [scope for scope in scopes if scope != ada]
    for scope in others:
        documents.commit(scope, [Set(("chats", "c1"), {"of": "others"})])
    stored = [
        *(("data", f"d{n}") for n in range(5)),
        ("chats", "c1", "turns", "t1"),
        ("chats", "gone", "turns", "t/1"),
        ("unheard-of", "x"),
        ("documents", "d1", "chunks", "0"),
        ("data", "a%2Fb"),
    ]
    documents.commit(ada, [Set(path, {"n": 1}) for path in stored])
    found: list[Path] = []
    while page := documents.everything(ada, found[-1] if found else (), 3):
        found += page
    assert sorted(found) == sorted(stored)
    documents.commit(ada, [Delete(path) for path in found])
    assert documents.everything(ada) == []
    with pytest.raises(BadRequest):
        documents.everything(Scope(ada.app, None))
    assert all(documents.get(scope, ("chats", "c1"))[0] for scope in others)


def test_it_is_ready(documents: DocumentStore) -> None:
    documents.check()
