"""The documentation says what is true: settings, keys, routes, links and commands exist as written."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from docs.__main__ import settings_page
from service import __version__
from service.app import create_app
from service.apps import AppFile, Defaults, FlowFile, load
from service.apps.prices import Price
from service.config import Settings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def test_the_page_of_settings_is_the_table_of_settings() -> None:
    assert text(ROOT / "docs" / "settings.md") == settings_page(), "run `python -m docs`"


def test_the_page_of_apps_names_every_key() -> None:
    keys = {f"flows.<name>.{field.name}" for field in msgspec.structs.fields(FlowFile)}
    keys |= {f"prices.<model>.{field.name}" for field in msgspec.structs.fields(Price)}
    for field in msgspec.structs.fields(AppFile):
        inner = field.type
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            keys |= {f"{field.name}.{f.name}" for f in msgspec.structs.fields(inner)}
        elif field.name not in ("flows", "prices"):
            keys.add(field.name)
    documented = set(re.findall(r"^\| `([a-z_.<>]+)` \|", text(ROOT / "docs" / "apps.md"), re.MULTILINE))
    assert documented == keys


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text(page)):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_that_are_named_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text(ROOT / "Makefile"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text(page))) <= targets


def test_the_changelog_begins_with_this_version() -> None:
    first = re.search(r"^## (\S+)", text(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert first is not None
    assert first[1] == __version__


def test_the_apps_that_are_shipped_hold() -> None:
    defaults = Defaults(Settings().chat_model, Settings().embedding_model)
    shipped = [load(folder, defaults) for folder in sorted((ROOT / "apps").iterdir()) if folder.is_dir()]
    assert "assistant" in [app.id for app in shipped]


def test_the_example_of_a_flow_holds(tmp_path: Path) -> None:
    files = re.findall(
        r"^`apps/(\S+)`:\n\n```\w*\n(.*?)^```$", text(ROOT / "docs" / "flows.md"), re.MULTILINE | re.DOTALL
    )
    assert len(files) == 5
    for name, content in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    flow = load(tmp_path / "risk").flows["rate"]
    page = text(ROOT / "docs" / "flows.md")
    sent, answered = re.search(r"-d '(.*)'", page), re.search(r'^(\{"output".*?\}\})$', page, re.MULTILINE | re.DOTALL)
    assert sent is not None
    assert answered is not None
    assert flow.input.faults(json.loads(sent[1])) == []
    assert flow.output.faults(json.loads(answered[1])["output"]) == []
    assert flow.output.strict


def test_the_description_of_the_api_is_valid_and_complete(settings: Settings) -> None:
    app = create_app(
        replace(settings, apps_dir=ROOT / "apps", interactive_workers=0, ingest_workers=0, batch_workers=0)
    )
    description: Any = app.test_client().get("/openapi.json").json
    OpenAPIV31SpecValidator(description).validate()
    described = {(method.upper(), path) for path, operations in description["paths"].items() for method in operations}
    served = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if not rule.endpoint.startswith("pages.")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert described == served
    readme = text(ROOT / "README.md")
    for path in re.findall(r"/v1/apps/assistant/([a-z]+)", readme):
        assert any(f"/{path}" in route for _, route in described), f"the README calls {path}"
