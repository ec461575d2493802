"""App folders: what holds, and mistakes that name file, key and remedy."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from service.apps import AppCatalog, load
from service.errors import ConfigError, NotFound
from tests.kit.apps import write_app


def test_an_app_needs_a_name_and_a_prompt_only(tmp_path: Path) -> None:
    write_app(tmp_path, "recipes")
    app = load(tmp_path / "recipes")
    assert (app.id, app.file.name, app.prompt) == ("recipes", "Recipes", "Answer briefly.")
    assert app.file.retrieval.passages == 6


@pytest.mark.parametrize(
    ("toml", "key", "remedy"),
    [
        ("nonsense = 1", "`nonsense`", "Remove it"),
        ("[limits]\nnonsense = 1", "`limits.nonsense`", "Remove it"),
        ('[limits]\nmessage_chars = "many"', "`limits.message_chars`", "Correct"),
        ("[retrieval]\npassages = 0", "`retrieval.passages`", "Correct"),
        ('[access]\nmembership = "all"', "`access.membership`", 'Use "open" or "claim"'),
        ('[access]\norigins = ["https://a.example/path"]', "`access.origins[0]`", "https://recipes.example"),
        ('[access]\norigins = ["*"]', "`access.origins[0]`", "https://recipes.example"),
        ('prompt = "../../secret.txt"', "`prompt`", "inside"),
        ('prompt = "nothing.md"', "`prompt`", "Create it"),
        ('name = "Twice"', "not valid TOML", "app.toml"),
        ("[broken", "not valid TOML", "app.toml"),
    ],
)
def test_a_mistake_names_file_key_and_remedy(tmp_path: Path, toml: str, key: str, remedy: str) -> None:
    write_app(tmp_path, "recipes", toml)
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "recipes")
    assert "recipes/app.toml" in error.value.detail
    assert key in error.value.detail
    assert remedy in error.value.detail


def test_an_empty_prompt_and_a_bad_folder_name_are_refused(tmp_path: Path) -> None:
    write_app(tmp_path, "recipes", prompt=" \n")
    write_app(tmp_path, "Bad_Name")
    with pytest.raises(ConfigError, match="prompt is empty"):
        load(tmp_path / "recipes")
    with pytest.raises(ConfigError, match="named with a-z"):
        load(tmp_path / "Bad_Name")


def test_a_running_catalog_sees_new_changed_broken_and_removed_apps(tmp_path: Path) -> None:
    catalog = AppCatalog(tmp_path)
    with pytest.raises(NotFound):
        catalog.get("recipes")
    write_app(tmp_path, "recipes")
    assert catalog.get("recipes").prompt == "Answer briefly."
    prompt = tmp_path / "recipes" / "prompts" / "system.md"
    prompt.write_text("Answer at length.")
    os.utime(prompt, (time.time() + 5, time.time() + 5))
    assert catalog.get("recipes").prompt == "Answer at length."
    toml = tmp_path / "recipes" / "app.toml"
    toml.write_text("broken")
    os.utime(toml, (time.time() + 5, time.time() + 5))
    assert catalog.get("recipes").prompt == "Answer at length."
    toml.unlink()
    with pytest.raises(NotFound):
        catalog.get("recipes")


@pytest.mark.parametrize("app", ["", "..", "../recipes", "Recipes", "a" * 33, "a/b", "a\0b", "1a"])
def test_an_id_that_no_folder_may_have_is_not_found(tmp_path: Path, app: str) -> None:
    write_app(tmp_path, "recipes")
    with pytest.raises(NotFound):
        AppCatalog(tmp_path).get(app)
