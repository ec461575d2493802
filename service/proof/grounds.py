"""What the service under proof stands on: this machine's own backends, or Google's on running emulators."""

from __future__ import annotations

from pathlib import Path
from secrets import token_hex

from service.config import Settings
from service.proof.keys import Keys
from service.proof.model import DIMENSIONS, Model
from service.proof.process import free_port
from service.proof.world import EMBEDDER, FUNCTIONS, SERVICE_URL, TASKS

PROJECT = "demo-proof"


def on_local(folder: Path, model: Model) -> dict[str, str]:
    """The settings of a service on local backends."""
    return {
        "DATA_DIR": str(folder / "data"),
        "APPS_DIR": str(folder / "apps"),
        "WEB_DIR": str(folder / "web"),
        "PORT": str(free_port()),
        "LOG_LEVEL": "debug",
        "OPENAI_BASE_URL": model.url,
        "OPENAI_API_KEY": "none",
        "EMBEDDING_MODEL": EMBEDDER,
        "EMBEDDING_DIMENSIONS": str(DIMENSIONS),
        "SERVICE_URL": SERVICE_URL,
        "TASKS_SERVICE_ACCOUNT": TASKS,
        "INTERNAL_CALLERS": FUNCTIONS,
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "BACKEND_VECTORS": "service.proof.index:on_local",
        # Jobs run when the attacks say so, and at no other time.
        "INTERACTIVE_WORKERS": "0",
        "INGEST_WORKERS": "0",
        "BATCH_WORKERS": "0",
        "MEMBERSHIP_SECONDS": "5",
    }


def on_emulators(emulators: Settings, keys: Keys) -> dict[str, str]:
    """What differs on emulators: a project of this proof's own. Tokens are not the Auth emulator's, which signs none."""
    emulators.require("The proof on emulators", "firestore_emulator_host", "storage_emulator_host")
    project = f"{PROJECT}-{token_hex(4)}"
    return {
        "GOOGLE_CLOUD_PROJECT": project,
        "STORAGE_BUCKET": f"{project}.appspot.com",
        "FIRESTORE_EMULATOR_HOST": emulators.firestore_emulator_host,
        "STORAGE_EMULATOR_HOST": emulators.storage_emulator_host,
        "GOOGLE_KEYS_EMULATOR_HOST": keys.host,
        "BACKEND_TOKENS": "google",
        "BACKEND_DOCUMENTS": "google",
        "BACKEND_BLOBS": "google",
        "BACKEND_VECTORS": "service.proof.index:on_firestore",
    }
