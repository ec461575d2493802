"""Opens the rooms in this process, for commands that need no server; one may use the same data at the same time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from service.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from service.apps import App, AppCatalog
    from service.config import Settings
    from service.models import Scope
    from service.services import Services


@dataclass(frozen=True, slots=True)
class Opened:
    """The rooms, and the scope of an app's user in them."""

    services: Services
    app: App
    scope: Scope


def read_settings(*, host: str | None = None, port: int | None = None) -> Settings:
    """Read the settings, with what options change of them; raises `ConfigError`."""
    from service.config import Settings

    settings = Settings.load()
    return replace(settings, bind_host=host or settings.bind_host, port=settings.port if port is None else port)


def check_data(settings: Settings) -> None:
    """Make the data folder if it is not there, and raise `ConfigError` if nothing can be written in it."""
    folder = settings.data_dir
    probe = folder / ".probe"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as exc:
        raise ConfigError(f"{folder} cannot be written: {exc.strerror}. Set DATA_DIR to a folder of yours.") from exc


def open_rooms(settings: Settings | None = None) -> Services:
    """Assemble the rooms; raises `ConfigError`. Commands speak for themselves, so nothing is logged unless LOG_LEVEL is set."""
    from service import logging as log
    from service.backends import registry
    from service.services import assemble

    settings = settings or read_settings()
    log.configure("critical" if settings.log_level == "info" else settings.log_level)
    return assemble(settings, registry.build(settings))


def open_app(app_id: str, user: str | None, settings: Settings | None = None) -> Opened:
    """Open an app as one of its users, or (`user=None`) as what it shares; raises `NotFound`."""
    from service.scope import local

    services = open_rooms(settings)
    app = find_app(services.apps, app_id)
    return Opened(services, app, local(app, user))


def find_app(apps: AppCatalog, app_id: str) -> App:
    try:
        return apps.get(app_id)
    except NotFound:
        known = ", ".join(app.id for app in apps.available()) or "none yet"
        raise NotFound(
            f"There is no app `{app_id}`. There are: {known}. `brainstem apps new NAME` makes one."
        ) from None
