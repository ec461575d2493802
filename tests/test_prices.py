"""What models cost: the table in the package, what an app says instead, and that nothing is called without a price."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from service.app import create_app
from service.apps import App, AppCatalog, Defaults, load
from service.apps.prices import find, table
from service.config import Settings
from service.errors import ConfigError
from service.models import Rate
from tests.kit.apps import write_app, write_flow
from tests.kit.client import User
from tests.kit.terminal import Terminal, environment
from tests.kit.upstream import Upstream

MODELS = Defaults("gpt-5-mini", "text-embedding-3-small")
OBJECT = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


@pytest.fixture
def terminal(served: Settings, tmp_path: Path) -> Terminal:
    return Terminal(tmp_path, environment(served))


def app_of(folder: Path, toml: str, defaults: Defaults = MODELS) -> App:
    write_app(folder, "recipes", toml)
    return load(folder / "recipes", defaults)


def test_every_price_of_the_table_says_when_and_where_it_was_read() -> None:
    assert len(table()) > 20
    for model, price in table().items():
        assert price.free or (price.read and price.source), model
        assert price.free == (price.rate == Rate(0, 0, 0))
    models = Settings()
    for model in (models.chat_model, models.embedding_model, models.vertex_model, models.vertex_embedding_model):
        assert find(model, {}), f"the settings' own {model} has no price"


def test_prices_are_whole_picodollars_a_token() -> None:
    assert table()["gpt-5-mini"].rate == Rate(input=250_000, cached=25_000, output=2_000_000)
    assert table()["text-embedding-3-small"].rate == Rate(20_000, 20_000, 0)
    assert table()["gpt-5-mini"].rate.cost(1_000_000, 1_000_000) == 2_250_000_000_000  # 2.25 USD
    assert table()["gpt-5-mini"].rate.cost(10, 3, 4) == 6 * 250_000 + 4 * 25_000 + 3 * 2_000_000


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_no_count_of_a_provider_makes_a_call_pay_us(tokens: int, out: int, cached: int) -> None:
    rate = Rate(250_000, 25_000, 2_000_000)
    assert 0 <= rate.cost(tokens, out, cached) <= rate.cost(tokens, out)


def test_an_app_says_what_a_model_costs_it(tmp_path: Path) -> None:
    said = '[prices."gpt-5-mini"]\ninput = 0.2\noutput = 1.6\n[prices."llama3.2"]\nfree = true\n'
    app = app_of(tmp_path, said)
    assert app.rate("gpt-5-mini") == Rate(200_000, 200_000, 1_600_000)
    assert app.rate("llama3.2") == Rate(0, 0, 0)
    assert app.rate("gpt-5") == table()["gpt-5"].rate
    assert app.rate("google/gemini-2.5-flash") == app.rate("gemini-2.5-flash") == Rate(300_000, 30_000, 2_500_000)
    with pytest.raises(ConfigError, match=r"no price is known of `gpt-0`"):
        app.rate("gpt-0")


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('[model]\nname = "gpt-0"', '`gpt-0`, and nothing is called without one. Add [prices."gpt-0"], with `input` and'),
        ("[prices.m]\ninput = 1", "`prices.m`: it needs `input` and `output`, in USD per million tokens, or `free = true`"),
        ("[prices.m]\nfree = true\ninput = 1\noutput = 1", "`prices.m`: either `free = true` or what it costs, not both"),
        ("[prices.m]\ninput = -1\noutput = 1", "`prices.m`: a price is a number from 0"),
        ("[prices.m]\ninput = 0.0000001\noutput = 1", "`prices.m`: a price is a number from 0"),
        ("[prices.m]\ninput = nan\noutput = 1", "`prices.m`: a price is a number from 0"),
        ("[prices.m]\ninput = 1\noutput = inf", "`prices.m`: a price is a number from 0"),
        ('[prices.m]\ninput = "much"\noutput = 1', "`prices.m.input`"),
        ("[prices.m]\ncosts = 1", "`prices.m.costs` is not a key of app.toml"),
        ('[model]\nname = "gemini-2.5-pro"\n[context]\ntoken_budget = 300000', "up to 200000 tokens"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_price_names_it_and_what_to_write(tmp_path: Path, toml: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        app_of(tmp_path, toml)
    assert "recipes/app.toml: " in error.value.detail
    assert said in error.value.detail


def test_models_of_flows_and_the_one_that_embeds_need_prices_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`llama` and `nomic`"):
        app_of(tmp_path, "", Defaults("llama", "nomic"))
    write_app(tmp_path, "recipes")
    write_flow(tmp_path, "recipes", "rate", OBJECT, OBJECT, "Rate {{a}}.", '[flows.rate.model]\nname = "its-own"\n')
    with pytest.raises(ConfigError, match="of `its-own`"):
        load(tmp_path / "recipes", MODELS)


def test_the_server_does_not_start_with_an_app_whose_model_has_no_price(served: Settings, upstream: Upstream) -> None:
    with pytest.raises(ConfigError, match=r'alpha/app\.toml: no price is known of `gpt-0`.*\[prices\."gpt-0"\]'):
        create_app(replace(served, chat_model="gpt-0"))
    with pytest.raises(ConfigError, match=r"alpha/app\.toml: no price is known of `nomic-embed-text`"):
        create_app(replace(served, embedding_model="nomic-embed-text"))
    assert upstream.requests == []  # not even its dimensions were asked for


def test_a_model_that_is_free_for_all_apps_needs_no_word_of_any_and_yields_to_theirs(served: Settings) -> None:
    write_app(served.apps_dir, "beta", "[prices.llama]\ninput = 1\noutput = 2\n")
    app = create_app(replace(served, chat_model="llama", embedding_model="nomic", free_models="llama, nomic,"))
    apps = app.extensions["brainstem"].apps
    assert apps.get("alpha").rate("llama") == apps.get("beta").rate("nomic") == Rate(0, 0, 0)
    assert apps.get("beta").rate("llama") == Rate(1_000_000, 1_000_000, 2_000_000)
    with pytest.raises(ConfigError, match="FREE_MODELS"):
        create_app(replace(served, chat_model="llama", embedding_model="nomic", free_models="llama"))


def test_a_running_server_calls_no_model_that_loses_its_price(
    served: Settings, upstream: Upstream, flask: Flask
) -> None:
    ada = User(flask, "ada", "alpha")
    write_app(served.apps_dir, "alpha", '[model]\nname = "gpt-0"\n')
    write_app(served.apps_dir, "newcomer", '[model]\nname = "gpt-0"\n')
    upstream.enqueue("Hello.")
    assert ada.ask("c1", "Hi").status_code == 200
    asked = [request.json["model"] for request in upstream.requests if "messages" in request.json]
    assert asked == ["gpt-5-mini"]  # the last good one
    refused = User(flask, "ada", "newcomer").ask("c1", "Hi")
    assert (refused.status_code, refused.json["code"]) == (500, "config")
    assert len([request for request in upstream.requests if "messages" in request.json]) == 1


def test_the_catalog_takes_a_price_that_is_added_at_the_next_use(tmp_path: Path) -> None:
    write_app(tmp_path, "recipes", '[model]\nname = "gpt-0"\n')
    catalog = AppCatalog(tmp_path, MODELS)
    with pytest.raises(ConfigError):
        catalog.get("recipes")
    write_app(tmp_path, "recipes", '[model]\nname = "gpt-0"\n[prices.gpt-0]\ninput = 1\noutput = 2\n')
    assert catalog.get("recipes").rate("gpt-0") == Rate(1_000_000, 1_000_000, 2_000_000)


def test_the_command_line_names_the_price_that_is_missing(terminal: Terminal) -> None:
    for command in (["apps", "check", "--json"], ["doctor", "--json"]):
        result = terminal.run(*command, CHAT_MODEL="gpt-0", PORT="0")
        assert result.exit_code == 1
        assert "no price is known of `gpt-0`" in json.dumps(json.loads(result.stdout))
    assert terminal.run("apps", "check", BACKEND_MODEL="local", CHAT_MODEL="gpt-0").exit_code == 0
