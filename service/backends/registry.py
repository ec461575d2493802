"""From names to adapters: which module serves which seam. An adapter is imported only when it is chosen."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from service.backends.interfaces import Backends
from service.config import Settings
from service.errors import ConfigError

LOCAL = "service.backends.local"
LOOPBACK = ("127.0.0.1", "localhost", "::1")

ADAPTERS: dict[str, dict[str, str]] = {
    "tokens": {"local": f"{LOCAL}.tokens:LocalTokens"},
    "documents": {"local": f"{LOCAL}.documents:SQLiteDocuments"},
    "vectors": {"local": f"{LOCAL}.vectors:LocalVectors"},
    "embedder": {"local": f"{LOCAL}.embedder:MiniLM", "openai": "service.backends.openai:OpenAIEmbedder"},
    "model": {"local": f"{LOCAL}.stand_in:StandInModel", "openai": "service.backends.openai:OpenAIModel"},
    "blobs": {"local": f"{LOCAL}.blobs:FileBlobs"},
    "queue": {"local": f"{LOCAL}.queue:LocalQueue"},
    "secrets": {"local": f"{LOCAL}.secrets:EnvironmentSecrets"},
}


def chosen(settings: Settings) -> dict[str, str]:
    """The adapter's name for each seam."""
    has_openai = bool(settings.openai_api_key or settings.openai_base_url)
    names = {}
    for seam in ADAPTERS:
        default = "openai" if has_openai and seam in ("embedder", "model") else settings.backends
        names[seam] = getattr(settings, f"backend_{seam}") or default
    return names


def target(seam: str, name: str) -> str:
    """Where the adapter is: `package.module:Class`; raises `ConfigError` that lists the names there are."""
    if ":" in name:
        return name
    try:
        return ADAPTERS[seam][name]
    except KeyError:
        known = ", ".join(f"`{known}`" for known in ADAPTERS[seam])
        raise ConfigError(
            f"BACKEND_{seam.upper()}: there is no `{name}`. Use {known}, or `package.module:Class` of your own."
        ) from None


def build(settings: Settings) -> Backends:
    """Make the adapters that the settings choose; raises `ConfigError` for a choice that must not be run."""
    names = chosen(settings)
    targets = {seam: target(seam, name) for seam, name in names.items()}
    refuse_local_in_the_cloud(settings, targets)
    secrets = load("secrets", targets["secrets"])(settings)
    adapters = {seam: load(seam, where)(settings, secrets) for seam, where in targets.items() if seam != "secrets"}
    return Backends(**adapters, secrets=secrets, names=names)


def load(seam: str, where: str) -> Any:
    module, _, name = where.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"BACKEND_{seam.upper()}: {where} cannot be imported ({type(error).__name__}).") from error


def refuse_local_in_the_cloud(settings: Settings, targets: dict[str, str]) -> None:
    local = sorted(seam for seam, where in targets.items() if where.startswith(f"{LOCAL}."))
    if settings.k_service and local:
        raise ConfigError(
            f"On Cloud Run the local backends lose data and let anyone in, so they do not start there: {', '.join(local)}. "
            "Choose others with BACKENDS or BACKEND_<SEAM>."
        )
    if "tokens" in local and settings.bind_host not in LOOPBACK:
        raise ConfigError(
            f"BIND_HOST={settings.bind_host}: with local tokens anyone who reaches this server can be any user. Use BIND_HOST=127.0.0.1."
        )
