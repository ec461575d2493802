"""Answers that are stopped, watched from elsewhere, or cited; documents that are dropped, or cannot be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import APIResponse, Route, expect

from tests.kit.browser import Visit, Visitor
from tests.kit.server import Server
from tests.kit.upstream import Gate, Upstream
from tests.page import WHALES

pytestmark = pytest.mark.browser


def test_a_stopped_answer_is_kept_and_can_be_asked_again(
    visit: Visit, online: Server, provider: Upstream, name: str
) -> None:
    ada = visit(online).come(name)
    provider.enqueue("The first half", gate := Gate(), " and the rest")
    turn = ada.ask("Tell me")
    expect(turn.locator(".prose")).to_have_text("The first half")
    ada.button("Stop the answer").click()
    expect(turn).to_have_attribute("data-status", "INTERRUPTED")
    gate.open()

    ada.page.reload()
    expect(turn).to_contain_text("Stopped before the end. What came so far is kept.")
    expect(turn.locator(".prose")).to_have_text("The first half")

    provider.enqueue("All of it")
    ada.button("Ask again").click()
    expect(ada.turns.last.locator(".prose")).to_have_text("All of it")
    expect(ada.turns).to_have_count(2)


def test_another_tab_sees_the_answer_of_this_one_and_cannot_ask_in_between(
    visit: Visit, online: Server, provider: Upstream, name: str
) -> None:
    ada = visit(online).come(name)
    provider.enqueue("Begun", gate := Gate(), ", and done")
    ada.ask("Slowly")
    expect(ada.turns.locator(".prose")).to_have_text("Begun")

    other = Visitor(ada.context, online.url, ada.watch)
    other.page.goto(ada.page.url)
    expect(other.turns).to_have_attribute("data-status", "STREAMING")
    gate.open()
    expect(other.turns).to_have_attribute("data-status", "COMPLETED")
    expect(other.turns.locator(".prose")).to_have_text("Begun, and done")

    provider.enqueue("Again", gate := Gate())
    ada.ask("Once more")
    expect(ada.turns.last.locator(".prose")).to_have_text("Again")
    other.ask("Me too")
    expect(other.note).to_contain_text("This chat is still answering")
    other.watch.allow("status of 409")
    gate.open()
    expect(ada.turns.last).to_have_attribute("data-status", "COMPLETED")
    other.button("Try again", other.note).click()
    expect(other.turns.last).to_have_attribute("data-status", "COMPLETED")


def test_an_answer_goes_on_while_another_chat_is_open(
    visit: Visit, online: Server, provider: Upstream, name: str
) -> None:
    ada = visit(online).come(name)
    provider.enqueue("Begun", gate := Gate(), ", and done")
    ada.ask("Slowly")
    expect(ada.turns.locator(".prose")).to_have_text("Begun")
    ada.button("New chat").click()
    expect(ada.turns).to_have_count(0)
    expect(ada.chats.get_by_role("img", name="Answering")).to_be_visible()
    gate.open()
    expect(ada.chats.get_by_role("img", name="Answering")).to_have_count(0)
    ada.chats.get_by_role("link", name="Slowly").click()
    expect(ada.turns.locator(".prose")).to_have_text("Begun, and done")


def test_a_file_that_cannot_be_read_says_why(visit: Visit, online: Server, name: str) -> None:
    ada = visit(online).come(name)
    ada.choose("broken.pdf", b"%PDF-1.7 and nothing of a PDF", "application/pdf")
    expect(ada.tray).to_contain_text("damaged", timeout=20_000)
    ada.choose("film.mp4", b"moving pictures", "video/mp4")
    expect(ada.tray.last).to_contain_text("This file cannot be read. These can: PDF, Word, Markdown")
    ada.button("Documents").click()
    card = ada.dialog.locator(".card")
    expect(card).to_have_attribute("data-status", "FAILED")
    expect(card).to_contain_text("damaged")


def test_a_dropped_file_is_cited_and_its_original_can_be_downloaded(
    visit: Visit, online: Server, provider: Upstream, name: str
) -> None:
    ada = visit(online).come(name)
    ada.drop("whales.md", WHALES)
    expect(ada.tray).to_contain_text("Ready", timeout=20_000)
    ada.drop("copy.md", WHALES)
    expect(ada.tray.last).to_contain_text("You have this one already")
    provider.enqueue("Krill, four tonnes [1], and `[1]` is code. Not a source: [9].")
    turn = ada.answered("What do whales eat?")
    expect(turn.locator(".citation")).to_have_count(1)
    turn.locator(".citation").click()
    expect(ada.dialog).to_contain_text("whales.md")
    expect(ada.dialog.locator(".path")).to_contain_text("Whales ›")
    with ada.page.expect_download() as download:
        ada.button("Download the original").click()
    assert Path(download.value.path()).read_bytes() == WHALES
    assert download.value.suggested_filename == "whales.md"


def test_a_file_added_while_the_list_of_documents_is_under_way_is_followed(
    visit: Visit, online: Server, name: str
) -> None:
    ada = visit(online)
    held: list[tuple[Route, APIResponse]] = []
    ada.page.route(re.compile(r"/documents\?"), lambda route: held.append((route, route.fetch())))
    ada.come(name)
    ada.choose("whales.md", WHALES)
    expect(ada.tray.last).to_contain_text("Waiting to be read")
    [(route, listed)] = held
    route.fulfill(response=listed)
    expect(ada.tray.last).to_contain_text("Ready", timeout=20_000)
