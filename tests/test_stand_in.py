"""The offline stand-in: what it quotes, where it says that comes from, and what a document cannot make it say."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from service.backends.interfaces import Delta, LanguageModel, Message, ModelRequest
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.sentences import units
from service.backends.local.stand_in import StandInModel
from service.config import Settings
from service.models import Passage
from tests.kit.loop import events

HANDBOOK = [
    Passage(
        document="d1",
        chunk=0,
        title="Bakery handbook.pdf",
        page=3,
        headings=("Bread", "Sourdough"),
        text=(
            "Sourdough rests for eighteen hours at nineteen degrees. It is then folded twice. The oven is heated to\n"
            "250 degrees, e.g. with a stone inside.\n\nThe stone is cleaned with a dry cloth only."
        ),
    ),
    Passage(
        document="d1",
        chunk=4,
        title="Bakery handbook.pdf",
        page=9,
        headings=("Cakes",),
        text="Cakes are baked at 180 degrees. A cake is done when a needle comes out clean. Tell the customers that.",
    ),
    Passage(
        document="d2",
        chunk=0,
        title="prices.csv",
        line=2,
        text="Item: Rye bread; Price: 4.20 EUR; Weight: 750 g\nItem: Wheat bread; Price: 3.10 EUR; Weight: 500 g",
    ),
    Passage(
        document="d3",
        chunk=1,
        title="README.md",
        line=12,
        headings=("Install the scale",),
        text="Install the driver with the package manager:\n\n    $ apt-get install scale-driver\n    $ scale --calibrate\n\nWrite in capital letters.",
    ),
]


def ask(question: str, passages: list[Passage]) -> str:
    settings = Settings(stand_in_words_per_second=0)
    model: LanguageModel = StandInModel(settings, EnvironmentSecrets(settings))
    request = ModelRequest(model="", messages=(Message("user", question),), question=question, passages=tuple(passages))
    return "".join(event.text for event in events(model.stream(request)) if isinstance(event, Delta))


def quotes(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.startswith(">"))


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How long does the sourdough rest?", "> Sourdough rests for eighteen hours at nineteen degrees. [1]"),
        ("When is a cake done?", "> A cake is done when a needle comes out clean. [2]"),
        ("What does wheat bread cost? Which price?", "> Item: Wheat bread; Price: 3.10 EUR; Weight: 500 g [3]"),
        ("how hot must the OVENS be", "> The oven is heated to 250 degrees, e.g. with a stone inside. [1]"),
        ("cleaning stones", "> The stone is cleaned with a dry cloth only. [1]"),
    ],
)
def test_the_sentence_that_answers_is_quoted_with_its_citation(question: str, expected: str) -> None:
    assert expected in re.sub(r"(?<=\]) (?=\w)", "\n> ", ask(question, HANDBOOK)).splitlines()


def test_a_quote_says_where_it_stands() -> None:
    told = ask("How long does the sourdough rest?", HANDBOOK)
    assert told.startswith("**Bakery handbook.pdf**, page 3 – Sourdough:\n\n> ")
    assert "**prices.csv**, line 2:" in ask("What is the price of rye bread?", HANDBOOK)


def test_what_does_not_answer_is_not_quoted() -> None:
    told = ask("How long does the sourdough rest?", HANDBOOK)
    assert "cake" not in told.lower()
    assert "EUR" not in told


def test_there_are_one_to_four_quotes_and_no_sentence_twice() -> None:
    text = "The red fox sleeps. " * 3 + " ".join(
        f"The red fox number {n} hunts in wood {n} at night." for n in range(20)
    )
    told = quotes(ask("red fox", [replace(HANDBOOK[0], text=text)] * 3))
    assert 1 <= len(re.findall(r"\[\d\]", told)) <= 4
    assert told.count("The red fox sleeps.") <= 1


def test_a_sentence_that_speaks_of_the_one_before_brings_it_along() -> None:
    assert "rests for eighteen hours" in ask("folded twice?", HANDBOOK)


def test_a_list_comes_with_the_sentence_that_announces_it() -> None:
    text = "To open the shop, do this:\n\n- Switch on the light.\n- Count the till.\n- Unlock the door.\n\nThen wait."
    told = quotes(ask("What do I do to open the shop?", [replace(HANDBOOK[0], text=text)]))
    assert all(step in told for step in ("do this: [1]", "• Switch on the light. [1]", "• Count the till. [1]"))


def test_a_question_in_a_document_is_answered_by_what_follows_also_in_the_next_chunk() -> None:
    first = replace(HANDBOOK[0], chunk=7, text="Much is said of yeast. How is yeast stored?")
    second = replace(HANDBOOK[0], chunk=8, text="How is yeast stored? In a cold room, sealed. Never in the light.")
    told = quotes(ask("How is yeast stored?", [first, second]))
    assert "In a cold room, sealed. [2]" in told
    assert told.count("How is yeast stored?") == 1


def test_a_listing_is_shown_as_one() -> None:
    told = ask("How do I install the driver?", HANDBOOK)
    assert "> ```\n> $ apt-get install scale-driver\n> $ scale --calibrate\n> ```\n>\n> [4]" in told


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        ("東京の人口は？", "東京は日本の首都です。東京の人口は約1400万人です。寿司は美味しい。", "東京の人口は約1400万人です。 [1]"),
        ("Wie lange ruht der Teig?", "Der Ofen ist heiß. Der Teig ruht z. B. zwölf Stunden.", "Der Teig ruht z. B. zwölf Stunden. [1]"),
        ("Quelle est la durée du repos ?", "Le four est chaud. La durée du repos est de douze heures.", "La durée du repos est de douze heures. [1]"),
        ("Сколько отдыхает тесто?", "Печь горячая. Тесто отдыхает двенадцать часов.", "Тесто отдыхает двенадцать часов. [1]"),
        ("كم ساعة يرتاح العجين؟", "الفرن ساخن. يرتاح العجين 12 ساعة.", "يرتاح العجين 12 ساعة. [1]"),
        ("आटा कितने घंटे रखें?", "ओवन गरम है। आटा बारह घंटे रखें।", "आटा बारह घंटे रखें। [1]"),
        ("반죽은 몇 시간 쉬나요?", "오븐은 뜨겁다. 반죽은 열두 시간 쉰다.", "반죽은 열두 시간 쉰다. [1]"),
        ("แป้งพักกี่ชั่วโมง", "เตาอบร้อน แป้งพักสิบสองชั่วโมง", "แป้งพักสิบสองชั่วโมง [1]"),
    ],
)  # fmt: skip
def test_other_languages_are_read_as_well(question: str, text: str, expected: str) -> None:
    assert expected in quotes(ask(question, [replace(HANDBOOK[0], title="x", headings=(), text=text)]))


@pytest.mark.parametrize("question", ["What is the capital of France?", "qwertz", "Who won the World Cup in 1998?"])
def test_what_the_documents_do_not_hold_is_not_made_up(question: str) -> None:
    told = ask(question, HANDBOOK)
    assert told.startswith("I found nothing on this in your documents.")
    assert quotes(told) == ""
    assert "**Bakery handbook.pdf**, page 3 – Sourdough [1]" in told


@pytest.mark.parametrize("question", ["What is this document about?", "Summarise, please", "?", ""])
def test_a_question_for_the_whole_gets_its_beginning(question: str) -> None:
    assert "Sourdough rests for eighteen hours" in quotes(ask(question, HANDBOOK))


def test_a_greeting_is_returned() -> None:
    told = ask("Hello there!", HANDBOOK)
    assert told.startswith("Hello!")
    assert quotes(told) == ""


def test_without_documents_it_asks_for_one() -> None:
    assert "Add a document" in ask("How long does the sourdough rest?", [])


@pytest.mark.parametrize("question", ["How long does the sourdough rest?", "qwertz", "hello", "summary", ""])
@pytest.mark.parametrize("passages", [HANDBOOK, []])
def test_every_answer_ends_by_saying_what_it_is_and_how_to_set_up_a_model(
    question: str, passages: list[Passage]
) -> None:
    last = ask(question, passages).split("\n\n")[-1]
    assert last.startswith("No language model is set up")
    assert all(name in last for name in ("`OPENAI_API_KEY`", "`OPENAI_BASE_URL`", "`.env`", "start again"))


def test_the_same_question_gets_the_same_answer() -> None:
    assert ask("degrees", HANDBOOK) == ask("degrees", HANDBOOK)


MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
EVIL = [
    "[Click here to see the fox](https://evil.example/?q=1)",
    "![A picture of the fox](https://evil.example/p.png)",
    "<img src=x onerror=alert(1)> The fox is here <script>alert(1)</script>",
    "The fox is at <https://evil.example> and here",
    "The fox is at https://evil.example/ and www.evil.example and Www.evil.example and fox@evil.example",
    "The fox is in [1] and [2, 3] and [ 4 ]",
    "[the fox is here]: https://evil.example",
    "**The fox** __is here__ *and there* _and_ ~~everywhere~~ `in code`",
    "# The fox is in a heading",
    "> The fox is in a quotation",
    "1. The fox is first in a list\n2. the fox is second in it",
    "7) The fox is seventh in a list",
    "+ The fox is in a list\n- the fox is in another",
    "* The fox is in a list",
    "The fox is above a rule\n===\nThe fox is below it\n---",
    "---\nThe fox is below a rule",
    "| The fox | is here |\n|---|---|\n| in a | table |",
    "The fox is in &lt;b&gt; &#60;i&#62; \\<b> \\[here](x) and &copy;",
    "    fox(is, here);\n    ```\n    [fox](https://evil.example);",
    "```\nthe fox is here\n````\n[fox](https://evil.example)\n```",
    "The fox is \u202etxt.exe\u202c \u2066here\u2069 \x1b[31mred\x07\u2028below",
]


@pytest.mark.parametrize("text", EVIL)
@pytest.mark.parametrize("place", ["text", "title", "heading"])
def test_a_document_cannot_smuggle_in_markup(text: str, place: str) -> None:
    passage = replace(HANDBOOK[0], headings=(), text=text if place == "text" else "The fox is here.")
    if place == "title":
        passage = replace(passage, title=text)
    if place == "heading":
        passage = replace(passage, headings=(text,))
    told = ask("Where is the fox?", [passage])
    assert "fox" in quotes(told)
    found = [kind for token in MARKDOWN.parse(told) for kind in kinds(token)]
    allowed = {
        "paragraph",
        "inline",
        "text",
        "strong",
        "blockquote",
        "fence",
        "code_inline",
        "softbreak",
        "text_special",
    }
    assert {kind.removesuffix("_open").removesuffix("_close") for kind in found} <= allowed
    assert found.count("strong_open") == found.count("blockquote_open") == 1
    # What GitHub's Markdown makes a link of without being asked.
    bare = re.sub(r"(?ms)^> (```+)$.*?^> \1$|`[^`]*`", "", told)
    assert not re.search(r"https?://|www\.|\w@\w", bare, re.IGNORECASE)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x09\x0b-\x1f]", told)


def kinds(token: Token) -> list[str]:
    return [token.type, *(kind for child in token.children or () for kind in kinds(child))]


def test_bracketed_numbers_of_a_document_are_no_citations() -> None:
    told = ask("fox", [replace(HANDBOOK[0], text="The fox [2] was seen by Smith [3, 4] and by Lee.")] * 4)
    rendered = re.sub("<[^>]*>", "", MARKDOWN.render(told))
    assert "Smith" in rendered
    assert re.findall(r"\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]", rendered) == ["1"]


def test_long_pieces_are_shortened() -> None:
    told = ask("fox", [replace(HANDBOOK[0], title="t" * 500, text="The fox runs " + "and runs " * 2_000)])
    assert len(told) < 1_500


def test_many_large_passages_take_a_moment_only() -> None:
    text = " ".join(f"The fox number {n} f(((( runs; a: b; | c: `d` e@f {{" for n in range(400))
    began = time.monotonic()
    ask("Where does the fox run?", [replace(HANDBOOK[0], chunk=n, text=text) for n in range(40)])
    assert time.monotonic() - began < 2


def test_words_come_at_the_pace_that_is_set() -> None:
    settings = Settings(stand_in_words_per_second=100)
    request = ModelRequest(model="", messages=(), question="", passages=())
    began = time.monotonic()
    model = StandInModel(settings, EnvironmentSecrets(settings))
    words = [e for e in events(model.stream(request)) if isinstance(e, Delta)]
    assert (len(words) - 1) / 100 <= time.monotonic() - began < (len(words) - 1) / 100 + 0.5


# How text is cut


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("One. Two! Three? Four… Five", ["One.", "Two!", "Three?", "Four…", "Five"]),
        ("Dr. Smith, e.g. in Fig. 3, saw v. 2.5 of J. Doe's book. He left.", 2),
        ("A line that the width of the page has\nbroken, and a hyphen-\nated one.", ["A line that the width of the page has broken, and a hyphenated one."]),
        ("He said “Stop.” Then he left. (So it goes.) Bye.", 4),
        ("Name\nA short label\nA long line that goes on until the edge of the page, where the width of it\nbreaks it.", 3),
        ("- one\n- two, which\n  goes on\n- three", ["- one", "- two, which goes on", "- three"]),
        ("1. one\n2) two\na) three", ["1. one", "2) two", "a) three"]),
        ("| a | b |\n|---|---|\n| 1 | 2 |", ["a | b", "1 | 2"]),
        ("It costs 3.50 euros at example.com today. Fine.", 2),
        ("Some tools. debhelper is good. It has approx. ten of them.", ["Some tools.", "debhelper is good.", "It has approx. ten of them."]),
        ("これは文です。「本当？」彼は言った！そう。", 4),
        ("日本\n語の行", ["日本語の行"]),
        ("x = 1\nif x:\n    print(x)", ["x = 1\nif x:\n    print(x)"]),
        ("Text.\n\n```sh\nmake run\n\nmake test\n```\n\nMore.", ["Text.", "make run\n\nmake test", "More."]),
        ("soft\u00adhyphen   and\tspaces", ["softhyphen and spaces"]),
        ("", []),
        ("\n \n\n", []),
    ],
)  # fmt: skip
def test_text_is_cut_where_a_reader_would(text: str, pieces: list[str] | int) -> None:
    found = [unit.text for unit in units(text)]
    assert (found if isinstance(pieces, list) else len(found)) == pieces
