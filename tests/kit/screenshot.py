"""`python -m tests.kit.screenshot`: the picture of the README, of the real service with a real document and a real answer."""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

from playwright.sync_api import expect

from tests.kit.browser import Visitor, Watch, chromium
from tests.kit.debian import debian_pdf, long_debian_pdf
from tests.kit.server import ROOT, Server

EARLIER = ("What is /opt for?", "Where do host-specific configuration files go?")
QUESTION = "What is the difference between /tmp and /var/tmp?"


def main() -> None:
    parser = argparse.ArgumentParser(prog="screenshot", description="Make the picture of the README.")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "screenshot.png", help="file to write")
    parser.add_argument("--font", help="font to show where this machine's own interface font is not a usual one")
    parser.add_argument("--dark", action="store_true", help="take the dark theme")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder) / "data") as server, chromium() as browser:
        context = browser.new_context(
            viewport={"width": 1280, "height": 800},
            color_scheme="dark" if options.dark else "light",
            reduced_motion="reduce",
        )
        visitor = Visitor(context, server.url, Watch(server.url)).come()
        if options.font:
            visitor.page.evaluate("(font) => document.documentElement.style.setProperty('--sans', font)", options.font)
        stage(visitor)
        visitor.page.screenshot(path=options.to)


def stage(visitor: Visitor) -> None:
    """Bring the page to the moment of the picture: an answer with its source, earlier chats, one more document being read."""
    visitor.choose("fhs-3.0.pdf", debian_pdf().read_bytes(), "application/pdf")
    expect(visitor.tray).to_contain_text("Ready", timeout=120_000)
    for question in (*EARLIER, QUESTION):
        visitor.button("New chat").click()
        visitor.answered(question)
    visitor.choose("policy.pdf", long_debian_pdf().read_bytes(), "application/pdf")
    expect(visitor.tray).to_contain_text(re.compile(r"Reading, [3-9]\d %"), timeout=120_000)
    visitor.page.locator("h1#title").hover()


if __name__ == "__main__":
    main()
