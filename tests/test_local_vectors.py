"""What the local index promises beside the contract: many processes, bounded memory, honest errors, no syntax, other scripts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from service.backends.fusion import fuse
from service.backends.interfaces import Entry, Search
from service.backends.local.matrices import Matrices, Matrix
from service.backends.local.postings import Postings, Words
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.vectors import LocalVectors
from service.backends.words import names_something, spaced, terms
from service.config import Settings
from service.errors import Unavailable
from service.models import Passage, Scope

ADA = Scope("recipes", "ada")
SPACE = "test-space"

WRITER = """
import sys
from pathlib import Path
import numpy as np
from service.backends.interfaces import Entry
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.vectors import LocalVectors
from service.config import Settings
from service.models import Passage, Scope

name, first, last = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
settings = Settings(data_dir=Path(sys.argv[1]))
index = LocalVectors(settings, EnvironmentSecrets(settings))
vector = np.eye(1, 8, dtype=np.float32)[0]
for n in range(first, last):
    passage = Passage(document=name, chunk=n, title="t", text=f"{name} piece {n}")
    index.upsert(Scope("recipes", "ada"), [Entry(passage, vector, "test-space")])
if first == last:
    index.delete(Scope("recipes", "ada"), name, 1_000)
"""


@pytest.fixture
def folder(settings: Settings) -> Path:
    return settings.data_dir


@pytest.fixture
def index(settings: Settings) -> LocalVectors:
    return LocalVectors(settings, EnvironmentSecrets(settings))


def entry(text: str, chunk: int = 0, document: str = "d1") -> Entry:
    return Entry(
        Passage(document=document, chunk=chunk, title="t", text=text), np.eye(1, 8, dtype=np.float32)[0], SPACE
    )


def by_meaning(index: LocalVectors, limit: int = 1000) -> list[str]:
    hits = index.search(ADA, Search("", np.eye(1, 8, dtype=np.float32)[0], SPACE, limit))
    return sorted(hit.passage.text for hit in hits)


def by_words(index: LocalVectors, text: str, limit: int = 1000) -> list[str]:
    return [hit.passage.text for hit in index.search(ADA, Search(text, None, SPACE, limit))]


def writer(folder: Path, name: str, first: int, last: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(folder), name, str(first), str(last)])


def test_another_process_s_changes_are_seen_at_once(index: LocalVectors, folder: Path) -> None:
    index.upsert(ADA, [entry("mine piece")])
    assert by_meaning(index) == ["mine piece"]
    assert writer(folder, "other", 0, 2).wait() == 0
    assert by_meaning(index) == ["mine piece", "other piece 0", "other piece 1"]
    assert sorted(by_words(index, "other")) == ["other piece 0", "other piece 1"]
    assert writer(folder, "other", 0, 0).wait() == 0
    assert by_meaning(index) == by_words(index, "piece") == ["mine piece"]


def test_processes_that_start_and_write_together_lose_nothing(index: LocalVectors, folder: Path) -> None:
    processes = [writer(folder, f"p{n}", 0, 10) for n in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(by_meaning(index)) == len(by_words(index, "piece")) == 30


def test_vectors_in_memory_stay_within_their_bound() -> None:
    def matrix(rows: int, last: int = 1) -> Matrix:
        return Matrix(np.arange(rows), np.zeros((rows, 8), np.float32), 0, last)

    loads: list[int] = []

    def get(matrices: Matrices, shelf: int, rows: int) -> None:
        def load(_: int) -> Matrix:
            loads.append(shelf)
            return matrix(rows)

        assert len(matrices.get((shelf, SPACE, 8), 0, 1, load).ids) == rows

    matrices = Matrices(most_bytes=3 * 10 * 8 * 4)
    for shelf in (1, 2, 3, 1, 4, 1, 2):
        get(matrices, shelf, 10)
    assert loads == [1, 2, 3, 4, 2]
    get(matrices, 5, 1000)
    get(matrices, 5, 1000)
    assert loads[5:] == [5, 5]


def test_a_shelf_that_grew_is_read_from_where_it_ended() -> None:
    stored = {n: np.full(8, n, np.float32).tobytes() for n in range(1, 6)}
    asked: list[int] = []

    def load(after: int) -> Matrix:
        asked.append(after)
        return Matrix.of([(n, v) for n, v in stored.items() if after < n <= last], 8, removed, last)

    matrices, removed, last = Matrices(), 0, 3
    for removed, last in ((0, 3), (0, 3), (0, 5), (1, 5)):  # `load` reads them
        found = matrices.get((1, SPACE, 8), removed, last, load)
        assert found.ids.tolist() == list(range(1, last + 1))
        assert found.vectors[:, 0].tolist() == list(range(1, last + 1))
    assert asked == [0, 3, 0]


def test_words_in_memory_stay_within_their_bound() -> None:
    loads: list[int] = []

    def get(postings: Postings, shelf: int, rows: int) -> Words:
        def load(_: int) -> list[int]:
            loads.append(shelf)
            return list(range(rows))

        return postings.get(shelf, 0, 1, load)

    postings = Postings(most_bytes=3 * 10_000 * 8)
    for shelf in (1, 2, 3, 1, 4, 1, 2):
        assert len(get(postings, shelf, 10_000).ids) == 10_000
    assert loads == [1, 2, 3, 4, 2]
    for n in range(1000):
        get(postings, 2, 10_000).posting(f"nowhere{n}", lambda *_: [])
    assert set(loads[5:]) == {2}
    assert 0 < len(loads[5:]) < 10


def test_words_of_a_shelf_that_grew_are_read_from_where_it_ended() -> None:
    asked: list[tuple[str, int]] = []

    def load(after: int) -> list[int]:
        asked.append(("ids", after))
        return list(range(after + 1, last + 1))

    def find(phrase: str, headed: bool, after: int) -> list[int]:
        asked.append((phrase, after))
        return [rowid for rowid in range(after + 1, last + 1) if rowid % 2 or not headed]

    postings, removed, last = Postings(), 0, 3
    for removed, last in ((0, 3), (0, 3), (0, 5), (1, 5)):  # `load` and `find` read them
        words = postings.get(1, removed, last, load)
        posting = words.posting("word", find)
        assert words.ids[posting.rows].tolist() == list(range(1, last + 1))
        assert words.ids[posting.headed].tolist() == list(range(1, last + 1, 2))
    assert asked == [
        *(("ids", 0), ("word", 0), ("word", 0)),
        *(("ids", 3), ("word", 3), ("word", 3)),
        *(("ids", 0), ("word", 0), ("word", 0)),
    ]


def test_what_others_have_does_not_move_what_is_found(index: LocalVectors) -> None:
    index.upsert(ADA, [entry("alpha once", 0), entry("beta here and beta there", 1), entry("beta again", 2)])
    before = by_words(index, "alpha beta")
    assert before[0] == "alpha once"
    others = [entry(f"alpha {n}", n) for n in range(300)]
    index.upsert(Scope("recipes", "bob"), others)
    index.upsert(Scope("travel", None), others)
    assert by_words(index, "alpha beta") == before
    index.upsert(ADA, [entry("gamma", 3)])
    assert by_words(index, "alpha beta") == before


def test_a_word_in_the_headings_counts_more(index: LocalVectors) -> None:
    passage = Passage(document="d2", chunk=0, title="t", text="about it", headings=("Timeouts",))
    index.upsert(ADA, [entry("timeouts about it"), Entry(passage, np.eye(1, 8, dtype=np.float32)[0], SPACE)])
    assert by_words(index, "timeout") == ["about it", "timeouts about it"]


def test_linear_algebra_keeps_to_the_calling_thread(index: LocalVectors) -> None:
    index.upsert(ADA, [entry("a piece")])
    assert by_meaning(index) == ["a piece"]
    threads = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    assert threads == [1] * len(threads)
    assert threads or sys.platform != "linux"


def test_the_index_s_file_is_the_owner_s_alone(index: LocalVectors, folder: Path) -> None:
    index.check()
    assert (folder / "vectors.sqlite3").stat().st_mode & 0o077 == 0


def test_a_damaged_file_is_unavailable(index: LocalVectors, folder: Path) -> None:
    folder.mkdir()
    (folder / "vectors.sqlite3").write_bytes(b"this is no database " * 500)
    for call in (index.check, lambda: by_words(index, "x"), lambda: index.upsert(ADA, [entry("x")])):
        with pytest.raises(Unavailable, match="The search index cannot be used"):
            call()


def test_a_folder_that_cannot_be_made_is_unavailable(index: LocalVectors, folder: Path) -> None:
    folder.write_text("a file stands where the folder should be")
    with pytest.raises(Unavailable, match="The search index cannot be used"):
        index.check()


def test_common_words_rank_but_rare_ones_choose(index: LocalVectors) -> None:
    index.upsert(ADA, [entry(f"common filler {n}", n) for n in range(1100)])
    index.upsert(ADA, [entry("rare and plain", 1, "d2"), entry("rare and common", 2, "d2")])
    assert by_words(index, "common rare") == ["rare and common", "rare and plain"]
    assert len(by_words(index, "common", 2000)) == 1101
    assert by_words(index, "common 1050")[0] == "common filler 1050"


def test_one_unfinished_word_finds_what_begins_so(index: LocalVectors) -> None:
    index.upsert(ADA, [entry("set ignoreTrailingSlash here"), entry("the backups run at night", 1)])
    assert by_words(index, "ignoreTrail") == ["set ignoreTrailingSlash here"]
    assert by_words(index, "ig") == []
    assert by_words(index, "money back") == []


def test_texts_without_spaces_are_found_by_their_parts(index: LocalVectors) -> None:
    texts = [
        "東京の天気は晴れです。",
        "大阪で会議があります。",
        "오늘 서울의 날씨는 맑습니다.",
        "本契約の解除は三十日前に通知する。",
    ]
    index.upsert(ADA, [entry(text, n) for n, text in enumerate(texts)])
    assert by_words(index, "東京") == texts[:1]
    assert by_words(index, "会議はどこ？") == texts[1:2]
    assert by_words(index, "날씨") == texts[2:3]
    assert by_words(index, "契約を解除") == texts[3:]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How to fix ERR_1042?", ["How", "to", "fix", "ERR 1042", "ERR", "1042"]),
        ("foo.bar --dry-run", ["foo bar", "foo", "bar", "dry run", "dry", "run"]),
        ("a a A", ["a", "A"]),
        ("東京の fastapi", ["東 京", "京 の", "fastapi"]),
        ("東京-大阪", ["東 京 大 阪", "東 京", "大 阪"]),
        ("京 x", ["京", "x"]),
        ('NEAR("a" b)*', ["NEAR a", "NEAR", "a", "b"]),
        ("\ud800 \0 ?! _ ", []),
        ("", []),
    ],
)
def test_a_question_becomes_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_a_long_text_becomes_few_terms() -> None:
    assert len(terms(" ".join(f"word{n}" for n in range(100_000)))) == 48
    assert terms("京都" * 100_000) == ["京 都", "都 京"]


def test_text_is_indexed_with_spaces_only_where_it_needs_them() -> None:
    assert spaced("plain text, naïve") == "plain text, naïve"
    assert spaced("東京a").split() == ["東", "京", "a"]


@pytest.mark.parametrize(
    "text", ["ERR_1042", "what is maxLength", "foo.bar?", "use --flag", "CVE-2024-1", "call ready()"]
)
def test_an_identifier_is_recognised(text: str) -> None:
    assert names_something(text)


@pytest.mark.parametrize(
    "text", ["What is the capital of France?", "a well-known fact. Really.", "in 2024", "東京の天気", ""]
)
def test_ordinary_words_are_no_identifier(text: str) -> None:
    assert not names_something(text)


def test_fusion_prefers_what_both_rankings_find() -> None:
    assert [key for key, _ in fuse([(1, "abc"), (1, "xbc")])] == ["b", "c", "a", "x"]
    assert [key for key, _ in fuse([(1, "abc"), (2, "xyz")])] == ["x", "y", "z", "a", "b", "c"]
    assert fuse([]) == []


@pytest.mark.parametrize("weight", [0.8, 1.25])
def test_the_first_of_either_ranking_is_among_the_first_five(weight: float) -> None:
    fused = [key for key, _ in fuse([(1.0, range(20)), (weight, range(100, 120))])]
    assert {0, 100} <= set(fused[:5])
