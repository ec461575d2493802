"""The apps: one folder each under `apps/`, with `app.toml` and prompts, validated so that an error names file, key and remedy."""

from __future__ import annotations

import logging
import re
import threading
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from service import logging as log
from service.apps.files import read_prompt
from service.apps.flows import Flow, FlowFile, load_flow
from service.apps.prices import Price, check_prices, find, unpriced
from service.apps.sources import Source
from service.apps.tables import Model, Table, Tokens
from service.errors import ConfigError, NotFound
from service.models import Rate
from service.records import learned

__all__ = ["App", "AppCatalog", "AppFile", "Defaults", "Flow", "FlowFile", "Model", "Source", "load"]

REMEDIES = {
    "access.membership": 'Use "open", "claim", "tenant" or "record".',
    "access.origins": "Write scheme and host as a browser sends them, like https://recipes.example, without a path.",
    "context.data": "Name documents of the user's data with letters, digits, - and _.",
    "retrieval.data": "Name documents of the user's data with letters, digits, - and _.",
}
APP_ID = re.compile(r"[a-z][a-z0-9-]{0,31}")
FLOW_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")

Count = Annotated[int, Meta(ge=0, le=1000)]
DataName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Access(Table, frozen=True):
    """Who may use the app.

    `open`: any signed-in user. `claim`: those whose token's claim `apps` maps the app to a role. `tenant`: the users of `tenant`.
    `record`: those whom the app's own records give a role. A token of a tenant other than `tenant` is never let in.
    """

    membership: Literal["open", "claim", "tenant", "record"] = "open"
    tenant: Annotated[str, Meta(max_length=128)] = ""
    anonymous: bool = False
    origins: tuple[Annotated[str, Meta(pattern=r"^https?://[a-z0-9.:\[\]-]+$")], ...] = ()
    firebase_apps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.membership == "tenant" and not self.tenant:
            raise ValueError('membership = "tenant" needs `tenant`, the id of one')


class ContextRules(Table, frozen=True):
    """What the prompt may hold: `data` names the user's own documents, `token_budget` bounds everything together."""

    history_turns: Count = 10
    token_budget: Tokens = 8000
    data: tuple[DataName, ...] = ()


class Retrieval(Table, frozen=True):
    """How the app's documents are searched: how many passages, and how many chunks around each come along.

    `data` names those of the user's own documents that are found like uploaded files.
    """

    enabled: bool = True
    data: tuple[DataName, ...] = ()
    passages: Annotated[int, Meta(ge=1, le=50)] = 6
    neighbours: Annotated[int, Meta(ge=0, le=5)] = 1


class Limits(Table, frozen=True):
    """What one request may hold."""

    message_chars: Annotated[int, Meta(ge=1, le=200_000)] = 8000


class Summaries(Table, frozen=True):
    """What the summaries of documents are like: `words` long at most, and whatever else the app wishes of them."""

    words: Annotated[int, Meta(ge=20, le=400)] = 120
    wish: Annotated[str, Meta(max_length=1000)] = ""


class AppFile(Table, frozen=True):
    """The content of `app.toml`."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    description: Annotated[str, Meta(max_length=500)] = ""
    prompt: str = "prompts/system.md"
    access: Access = Access()
    model: Model = Model()
    context: ContextRules = ContextRules()
    retrieval: Retrieval = Retrieval()
    limits: Limits = Limits()
    summaries: Summaries = Summaries()
    prices: dict[Annotated[str, Meta(min_length=1, max_length=200)], Price] = msgspec.field(default_factory=dict)
    flows: dict[str, FlowFile] = msgspec.field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The other files of the app's folder that belong to it."""
        files = ((flow.prompt, flow.input, flow.output) for flow in self.flows.values())
        return (self.prompt, *(name for names in files for name in names))


@dataclass(frozen=True, slots=True)
class Defaults:
    """The models of the settings: which answers where an app names none, which embeds, and which cost nothing."""

    model: str
    embedder: str
    free: frozenset[str] = frozenset()


class App(Table, frozen=True):
    """An app as the service uses it: its file, its id (the folder's name), the text of its prompt, and its flows by name."""

    id: str
    file: AppFile
    prompt: str
    flows: dict[str, Flow] = msgspec.field(default_factory=dict)
    rates: dict[str, Rate] = msgspec.field(default_factory=dict)

    def asked(self, defaults: Defaults) -> list[str]:
        """Return the models that this app asks, each once."""
        answering = self.file.model.name or defaults.model
        flows = [flow.model.name or answering for flow in self.flows.values()]
        return list(dict.fromkeys([answering, *flows, defaults.embedder]))

    def rate(self, model: str) -> Rate:
        """Return what a model costs this app; raises `ConfigError` if nobody has said it: then it may not be called."""
        if known := self.rates.get(model):
            return known
        price = find(model, self.file.prices)
        if price is None:
            raise ConfigError(unpriced([model]))
        rate = self.rates[model] = price.rate
        return rate


class AppCatalog:
    """The apps of a folder. A changed or new app is seen at its next use; a change that does not hold keeps the last good one.

    With `defaults` an app holds only if every model that it asks has a price.
    """

    def __init__(self, folder: Path, defaults: Defaults | None = None) -> None:
        self._folder = folder
        self._defaults = defaults
        self._loaded: dict[str, tuple[tuple[int, ...], App]] = {}
        self._lock = threading.Lock()

    def get(self, app_id: str) -> App:
        """Return an app; raises `NotFound`."""
        if not APP_ID.fullmatch(app_id):
            raise NotFound
        with self._lock:
            return self._current(app_id)

    def folders(self) -> list[Path]:
        """Return the folders that are to be apps, whether they hold or not; raises `ConfigError` if there is no place for any."""
        if not self._folder.is_dir():
            raise ConfigError(f"{self._folder}: no such folder. Set APPS_DIR to the folder that holds the apps.")
        return [folder for folder in sorted(self._folder.iterdir()) if (folder / "app.toml").is_file()]

    def check(self) -> list[App]:
        """Load every app; raises `ConfigError` for the first that does not hold."""
        return [load(folder, self._defaults) for folder in self.folders()]

    def available(self) -> list[App]:
        """Return the apps that hold, by id."""
        found = []
        for folder in self.folders():
            with suppress(ConfigError, NotFound):
                found.append(self.get(folder.name))
        return found

    def _current(self, app_id: str) -> App:
        folder = self._folder / app_id
        known = self._loaded.get(app_id)
        try:
            if known and known[0] == stamps(folder, known[1].file):
                return known[1]
            self._loaded[app_id] = load_stamped(folder, self._defaults)
        except FileNotFoundError:
            self._loaded.pop(app_id, None)
            raise NotFound from None
        except ConfigError as error:
            log.event("app_invalid", logging.ERROR, app=app_id, detail=error.detail)
            if known is None:
                raise
            return known[1]
        return self._loaded[app_id][1]


def load(folder: Path, defaults: Defaults | None = None) -> App:
    """Read and validate an app's folder; raises `ConfigError`, or `FileNotFoundError` if it has no `app.toml`."""
    return load_stamped(folder, defaults)[1]


def load_stamped(folder: Path, defaults: Defaults | None) -> tuple[tuple[int, ...], App]:
    """Load an app with the stamps its files had before they were read, so that a change in between is seen at the next use."""
    if not APP_ID.fullmatch(folder.name):
        raise ConfigError(f"{folder}: an app's folder is named with a-z, 0-9 and -, starts with a letter, 32 at most.")
    before = stamp(folder / "app.toml")
    file = priced(read_file(folder / "app.toml"), defaults)
    stamped = before, *(file_stamp(folder, name) for name in file.names)
    flows = {name: load_flow(folder, name, flow, flow.model or file.model) for name, flow in file.flows.items()}
    app = App(folder.name, file, read_prompt(folder, "prompt", file.prompt), flows)
    if defaults:
        check_prices(folder / "app.toml", app.asked(defaults), file.prices, file.context.token_budget)
    return stamped, app


def priced(file: AppFile, defaults: Defaults | None) -> AppFile:
    """Return an app's file with the models that cost nothing in any app; what it says of one itself stands."""
    free = dict.fromkeys(defaults.free if defaults else (), Price(free=True))
    return msgspec.structs.replace(file, prices={**free, **file.prices})


def read_file(path: Path) -> AppFile:
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
        check_flows(path, told.get("flows"))
        check_each(path, "prices", told.get("prices"), Price)
        return msgspec.convert(told, learned(AppFile))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(path, error) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}.") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {explain(str(error))}") from None


def check_flows(path: Path, flows: object) -> None:
    for name in flows if isinstance(flows, dict) else ():
        if not FLOW_NAME.fullmatch(name):
            raise ConfigError(f"{path}: a flow is named with a-z, 0-9, - and _, begins with a letter, 64 at most.")
    check_each(path, "flows", flows, FlowFile)


def check_each(path: Path, key: str, tables: object, kind: type[Table]) -> None:
    """Look at each table of several by itself, so that a mistake names the one."""
    for name, table in tables.items() if isinstance(tables, dict) else ():
        try:
            msgspec.convert(table, learned(kind))
        except msgspec.ValidationError as error:
            raise ConfigError(f"{path}: {explain(str(error), f'{key}.{name}')}") from None


def unreadable(path: Path, error: OSError) -> ConfigError:
    reason = error.strerror or type(error).__name__
    return ConfigError(f"{path}: cannot be read: {reason}. Make it a file that the service's user may read.")


def explain(message: str, within: str = "") -> str:
    """Turn msgspec's message into one that names the key and the remedy."""
    problem, _, place = message.partition(" - at `$")
    key = ".".join(part for part in (within, place.strip("`").lstrip(".")) if part)
    if match := re.search(r"unknown field `(.*)`", problem):
        full = f"{key}.{match[1]}" if key else match[1]
        return f"`{full}` is not a key of app.toml. Remove it, or see docs/apps.md for the keys that are."
    if match := re.search(r"missing required field `(.*)`", problem):
        full = f"{key}.{match[1]}" if key else match[1]
        return f"`{full}` is missing. Add it."
    remedy = REMEDIES.get(key.partition("[")[0], "Correct the value.")
    plain = problem.partition(" matching regex")[0]
    return f"`{key}`: {plain[0].lower()}{plain[1:]}. {remedy}"


def stamps(folder: Path, file: AppFile) -> tuple[int, ...]:
    """Return when an app's files were changed; raises `FileNotFoundError` if it has no `app.toml`."""
    return stamp(folder / "app.toml"), *(file_stamp(folder, name) for name in file.names)


def stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(path, error) from None


def file_stamp(folder: Path, name: str) -> int:
    """As `stamp`; a file that is not there is 0, for editors take it away for a moment when they save it."""
    try:
        return (folder / name).stat().st_mtime_ns
    except (OSError, ValueError):
        return 0
