"""Writes the parts of the documentation that follow from the code: `python -m docs`."""

from __future__ import annotations

from pathlib import Path

from docs.cli import cli_page
from service.config import Settings

HERE = Path(__file__).parent


def settings_page() -> str:
    """The page of settings, from the table that the service reads."""
    rows = []
    for name, value, _, words in Settings().rows():
        rows.append(f"| `{name}` | {f'`{value}`' if value else ''} | {words} |")
    return "\n".join(
        [
            "# Settings",
            "",
            "Each is an environment variable; what is unset is read from `.env` in the working folder, then has its default.",
            "`brainstem config` shows the values in use and where each comes from.",
            "",
            "| variable | default | what it says |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    (HERE / "settings.md").write_text(settings_page(), encoding="utf-8")
    (HERE / "cli.md").write_text(cli_page(), encoding="utf-8")
