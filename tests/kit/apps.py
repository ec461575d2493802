"""Writes app folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_app(apps: Path, app: str, toml: str = "", prompt: str = "Answer briefly.") -> None:
    """Make `apps/<app>` with a name, a prompt and whatever `toml` adds."""
    folder = apps / app
    (folder / "prompts").mkdir(parents=True, exist_ok=True)
    (folder / "app.toml").write_text(f'name = "{app.title()}"\n{toml}')
    (folder / "prompts" / "system.md").write_text(prompt)


def write_flow(
    apps: Path, app: str, flow: str, given: Mapping[str, Any], output: Mapping[str, Any], prompt: str, toml: str = ""
) -> None:
    """Add a flow to an app, with whatever `toml` adds to its table."""
    folder = apps / app
    (folder / "schemas").mkdir(exist_ok=True)
    (folder / "schemas" / f"{flow}.in.json").write_text(json.dumps(given))
    (folder / "schemas" / f"{flow}.out.json").write_text(json.dumps(output))
    (folder / "prompts" / f"{flow}.md").write_text(prompt)
    table = f'prompt = "prompts/{flow}.md"\ninput = "schemas/{flow}.in.json"\noutput = "schemas/{flow}.out.json"\n'
    with (folder / "app.toml").open("a") as file:
        file.write(f"\n[flows.{flow}]\n{table}{toml}\n")
