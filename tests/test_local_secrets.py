from __future__ import annotations

import pytest

from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
from service.errors import ConfigError


def test_a_secret_setting_is_read_from_the_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of this shell")
    assert EnvironmentSecrets(Settings(openai_api_key="of the settings")).get("OPENAI_API_KEY") == "of the settings"
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        EnvironmentSecrets(Settings()).get("OPENAI_API_KEY")


def test_an_empty_variable_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAPS_KEY", "")
    with pytest.raises(ConfigError, match="MAPS_KEY"):
        EnvironmentSecrets(Settings()).get("MAPS_KEY")


def test_a_secret_is_read_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = EnvironmentSecrets(Settings())
    monkeypatch.setenv("MAPS_KEY", "later")
    assert secrets.get("MAPS_KEY") == "later"
