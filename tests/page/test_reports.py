"""The page of reports: a form of a flow's schema, a job that is watched, and what comes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.kit.browser import Visit, Visitor
from tests.kit.server import Server
from tests.kit.upstream import Gate, Upstream, faults
from tests.page.test_access import PHONE, low_contrast

pytestmark = pytest.mark.browser
ANSWER = json.dumps({
    "level": "high",
    "summary": "Its owner is <b>under sanctions</b>.",
    "findings": [
        {"finding": "Pelican Nominees is on the list.", "weight": "high", "source": "sanctions"},
        {"finding": "The accounts are overdue.", "weight": "medium", "source": "registry"},
    ],
    "unchecked": ["Who stands behind the owner."],
    "advice": "Do not trade with it.",
})  # fmt: skip


def come(visitor: Visitor, name: str) -> None:
    """Open the page for the first time and sign in."""
    visitor.page.goto(f"{visitor.base}/reports")
    visitor.page.get_by_label("Your name").fill(name)
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#user")).to_have_text(name)
    expect(visitor.page.get_by_label("Company")).to_be_focused()


def fill(visitor: Visitor, number: str = "09876543") -> None:
    visitor.page.get_by_label("Company").fill("Harrow & Finch Trading Ltd")
    visitor.page.get_by_label("Country of registration").select_option(label="United Kingdom")
    visitor.page.get_by_label("Registration number").fill(number)


def send(visitor: Visitor) -> None:
    visitor.button("Make the report").click()


def test_a_newcomer_asks_for_a_report_watches_it_and_downloads_it(
    visit: Visit, online: Server, provider: Upstream, name: str
) -> None:
    ada = visit(online)
    come(ada, name)
    fill(ada)
    gate = Gate()
    provider.enqueue(gate, ANSWER)
    send(ada)
    page = ada.page
    expect(page.locator(".now")).to_contain_text("Asking the model")
    expect(page.get_by_role("heading", level=1)).to_have_text("Risk report: Harrow & Finch Trading Ltd")
    expect(page.get_by_role("img", name="Being made")).to_be_visible()
    gate.open()
    report = page.locator(".report")
    expect(report).to_contain_text("Its owner is <b>under sanctions</b>.")
    expect(report.locator(".finding")).to_have_count(2)
    expect(report.locator(".finding").first).to_contain_text("sanctions")
    expect(page.locator("#sheet .facts")).to_contain_text("Answered by gpt-5-mini")
    with page.expect_download() as download:
        ada.button("Download PDF").click()
    assert Path(download.value.path()).read_bytes().startswith(b"%PDF-")
    assert download.value.suggested_filename == "report.pdf"

    page.reload()
    expect(report).to_contain_text("The accounts are overdue.")
    ada.button("New report").click()
    expect(page.get_by_label("Company")).to_be_focused()
    page.get_by_role("link", name="Risk report").click()
    expect(report).to_contain_text("The accounts are overdue.")


def test_a_refused_input_says_at_each_field_what_is_wrong(visit: Visit, online: Server, name: str) -> None:
    ada = visit(online)
    come(ada, name)
    send(ada)
    reasons = ada.page.locator(".field .reason")
    expect(reasons).to_have_text(["This is needed."] * 3)
    expect(ada.page.get_by_label("Company")).to_be_focused()
    fill(ada, "0987654X")
    send(ada)
    expect(reasons.last).to_contain_text("not of that form. Companies House: eight digits")
    expect(ada.page.get_by_label("Registration number")).to_be_focused()
    expect(ada.page.locator("#reports li")).to_have_count(0)
    ada.watch.allow("status of 422")


def test_a_report_that_fails_is_explained_and_can_be_tried_again(
    visit: Visit, online: Server, provider: Upstream, name: str
) -> None:
    ada = visit(online)
    come(ada, name)
    fill(ada)
    provider.script(faults.status(401))
    send(ada)
    note = ada.page.locator("#sheet .note")
    expect(note).to_contain_text("The model is not set up rightly")
    expect(ada.page.get_by_role("img", name="Could not be made")).to_be_visible()
    provider.enqueue(ANSWER)
    ada.button("Try again", note).click()
    expect(ada.page.locator(".report")).to_contain_text("Do not trade with it.")


def test_a_report_is_cancelled(visit: Visit, online: Server, provider: Upstream, name: str) -> None:
    ada = visit(online)
    come(ada, name)
    fill(ada)
    gate = Gate()
    provider.enqueue(gate, ANSWER)
    send(ada)
    expect(ada.page.locator(".now")).to_contain_text("Asking the model")
    ada.button("Cancel").click()
    expect(ada.page.locator("#sheet")).to_contain_text("This was cancelled.")
    gate.open()


@pytest.mark.offline_model
def test_without_a_model_the_page_says_that_none_wrote_the_report(visit: Visit, offline: Server, name: str) -> None:
    ada = visit(offline)
    come(ada, name)
    expect(ada.page.get_by_text("No language model is set.")).to_be_visible()
    fill(ada)
    send(ada)
    expect(ada.page.get_by_text("No model wrote this.")).to_be_visible()
    expect(ada.page.locator("#sheet .facts")).to_contain_text("Answered by a stand-in")


@pytest.mark.parametrize("options", [{"color_scheme": "light"}, {"color_scheme": "dark"}, PHONE])
def test_the_page_is_for_everybody(
    visit: Visit, online: Server, provider: Upstream, name: str, options: dict[str, object]
) -> None:
    ada = visit(online, **options)
    come(ada, name)
    page, keyboard = ada.page, ada.page.keyboard
    keyboard.type("Harrow & Finch")
    keyboard.press("Tab")
    keyboard.type("United K")
    keyboard.press("Tab")
    keyboard.type("09876543")
    assert low_contrast(page) == []
    provider.enqueue(ANSWER)
    keyboard.press("Enter")
    expect(page.locator(".report")).to_be_visible()
    assert low_contrast(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    levels = page.evaluate(
        "[...document.querySelectorAll('main h1, main h2, main h3')].filter((e) => e.checkVisibility()).map((e) => e.localName)"
    )
    assert levels == ["h1", *["h2"] * 5]
    expect(page.get_by_role("log")).to_contain_text("The report is done.")
