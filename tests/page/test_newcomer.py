"""The first visit, without any model: a PDF, a question, a cited answer, and everything deleted again."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.kit.browser import Visit, Visitor
from tests.kit.debian import ANSWER_SNIPPET, QUESTION, debian_pdf
from tests.kit.server import Server

pytestmark = pytest.mark.browser


@pytest.mark.offline_model
def test_a_newcomer_uploads_a_pdf_asks_and_finds_the_cited_answer_again(visit: Visit, offline: Server) -> None:
    ada = visit(offline).come()
    page = ada.page
    expect(page.get_by_role("heading", name="Drop a PDF here, then ask about it")).to_be_visible()
    expect(page.get_by_text("No language model is set.")).to_be_visible()

    ada.choose("handbook.pdf", debian_pdf().read_bytes(), "application/pdf")
    expect(ada.tray.locator("progress")).to_be_visible()
    expect(ada.tray).to_contain_text(re.compile(r"Reading, \d+ %"), timeout=30_000)
    expect(ada.tray).to_contain_text("Ready", timeout=60_000)

    turn = ada.ask(QUESTION)
    lengths = growth(turn)
    assert len(lengths) > 5, f"the answer came at once: {lengths}"
    expect(turn.locator(".citation").first).to_be_visible()
    answer = turn.locator(".prose").inner_text()
    read = open_all_sources(ada, turn)
    assert ANSWER_SNIPPET in " ".join(read.split())

    page.reload()
    expect(turn.locator(".prose")).to_have_text(answer, use_inner_text=True)
    expect(page.get_by_role("heading", name=QUESTION)).to_be_visible()

    page.goto(offline.url)
    ada.chats.get_by_role("link", name=QUESTION).click()
    expect(turn.locator(".citation").first).to_be_visible()
    delete_everything(ada)


def growth(turn: Locator) -> list[int]:
    """The lengths that a running answer had on the screen, one after the other."""
    lengths = turn.evaluate(
        """(turn) => new Promise((resolve) => {
          const lengths = new Set();
          const look = () => {
            lengths.add(turn.querySelector('.prose').textContent.length);
            if (turn.dataset.status === 'COMPLETED') resolve([...lengths]);
            else requestAnimationFrame(look);
          };
          look();
        })"""
    )
    assert lengths == sorted(lengths)
    return [int(length) for length in lengths]


def open_all_sources(visitor: Visitor, turn: Locator) -> str:
    """Open each source of an answer and return what they say; the focus comes back to where it was."""
    texts = []
    for source in turn.locator(".source").all():
        source.click()
        expect(visitor.dialog).to_contain_text(re.compile(r"page \d+"))
        texts.append(visitor.dialog.locator(".passage").inner_text())
        visitor.page.keyboard.press("Escape")
        expect(visitor.dialog).to_have_count(0)
        expect(source).to_be_focused()
    return "\n".join(texts)


def delete_everything(visitor: Visitor) -> None:
    visitor.chats.first.hover()
    visitor.button("Delete", visitor.chats.first).click()
    visitor.button("Cancel", visitor.dialog).click()
    visitor.button("Delete", visitor.chats.first).click()
    visitor.button("Delete", visitor.dialog).click()
    expect(visitor.chats).to_have_count(0)

    visitor.button("Documents").click()
    visitor.button("Delete", visitor.dialog).click()
    visitor.button("Delete", visitor.dialog.last).click()
    expect(visitor.dialog).to_contain_text("No documents yet")
    visitor.page.keyboard.press("Escape")
    expect(visitor.page.get_by_role("heading", name="Drop a PDF here, then ask about it")).to_be_visible()


def test_usage_and_the_way_to_a_model_are_shown(visit: Visit, online: Server, offline: Server, name: str) -> None:
    ada = visit(online).come(name)
    ada.answered("Count this")
    ada.button("Usage").click()
    expect(ada.dialog.get_by_role("table")).to_contain_text("gpt-5-mini")
    without = visit(offline).come(name)
    without.button("Set a model").click()
    expect(without.dialog).to_contain_text("OPENAI_API_KEY")
