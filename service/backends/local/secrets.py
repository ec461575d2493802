"""Secrets from the settings and the environment of this process."""

from __future__ import annotations

import os
from dataclasses import fields

from service.config import Settings, variable
from service.errors import ConfigError


class EnvironmentSecrets:
    """A secret setting comes from the settings (and so from `.env` too), any other name from the environment alone."""

    def __init__(self, settings: Settings) -> None:
        self._settings = {variable(f): str(getattr(settings, f.name)) for f in fields(settings) if f.metadata["secret"]}

    def get(self, name: str) -> str:
        value = self._settings[name] if name in self._settings else os.environ.get(name, "")
        if not value:
            raise ConfigError(f"The secret {name} is not set. Put it into the environment and start again.")
        return value

    def check(self) -> None:
        """Do nothing: the environment is always there."""
