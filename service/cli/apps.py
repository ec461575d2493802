"""`brainstem apps`: make an app, list them, check them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import click

from service.cli.opening import read_settings
from service.cli.options import WORDS, json_option
from service.cli.output import print_json, print_table, safe, sentence
from service.cli.port import address
from service.errors import BrainstemError, ConfigError

if TYPE_CHECKING:
    from service.apps import App, Defaults
    from service.config import Settings

TEMPLATE = Path(__file__).parent.parent / "templates" / "app"
TITLE_CHARS = 100


@click.group()
def apps() -> None:
    """Make, list and check apps.

    An app is a folder, with its own data, limits and rules.
    """


@apps.command("new")
@click.argument("name", type=WORDS)
@click.option(
    "--title", type=WORDS, help="What people see.  [default: the name in capitals, `meal-plans` → `Meal plans`]"
)
@json_option
def new(name: str, title: str | None, as_json: bool) -> None:
    """Make the app NAME, which works at once, also in a running server."""
    settings = read_settings()
    title = safe(title or name.replace("-", " ").capitalize()).replace("\n", " ").strip()
    folder = make_app(settings.apps_dir, name, title)
    url = address(settings.bind_host, settings.port)
    if as_json:
        print_json({"id": name, "name": title, "folder": str(folder), "url": f"{url}/#/{name}"})
        return
    click.echo(
        f"""Made {folder}. It has its own chats, documents, data and usage.

Say what it is for in {folder / "prompts" / "system.md"}; its limits are in {folder / "app.toml"}.
While `brainstem serve` runs, a change counts from the next request on:

  Page      {url}/#/{name}
  Terminal  brainstem chat {name}
  HTTP      curl {url}/v1/apps/{name}/chats/first/messages \\
              -H "Authorization: Bearer $(brainstem tokens mint)" \\
              -H "Content-Type: application/json" -d '{{"text": "Hello"}}'"""
    )


def make_app(apps_dir: Path, name: str, title: str) -> Path:
    """Write an app's folder, `app.toml` last, for it is what makes a folder an app; raises `ConfigError`."""
    from service.apps import APP_ID, load

    folder = apps_dir / name
    if not apps_dir.is_dir():
        raise ConfigError(f"{apps_dir}: no such folder. Go to the folder that holds it, or set APPS_DIR.")
    if not APP_ID.fullmatch(name):
        raise ConfigError(
            f"`{safe(name)}` cannot be an app's name. Use a-z, 0-9 and -, a letter first, at most 32, like `meal-plans`."
        )
    if not title or len(title) > TITLE_CHARS:
        raise ConfigError(f"A title has 1 to {TITLE_CHARS} characters.")
    try:
        folder.mkdir()
        (folder / "prompts").mkdir()
        fill(folder, "prompts/system.md", title)
        fill(folder, "app.toml", json.dumps(title, ensure_ascii=False))
    except FileExistsError:
        raise ConfigError(f"{folder} is there already. Choose another name, or change that app.") from None
    except OSError as exc:
        raise ConfigError(f"{folder} cannot be written: {exc.strerror}.") from exc
    load(folder)
    return folder


def fill(folder: Path, name: str, title: str) -> None:
    """Write a file of the template under its name, whole or not at all."""
    text = Template((TEMPLATE / name).read_text(encoding="utf-8")).substitute(title=title)
    draft = folder / f"{name}.draft"
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, folder / name)


@apps.command("list")
@json_option
def list_apps(as_json: bool) -> None:
    """List the apps that hold; the others are named on standard error."""
    from service.api.schemas import AppAnswer, AppsAnswer
    from service.apps import AppCatalog

    found = []
    for folder in AppCatalog(read_settings().apps_dir).folders():
        app = examine(folder)
        if isinstance(app, str):
            click.echo(f"Error: {app}", err=True)
        else:
            found.append(AppAnswer(app.id, app.file.name, app.file.description))
    if as_json:
        print_json(AppsAnswer(found))
    else:
        print_table(["APP", "NAME", "DESCRIPTION"], [[app.id, app.name, app.description] for app in found])


@apps.command("check")
@json_option
def check(as_json: bool) -> None:
    """Check every app's folder; a mistake is named with file, key and remedy."""
    results = check_apps(read_settings())
    broken = [name for name, problem in results if problem]
    if as_json:
        print_json([{"id": name, "ok": problem is None, "problem": problem} for name, problem in results])
    else:
        for name, problem in results:
            click.echo(f"{name}: {problem or 'holds'}", err=problem is not None)
    if broken:
        raise click.exceptions.Exit(1)


def check_apps(settings: Settings) -> list[tuple[str, str | None]]:
    """Return each app's folder with what is wrong with it; raises `ConfigError` if there is no folder of apps."""
    from service.apps import AppCatalog

    AppCatalog(settings.apps_dir).folders()  # raises
    models = defaults(settings)
    results = []
    for folder in sorted(settings.apps_dir.iterdir()):
        if folder.is_dir() and not folder.name.startswith((".", "__")):
            app = examine(folder, models)
            results.append((folder.name, app if isinstance(app, str) else None))
    return results


def defaults(settings: Settings) -> Defaults | None:
    """Return the models of the settings, whose prices are then looked for; None if the settings do not hold: that is told elsewhere."""
    from service.apps import Defaults
    from service.backends import registry

    try:
        backends = registry.build(settings)
    except ConfigError:
        return None
    return Defaults(backends.model.name, backends.embedder.model, settings.free)


def examine(folder: Path, models: Defaults | None = None) -> App | str:
    """Return the app of a folder, or what is wrong with it, with `models` also the prices that are missing."""
    from service.apps import load

    try:
        return load(folder, models)
    except FileNotFoundError:
        return f"{folder} has no app.toml, so it is no app. Add one, or remove the folder."
    except BrainstemError as error:
        return sentence(error)
