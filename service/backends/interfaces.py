"""The seams: what Brainstem asks of the world. One contract suite per Protocol runs against every adapter.

Every method that touches data takes a `Scope` first and can reach nothing outside of it. Adapters raise only errors of
`service.errors`; a dependency that cannot be reached is `Unavailable`. All methods may be called from any thread, but for
`LanguageModel.stream`, which is iterated on an event loop.
`check()` raises `Unavailable` if the backend could not serve a call now; `GET /ready` asks it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol, TypeAlias

import msgspec

from service.models import JSON, Passage, QueueName, Scope

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors: TypeAlias = npt.NDArray[np.float32]

Path: TypeAlias = tuple[str, ...]
"""Segments below the scope's root, e.g. `("chats", "c1", "turns", "t1")`: even many name a document, odd a collection."""


class TokenVerifier(Protocol):
    """Proves tokens by their signature, issuer, audience and times; what an app demands beyond that is `auth`'s."""

    def verify(self, token: str) -> Mapping[str, object]:
        """Return the claims of a user's ID token; raises `InvalidToken`, or `Unavailable` if no key can be had."""

    def verify_app(self, token: str) -> str:
        """Return the Firebase app id that an App Check token proves; raises as `verify` does."""

    def verify_service(self, token: str, audience: str) -> str:
        """Return the e-mail address of the service account that signed in to `audience` by OIDC; raises as `verify` does."""

    def check(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A stored document as it was read; `version` changes with every write and never comes back.

    `age` is how many seconds ago it was written, by the store's own clock.
    """

    path: Path
    data: Mapping[str, JSON]
    version: str
    age: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Create:
    """Write a document that is not there yet, else `AlreadyExists`."""

    path: Path
    data: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class Set:
    """Write a document whole, whether it is there or not."""

    path: Path
    data: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class Update:
    """Replace the given top-level fields of a document that is there and, if given, has `version`; else `PreconditionFailed`."""

    path: Path
    data: Mapping[str, JSON]
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a document, which need not be there unless `version` is given."""

    path: Path
    version: str | None = None


Write: TypeAlias = Create | Set | Update | Delete


@dataclass(frozen=True, slots=True)
class Query:
    """Documents of one collection, ordered by one field and then by id, both in the same direction.

    `where` holds (field, operator, value) with the operators of Firestore `== < <= > >=`; documents without the ordering field
    are left out. `after` continues behind a document given by its (field value, id).

    `of_every_user` reads, for a scope without user, a collection of one segment of all the app's users: snapshots then have
    the path `("users", uid, collection, id)`, and `after` does not go with it.
    """

    collection: Path
    order_by: str
    descending: bool = False
    where: Sequence[tuple[str, Literal["==", "<", "<=", ">", ">="], str | int | float | bool]] = ()
    after: tuple[str | int | float, str] | None = None
    limit: int = 100
    of_every_user: bool = False


class DocumentStore(Protocol):
    """Documents of JSON values under paths; reads see every acknowledged write."""

    def get(self, scope: Scope, *paths: Path) -> list[Snapshot | None]:
        """Read documents in one round trip, `None` for each that is not there."""

    def query(self, scope: Scope, query: Query) -> list[Snapshot]:
        """Read documents of a collection in the query's order; an unknown collection is empty."""

    def commit(self, scope: Scope, writes: Sequence[Write]) -> list[str]:
        """Apply all writes or none, at most 500, and return each one's new version (`""` for a delete)."""

    def everything(self, scope: Scope, after: Path = (), limit: int = 500) -> list[Path]:
        """Return the paths of all documents of a user's scope in a fixed order, behind `after`: whatever collection they lie in.

        Also what lies below a document that is gone. The user's own record is not among them: it is the app's.
        """

    def check(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A passage to be found: its vector (shape `(dimensions,)`, float32, unit length) in the space of one embedder."""

    passage: Passage
    vector: Vectors
    space: str


@dataclass(frozen=True, slots=True)
class Search:
    """A question: its words and its vector. `vector=None` searches by words alone, an empty `text` by vector alone.

    Vectors of another `space` than the query's are never compared; their passages are still found by their words.
    """

    text: str
    vector: Vectors | None
    space: str
    limit: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found, with the app and owner that the index itself has stored for it, so that the caller can check them."""

    app: str
    user: str | None
    passage: Passage


class VectorIndex(Protocol):
    """Finds passages by meaning and by words, both fused by rank, within one scope.

    A user's scope finds what is theirs and what their app shares; a scope without user only what the app shares.
    """

    def upsert(self, scope: Scope, entries: Sequence[Entry]) -> None:
        """Store entries under (document, chunk), replacing what is there; all are found once it returns."""

    def search(self, scope: Scope, search: Search) -> list[Hit]:
        """Return the best hits, best first, each document's chunk at most once."""

    def delete(self, scope: Scope, document: str, chunks: int) -> None:
        """Forget the entries 0 … `chunks` - 1 of a document; what is not there is no error."""

    def check(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of shape `(len(texts), dimensions)`, float32 and of unit length, and the tokens that they cost."""

    vectors: Vectors
    tokens: int
    estimated: bool = False


class Embedder(Protocol):
    """Turns texts into vectors; `name` identifies the space, so vectors of different names are never compared.

    `model` is what its calls are priced by; to tell it calls nobody.
    """

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    def embed(self, texts: Sequence[str], *, wait: bool = True) -> Embeddings:
        """Embed at most `batch_size` texts in their order; text beyond the model's window is cut. No text gives shape (0, d).

        Where a provider says that we ask too much, it waits a while and tries again, but with `wait=False` raises `UpstreamBusy` at
        once, for a caller that paces its calls.
        """

    def check(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """The JSON Schema that an answer is to fit, as JSON, and whether it is one that providers can hold a model to."""

    name: str
    text: str
    strict: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """What a model is asked: `messages` hold everything, `question` and `passages` repeat two parts for a model that is none.

    With a `schema` the answer is one JSON object. Whoever asks checks it: a model may be told the schema, and not keep to it.
    """

    model: str
    messages: tuple[Message, ...]
    question: str
    passages: tuple[Passage, ...] = ()
    max_output_tokens: int = 1024
    temperature: float | None = None
    schema: OutputSchema | None = None


class Delta(msgspec.Struct, frozen=True):
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The model ended by itself: `stop`, `length` or `content_filter`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


ModelEvent: TypeAlias = Delta | Finish | Usage


class LanguageModel(Protocol):
    """Answers, on an event loop. `name` is the model used when a request names none."""

    @property
    def name(self) -> str: ...

    def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent], None]:
        """Answer: the events as they come, those together that came together. It never blocks the loop.

        To close it, or to cancel who iterates, ends the call and its connection at once. Raises `DependencyError` or
        `ContextTooLong`. A stream that ends without `Finish` broke off, whatever the transport says.
        """

    def check(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Blob:
    bytes: int
    sha256: str


class BlobStore(Protocol):
    """Private files under names like `documents/<id>/original`."""

    def put(self, scope: Scope, name: str, content: BinaryIO, media_type: str) -> Blob:
        """Store a file whole or not at all, replacing what is there."""

    def open(self, scope: Scope, name: str) -> BinaryIO:
        """Open a file for reading; raises `NotFound`."""

    def sign(self, scope: Scope, name: str, *, seconds: int, filename: str) -> str:
        """Return a URL that serves the file as a download until it expires; raises `NotFound`."""

    def delete(self, scope: Scope, name: str) -> None:
        """Remove a file, which need not be there."""

    def names(self, scope: Scope, prefix: str = "") -> Iterator[str]:
        """Yield the names of a scope's own files that begin with `prefix`; what is put or removed meanwhile may be among them."""

    def check(self) -> None: ...


@dataclass(frozen=True, slots=True)
class JobAddress:
    """Where a job is found, and all that a queue may know of it."""

    scope: Scope
    id: str


class JobQueue(Protocol):
    """Delivers each job address at least once, also after a crash: queues of several names, each within caps of its own.

    `service.queues` holds the caps. However long one queue is, it keeps no job of another waiting.
    """

    def enqueue(self, address: JobAddress, *, queue: QueueName = "batch", delay: float = 0.0) -> None:
        """Deliver after `delay` seconds; durable once it returns; a second enqueue of an address that waits may be the same one."""

    def start(self, run: Callable[[JobAddress], None]) -> None:
        """Begin to deliver; `run` returns when the job needs no further delivery and raises when it does."""

    def stop(self) -> None:
        """Cease to deliver; what was under way is delivered again later."""

    def check(self) -> None: ...


class Secrets(Protocol):
    """Named secrets, read when needed and never logged."""

    def get(self, name: str) -> str:
        """Return a secret's value; raises `ConfigError` that names it if there is none."""

    def check(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Backends:
    """One adapter for each seam, as the settings chose them."""

    tokens: TokenVerifier
    documents: DocumentStore
    vectors: VectorIndex
    embedder: Embedder
    model: LanguageModel
    blobs: BlobStore
    queue: JobQueue
    secrets: Secrets
    names: Mapping[str, str] = field(default_factory=dict)
