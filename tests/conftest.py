"""No stray environment reaches a test: only what it sets itself."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

from service.app import create_app
from service.config import Settings
from tests.kit.apps import write_app
from tests.kit.client import User
from tests.kit.emulators import Emulators, emulators
from tests.kit.upstream import Upstream

KEPT = {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "CI", "VIRTUAL_ENV", "SSL_CERT_FILE"}


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - KEPT:
        if not name.startswith(("PYTEST", "BRAINSTEM_TEST")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def clean_logger() -> Iterator[None]:
    """A command that runs in this process sets the log up as it likes it; the next test finds it as it was."""
    logger = logging.getLogger("brainstem")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of a local server that keeps its data in this test's folder, answers at once, and saves the first piece at once."""
    return Settings(data_dir=tmp_path / "data", stand_in_words_per_second=0, first_save_seconds=0.0)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A scripted model provider on a socket."""
    with Upstream() as server:
        yield server


@pytest.fixture
def served(tmp_path: Path, settings: Settings, upstream: Upstream) -> Settings:
    """Settings of a server whose model and embedder are the scripted provider, with the apps `alpha` and `beta`."""
    for app in ("alpha", "beta"):
        write_app(
            tmp_path / "apps", app, '[context]\ndata = ["profile"]\n[access]\norigins = ["https://alpha.example"]\n'
        )
    return replace(settings, apps_dir=tmp_path / "apps", openai_base_url=upstream.url, openai_api_key="sk-canary-key")


@pytest.fixture
def flask(served: Settings) -> Iterator[Flask]:
    """The whole service, all but the server's socket."""
    app = create_app(served)
    yield app
    app.extensions["brainstem"].backends.queue.stop()
    app.extensions["brainstem"].loop.stop()


@pytest.fixture
def ada(flask: Flask) -> User:
    """A user of the app `alpha`."""
    return User(flask, "ada", "alpha")


@pytest.fixture(scope="session")
def firebase() -> Iterator[Emulators]:
    """The Auth, Firestore and Storage emulators, one set for the whole run: a test takes names of its own or clears them."""
    with emulators("auth", "firestore", "storage") as running:
        yield running
