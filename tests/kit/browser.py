"""Chromium for tests of the page: somebody who uses it, and a watch over everything that it must not do."""

from __future__ import annotations

import base64
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 15_000
"""Milliseconds that a page may take, on a busy machine, to show what a test expects."""

# Read here, because a test itself runs without the environment.
CHROMIUM = os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)
REQUIRED = "browser" in os.environ.get("BRAINSTEM_TEST_REQUIRE", "")

DROP = """([name, type, content]) => {
  const bytes = Uint8Array.from(atob(content), (mark) => mark.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name, { type }));
  for (const kind of ['dragenter', 'dragover', 'drop']) {
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
  }
}"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the installed Chromium; without one the test is skipped, or fails if BRAINSTEM_TEST_REQUIRE names `browser`."""
    if CHROMIUM is None:
        why = "no Chromium is installed (CHROMIUM may name one)"
        pytest.fail(why) if REQUIRED else pytest.skip(why)
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Watch:
    """What pages did wrong: errors in the console, among them every breach of the policy, exceptions, requests elsewhere."""

    base: str
    seen: list[str] = field(default_factory=list)
    others: tuple[str, ...] = ()
    """Further origins that pages may talk to."""

    def over(self, context: BrowserContext) -> None:
        context.on("console", self.console)
        context.on("weberror", lambda error: self.seen.append(f"exception: {error.error}"))
        context.on("request", self.request)

    def console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.seen.append(f"{message.type}: {message.text}")

    def request(self, request: Request) -> None:
        origins = tuple(f"{origin}/" for origin in (self.base, *self.others))
        if not request.url.startswith((*origins, "data:", "blob:")):
            self.seen.append(f"request to {request.url}")

    def allow(self, pattern: str) -> None:
        """Forget what matches: a browser also logs the refusals that a test is about."""
        assert any(re.search(pattern, line) for line in self.seen), f"nothing like {pattern} in {self.seen}"
        self.seen = [line for line in self.seen if not re.search(pattern, line)]


class Visitor:
    """Somebody with a browser, who looks at the page and does what a person does."""

    def __init__(self, context: BrowserContext, base: str, watch: Watch) -> None:
        self.context, self.base, self.watch = context, base, watch
        self.page: Page = context.new_page()
        self.turns = self.page.locator(".turn")
        self.chats = self.page.locator("#chats li")
        self.tray = self.page.locator("#tray li")
        self.dialog = self.page.locator("dialog[open]")
        self.note = self.page.locator("#thread .note")

    def come(self, name: str = "ada") -> Visitor:
        """Open the page for the first time and sign in."""
        self.page.goto(self.base)
        self.page.get_by_label("Your name").fill(name)
        self.page.keyboard.press("Enter")
        expect(self.page.locator("#user")).to_have_text(name)
        return self

    def sign_up(self, email: str, password: str) -> Visitor:
        """Open the page of a server with Firebase accounts for the first time, and create one."""
        self.page.goto(self.base)
        self.button("Create an account").click()
        self.enter(email, password, "Create the account")
        expect(self.page.locator("#user")).to_have_text(email)
        return self

    def enter(self, email: str, password: str, action: str = "Sign in") -> None:
        """Fill the form of an account and send it."""
        self.page.get_by_label("E-mail").fill(email)
        self.page.get_by_label("Password", exact=True).fill(password)
        self.button(action).click()

    def button(self, name: str, within: Locator | None = None) -> Locator:
        return (within or self.page).get_by_role("button", name=name)

    def choose(self, name: str, content: bytes, media_type: str = "text/markdown") -> None:
        """Pick a file with the file dialog."""
        self.page.locator("#files").set_input_files({"name": name, "mimeType": media_type, "buffer": content})

    def drop(self, name: str, content: bytes, media_type: str = "text/markdown") -> None:
        """Drop a file on the page."""
        self.page.evaluate(DROP, [name, media_type, base64.b64encode(content).decode()])

    def add(self, name: str, content: bytes) -> None:
        """Add a document and wait until it is ready."""
        self.choose(name, content)
        expect(self.tray.last).to_contain_text("Ready", timeout=20_000)

    def ask(self, text: str) -> Locator:
        """Ask and return the new turn, without waiting for its answer."""
        count = self.turns.count()
        self.page.get_by_label("Your question").fill(text)
        self.page.keyboard.press("Enter")
        expect(self.turns).to_have_count(count + 1)
        return self.turns.last

    def answered(self, text: str) -> Locator:
        turn = self.ask(text)
        expect(turn).to_have_attribute("data-status", "COMPLETED", timeout=20_000)
        return turn


Visit = Callable[..., Visitor]
"""What makes visitors: `visit(server, **options of a browser context)`."""
