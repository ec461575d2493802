"""`brainstem functions`: add Firebase triggers of an app to the folder `functions/`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from string import Template

import click

from service.cli.opening import find_app, read_settings
from service.cli.options import WORDS, app_argument, json_option
from service.cli.output import print_json, safe
from service.errors import ConfigError

TEMPLATES = Path(__file__).parent.parent / "templates" / "functions"
FOLDER = Path("functions")
ANCHOR = "# brainstem functions new: its imports stand here\n"
NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
KINDS = ["object", "data", "schedule", "task", "http"]


@click.group()
def functions() -> None:
    """Add Firebase triggers, which tell the service what happened."""


@functions.command("new")
@app_argument
@click.argument("name", type=WORDS)
@click.option(
    "--on",
    "kind",
    type=click.Choice(KINDS),
    default="object",
    show_default=True,
    help="What fires it: a user's upload, a write to a user's data, a schedule, a task of a queue, or a request.",
)
@json_option
def new(app: str, name: str, kind: str, as_json: bool) -> None:
    """Add the trigger NAME of APP to functions/, tightly scoped to that app.

    It makes a module there and its import line in main.py.
    """
    from service.apps import AppCatalog

    known = find_app(AppCatalog(read_settings().apps_dir), app)
    path, function = make_function(FOLDER, known.id, name, kind)
    if as_json:
        print_json({"path": str(path), "function": function})
        return
    click.echo(f"""Made {path} and its import in {FOLDER / "main.py"}. Say in it what is to happen, then:

  firebase deploy --only functions:{function}""")


def make_function(folder: Path, app: str, name: str, kind: str) -> tuple[Path, str]:
    """Write a trigger's module, then its import; return its path and the function's name. Raises `ConfigError`."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"`{safe(name)}` cannot be a function's name. Use a-z, 0-9 and -, a letter first, at most 31, like `nightly-digest`."
        )
    # A queue is named like its function, and its name may hold no underscore.
    module = f"{app}_{name}".replace("-", "_")
    function = module.replace("_", "") if kind == "task" else module
    main, path = folder / "main.py", folder / f"{module}.py"
    try:
        text = main.read_text(encoding="utf-8")
        if text.count(ANCHOR) != 1:
            raise ConfigError(f"{main} has no line `{ANCHOR.strip()}`. Put it back among the imports.")
        if re.search(rf"^from \w+ import {function}\b", text, re.MULTILINE):
            raise ConfigError(f"{main} has a function {function} already. Choose another name.")
        template = Template((TEMPLATES / f"{kind}.py.txt").read_text(encoding="utf-8"))
        with path.open("x", encoding="utf-8") as file:
            file.write(template.substitute(app=app, function=function))
        write(main, text.replace(ANCHOR, f"from {module} import {function}  # noqa: F401\n{ANCHOR}"))
    except FileExistsError:
        raise ConfigError(f"{path} is there already. Choose another name, or change that function.") from None
    except OSError as exc:
        raise ConfigError(
            f"{folder} cannot be read or written: {exc.strerror}. Go to the folder that holds it."
        ) from exc
    return path, function


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
