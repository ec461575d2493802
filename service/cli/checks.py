"""What `brainstem doctor` looks at; each check gives its findings and needs nothing but the settings."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Literal

from service.cli.apps import check_apps
from service.cli.opening import Opened, check_data, open_rooms, read_settings
from service.cli.output import count, sentence
from service.cli.port import address, listen
from service.errors import BrainstemError

if TYPE_CHECKING:
    from service.config import Settings
    from service.services import Services

OLDEST = (3, 11)
LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's: `hint` is a matter of choice, `broken` keeps something from working; `next` is what to do then."""

    state: Literal["ok", "hint", "broken"]
    what: str
    text: str
    next: str = ""


def examine(user: str) -> list[Finding]:
    """Look at everything; what depends on a broken thing is left out."""
    findings = [python()]
    try:
        settings = read_settings()
    except BrainstemError as error:
        return [*findings, Finding("broken", "settings", sentence(error))]
    findings += [data(settings), *apps(settings), page(settings), port(settings)]
    try:
        services = open_rooms(settings)
    except BrainstemError as error:
        return [*findings, Finding("broken", "backends", sentence(error))]
    findings += [*backends(services), model(services)]
    if all(finding.state != "broken" for finding in findings):
        findings += documents(services, user)
    return findings


def python() -> Finding:
    version = platform.python_version()
    if sys.version_info < OLDEST:
        return Finding("broken", "Python", f"{version} is too old: Brainstem needs 3.11 or newer.")
    return Finding("ok", "Python", version)


def data(settings: Settings) -> Finding:
    try:
        check_data(settings)
    except BrainstemError as error:
        return Finding("broken", "data", sentence(error))
    return Finding("ok", "data", str(settings.data_dir.resolve()))


def apps(settings: Settings) -> Iterator[Finding]:
    try:
        results = check_apps(settings)
    except BrainstemError as error:
        yield Finding("broken", "apps", sentence(error))
        return
    yield from (Finding("broken", "apps", problem) for _, problem in results if problem)
    good = [name for name, problem in results if problem is None]
    if good:
        yield Finding("ok", "apps", ", ".join(good))
    elif not results:
        yield Finding("hint", "apps", "There is none yet.", "brainstem apps new NAME")


def page(settings: Settings) -> Finding:
    if (settings.web_dir / "index.html").is_file():
        return Finding("ok", "page", str(settings.web_dir))
    return Finding(
        "broken", "page", f"{settings.web_dir} has no index.html. Go to the folder that holds it, or set WEB_DIR."
    )


def port(settings: Settings) -> Finding:
    """Whether the port is free, or Brainstem itself is there."""
    url = address(settings.bind_host, settings.port)
    if version := running(settings):
        return Finding("ok", "port", f"Brainstem {version} is running at {url}.", f"open {url}")
    try:
        listen(settings.bind_host, settings.port, patience=0).close()
    except BrainstemError as error:
        return Finding("hint", "port", sentence(error), "brainstem serve --port 8081")
    return Finding("ok", "port", f"{settings.port} is free.", "brainstem serve")


def running(settings: Settings) -> str | None:
    """The version of the Brainstem that answers on the port, if one does."""
    connection = HTTPConnection(settings.bind_host, settings.port, timeout=LOOK_SECONDS)
    try:
        connection.request("GET", "/health")
        health = json.load(connection.getresponse())
    except (OSError, HTTPException, ValueError, OverflowError):
        return None
    finally:
        connection.close()
    version = health.get("version") if isinstance(health, dict) else None
    return version if isinstance(version, str) else None


def backends(services: Services) -> Iterator[Finding]:
    for seam, name in services.backends.names.items():
        try:
            getattr(services.backends, seam).check()
        except BrainstemError as error:
            yield Finding("broken", seam, f"{name}: {sentence(error)}")
        else:
            yield Finding("ok", seam, name)


def model(services: Services) -> Finding:
    """Which model answers, and what to type for another."""
    settings = services.settings
    if services.backends.names["model"] == "local":
        return Finding(
            "hint",
            "answers",
            "The offline stand-in quotes your documents, but is no language model. For a real one, put OPENAI_API_KEY=sk-… "
            "into .env; or, for Ollama, OPENAI_BASE_URL=http://127.0.0.1:11434/v1 and CHAT_MODEL=llama3.2.",
        )
    where = settings.openai_base_url or "api.openai.com"
    return Finding("ok", "answers", f"{services.backends.model.name}, at {where}")


def documents(services: Services, user: str) -> Iterator[Finding]:
    """Whether documents of this user, or shared ones, were embedded by another embedder than the one in use."""
    from service.cli.documents import every_document
    from service.scope import local

    current = services.backends.embedder.name
    for app in services.apps.available():
        for owner, flag in ((user, f" --user {user}"), (None, " --shared")):
            found = list(every_document(Opened(services, app, local(app, owner))))
            old = [document for document in found if document.embedder not in ("", current)]
            if old:
                yield Finding(
                    "hint",
                    "documents",
                    f"{count(len(old), 'document')} of {app.id} ({'shared' if owner is None else owner}) "
                    f"{'was' if len(old) == 1 else 'were'} embedded by {old[0].embedder}, not {current}: only their words are found. "
                    f"Add the files again: brainstem documents add {app.id} PATH{flag}",
                )
