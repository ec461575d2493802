"""Chats: whose they are, what they are called, and where the older ones are."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.kit.browser import Visit
from tests.kit.server import Server

pytestmark = pytest.mark.browser


def test_a_name_is_remembered_until_its_owner_signs_out(visit: Visit, online: Server, name: str) -> None:
    ada = visit(online).come(name)
    ada.answered("Mine")
    ada.page.reload()
    expect(ada.page.locator("#user")).to_have_text(name)
    ada.button("Sign out").click()
    expect(ada.page.get_by_label("Your name")).to_have_value(name)
    ada.page.get_by_label("Your name").fill(f"not-{name}")
    ada.button("Continue").click()
    expect(ada.page.locator("#user")).to_have_text(f"not-{name}")
    expect(ada.turns).to_have_count(0)
    expect(ada.page.get_by_text("Your chats will be listed here.")).to_be_visible()


def test_each_app_has_its_own_chats(visit: Visit, online: Server, name: str) -> None:
    ada = visit(online).come(name)
    ada.answered("For the assistant")
    ada.page.get_by_label("App", exact=True).select_option(label="Recipes")
    expect(ada.chats).to_have_count(0)
    ada.answered("For the cook")
    expect(ada.chats).to_have_count(1)
    ada.page.go_back()
    ada.page.go_back()
    expect(ada.turns.locator(".prompt p")).to_have_text("For the assistant")


def test_a_chat_can_be_renamed(visit: Visit, online: Server, name: str) -> None:
    ada = visit(online).come(name)
    ada.answered("A dull title")
    ada.chats.hover()
    ada.button("Rename", ada.chats).click()
    ada.dialog.get_by_label("Title").fill("A <b>fine</b> title")
    ada.page.keyboard.press("Enter")
    expect(ada.page.get_by_role("heading", name="A <b>fine</b> title")).to_be_visible()
    ada.page.reload()
    expect(ada.chats.get_by_role("link")).to_have_text("A <b>fine</b> title")


def test_what_is_older_is_loaded_on_request(visit: Visit, online: Server, name: str) -> None:
    me = online.sign_in(name)
    for n in range(32):
        online.request("POST", f"/v1/apps/assistant/chats/many-{n}/messages", {"text": f"Chat {n}"}, me)
        online.request("POST", "/v1/apps/assistant/chats/long/messages", {"text": f"Question {n}"}, me)
    ada = visit(online).come(name)
    expect(ada.chats).to_have_count(30)
    ada.button("Show more").click()
    expect(ada.chats).to_have_count(33)
    ada.page.goto(f"{online.url}/#/assistant/long")
    expect(ada.turns).to_have_count(30)
    expect(ada.turns.last).to_be_in_viewport()
    ada.button("Show earlier messages").click()
    expect(ada.turns).to_have_count(32)
    expect(ada.turns.first).to_contain_text("Question 0")


def test_a_chat_that_is_gone_says_so(visit: Visit, online: Server, name: str) -> None:
    ada = visit(online).come(name)
    ada.page.goto(f"{online.url}/#/assistant/never-was")
    expect(ada.note).to_contain_text("This is no longer here")
    ada.watch.allow("status of 404")
    ada.button("Start a new chat").click()
    expect(ada.page.get_by_role("heading", name="Drop a PDF here, then ask about it")).to_be_visible()
