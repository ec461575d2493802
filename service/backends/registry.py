"""From names to adapters: which module serves which seam. An adapter is imported only when it is chosen."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from service.backends.interfaces import Backends
from service.config import Settings
from service.errors import ConfigError

LOCAL = "service.backends.local"
GOOGLE = "service.backends.google"
OPENAI = "service.backends.openai"
LOOPBACK = ("127.0.0.1", "localhost", "::1")

ADAPTERS: dict[str, dict[str, str]] = {
    "tokens": {"local": f"{LOCAL}.tokens:LocalTokens", "google": f"{GOOGLE}.firebase:FirebaseTokens"},
    "documents": {"local": f"{LOCAL}.documents:SQLiteDocuments", "google": f"{GOOGLE}.firestore:FirestoreDocuments"},
    "vectors": {
        "local": f"{LOCAL}.vectors:LocalVectors",
        "google": f"{GOOGLE}.firestore:FirestoreVectors",
        "vertex": f"{GOOGLE}.vertex:VertexVectors",
        "pgvector": "service.backends.postgres:PostgresVectors",
    },
    "embedder": {
        "local": f"{LOCAL}.embedder:MiniLM",
        "google": f"{GOOGLE}.embeddings:VertexEmbedder",
        "openai": f"{OPENAI}:OpenAIEmbedder",
    },
    "model": {
        "local": f"{LOCAL}.stand_in:StandInModel",
        "google": f"{OPENAI}:VertexModel",
        "openai": f"{OPENAI}:OpenAIModel",
    },
    "blobs": {"local": f"{LOCAL}.blobs:FileBlobs", "google": f"{GOOGLE}.gcs:CloudStorage"},
    "queue": {"local": f"{LOCAL}.queue:LocalQueue", "google": f"{GOOGLE}.cloud_tasks:CloudTasks"},
    "secrets": {"local": f"{LOCAL}.secrets:EnvironmentSecrets", "google": f"{GOOGLE}.secrets:SecretManager"},
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
    """Make the adapters that the settings choose; raises `ConfigError` with everything that keeps them from being run."""
    names = chosen(settings)
    targets = {seam: target(seam, name) for seam, name in names.items()}
    refuse_local_in_the_cloud(settings, targets)
    refuse_emulators_in_the_cloud(settings)
    secrets = load("secrets", targets["secrets"])(settings)
    adapters, problems = {}, []
    for seam, where in targets.items():
        try:
            adapters[seam] = secrets if seam == "secrets" else load(seam, where)(settings, secrets)
        except ConfigError as error:
            problems.append(error.detail)
    if problems:
        raise ConfigError(" ".join(dict.fromkeys(problems)))
    return Backends(**adapters, names=names)


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


def refuse_emulators_in_the_cloud(settings: Settings) -> None:
    """Emulators take any token for true, so nothing of theirs may be set where real users are, or strangers can reach."""
    believed = {"FIREBASE_AUTH_EMULATOR_HOST", "GOOGLE_KEYS_EMULATOR_HOST"}.intersection(settings.emulators)
    if believed and settings.bind_host not in LOOPBACK:
        raise ConfigError(
            f"BIND_HOST={settings.bind_host}: with {', '.join(sorted(believed))} set, anyone who reaches this server can be any "
            "user. Unset it, or use BIND_HOST=127.0.0.1."
        )
    if not settings.k_service:
        return
    if settings.emulators:
        raise ConfigError(f"On Cloud Run no emulator takes a service's place. Unset {', '.join(settings.emulators)}.")
    if settings.google_cloud_project.startswith("demo-"):
        raise ConfigError(
            f"GOOGLE_CLOUD_PROJECT={settings.google_cloud_project}: projects named demo-… are the emulators'. Set your project's id."
        )
