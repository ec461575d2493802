"""What the security rules take from the rest of the code: who may enter which app, and which files ingestion reads.

Each stands between markers of its name, `// <apps>` and `// </apps>`, and is written anew from `apps/*/app.toml` and the formats.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from service.apps import App
from service.errors import ConfigError
from service.ingestion.formats import FORMATS

FILES = ("firestore.rules", "storage.rules")


def outdated(folder: Path, apps: Sequence[App]) -> dict[Path, str]:
    """Return the rules files of a folder that do not fit the apps, with the text that does; raises `ConfigError`."""
    found = {}
    for path in (folder / name for name in FILES):
        try:
            rules = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', 'it is no text')}.") from error
        try:
            fitting = filled(rules, apps)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from None
        if fitting != rules:
            found[path] = fitting
    return found


def filled(rules: str, apps: Sequence[App]) -> str:
    """Return rules with what stands between their markers written anew; raises `ValueError` if they do not have them."""
    # Rules do not see which Firebase app an App Check token is of, and enforcement takes every app's of the project.
    apps = [app for app in apps if not app.file.access.firebase_apps]
    if "service firebase.storage" in rules:
        # To read a record from there, a project would have to let Cloud Storage's rules read all of Firestore.
        apps = [app for app in apps if app.file.access.membership != "record"]
    rules = replaced(rules, "apps", access_table(apps))
    return replaced(rules, "formats", media_types()) if "// <formats>" in rules else rules


def replaced(rules: str, name: str, lines: Sequence[str]) -> str:
    block = re.compile(rf"^( *)(// <{name}>[^\n]*\n).*?^ *(// </{name}>)", re.MULTILINE | re.DOTALL)
    if len(block.findall(rules)) != 1:
        raise ValueError(
            f"it must have the lines `// <{name}>` and `// </{name}>` once, in this order. Write them anew."
        )

    def written(match: re.Match[str]) -> str:
        indent, first, last = match.groups()
        return indent + first + "".join(f"{indent}{line}\n" for line in lines) + indent + last

    return block.sub(written, rules)


def access_table(apps: Sequence[App]) -> list[str]:
    """The function that gives an app's `[access]`; an app that is not listed makes it fail, so that whoever asks is denied."""
    return ["function access(app) {", "  return {", *rows(apps), "  }[app];", "}"]


def rows(apps: Sequence[App]) -> list[str]:
    made = []
    for app in sorted(apps, key=lambda app: app.id):
        access = app.file.access
        cells = {"membership": access.membership, "tenant": access.tenant, "anonymous": access.anonymous}
        made.append(f"    {json.dumps(app.id)}: {json.dumps(cells)}")
    return [f"{row}," for row in made[:-1]] + made[-1:]


def media_types() -> list[str]:
    """The function that lists the media types of the files that ingestion reads."""
    names = [f"    {json.dumps(name)}" for kind in FORMATS for name in kind.media_types]
    return ["function mediaTypes() {", "  return [", *(f"{name}," for name in names[:-1]), names[-1], "  ];", "}"]
