"""App folders: what holds, and mistakes that name file, key and remedy."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from service.apps import AppCatalog, load
from service.errors import ConfigError, NotFound
from tests.kit.apps import write_app
from tests.kit.server import ROOT


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
        ('[access]\nmembership = "all"', "`access.membership`", 'Use "open", "claim", "tenant" or "record"'),
        ('[access]\norigins = ["https://a.example/path"]', "`access.origins[0]`", "https://recipes.example"),
        ('[access]\norigins = ["*"]', "`access.origins[0]`", "https://recipes.example"),
        ('prompt = "../../secret.txt"', "`prompt`", "inside"),
        ('prompt = "nothing.md"', "`prompt`", "Create it"),
        ('prompt = "a\\u0000b"', "`prompt`", "Remove it"),
        ('prompt = "prompts"', "`prompt`", "correct the name"),
        ('prompt = "' + "a" * 300 + '"', "`prompt`", "correct the name"),
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


def test_files_that_cannot_be_read_are_mistakes_too(tmp_path: Path) -> None:
    write_app(tmp_path, "recipes")
    catalog = AppCatalog(tmp_path)
    catalog.get("recipes")
    prompt, toml = tmp_path / "recipes" / "prompts" / "system.md", tmp_path / "recipes" / "app.toml"
    prompt.unlink()
    prompt.symlink_to(prompt)
    with pytest.raises(ConfigError, match=r"recipes/app\.toml: `prompt` names prompts/system\.md.*Create it"):
        load(tmp_path / "recipes")
    for folder in (False, True):
        toml.unlink()
        toml.mkdir() if folder else toml.symlink_to(toml)
        with pytest.raises(ConfigError, match=r"recipes/app\.toml: cannot be read: .*may read"):
            load(tmp_path / "recipes")
        assert catalog.get("recipes").prompt == "Answer briefly."


def test_files_of_someone_else_are_mistakes_that_say_so(tmp_path: Path) -> None:
    """The reader is a process that is not root, whom permissions would not stop."""
    program = (
        "import os, sys; from pathlib import Path; from service.apps import load; from service.errors import ConfigError\n"
        "if os.geteuid() == 0: os.chdir(sys.argv[1]); os.seteuid(65534)\n"
        "try: load(Path(sys.argv[2]))\n"
        "except ConfigError as error: print(error.detail)"
    )
    tmp_path.chmod(0o755)
    for name, key in (("prompts/system.md", "`prompt`"), ("app.toml", "cannot be read")):
        write_app(tmp_path, "recipes")
        (tmp_path / "recipes" / name).chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path), "recipes"],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "recipes/app.toml" in done.stdout, done.stderr
        assert key in done.stdout
        assert "Permission denied" in done.stdout
        (tmp_path / "recipes" / name).chmod(0o644)


def test_an_app_whose_prompt_is_away_for_a_moment_stays(tmp_path: Path) -> None:
    write_app(tmp_path, "recipes")
    catalog = AppCatalog(tmp_path)
    catalog.get("recipes")
    prompt = tmp_path / "recipes" / "prompts" / "system.md"
    away = prompt.rename(tmp_path / "away.md")
    for _ in range(2):
        assert catalog.get("recipes").prompt == "Answer briefly."
    away.rename(prompt)
    assert catalog.get("recipes").prompt == "Answer briefly."
    prompt.unlink()
    assert catalog.get("recipes").prompt == "Answer briefly."
    prompt.write_text("Answer at length.")
    assert catalog.get("recipes").prompt == "Answer at length."


def test_a_prompt_that_changes_while_it_is_loaded_is_seen_at_the_next_use(tmp_path: Path) -> None:
    write_app(tmp_path, "recipes")
    prompt = tmp_path / "recipes" / "prompts" / "system.md"
    prompt.unlink()
    os.mkfifo(prompt)  # its reader waits for us, in the midst of loading
    catalog = AppCatalog(tmp_path)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(catalog.get("recipes").prompt))
    reader.start()
    with prompt.open("w") as pipe:
        new = tmp_path / "new.md"
        new.write_text("The new one.")
        new.rename(prompt)
        pipe.write("The old one.")
    reader.join()
    assert found == ["The old one."]
    assert catalog.get("recipes").prompt == "The new one."


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
