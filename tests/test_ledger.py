"""The ledger: what every kind of call cost, however it ended, and the sums of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from service.app import create_app
from service.apps.prices import table
from service.backends.interfaces import Create, Delta
from service.chat.events import Save
from service.chat.prepare import Prepared
from service.config import Settings
from service.models import Call, Scope, timestamp
from service.records import to_record
from service.services import Services
from service.usage import usd
from tests.kit.apps import write_flow
from tests.kit.client import User
from tests.kit.terminal import Terminal, environment
from tests.kit.upstream import Upstream, faults

ADA = Scope("alpha", "ada")
CHAT, EMBEDDING = table()["gpt-5-mini"].rate, table()["text-embedding-3-small"].rate
OBJECT = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def services_of(flask: Flask) -> Services:
    services: Services = flask.extensions["brainstem"]
    return services


def ledger(flask: Flask) -> list[Call]:
    return list(services_of(flask).usage._calls(ADA, ""))


def answers(flask: Flask) -> list[Call]:
    return [call for call in ledger(flask) if call.kind == "answer"]


def cost_of(call: Call) -> int:
    rate = EMBEDDING if call.kind == "embedding" else CHAT
    return rate.cost(call.input_tokens, call.output_tokens, call.cached_tokens)


def test_every_kind_of_call_is_priced(served: Settings, upstream: Upstream) -> None:
    write_flow(served.apps_dir, "alpha", "rate", OBJECT, OBJECT, "Rate {{a}}.")
    flask = create_app(served)
    ada = User(flask, "ada", "alpha")
    ada.add("kettle.md", b"Water boils at 100 degrees.")
    cached = {"prompt_tokens": 1000, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 900}}
    upstream.enqueue("Yes.", {"choices": [], "usage": cached}, usage=False)
    assert ada.ask("c1", "Does it boil?").status_code == 200
    assert ada.post("search", json={"text": "kettle"}).status_code == 200
    upstream.enqueue('{"a": "high"}', usage=(70, 9))
    assert ada.post("flows/rate", json={"a": "kettles"}).status_code == 200
    rows = ledger(flask)
    assert sorted(call.kind for call in rows) == ["answer", "embedding", "embedding", "embedding", "flow"]
    assert [(call.kind, call.cost) for call in rows] == [(call.kind, cost_of(call)) for call in rows]
    assert all(call.cost for call in rows)
    [answer] = answers(flask)
    assert answer.cost == 100 * 250_000 + 900 * 25_000 + 5 * 2_000_000
    spent = ada.get("usage").json
    assert Decimal(spent["costUsd"]) == Decimal(sum(cost_of(call) for call in rows)).scaleb(-12)
    assert (spent["cachedTokens"], spent["unpriced"]) == (900, 0)
    for row in spent["rows"]:
        same = [call for call in rows if (call.kind, call.model) == (row["kind"], row["model"])]
        assert row["costUsd"] == usd(sum(cost_of(call) for call in same))


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (faults.status(503), "upstream_busy"),
        (faults.insufficient_quota(), "upstream_quota"),
        (faults.key_leak(), "upstream_config"),
        (faults.context_too_long(), "context_too_long"),
    ],
)
def test_a_call_that_the_provider_refuses_costs_nothing(
    flask: Flask, ada: User, upstream: Upstream, script: Any, code: str
) -> None:
    upstream.always(script)
    assert ada.ask("c1", "Hi").json["code"] == code
    [call] = answers(flask)
    assert upstream.asked()
    assert (call.outcome, call.input_tokens, call.output_tokens) == ("failed", 0, 0)
    assert (call.cost, call.estimated) == (0, False)


@pytest.mark.parametrize("script", [faults.no_finish("Half an answer"), faults.reset_after("Half an answer")])
def test_a_stream_that_broke_is_paid_as_far_as_it_came(
    flask: Flask, ada: User, upstream: Upstream, script: Any
) -> None:
    upstream.script(script)
    assert ada.ask("c1", "Hi").json["status"] == "INTERRUPTED"
    [call] = answers(flask)
    assert (call.outcome, call.estimated) == ("interrupted", True)
    assert call.input_tokens > 0 < call.output_tokens
    assert call.cost == cost_of(call) > 0


def test_an_answer_that_broke_before_its_first_word_is_paid_all_the_same(
    flask: Flask, ada: User, upstream: Upstream
) -> None:
    upstream.script(faults.no_finish())
    assert ada.ask("c1", "Hi").status_code == 502
    [call] = answers(flask)
    assert (call.outcome, call.estimated, call.output_tokens) == ("failed", True, 0)
    assert call.cost == cost_of(call) > 0


def test_an_answer_without_usage_is_counted_and_priced(flask: Flask, ada: User, upstream: Upstream) -> None:
    upstream.enqueue("Yes, it does.", usage=False)
    assert ada.ask("c1", "Hi").status_code == 200
    [call] = answers(flask)
    assert (call.outcome, call.estimated) == ("completed", True)
    assert call.cost == cost_of(call) > 0


def test_a_client_that_leaves_pays_for_what_came(flask: Flask, ada: User, upstream: Upstream) -> None:
    upstream.script(faults.stall("Half an answer"))
    stream = ada.stream("c1", "Hi")
    pieces: Iterator[Any] = iter(stream.response)
    while b"Half" not in next(pieces):
        pass
    stream.close()
    deadline = time.monotonic() + 10
    while not answers(flask):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    [call] = answers(flask)
    assert (call.outcome, call.estimated) == ("interrupted", True)
    assert call.output_tokens > 0
    assert call.cost == cost_of(call) > 0


def test_an_answer_whose_process_died_is_priced_as_it_was_when_it_was_asked(served: Settings) -> None:
    flask = create_app(replace(served, lease_seconds=0.3))
    services = services_of(flask)
    prepared = services.turns.prepare(ADA, services.apps.get("alpha"), "c1", "t1", "Does it boil?")
    assert isinstance(prepared, Prepared)
    prepared.machine.start(0.0)
    [save] = [effect for effect in prepared.machine.feed(Delta("Half an answer"), 0.1) if isinstance(effect, Save)]
    services.conversations.save(ADA, save.compose())
    toml = served.apps_dir / "alpha" / "app.toml"
    toml.write_text(toml.read_text() + '[prices."gpt-5-mini"]\nfree = true\n')  # too late for this one
    time.sleep(0.6)
    [turn] = User(flask, "ada", "alpha").get("chats/c1").json["turns"]
    assert turn["status"] == "INTERRUPTED"
    [call] = answers(flask)
    assert (call.id, call.outcome, call.estimated) == (f"{prepared.machine.turn.run}.answer", "lost", True)
    assert call.cost == cost_of(call) > 0


def test_a_free_model_costs_zero_not_nothing(served: Settings) -> None:
    flask = create_app(replace(served, backend_model="local", stand_in_words_per_second=0))
    ada = User(flask, "ada", "alpha")
    assert ada.ask("c1", "Hi").status_code == 200
    assert [(call.model, call.cost) for call in answers(flask)] == [("stand-in", 0)]
    assert ada.get("usage").json["unpriced"] == 0


def test_rows_from_before_there_were_prices_are_counted_apart(flask: Flask, ada: User) -> None:
    old = to_record(Call(id="old", kind="answer", model="m", created=timestamp(), outcome="completed", input_tokens=3))
    del old["cost"]
    services_of(flask).backends.documents.commit(ADA, [Create(("calls", "old"), old)])
    spent = ada.get("usage").json
    assert (spent["calls"], spent["inputTokens"], spent["costUsd"], spent["unpriced"]) == (1, 3, "0", 1)


def test_the_command_line_shows_costs_of_a_user_and_of_everyone(
    served: Settings, tmp_path: Path, upstream: Upstream
) -> None:
    terminal = Terminal(tmp_path, environment(served))
    for user in ("ada", "bob"):
        upstream.enqueue("Yes.", usage=(1_000_000, 100_000))
        assert terminal.run("chat", "alpha", "Is it?", "--user", user).exit_code == 0
    mine = terminal.json("usage", "alpha", "--user", "ada")
    assert next(row["costUsd"] for row in mine["rows"] if row["kind"] == "answer") == "0.45"
    everyone = json.loads(terminal.run("usage", "alpha", "--everyone", "--json").stdout)
    assert {row["user"] for row in everyone["rows"]} == {"ada", "bob"}
    assert Decimal(everyone["costUsd"]) == 2 * Decimal(mine["costUsd"])
    table = [line.split("\t") for line in terminal.run("usage", "alpha", "--everyone").stdout.splitlines()]
    assert (table[0][0], table[0][-1]) == ("USER", "USD")
    assert table[-1][-1] == everyone["costUsd"]
    assert {line[0] for line in table[1:-1]} == {"ada", "bob"}


@pytest.mark.parametrize(
    ("picodollars", "text"),
    [(0, "0"), (1, "0.000000000001"), (10**12, "1"), (2_250_000_000_000, "2.25"), (10**25, "10000000000000"), (None, None)],
)  # fmt: skip
def test_amounts_are_written_exactly(picodollars: int | None, text: str | None) -> None:
    assert usd(picodollars) == text
