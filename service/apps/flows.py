"""The flows of an app: what `app.toml` declares of each, and their files, read and checked against each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from service.apps.files import read_prompt, read_text
from service.apps.sources import MOST_SOURCES, DeclaredSource, Source, load_source
from service.apps.tables import Model, Table
from service.errors import ConfigError
from service.json_schema import Schema, SchemaError, read_schema
from service.prompt_template import Template, TemplateError, read_template

SOURCES = "sources"
"""What placeholders for what a source told begin with."""


class DeclaredReport(Table, frozen=True):
    """The files that a flow's job makes of its output: one per format, under a title with values of the input in it."""

    title: Annotated[str, Meta(min_length=1, max_length=200)]
    formats: Annotated[tuple[Literal["html", "pdf", "csv", "json"], ...], Meta(min_length=1)] = ("html", "pdf")

    def __post_init__(self) -> None:
        if repeated(self.formats):
            raise ValueError("a format stands there twice")


class FlowFile(Table, frozen=True):
    """A flow as `app.toml` declares it: a prompt's template and the schemas of what goes in and comes out, files of the app's folder.

    Without a `model` of its own it asks the app's. `sources` are asked before the model is; a `report` is made by a job alone.
    """

    prompt: str
    input: str
    output: str
    description: Annotated[str, Meta(max_length=500)] = ""
    mode: Literal["sync", "job"] = "sync"
    model: Model | None = None
    sources: Annotated[tuple[DeclaredSource, ...], Meta(max_length=MOST_SOURCES)] = ()
    report: DeclaredReport | None = None

    def __post_init__(self) -> None:
        if self.report and self.mode != "job":
            raise ValueError('a `report` is made by a job: it needs mode = "job"')


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow as the service uses it. `model` is its own or the app's; `title` is its report's."""

    name: str
    file: FlowFile
    template: Template
    input: Schema
    output: Schema
    model: Model
    sources: tuple[Source, ...] = ()
    title: Template | None = None


def load_flow(folder: Path, name: str, file: FlowFile, model: Model) -> Flow:
    """Read a flow's files; raises `ConfigError`."""
    key = f"flows.{name}"
    given = read_flow_schema(folder, f"{key}.input", file.input)
    output = read_flow_schema(folder, f"{key}.output", file.output)
    template = template_of(folder / file.prompt, "it", read_prompt(folder, f"{key}.prompt", file.prompt))
    toml = folder / "app.toml"
    title = template_of(toml, f"`{key}.report.title`", file.report.title) if file.report else None
    sources = load_sources(folder, key, file, given)
    own = [path for path in template.paths if not (sources and path[0] == SOURCES)]
    check_places(f"{folder / file.prompt}", own, given, file)
    check_places(f"{toml}: `{key}.report.title`", title.paths if title else (), given, file)
    check_told(folder, key, file, template)
    return Flow(name, file, template, given, output, model, sources, title)


def load_sources(folder: Path, key: str, file: FlowFile, given: Schema) -> tuple[Source, ...]:
    toml = folder / "app.toml"
    if file.sources and given.declares((SOURCES,)):
        raise ConfigError(f"{toml}: `{key}.{SOURCES}` and a field of the flow's input have one name. Rename the field.")
    found = tuple(load_source(folder, f"{key}.{SOURCES}[{n}]", source) for n, source in enumerate(file.sources))
    for n, source in enumerate(found):
        check_places(f"{toml}: `{key}.{SOURCES}[{n}]`", source.template.paths, given, file)
    return found


def check_told(folder: Path, key: str, file: FlowFile, template: Template) -> None:
    """Each source has a name of its own and a place in the prompt, and each such place a source; raises `ConfigError`."""
    names = [source.name for source in file.sources]
    if twice := repeated(names):
        raise ConfigError(f"{folder / 'app.toml'}: `{key}.{SOURCES}` has two sources named {twice}. Rename one.")
    told = {path[1:] for path in template.paths if path[0] == SOURCES} if names else set()
    for path in sorted(told - {(name,) for name in names}):
        place = ".".join((SOURCES, *path))
        raise ConfigError(
            f"{folder / file.prompt}: {{{{{place}}}}} is no source of the flow. Correct it, or declare it."
        )
    for name in names:
        if (name,) not in told:
            raise ConfigError(
                f"{folder / file.prompt}: the source {name} has no place in it. Write {{{{{SOURCES}.{name}}}}} where it "
                "is to stand, or remove the source."
            )


def check_places(where: str, places: Iterable[Sequence[str]], given: Schema, file: FlowFile) -> None:
    """Each place of a template is a field of the flow's input; raises `ConfigError`."""
    for names in places:
        if not given.declares(names):
            place = ".".join(names)
            raise ConfigError(
                f"{where}: {{{{{place}}}}} is no field of the flow's input. "
                f"Correct it, or name it among the `properties` in {file.input}."
            )


def template_of(path: Path, what: str, text: str) -> Template:
    try:
        return read_template(text)
    except TemplateError as error:
        raise ConfigError(f"{path}: {what} {error}") from None


def read_flow_schema(folder: Path, key: str, name: str) -> Schema:
    content = read_text(folder, key, name).encode()
    try:
        return read_schema(content)
    except SchemaError as error:
        raise ConfigError(f"{folder / name}: {error}") from None


def repeated(names: Sequence[str]) -> str | None:
    return next((name for n, name in enumerate(names) if name in names[:n]), None)
