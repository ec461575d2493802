"""`brainstem serve`: check everything that can be checked before anything listens, then hand over to the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from service import __version__
from service.cli.opening import check_data, open_rooms, read_settings
from service.cli.options import USER, json_option
from service.cli.output import print_json
from service.cli.port import address, listen

if TYPE_CHECKING:
    from service.config import Settings
    from service.services import Services

STAND_IN = """the offline stand-in: it quotes your documents, but is no language model.
           Set OPENAI_API_KEY for a real one, or OPENAI_BASE_URL and CHAT_MODEL for Ollama, vLLM …"""


KEEPING = ("tokens", "documents", "vectors", "blobs", "queue")


@click.command()
@click.option("--host", envvar="BIND_HOST", show_envvar=True, help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port",
    type=int,
    envvar="PORT",
    show_envvar=True,
    help="Port to listen on; 0 takes a free one.  [default: 8080]",
)
@json_option
def serve(host: str | None, port: int | None, as_json: bool) -> None:
    """Run the server, with its page, until Ctrl-C."""
    from service import logging as log
    from service.cli.server import run

    settings = read_settings(host=host, port=port)
    services = open_rooms(settings)
    apps = [app.id for app in services.apps.check()]
    if keeps_data(services):
        check_data(settings)
    listener = listen(settings.bind_host, settings.port)
    url = address(*listener.getsockname()[:2])
    if as_json:
        model = services.backends.model.name
        print_json({"url": url, "model": model, "dataDir": str(settings.data_dir), "apps": apps}, indent=0)
    else:
        click.echo(banner(services, url, apps))
    log.configure(settings.log_level)
    run(settings, listener)


def keeps_data(services: Services) -> bool:
    """Whether any backend keeps something in the data folder; in the cloud nothing there can be written."""
    return any(services.backends.names[seam] == "local" for seam in KEEPING)


def banner(services: Services, url: str, apps: list[str]) -> str:
    """What a person wants to know of a server that has just begun."""
    names, settings = services.backends.names, services.settings
    lines = [
        f"Brainstem {__version__}",
        "",
        f"  Open     {url}",
        f"  Model    {STAND_IN if names['model'] == 'local' else services.backends.model.name}",
        f"  Apps     {', '.join(apps) or 'none yet: `brainstem apps new NAME` makes one'}",
    ]
    if keeps_data(services):
        lines.append(f"  Data     {settings.data_dir.resolve()}")
    if names["tokens"] == "local":
        lines.append(f"  Sign in  with any name; the commands of this terminal are `{USER}` unless you say --user")
    if names["tokens"] == "google":
        lines.append(f"  Sign in  {accounts(settings)}")
    if settings.emulators:
        lines.append("  Kept     by emulators, until they end")
    return "\n".join([*lines, "", "Ctrl-C stops it.", ""])


def accounts(settings: Settings) -> str:
    """How a person gets in where users are those of a Firebase project."""
    if settings.firebase_auth_emulator_host:
        return f"with any e-mail address and password: the Auth emulator at {settings.firebase_auth_emulator_host} keeps the account"
    if not settings.firebase_api_key:
        return f"not on the page, which needs FIREBASE_API_KEY, the web API key of {settings.google_cloud_project}"
    return f"with an account of the Firebase project {settings.google_cloud_project}"
