"""The page for everybody: by keyboard, by ear, on a phone, in the dark."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.kit.browser import Visit
from tests.kit.server import ROOT, Server
from tests.kit.upstream import Upstream
from tests.page import WHALES

pytestmark = pytest.mark.browser
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}
CONTRAST = (ROOT / "tests" / "page" / "contrast.js").read_text()


def test_the_page_works_by_keyboard_alone(visit: Visit, online: Server, provider: Upstream, name: str) -> None:
    ada = visit(online)
    page, keyboard = ada.page, ada.page.keyboard
    page.goto(online.url)
    expect(page.get_by_label("Your name")).to_be_focused()
    keyboard.type(name)
    keyboard.press("Enter")
    question = page.get_by_label("Your question")
    expect(question).to_be_focused()
    ada.add("whales.md", WHALES)
    provider.enqueue("They are long [1].")
    question.focus()
    keyboard.type("How long")
    keyboard.press("Shift+Enter")
    keyboard.type("is a whale?")
    expect(ada.turns).to_have_count(0)
    keyboard.press("Enter")
    expect(ada.turns).to_have_attribute("data-status", "COMPLETED")
    expect(ada.turns.locator(".prompt p")).to_have_text("How long\nis a whale?", use_inner_text=True)

    page.locator(".citation").focus()
    keyboard.press("Enter")
    expect(ada.dialog).to_be_visible()
    for _ in range(6):  # the focus goes round inside
        keyboard.press("Tab")
    assert page.evaluate(
        "document.querySelector('dialog').contains(document.activeElement) || document.activeElement === document.body"
    )
    keyboard.press("Escape")
    expect(page.locator(".citation")).to_be_focused()
    expect(page.get_by_role("log")).to_contain_text("They are long")

    page.reload()
    expect(ada.turns).to_have_count(1)
    page.evaluate("document.body.tabIndex = -1; document.body.focus()")
    keyboard.press("Tab")
    expect(page.get_by_text("Skip to the question box")).to_be_focused()
    keyboard.press("Enter")
    expect(question).to_be_focused()


def test_every_control_has_a_name_and_the_headings_nest(
    visit: Visit, online: Server, provider: Upstream, name: str
) -> None:
    ada = visit(online).come(name)
    ada.add("whales.md", WHALES)
    provider.enqueue("## First\n\nWhales [1].\n\n### Second\n\n- one")
    ada.answered("What is long?")
    ada.button("Documents").click()
    unnamed = ada.page.evaluate(
        """() => [...document.querySelectorAll('button, a, input, select, textarea, dialog, img')]
          .filter((element) => element.checkVisibility())
          .filter((element) => !(element.getAttribute('aria-label') || element.textContent.trim() || element.labels?.length
            || element.hasAttribute('alt') || document.getElementById(element.getAttribute('aria-labelledby'))))
          .map((element) => element.outerHTML)"""
    )
    assert unnamed == []
    levels = ada.page.evaluate(
        """() => [...document.querySelectorAll('main h1, main h2, main h3, main h4, main h5, main h6')]
          .filter((element) => element.checkVisibility()).map(({ localName }) => Number(localName[1]))"""
    )
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), levels


def test_on_a_phone_the_sidebar_is_a_drawer(visit: Visit, online: Server, provider: Upstream, name: str) -> None:
    ada = visit(online, **PHONE).come(name)
    page = ada.page
    sidebar = page.get_by_role("complementary", name="Chats and documents")
    expect(sidebar).to_have_count(0)
    ada.drop("whales.md", WHALES)
    expect(ada.tray).to_contain_text("Ready", timeout=20_000)
    long_line = "`" + "x" * 300 + "`"
    provider.enqueue(f"Wide things: {long_line}\n\n```\n{long_line}\n```\n\n|a|b|\n|-|-|\n|{long_line}|2| [1]")
    ada.answered("Is it wide?")
    assert page.evaluate(
        "document.documentElement.scrollWidth <= innerWidth && document.querySelector('#scroller').scrollWidth <= innerWidth"
    )

    page.get_by_role("button", name="Open the menu").tap()
    expect(sidebar).to_be_visible()
    expect(ada.button("Close the menu")).to_be_focused()
    page.keyboard.press("Escape")
    expect(sidebar).to_have_count(0)
    expect(ada.button("Open the menu")).to_be_focused()
    ada.button("Open the menu").tap()
    ada.button("New chat").tap()
    expect(sidebar).to_have_count(0)
    expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_system_until_someone_chooses(
    visit: Visit, online: Server, name: str, scheme: str
) -> None:
    ada = visit(online, color_scheme=scheme).come(name)
    ada.add("whales.md", WHALES)
    ada.answered("What is long?")
    assert brightness(ada.page) == scheme
    assert low_contrast(ada.page) == []
    other = {"light": "dark", "dark": "light"}[scheme]
    ada.button(f"Switch to the {other} theme").click()
    ada.page.reload()
    expect(ada.button(f"Switch to the {scheme} theme")).to_be_visible()
    assert brightness(ada.page) == other


def brightness(page: Page) -> str:
    [red, *_] = re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))
    return "light" if int(red) > 128 else "dark"


def low_contrast(page: Page) -> list[str]:
    """The visible texts of which the contrast is below 4.5:1 (WCAG 2.2, 1.4.3), each with its ratio."""
    found: list[str] = page.evaluate(CONTRAST)
    return found
