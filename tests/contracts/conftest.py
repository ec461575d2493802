"""One fixture per seam, with a parameter per adapter: every contract suite runs against each of them.

The suites use the methods of the Protocols alone. What only one adapter promises is tested beside that adapter.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from service.backends.google.cloud_tasks import CloudTasks
from service.backends.google.firebase import FirebaseTokens
from service.backends.google.firestore import FirestoreDocuments
from service.backends.google.gcs import CloudStorage
from service.backends.google.secrets import SecretManager
from service.backends.interfaces import BlobStore, DocumentStore, JobQueue, Secrets, TokenVerifier
from service.backends.local.blobs import FileBlobs
from service.backends.local.documents import SQLiteDocuments
from service.backends.local.queue import LocalQueue
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.tokens import LocalTokens, key_id
from service.config import Settings
from service.models import Scope
from service.proof.process import free_port
from service.queues import caps
from tests.kit.cloud_tasks import Deployed, TasksServer
from tests.kit.emulators import Emulators
from tests.kit.firestore_proxy import own_database, warm
from tests.kit.gcs import BUCKET, StorageServer
from tests.kit.keys import KeyServer
from tests.kit.secret_manager import SecretManagerServer
from tests.kit.tokens import TokenFactory, new_key


@pytest.fixture
def environment(settings: Settings) -> Secrets:
    return EnvironmentSecrets(settings)


@pytest.fixture(params=["local", "google"])
def documents(request: pytest.FixtureRequest, settings: Settings, environment: Secrets) -> DocumentStore:
    if request.param == "google":
        firebase: Emulators = request.getfixturevalue("firebase")
        warm(firebase.hosts["firestore"])
        return FirestoreDocuments(own_database(settings, firebase.hosts["firestore"]), environment)
    return SQLiteDocuments(settings, environment)


@pytest.fixture
def emulated(request: pytest.FixtureRequest) -> bool:
    """Whether the documents lie in the Firestore emulator, which falls short of Firestore in two ways: it takes messages of 4 MiB,
    not 10, and its reads may see a commit half applied (1 295 of 6 728 reads of six documents that were written all the while)."""
    return bool(request.node.callspec.params["documents"] == "google")


@pytest.fixture(scope="session")
def cloud_storage() -> Iterator[StorageServer]:
    with StorageServer() as server:
        yield server


@pytest.fixture(params=["local", "google", "firebase"])
def blobs(
    request: pytest.FixtureRequest, settings: Settings, environment: Secrets, cloud_storage: StorageServer
) -> BlobStore:
    """Google's client speaks to a server that checks all that Cloud Storage does, and to Firebase's own emulator."""
    if request.param == "google":
        cloud_storage.buckets.objects.clear()
        chosen = replace(settings, storage_bucket=BUCKET)
        return CloudStorage(chosen, environment, credentials=cloud_storage.credentials(), server=cloud_storage.url)
    if request.param == "firebase":
        host = request.getfixturevalue("firebase").environ["STORAGE_EMULATOR_HOST"]
        return CloudStorage(
            replace(settings, storage_emulator_host=host, storage_bucket=f"{uuid.uuid4().hex}.appspot.com"), environment
        )
    return FileBlobs(settings, environment)


@pytest.fixture(params=["local", "google"])
def queue(request: pytest.FixtureRequest, settings: Settings, environment: Secrets) -> Iterator[JobQueue]:
    """Cloud Tasks delivers over HTTP; what `start` and `stop` begin and end with it is the service that receives."""
    if request.param == "google":
        with TasksServer(lambda claims: "token") as server:
            server.behaviour.concurrent = {name: cap.concurrent for name, cap in caps(settings).items()}
            server.behaviour.per_second = {name: cap.per_second for name, cap in caps(settings).items()}
            port = free_port()
            deployed = Deployed(port, CloudTasks(server.settings(f"http://127.0.0.1:{port}"), environment))
            yield deployed
            deployed.stop()
        return
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
    """A verifier, and the factories that sign with the keys that it trusts for each kind of token."""

    verifier: TokenVerifier
    users: TokenFactory
    apps: TokenFactory
    services: TokenFactory


@pytest.fixture(params=["local", "google"])
def tokens(
    request: pytest.FixtureRequest, settings: Settings, environment: Secrets, signing_key: RSAPrivateKey
) -> Iterator[Verification]:
    if request.param == "google":
        with KeyServer(settings.google_cloud_project) as keys:
            verifier = FirebaseTokens(replace(settings, google_keys_emulator_host=keys.host), environment)
            yield Verification(verifier, keys.users.factory, keys.apps.factory, keys.services.factory)
        return
    pem = signing_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (settings.data_dir / "keys").mkdir(parents=True)
    (settings.data_dir / "keys" / "tokens.pem").write_bytes(pem)
    factory = TokenFactory(signing_key, key_id(signing_key.public_key()), settings.google_cloud_project)
    yield Verification(LocalTokens(settings, environment), factory, factory, factory)


@pytest.fixture(params=["local", "google"])
def secrets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Secrets]:
    """Secrets that hold MAPS_KEY and OPENAI_API_KEY, each with its name in small letters as its value."""
    if request.param == "google":
        with SecretManagerServer() as server:
            server.add("MAPS_KEY", "maps_key")
            server.add("OPENAI_API_KEY", "openai_api_key")
            yield SecretManager(server.settings)
        return
    monkeypatch.setenv("MAPS_KEY", "maps_key")
    yield EnvironmentSecrets(Settings(openai_api_key="openai_api_key"))


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
