from __future__ import annotations

import pytest

from service.backends.interfaces import Secrets
from service.errors import ConfigError


def test_a_secret_is_read_by_its_name(secrets: Secrets) -> None:
    assert secrets.get("MAPS_KEY") == "maps_key"
    assert secrets.get("OPENAI_API_KEY") == "openai_api_key"


def test_a_missing_secret_is_named(secrets: Secrets) -> None:
    with pytest.raises(ConfigError, match="STRIPE_KEY"):
        secrets.get("STRIPE_KEY")


def test_the_names_of_settings_that_are_no_secrets_are_none_either(secrets: Secrets) -> None:
    with pytest.raises(ConfigError, match="CHAT_MODEL"):
        secrets.get("CHAT_MODEL")


def test_it_is_ready(secrets: Secrets) -> None:
    secrets.check()
