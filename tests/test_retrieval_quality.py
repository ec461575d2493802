"""Retrieval finds what it should: both rankings together more than either alone, over questions about real documents."""

from __future__ import annotations

import pytest

from bench.retrieval import CORPUS, KINDS, Report, lines, measure, read_questions

# Embedding the corpus takes half a minute of processor time, and longer by the clock where others want the processor too.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def report() -> Report:
    return measure()


@pytest.mark.offline_model
@pytest.mark.parametrize("alone", ["vectors", "words"])
def test_both_rankings_together_find_more_than_either_alone(report: Report, alone: str) -> None:
    fused, single = report.ways["fused"], report.ways[alone]
    assert fused.hit_at_5 > single.hit_at_5
    assert fused.mrr > single.mrr


@pytest.mark.offline_model
def test_most_questions_find_their_answer(report: Report) -> None:
    fused = report.ways["fused"]
    assert fused.hit_at_5 >= 0.82
    assert fused.mrr >= 0.68
    assert report.kinds["identifier"]["fused"].hit_at_5 == 1
    assert report.kinds["paraphrase"]["fused"].hit_at_5 >= 0.6


@pytest.mark.offline_model
def test_the_report_is_a_table(report: Report) -> None:
    table = list(lines(report))
    assert [line.split()[0] for line in table] == ["retrieval", "all", *KINDS, str(report.passages)]
    assert f"{report.ways['fused'].hit_at_5:.3f}" in table[1]


def test_the_questions_are_enough_and_of_every_kind() -> None:
    questions = read_questions()
    assert len({question.text for question in questions}) == len(questions) >= 48
    assert all(sum(question.kind == kind for question in questions) >= 15 for kind in KINDS)


def test_the_corpus_says_where_it_is_from_and_under_which_licence() -> None:
    assert "MIT License" in (CORPUS / "LICENSE").read_text()
    assert "https://github.com/fastify/fastify" in (CORPUS / "SOURCE.txt").read_text()
