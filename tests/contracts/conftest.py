"""One fixture per seam, with a parameter per adapter: every contract suite runs against each of them.

The suites use the methods of the Protocols alone. What only one adapter promises is tested beside that adapter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from service.backends.interfaces import BlobStore, DocumentStore, JobQueue, Secrets, TokenVerifier
from service.backends.local.blobs import FileBlobs
from service.backends.local.documents import SQLiteDocuments
from service.backends.local.queue import LocalQueue
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.tokens import LocalTokens, key_id
from service.config import Settings
from service.models import Scope
from tests.kit.tokens import TokenFactory, new_key


@pytest.fixture
def environment(settings: Settings) -> Secrets:
    return EnvironmentSecrets(settings)


@pytest.fixture(params=["local"])
def documents(settings: Settings, environment: Secrets) -> DocumentStore:
    return SQLiteDocuments(settings, environment)


@pytest.fixture(params=["local"])
def blobs(settings: Settings, environment: Secrets) -> BlobStore:
    return FileBlobs(settings, environment)


@pytest.fixture(params=["local"])
def queue(settings: Settings, environment: Secrets) -> Iterator[JobQueue]:
    queue = LocalQueue(settings, environment, lease=1.0, backoff=0.05)
    yield queue
    queue.stop()


@pytest.fixture(scope="session")
def signing_key() -> RSAPrivateKey:
    return new_key()


@pytest.fixture(scope="session")
def strange_key() -> RSAPrivateKey:
    return new_key()


@dataclass(frozen=True)
class Verification:
    """A verifier and the factory that signs with the one key it trusts."""

    verifier: TokenVerifier
    factory: TokenFactory


@pytest.fixture(params=["local"])
def tokens(settings: Settings, environment: Secrets, signing_key: RSAPrivateKey) -> Verification:
    pem = signing_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (settings.data_dir / "keys").mkdir(parents=True)
    (settings.data_dir / "keys" / "tokens.pem").write_bytes(pem)
    factory = TokenFactory(signing_key, key_id(signing_key.public_key()), settings.google_cloud_project)
    return Verification(LocalTokens(settings, environment), factory)


@pytest.fixture(params=["local"])
def secrets(monkeypatch: pytest.MonkeyPatch) -> Secrets:
    """Secrets that hold MAPS_KEY and OPENAI_API_KEY, each with its name in small letters as its value."""
    monkeypatch.setenv("MAPS_KEY", "maps_key")
    return EnvironmentSecrets(Settings(openai_api_key="openai_api_key"))


SCOPES = [
    Scope(app, user)
    for app in ("recipes", "Recipes", "travel")
    for user in (None, "ada", "Ada", "ada ", "a/b", "a%2Fb", "..", ".", "__x__", "a\0b", "\u00e9", "e\u0301", "%", "users/ada", "ада", "ａda", "u" * 128)
]  # fmt: skip
"""Apps and users that must never see each other's: they differ by case, by Unicode's normal form, by what a path means."""


@pytest.fixture
def scopes() -> list[Scope]:
    assert len(set(SCOPES)) == len(SCOPES) == 51
    return SCOPES


@pytest.fixture
def ada() -> Scope:
    return Scope("recipes", "ada")
