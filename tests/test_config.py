"""Settings and the choice of backends: what starts, and what refuses to and says why."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from service.backends import registry
from service.config import Settings
from service.errors import ConfigError


def test_the_environment_wins_over_dotenv_and_both_over_defaults(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("# a comment\nexport PORT=9000\nCHAT_MODEL='small'\nOPENAI_API_KEY=\"sk $HOME\"\n\nUNKNOWN=1\n")
    settings = Settings.load({"PORT": "9001"}, dotenv)
    assert (settings.port, settings.chat_model, settings.openai_api_key) == (9001, "small", "sk $HOME")
    assert settings.threads == Settings().threads


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "eighty"), ("PORT", "8.5"), ("TURN_SECONDS", "nan"), ("TURN_SECONDS", "-1")]
)
def test_a_bad_value_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Settings.load({name: value}, None)


def test_secrets_are_masked_where_settings_are_shown() -> None:
    rows = {name: value for name, value, _, _ in Settings(openai_api_key="sk-canary").rows()}
    assert rows["OPENAI_API_KEY"] == "********"
    assert "sk-canary" not in str(rows)


def test_a_key_or_a_base_url_chooses_the_openai_backends_and_a_name_overrides_it() -> None:
    assert registry.chosen(Settings())["model"] == "local"
    assert registry.chosen(Settings(openai_api_key="k"))["model"] == "openai"
    chosen = registry.chosen(Settings(openai_base_url="http://127.0.0.1:1/v1", backend_embedder="local"))
    assert (chosen["model"], chosen["embedder"]) == ("openai", "local")


def test_local_backends_refuse_to_start_on_cloud_run(settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"Cloud Run.*documents.*tokens"):
        registry.build(replace(settings, k_service="brainstem"))
    assert registry.build(settings).names["documents"] == "local"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.com", "::"])
def test_local_tokens_refuse_to_listen_beyond_loopback(settings: Settings, host: str) -> None:
    with pytest.raises(ConfigError, match=r"BIND_HOST=127\.0\.0\.1"):
        registry.build(replace(settings, bind_host=host))


@pytest.mark.parametrize("name", ["nothing", "service.nothing:Class", "service.config:Nothing"])
def test_an_unknown_backend_names_its_setting(settings: Settings, name: str) -> None:
    with pytest.raises(ConfigError, match="BACKEND_MODEL"):
        registry.build(replace(settings, backend_model=name))


CLOUD: dict[str, Any] = {"backends": "google", "google_cloud_project": "acme", "k_service": "brainstem"}
NEEDED: dict[str, Any] = {
    "storage_bucket": "b",
    "service_url": "https://x.example",
    "tasks_service_account": "t@acme.iam.gserviceaccount.com",
}


def test_one_setting_chooses_google_for_every_seam(settings: Settings) -> None:
    built = registry.build(replace(settings, **CLOUD, **NEEDED))
    assert set(built.names.values()) == {"google"}
    assert len(built.names) == 8


def test_every_setting_that_is_missing_is_named_at_once(settings: Settings) -> None:
    with pytest.raises(ConfigError) as refused:
        registry.build(replace(settings, **CLOUD, backend_vectors="vertex"))
    for name in (*NEEDED, "vertex_index", "vertex_index_endpoint", "vertex_deployed_index"):
        assert name.upper() in refused.value.detail
    for name in NEEDED:
        with pytest.raises(ConfigError, match=name.upper()):
            registry.build(replace(settings, **CLOUD, **(NEEDED | {name: ""})))


@pytest.mark.parametrize("name", [f.name for f in fields(Settings) if f.name.endswith("_emulator_host")])
def test_no_emulator_takes_a_services_place_on_cloud_run(settings: Settings, name: str) -> None:
    cloud = replace(settings, **CLOUD, **NEEDED)
    emulated: dict[str, Any] = {name: "127.0.0.1:1"}
    registry.build(replace(cloud, **emulated, k_service=""))
    with pytest.raises(ConfigError, match=name.upper()):
        registry.build(replace(cloud, **emulated))


def test_emulators_projects_do_not_start_on_cloud_run(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="demo-acme"):
        registry.build(replace(settings, **CLOUD | NEEDED | {"google_cloud_project": "demo-acme"}))


@pytest.mark.parametrize("name", ["firebase_auth_emulator_host", "google_keys_emulator_host"])
def test_emulators_that_make_any_token_hold_are_not_reachable_by_strangers(settings: Settings, name: str) -> None:
    emulated: dict[str, Any] = {**NEEDED, "backends": "google", "google_cloud_project": "acme", name: "127.0.0.1:1"}
    registry.build(replace(settings, **emulated))
    with pytest.raises(ConfigError, match=name.upper()):
        registry.build(replace(settings, **emulated, bind_host="0.0.0.0"))


def test_the_services_url_has_no_slash_at_its_end() -> None:
    assert Settings.load({"SERVICE_URL": "https://x.example/"}, None).service_url == "https://x.example"
