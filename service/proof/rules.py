"""Puts the security rules of this folder into running emulators, made for the apps of the proof."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from service.apps import App
from service.errors import ConfigError
from service.rules import FILES, filled

SECONDS = 20


@contextmanager
def in_force(apps: Sequence[App], environ: Mapping[str, str]) -> Iterator[None]:
    """Have the rules hold for these apps, and in Storage, which has one set for all, the folder's own again afterwards."""
    firestore, storage = (Path(name).read_text(encoding="utf-8") for name in FILES)
    project = environ["GOOGLE_CLOUD_PROJECT"]
    host = environ["FIRESTORE_EMULATOR_HOST"]
    put(f"http://{host}/emulator/v1/projects/{project}:securityRules", FILES[0], filled(firestore, apps))
    address = f"{environ['STORAGE_EMULATOR_HOST']}/internal/setRules"
    put(address, FILES[1], filled(storage, apps))
    try:
        yield
    finally:
        put(address, FILES[1], storage)


def missing() -> str | None:
    """Say which files of rules are not in this folder, or None."""
    names = [name for name in FILES if not Path(name).is_file()]
    return f"the client SDK against the rules: there is no {' and no '.join(names)} in this folder." if names else None


def put(url: str, name: str, content: str) -> None:
    body = json.dumps({"rules": {"files": [{"name": name, "content": content}]}}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="PUT")  # noqa: S310  # loopback
    try:
        urllib.request.urlopen(request, timeout=SECONDS).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        raise ConfigError(
            f"The emulator does not take {name}: {error.read().decode(errors='replace')[:300]}"
        ) from error
    except OSError as error:
        raise ConfigError(f"The emulator at {url} cannot be reached.") from error
