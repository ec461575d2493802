"""`brainstem apps rules`: keep the security rules in step with the apps."""

from __future__ import annotations

from pathlib import Path

import click

from service.cli.opening import read_settings
from service.cli.options import json_option
from service.cli.output import print_json
from service.errors import ConfigError


@click.command("rules")
@click.option("--write", is_flag=True, help="Write them anew, instead of telling which are out of date.")
@json_option
def rules(write: bool, as_json: bool) -> None:
    """Check that firestore.rules and storage.rules of this folder let in whom each app.toml does.

    Clients that read Firestore or upload files directly meet these rules alone. Deploy them whenever they were written anew:
    `firebase deploy --only firestore:rules,storage`.
    """
    from service.apps import AppCatalog
    from service.rules import FILES, outdated

    found = outdated(Path(), AppCatalog(read_settings().apps_dir).check())
    if not found and not as_json:
        click.echo(f"{' and '.join(FILES)} fit the apps.")
    if found and not write:
        names = " and ".join(path.name for path in found)
        raise ConfigError(f"{names} do not fit the apps. Run `brainstem apps rules --write`, then deploy them.")
    for path, text in found.items():
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error
        if not as_json:
            click.echo(f"Wrote {path}.")
    if as_json:
        print_json({"written": [str(path) for path in found]})
