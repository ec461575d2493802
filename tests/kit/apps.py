"""Writes app folders."""

from __future__ import annotations

from pathlib import Path


def write_app(apps: Path, app: str, toml: str = "", prompt: str = "Answer briefly.") -> None:
    """Make `apps/<app>` with a name, a prompt and whatever `toml` adds."""
    folder = apps / app
    (folder / "prompts").mkdir(parents=True, exist_ok=True)
    (folder / "app.toml").write_text(f'name = "{app.title()}"\n{toml}')
    (folder / "prompts" / "system.md").write_text(prompt)
