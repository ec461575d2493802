"""A value becomes files that say what it says, whatever is in it: they are read back as their readers do."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pypdf
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from lxml import etree
from lxml import html as markup

from service.errors import ReportTooLong
from service.json_schema import Schema
from service.models import JSON
from service.reports import Format, Report, ReportFile, SourceLine, render
from service.reports.words import as_words

ROOT = Path(__file__).parent.parent
FORMATS: tuple[Format, ...] = get_args(Format)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "level": {"title": "Risk level", "enum": ["low", "medium", "high"]},
        "score": {"type": "integer", "description": "From 0 to 100."},
        "company": {
            "title": "The company",
            "type": "object",
            "properties": {"name": {"type": "string"}, "registeredIn": {"type": "string"}},
        },
        "summary": {"type": "string", "description": "What a decision maker needs to know."},
        "findings": {"$ref": "#/$defs/findings"},
        "next_steps": {"type": "array", "items": {"type": "string"}},
    },
    "$defs": {
        "findings": {
            "title": "Findings",
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "what": {"title": "Finding", "type": "string"},
                    "severity": {"enum": ["low", "high"]},
                    "sum": {"title": "Sum (EUR)", "type": ["number", "null"]},
                },
            },
        }
    },
}
VALUE: dict[str, JSON] = {
    "next_steps": ["Ask for a guarantee.", "Review in March."],
    "findings": [
        {"sum": 1200.5, "severity": "high", "what": "Late payments"},
        {"what": "Claims, pending", "severity": "low", "sum": None},
    ],
    "summary": "Steady revenue – sound order book.\n\nTwo claims weigh on the outlook.",
    "company": {"name": "Ελένη & Söhne", "registeredIn": "Россия"},
    "score": 47,
    "level": "medium",
    "notInTheSchema": True,
}
REPORT = Report(
    title="Risk report: Ελένη & Söhne",
    subtitle="For Baltic Trade",
    value=VALUE,
    schema=SCHEMA,
    created="30 November 2026",
    sources=[
        SourceLine("Annual report", "https://example.com/report?a=1&b=2", "29 November 2026"),
        SourceLine("Register", "register.pdf", ""),
    ],
)


def made(report: Report, format: Format) -> bytes:
    [file] = render(report, [format])
    return file.content


def of(value: JSON, schema: Mapping[str, Any] | None = None) -> Report:
    return replace(REPORT, value=value, schema=schema or {}, sources=[])


def page(report: Report) -> Any:
    return markup.document_fromstring(made(report, "html").decode())


def pdf_text(content: bytes) -> str:
    return "\n".join(each.extract_text() for each in pypdf.PdfReader(io.BytesIO(content)).pages)


def cells(report: Report) -> list[list[str]]:
    content = made(report, "csv")
    assert content.startswith(b"\xef\xbb\xbf")
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))


# What a report says


def test_each_format_is_a_file() -> None:
    files = render(REPORT, ["json", "pdf", "csv", "html"])
    assert [(file.name, file.media_type.partition(";")[0]) for file in files] == [
        ("report.json", "application/json"),
        ("report.pdf", "application/pdf"),
        ("report.csv", "text/csv"),
        ("report.html", "text/html"),
    ]
    assert json.loads(files[0].content) == VALUE
    assert render(REPORT, []) == []


def test_the_page_is_laid_out_by_the_schema() -> None:
    found = page(REPORT)
    assert [each.text_content() for each in found.iter("h1", "h2", "h3")] == [
        "Risk report: Ελένη & Söhne",
        "Risk level",
        "Score",
        "The company",
        "Name",
        "Registered in",
        "Summary",
        "Findings",
        "Next steps",
        "Not in the schema",
        "Sources",
    ]
    assert [each.text_content() for each in found.iter("strong")] == ["medium", "high", "low"]
    assert [each.text_content() for each in found.find_class("note")] == [
        "From 0 to 100.",
        "What a decision maker needs to know.",
    ]
    [table] = found.iter("table")
    assert [[cell.text_content() for cell in row] for row in table.iter("tr")] == [
        ["Finding", "Severity", "Sum (EUR)"],
        ["Late payments", "high", "1200.5"],
        ["Claims, pending", "low", "–"],
    ]
    assert [each.text_content() for each in found.iter("li")][:2] == ["Ask for a guarantee.", "Review in March."]
    assert [each.get("href") for each in found.iter("a")] == ["https://example.com/report?a=1&b=2"]


def test_the_pdf_says_the_same_in_the_same_order() -> None:
    text = pdf_text(made(REPORT, "pdf"))
    places = [
        text.index(part)
        for part in (
            "Risk report: Ελένη & Söhne", "For Baltic Trade", "30 November 2026", "Risk level", "medium", "47", "The company", "Россия",
            "Summary", "What a decision maker", "Two claims", "Findings", "Sum (EUR)", "Late payments", "1200.5", "Next steps",
            "Review in March.", "Not in the schema", "Yes", "Sources", "https://example.com/report?a=1&b=2", "read 29 November 2026", "register.pdf",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    reader: Any = pypdf.PdfReader(io.BytesIO(made(REPORT, "pdf")))
    assert f"Page 1 of {len(reader.pages)}" in text
    assert reader.metadata is not None
    assert reader.metadata.title == "Risk report: Ελένη & Söhne"
    links = [each.get_object()["/A"]["/URI"] for each in reader.pages[-1]["/Annots"]]
    assert links == ["https://example.com/report?a=1&b=2"]


def test_the_sheet_is_the_largest_array_of_objects() -> None:
    assert cells(REPORT) == [
        ["Finding", "Severity", "Sum (EUR)"],
        ["Late payments", "high", "1200.5"],
        ["Claims, pending", "low", ""],
    ]
    small: JSON = {"a": [{"x": 1}], "b": {"c": [{"y": 1, "z": [1, 2]}, {"y": 2, "w": {"v": "u"}}]}}
    assert cells(of(small)) == [["Y", "Z", "W"], ["1", "1; 2", ""], ["2", "", "V: u"]]


def test_a_value_without_tables_is_a_sheet_of_its_parts() -> None:
    value: JSON = {"a": {"b": [1, None]}, "c": [], "d": "x\ny"}
    assert cells(of(value)) == [["Field", "Value"], ["a.b[1]", "1"], ["a.b[2]", ""], ["c", ""], ["d", "x\ny"]]


@pytest.mark.parametrize(
    ("name", "words"),
    [("riskLevel", "Risk level"), ("risk_level", "Risk level"), ("total-EUR", "Total EUR"), ("URL", "URL"), ("größe", "Größe"), ("_", "")],
)  # fmt: skip
def test_names_are_made_readable(name: str, words: str) -> None:
    assert as_words(name) == words


def test_a_schema_is_followed_through_its_references_and_alternatives() -> None:
    schema = {
        "properties": {
            "level": {"title": "Level", "anyOf": [{"type": "null"}, {"$ref": "#/$defs/level"}]},
            "rows": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"allOf": [{"$ref": "#/$defs/row"}]}}]},
            "loop": {"$ref": "#/$defs/loop"},
        },
        "$defs": {
            "level": {"type": "string", "enum": ["high"], "description": "How high."},
            "row": {"type": "object", "properties": {"b": {"title": "Second"}, "a": {"title": "First"}}},
            "loop": {"anyOf": [{"$ref": "#/$defs/loop"}, {"allOf": [{"$ref": "#/$defs/loop"}]}]},
        },
    }
    found = page(of({"rows": [{"a": 1, "b": 2}], "loop": "once", "level": "high"}, schema))
    assert [each.text_content() for each in found.iter("h2", "th")] == ["Level", "Rows", "Second", "First", "Loop"]
    assert found.find_class("note")[0].text_content() == "How high."
    assert [each.text_content() for each in found.iter("strong")] == ["high"]


def test_large_objects_are_records() -> None:
    wide: JSON = [{f"field{n}": n for n in range(9)}, {"field0": "x" * 500}]
    found = page(of({"rows": wide}))
    assert not list(found.iter("table"))
    assert [len(list(each.iter("dd"))) for each in found.find_class("record")] == [9, 1]
    assert "x" * 40 in pdf_text(made(of({"rows": wide}), "pdf"))


# What it does not do, whatever it says

HOSTILE = [
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<img src='file:///etc/passwd'/>",
    "<para><a href='javascript:alert(1)'>x</a></para>",
    "<!-- --><![CDATA[x]]>&lt;&#60;&amp;lt;",
    "{0} {title} {{x}} %s ${x}",
    "<b>bold<br/><unclosed",
    "<font color='red' size='900'>huge</font>",
    "<onDraw name='x' label='y'/><seq/><greek>a</greek>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_text(text: str) -> None:
    report = Report(
        text,
        text,
        {text: text, "list": [text, {text: [text]}], "rows": [{text: text}]},
        {},
        text,
        [SourceLine(text, text, text)],
    )
    found = page(report)
    assert {each.tag for each in found.iter() if isinstance(each.tag, str)} <= set(
        "html head meta title style body main header section div h1 h2 h3 p small span br ul ol li table thead tbody tr th td".split()
    )
    assert not [
        name for each in found.iter() for name in each.attrib if name.startswith("on") or name in ("src", "style")
    ]
    assert found.text_content().count(text) >= 6
    drawn = re.sub(r"\s", "", pdf_text(made(report, "pdf")))
    assert drawn.count(re.sub(r"\s", "", text)) >= 6


def test_the_page_allows_itself_its_style_alone() -> None:
    found = page(REPORT)
    [policy] = found.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
    [style] = found.iter("style")
    digest = base64.b64encode(hashlib.sha256(style.text.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert not re.search(r"@import|url\(", style.text)
    assert not found.xpath("//script | //link | //img | //iframe | //@src | //@style")


@pytest.mark.parametrize(
    "place", ["javascript:alert(1)", "data:text/html,x", "https://a b", 'https://a"onclick=x', "//example.com", "https://é.example", "file:///x"]
)  # fmt: skip
def test_only_web_addresses_are_links(place: str) -> None:
    report = replace(REPORT, sources=[SourceLine("A source", place, "")])
    assert not list(page(report).iter("a"))
    assert place in page(report).text_content()
    assert "/Annots" not in pypdf.PdfReader(io.BytesIO(made(report, "pdf"))).pages[0]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "\u200b=", "\u202e+", "＝", "＠"])
def test_no_cell_is_a_formula(begin: str) -> None:
    text = begin + "cmd|'/C calc'!A0"
    rows = cells(of({"rows": [{text: text, "number": -5, "nested": [text], "object": {text: 1}}]}))
    assert rows[1][1] == "-5"
    found = [cell for row in rows for cell in row if cell != "-5"]
    assert not [cell for cell in found if cell.lstrip().startswith(tuple("=+-@\t\r\n＝＠"))]
    assert rows[1][0].startswith("'")
    parts = cells(of({text: text}))
    assert not [cell for row in parts for cell in row if cell.lstrip().startswith(tuple("=+-@＝＠"))]


INVISIBLE = "a\x00b\x07c\u202ed\u2066e\ufefff\u200bg\ufffeh\U000e0041i\x1bj"


def test_what_is_not_seen_is_left_out() -> None:
    report = Report(INVISIBLE, "", {INVISIBLE: INVISIBLE, "half": "\ud800"}, {}, "", [])
    assert page(report).xpath("string(//h1)") == "abcdefghij"
    assert "abcdefghij" in pdf_text(made(report, "pdf"))
    assert ["abcdefghij", "abcdefghij"] in cells(report)
    assert json.loads(made(report, "json")) == report.value


def test_letters_that_the_font_lacks_are_boxes_and_said_to_be() -> None:
    plain = pdf_text(made(of({"a": "Ž ß Ł ő ș ệ ἀ Ω Ж Ґ ѣ € ₽ – “ ” … ≤ → ½ Ａ \u2011 \u2009"}), "pdf"))
    assert "crossed box" not in plain
    assert "ệ ἀ Ω Ж Ґ ѣ € ₽ – “ ” … ≤ → ½ A -" in plain
    lacking = pdf_text(made(of({"a": "日本 אב x"}), "pdf"))
    assert "Of this report 4 characters are not in this file's font" in re.sub(r"\s+", " ", lacking)
    assert not re.search("[日本אב]", lacking)
    assert "日本 אב x" in page(of({"a": "日本 אב x"})).text_content()


# What is large


def deep(levels: int) -> JSON:
    value: JSON = "bottom"
    for _ in range(levels):
        value = {"next": [value]}
    return value


def test_a_deep_value_is_told_in_a_line() -> None:
    report = of(deep(15))
    assert "bottom" in page(report).text_content()
    assert "bottom" in pdf_text(made(report, "pdf"))
    assert "bottom" in str(cells(report))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("value", [deep(2_000), ["x"] * 20_000, "x" * 400_001], ids=["deep", "many", "long"])
def test_too_large_a_value_is_refused_at_once(format: Format, value: JSON) -> None:
    with pytest.raises(ReportTooLong) as refused:
        made(of({"value": value}), format)
    assert refused.value.status == 422
    assert not refused.value.retryable


def test_a_pdf_of_too_many_pages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    report = of({"list": ["x\ny\nz"] * 300})
    assert len(pypdf.PdfReader(io.BytesIO(made(report, "pdf"))).pages) > 10
    monkeypatch.setattr("service.reports.pdf.MAX_PAGES", 10)
    with pytest.raises(ReportTooLong, match="10 pages"):
        made(report, "pdf")


def test_a_word_of_100_kb_goes_on_from_line_to_line() -> None:
    report = of({"word": "Q" * 100_000, "rows": [{"a": "M" * 400, "b": "x" * 400, "c": 1, "d": 2, "e": 3, "f": 4}]})
    content = made(report, "pdf")
    assert pdf_text(content).count("Q") == 100_000
    assert pdf_text(content).count("M") == 400
    assert page(report).text_content().count("Q") == 100_000


def test_a_long_table_goes_on_with_its_head_on_each_page() -> None:
    rows: JSON = [{"number": n, "what": f"Finding {n}."} for n in range(250)]
    reader = pypdf.PdfReader(io.BytesIO(made(of({"rows": rows}), "pdf")))
    texts = [each.extract_text() for each in reader.pages]
    assert len(texts) > 5
    assert all("What" in text for text in texts)
    assert [f"Page {n} of {len(texts)}" in text for n, text in enumerate(texts, 1)] == [True] * len(texts)
    assert all(f"Finding {n}." in "\n".join(texts) for n in range(250))


# Always the same, and always something


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    files = render(REPORT, FORMATS)
    with ThreadPoolExecutor(4) as pool:
        others = list(pool.map(lambda _: render(REPORT, FORMATS), range(4)))
    assert others == [files] * 4
    program = (
        "import sys; from tests.test_reports import FORMATS, REPORT; from service.reports import render\n"
        "for file in render(REPORT, FORMATS): open(f'{sys.argv[1]}/{file.name}', 'wb').write(file.content)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, cwd=ROOT, env={"PYTHONHASHSEED": "7"})
    assert [ReportFile(file.name, file.media_type, (tmp_path / file.name).read_bytes()) for file in files] == files


def test_reportlab_is_imported_for_a_pdf_alone() -> None:
    program = (
        "import sys; from tests.test_reports import REPORT; from service.reports import render\n"
        "render(REPORT, ['html', 'csv', 'json']); before = 'reportlab' in sys.modules\n"
        "render(REPORT, ['pdf']); print(before, 'reportlab' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"]


WORDS = st.text(max_size=30) | st.sampled_from(
    [*HOSTILE, INVISIBLE, "\ud800", "x" * 700, "a " * 400, "日" * 50, "\n", ""]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(WORDS, inner, max_size=8),
    max_leaves=25,
)


@profile(max_examples=25, deadline=None)
@given(
    VALUES,
    st.sampled_from([{}, SCHEMA, {"enum": 5, "properties": [], "items": True, "title": {}, "anyOf": 1, "$ref": "x"}]),
    WORDS,
)
def test_any_value_is_a_file_in_each_format(value: JSON, schema: Mapping[str, Any], word: str) -> None:
    report = Report(word, word, value, schema, word, [SourceLine(word, word, word)])
    files = {file.name: file.content for file in render(report, FORMATS)}
    assert pypdf.PdfReader(io.BytesIO(files["report.pdf"])).pages[0].extract_text()
    assert etree.fromstring(files["report.html"], markup.HTMLParser(encoding="utf-8")) is not None
    assert list(csv.reader(io.StringIO(files["report.csv"].decode("utf-8-sig"), newline=""), strict=True))
    assert json.loads(files["report.json"]) == value


def test_the_schema_of_the_test_holds() -> None:
    assert Schema(SCHEMA).faults({name: part for name, part in VALUE.items() if name != "notInTheSchema"}) == []
