"""The files of an app's folder: read as text, and never from beyond it."""

from __future__ import annotations

from pathlib import Path

from service.errors import ConfigError


def read_prompt(folder: Path, key: str, name: str) -> str:
    text = read_text(folder, key, name)
    if not text:
        raise ConfigError(
            f"{folder / name}: the prompt is empty. Say in it what the {'flow' if '.' in key else 'app'} is for."
        )
    return text


def read_text(folder: Path, key: str, name: str) -> str:
    """Read a file of an app's folder that a key of `app.toml` names; raises `ConfigError`."""
    path, toml = folder / name, folder / "app.toml"
    if "\0" in name:
        raise ConfigError(f"{toml}: `{key}` holds a NUL character. Remove it.")
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
        text = path.read_text(encoding="utf-8").strip() if inside else ""
    except (
        OSError,
        RuntimeError,
        UnicodeDecodeError,
    ) as error:  # a RuntimeError is a loop of links, before Python 3.13
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(
            f"{toml}: `{key}` names {name}, which cannot be read as text: {reason}. "
            "Create it, correct the name, or let the service's user read it."
        ) from None
    if not inside:
        raise ConfigError(f"{toml}: `{key}` leads out of the app's folder. Name a file inside of it.")
    return text
