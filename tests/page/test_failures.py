"""What a person reads when something fails, and how they go on."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Route, expect

from tests.kit.browser import Visit, Visitor
from tests.kit.server import Server
from tests.kit.upstream import Upstream, faults

pytestmark = pytest.mark.browser


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
