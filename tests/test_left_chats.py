"""What a process remembers of the chats that it answered last spares a read, and is never taken for what is stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from service.app import create_app
from service.config import Settings
from tests.kit.client import User, events
from tests.kit.upstream import Upstream

TURN = "0" * 32


@pytest.fixture
def elsewhere(served: Settings, flask: Flask) -> Iterator[User]:
    """The same user at another process of the service, on the same data."""
    app = create_app(served)
    yield User(app, "ada", "alpha")
    app.extensions["brainstem"].backends.queue.stop()


def asked(upstream: Upstream) -> list[str]:
    """The messages that the model was sent last, without the app's own."""
    return [str(message["content"]) for message in upstream.asked()[-1].json["messages"] if message["role"] != "system"]


def stored(user: User) -> Any:
    return user.get("chats/c1").json


def test_what_another_process_answered_is_in_the_prompt(ada: User, elsewhere: User, upstream: Upstream) -> None:
    assert ada.ask("c1", "First").status_code == 200
    assert elsewhere.ask("c1", "Second").status_code == 200
    assert ada.ask("c1", "Third").status_code == 200
    assert [text for text in asked(upstream) if text in ("First", "Second", "Third")] == ["First", "Second", "Third"]
    assert [turn["prompt"] for turn in stored(ada)["turns"]] == ["First", "Second", "Third"]


def test_a_chat_that_another_process_deleted_begins_anew(ada: User, elsewhere: User, upstream: Upstream) -> None:
    assert ada.ask("c1", "First").status_code == 200
    assert elsewhere.call("DELETE", "chats/c1").status_code == 204
    assert ada.ask("c1", "Second").status_code == 200
    assert "First" not in asked(upstream)
    assert [turn["prompt"] for turn in stored(ada)["turns"]] == ["Second"]


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_chat_that_was_renamed_keeps_its_title(ada: User, elsewhere: User, where: str) -> None:
    assert ada.ask("c1", "First").status_code == 200
    renamer = ada if where == "here" else elsewhere
    assert renamer.call("PATCH", "chats/c1", json={"title": "Better"}).status_code == 200
    accepted = events(ada.stream("c1", "Second"))[0]
    assert accepted.data["chat"]["title"] == "Better"
    assert stored(ada)["title"] == "Better"


def test_a_message_that_is_sent_again_is_answered_once(ada: User, upstream: Upstream) -> None:
    assert ada.ask("c1", "First", id=TURN).status_code == 200
    assert ada.ask("c1", "First", id=TURN).status_code == 200
    assert ada.ask("c1", "Other", id=TURN).status_code == 422
    assert len(upstream.asked()) == 1
