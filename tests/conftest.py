"""No stray environment reaches a test: only what it sets itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.config import Settings

KEPT = {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "CI", "VIRTUAL_ENV", "SSL_CERT_FILE"}


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - KEPT:
        if not name.startswith(("PYTEST", "BRAINSTEM_TEST")):
            monkeypatch.delenv(name)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of a local server that keeps its data in this test's folder and answers at once."""
    return Settings(data_dir=tmp_path / "data", stand_in_words_per_second=0)
