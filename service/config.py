"""The settings: one table of name, default and help. The environment is read here, once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from dotenv import dotenv_values

from service.errors import ConfigError

T = TypeVar("T")

BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
LEVELS = ("debug", "info", "warning", "error")


def setting(default: T, help: str, *, secret: bool = False) -> T:
    value: Any = field(default=default, metadata={"help": help, "secret": secret})
    return value  # type: ignore[no-any-return]  # a dataclass field stands where its value will be


@dataclass(frozen=True)
class Settings:
    """Each field is the environment variable of the same name in capitals; `.env` in the working folder fills what is unset."""

    backends: str = setting(
        "local", "Which family of backends to use: `local` (this machine) or `google` (Firebase and Google Cloud)"
    )
    backend_tokens: str = setting("", "Who verifies tokens, if not the family's: a name, or `package.module:Class`")
    backend_documents: str = setting("", "Where documents are stored, if not in the family's store")
    backend_vectors: str = setting("", "What finds passages, if not the family's index: `vertex`, `pgvector` …")
    backend_embedder: str = setting("", "What embeds text: `local` or `openai` (default when a key or base URL is set)")
    backend_model: str = setting("", "What answers: `local` or `openai` (default when a key or base URL is set)")
    backend_blobs: str = setting("", "Where files are kept, if not in the family's blob store")
    backend_queue: str = setting("", "What delivers jobs, if not the family's queue")
    backend_secrets: str = setting("", "Where secrets are read, if not from the family's store")

    google_cloud_project: str = setting("demo-brainstem", "Project id: the audience of every token")
    google_cloud_region: str = setting("us-central1", "Region of Vertex AI, Cloud Tasks and the service itself")
    k_service: str = setting("", "Set by Cloud Run; local backends and emulators refuse to start when it is")
    service_url: str = setting(
        "", "URL of this service: the audience of the tokens that Cloud Tasks and functions send"
    )
    internal_callers: str = setting("", "Service accounts that may call `/internal`: e-mail addresses, with commas")
    check_revoked: bool = setting(False, "Ask Firebase at every request whether the user's sign-in was revoked")
    membership_seconds: float = setting(30.0, "Seconds that a membership read from a record is believed")
    firestore_database: str = setting("(default)", "Firestore database")
    storage_bucket: str = setting("", "Cloud Storage bucket for files")
    tasks_queue: str = setting(
        "brainstem", "What the names of the queues in Cloud Tasks begin with: `brainstem-interactive` …"
    )
    tasks_service_account: str = setting("", "Service account in whose name Cloud Tasks calls this service")
    vertex_index: str = setting("", "Id of the Vertex AI index, for BACKEND_VECTORS=vertex")
    vertex_index_endpoint: str = setting("", "Id of the index endpoint that the index is deployed to")
    vertex_deployed_index: str = setting("", "Id of the deployed index at that endpoint")
    vertex_model: str = setting("google/gemini-2.5-flash", "Model that answers, when the model is `google`")
    vertex_embedding_model: str = setting("gemini-embedding-001", "Model that embeds, when the embedder is `google`")
    postgres_url: str = setting("", "Database for BACKEND_VECTORS=pgvector: postgresql://…", secret=True)
    firebase_api_key: str = setting("", "Web API key of the Firebase project, which is public: pages sign in with it")
    firebase_auth_domain: str = setting("", "Domain of the sign-in pages; empty is the project's own")
    firebase_app_check_key: str = setting(
        "", "Site key of reCAPTCHA Enterprise: this service's own pages prove by App Check which app they are"
    )
    firebase_web_app: str = setting("", "Firebase app id of this service's own pages")

    firebase_auth_emulator_host: str = setting("", "host:port of the Auth emulator: no token's signature is checked")
    firestore_emulator_host: str = setting("", "host:port of the Firestore emulator")
    storage_emulator_host: str = setting("", "http://host:port of a Cloud Storage emulator")
    cloud_tasks_emulator_host: str = setting("", "host:port of a Cloud Tasks emulator")
    secret_manager_emulator_host: str = setting("", "host:port of a Secret Manager emulator")
    vertex_emulator_host: str = setting("", "host:port of a Vertex AI emulator")
    google_keys_emulator_host: str = setting("", "host:port that serves public keys in Google's stead")

    bind_host: str = setting("127.0.0.1", "Address to listen on")
    port: int = setting(8080, "Port to listen on")
    threads: int = setting(64, "Requests worked on at once; an answer on its way to a client needs no thread")
    apps_dir: Path = setting(Path("apps"), "Folder with one folder per app")
    web_dir: Path = setting(Path("web"), "Folder with the pages")
    data_dir: Path = setting(Path(".brainstem"), "Folder for everything that the local backends keep")
    log_level: str = setting("info", "`debug`, `info`, `warning` or `error`")

    openai_api_key: str = setting("", "Key of OpenAI or of any compatible endpoint", secret=True)
    openai_base_url: str = setting("", "Base URL of a compatible endpoint: Ollama, vLLM, Vertex AI …")
    chat_model: str = setting("gpt-5-mini", "Model that answers, where an app names none")
    embedding_model: str = setting("text-embedding-3-small", "Model that embeds, when the embedder is `openai`")
    free_models: str = setting(
        "", "Models that cost nothing in any app, as on a machine of your own: names, with commas"
    )
    embedding_dimensions: int = setting(0, "Dimensions to ask of the embedding model; 0 is the model's own number")
    stand_in_words_per_second: int = setting(60, "How fast the offline stand-in model streams; 0 is at once")

    max_body_bytes: int = setting(1_000_000, "Largest JSON body")
    max_upload_bytes: int = setting(25_000_000, "Largest file to upload")
    upload_seconds: int = setting(120, "Seconds that a client may take to send a request, its upload included")
    send_seconds: float = setting(30.0, "Seconds that a client may take to read the next 64 KiB of an answer")
    parse_seconds: int = setting(60, "Seconds that reading one file may take")
    parse_memory_bytes: int = setting(1_500_000_000, "Memory that reading one file may take")
    max_document_chunks: int = setting(5_000, "Chunks that one document may have")
    interactive_workers: int = setting(4, "Jobs that somebody waits for, at once in this process")
    ingest_workers: int = setting(2, "Documents ingested at once by this process")
    batch_workers: int = setting(1, "Jobs that may take their time, at once in this process")
    interactive_per_second: float = setting(100.0, "Jobs that somebody waits for, begun in a second")
    ingest_per_second: float = setting(50.0, "Documents whose ingestion begins in a second")
    batch_per_second: float = setting(50.0, "Jobs that may take their time, begun in a second")
    instances: int = setting(1, "Instances of this service that Cloud Tasks may keep at work at once")

    connect_seconds: float = setting(2.0, "Seconds to connect to a model")
    first_byte_seconds: float = setting(
        60.0, "Seconds until a model's first text, its thinking included; also what one embedding call may take"
    )
    idle_seconds: float = setting(15.0, "Seconds between two pieces of a model's answer")
    stage_seconds: float = setting(20.0, "Seconds to gather a prompt: history, data, search")
    turn_seconds: float = setting(240.0, "Seconds that a turn may take in all")
    flow_seconds: float = setting(120.0, "Seconds that a flow may take in all, its second attempt included")
    heartbeat_seconds: float = setting(1.0, "Seconds of silence after which a stream sends a heartbeat")
    first_save_seconds: float = setting(
        0.25, "Seconds from the first piece of an answer to its first save; an answer that ends sooner is saved once"
    )
    checkpoint_seconds: float = setting(
        3.0, "Seconds between two later saves of an answer; a process that dies loses at most so much of it"
    )
    lease_seconds: float = setting(10.0, "Seconds after which a turn that nobody saves counts as interrupted")

    def __post_init__(self) -> None:
        object.__setattr__(self, "service_url", self.service_url.rstrip("/"))  # an audience must be equal to the letter
        if self.log_level.lower() not in LEVELS:
            raise ConfigError(f"LOG_LEVEL must be one of {', '.join(LEVELS)}.")
        if self.threads < 1:
            raise ConfigError("THREADS must be 1 or more.")
        if self.upload_seconds <= 0 or self.send_seconds <= 0:
            raise ConfigError("UPLOAD_SECONDS and SEND_SECONDS must both be more than 0.")

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, dotenv: Path | None = Path(".env")) -> Settings:
        """Read the settings; raises `ConfigError` that names the variable at fault."""
        values = {**read_dotenv(dotenv), **(os.environ if environ is None else environ)}
        given: dict[str, Any] = {f.name: parse(f, values[variable(f)]) for f in fields(cls) if values.get(variable(f))}
        return cls(**given)

    @property
    def emulators(self) -> list[str]:
        """The variables set that have emulators take the place of real services."""
        return [variable(f) for f in fields(self) if f.name.endswith("_emulator_host") and getattr(self, f.name)]

    @property
    def callers(self) -> frozenset[str]:
        """The service accounts that may call `/internal`, Cloud Tasks' own among them."""
        listed = [*self.internal_callers.split(","), self.tasks_service_account]
        return frozenset(email.strip() for email in listed if email.strip())

    def require(self, purpose: str, *names: str) -> None:
        """Raise `ConfigError` that lists those of the settings that are empty, and what each is."""
        missing = [f for f in fields(self) if f.name in names and not getattr(self, f.name)]
        if missing:
            listed = "; ".join(f"{variable(f)} ({f.metadata['help']})" for f in missing)
            raise ConfigError(f"{purpose} needs settings that are missing: {listed}.")

    @property
    def free(self) -> frozenset[str]:
        """The models that cost nothing in any app."""
        return frozenset(name.strip() for name in self.free_models.split(",") if name.strip())

    def rows(self) -> Iterator[tuple[str, str, bool, str]]:
        """Yield (variable, value, whether it differs from the default, help) of each setting, secrets masked."""
        for f in fields(self):
            value = getattr(self, f.name)
            shown = "********" if f.metadata["secret"] and value else str(value)
            yield variable(f), shown, value != f.default, f.metadata["help"]


def variable(f: Field[Any]) -> str:
    return f.name.upper()


def parse(f: Field[Any], text: str) -> str | int | float | Path:
    default: Any = f.default
    kind = type(default)
    if kind is bool:
        if text.lower() not in BOOLEANS:
            raise ConfigError(f"{variable(f)} must be `true` or `false`.")
        return BOOLEANS[text.lower()]
    try:
        value: str | int | float | Path = kind(text)
    except ValueError:
        raise ConfigError(f"{variable(f)} must be {'a whole number' if kind is int else 'a number'}.") from None
    if isinstance(value, int | float) and not 0 <= value < float("inf"):
        raise ConfigError(f"{variable(f)} must not be negative or infinite.")
    return value


def read_dotenv(path: Path | None) -> dict[str, str]:
    if path is None or not path.is_file():
        return {}
    return {name: value for name, value in dotenv_values(path, interpolate=False).items() if value is not None}
