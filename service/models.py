"""The nouns: values that every room shares, and nothing that does anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, TypeAlias

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"


def timestamp(moment: datetime | None = None) -> str:
    """The moment (now, if none is given) in RFC 3339 at UTC with microseconds, so that text order is time order."""
    at = datetime.now(UTC) if moment is None else moment.astimezone(UTC)
    return at.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def from_now(seconds: float) -> str:
    """The moment so many seconds from now (before now, if negative), as `timestamp` writes it."""
    return timestamp(datetime.now(UTC) + timedelta(seconds=seconds))


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, as their verified token says.

    `tenant` is the Identity Platform tenant that they signed in to, `firebase_app` the Firebase app id that App Check proved.
    """

    uid: str
    provider: str
    claims: Mapping[str, object]
    tenant: str | None = None
    firebase_app: str | None = None


class Role(StrEnum):
    """What a user is in an app: an admin is a member who also manages what the app shares, and sees its usage."""

    MEMBER = "member"
    ADMIN = "admin"

    @classmethod
    def named(cls, value: object) -> Role | None:
        """Return the role of a name that was stored or claimed, None for anything else."""
        return cls(value) if isinstance(value, str) and value in [*cls] else None


@dataclass(frozen=True, slots=True)
class Scope:
    """The only key that opens a store: one app, and one user of it or (`user=None`) what the app shares.

    Made by `service.scope` alone. `user` is the uid as the token has it; stores encode it themselves.
    """

    app: str
    user: str | None


@dataclass(frozen=True, slots=True)
class Member:
    """A user let into an app."""

    scope: Scope
    role: Role


class TurnStatus(StrEnum):
    """ACCEPTED → STREAMING → COMPLETED | INTERRUPTED | FAILED."""

    ACCEPTED = "ACCEPTED"
    STREAMING = "STREAMING"
    COMPLETED = "COMPLETED"
    INTERRUPTED = "INTERRUPTED"
    FAILED = "FAILED"

    @property
    def terminal(self) -> bool:
        return self not in (TurnStatus.ACCEPTED, TurnStatus.STREAMING)


@dataclass(frozen=True, slots=True)
class Rate:
    """What a model costs, in picodollars (10⁻¹² USD) a token: whole numbers, so that sums are exact. All are 0 if it is free."""

    input: int
    cached: int
    output: int

    def cost(self, input_tokens: int, output_tokens: int = 0, cached_tokens: int = 0) -> int:
        """Return what a call costs in picodollars; the cached tokens are among those of the input."""
        cached = min(cached_tokens, input_tokens)
        return (input_tokens - cached) * self.input + cached * self.cached + output_tokens * self.output


QueueName: TypeAlias = Literal["interactive", "ingest", "batch"]
"""Which jobs a queue holds: those that somebody waits for, documents to ingest, and what may take its time."""


class JobStatus(StrEnum):
    """PENDING → PROCESSING → COMPLETED | FAILED | CANCELLED; documents share these words with the job that ingests them."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        return self not in (JobStatus.PENDING, JobStatus.PROCESSING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A piece of a document that answers a question, with the place it came from.

    `headings` runs from the document's top heading down; `page` counts from 1 (PDF), `line` from 1 (text formats);
    `score` is comparable only within one search.
    """

    document: str
    chunk: int
    title: str
    text: str
    headings: tuple[str, ...] = ()
    page: int | None = None
    line: int | None = None
    shared: bool = False
    score: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A stored piece of a document, as the search sees it: `text` without its headings; tokens are estimated."""

    n: int
    text: str
    headings: tuple[str, ...] = ()
    page: int | None = None
    line: int | None = None
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a model made of a document's text, for the job of that id; `cut` if there is more of the text than was read."""

    text: str
    model: str
    created: str
    job: str
    cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """An uploaded file and what became of it; `id` follows from the content, so one file is one document.

    `written` bounds the chunks that any attempt may have stored or indexed: what must go when the document goes. `read` is when its
    file was read last to its end.
    """

    id: str
    title: str
    media_type: str
    bytes: int
    sha256: str
    status: JobStatus
    created: str
    updated: str
    job: str
    chunks: int = 0
    done: int = 0
    total: int = 0
    written: int = 0
    embedder: str = ""
    read: str = ""
    error: str | None = None
    summary: Summary | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file that a job made, under `blob` in the blob store; `name` is what a download is called."""

    name: str
    media_type: str
    bytes: int
    sha256: str
    blob: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Work that outlives a request; its scope is stored beside it, so that later is no freer than now.

    `attempts` counts those begun, `failures` those that failed: a job that goes on in slices begins more often. `lease` is how many
    seconds after its last write an attempt counts as dead. `done` of `total` and `note` tell how far it is, `state` is what its
    handler left for its next attempt, `output` what it made, both JSON; `error` is why it failed, `code` the kind of that.
    `fingerprint` tells a repeated request from another one under the same key.
    """

    id: str
    kind: str
    status: JobStatus
    input: Mapping[str, Any]
    created: str
    updated: str
    started: str | None = None
    ended: str | None = None
    attempts: int = 0
    failures: int = 0
    lease: float = 0.0
    done: int = 0
    total: int = 0
    note: str = ""
    state: Any = None
    output: Any = None
    artifacts: tuple[Artifact, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    error: str | None = None
    code: str | None = None
    retry_of: str | None = None
    fingerprint: str = ""

    @property
    def flow(self) -> str | None:
        """The flow that it runs, if it runs one."""
        return self.input.get("flow")

    @property
    def title(self) -> str:
        """What its report is called."""
        return str(self.input.get("title", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A conversation; `running` is the turn that is being answered now, as long as that one's lease holds."""

    id: str
    title: str
    created: str
    updated: str
    turns: int = 0
    running: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnError:
    """Why a turn ended badly: the error's code, words and status, and whether trying anew may help."""

    code: str
    title: str
    detail: str
    status: int
    retryable: bool
    retry_after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One question and its answer; `fingerprint` tells a repeated request from another one under the same key.

    `run` names this attempt at it in the ledger, where no other attempt's row may take its place; `input_tokens` estimates
    its prompt, and `rate` is what its model cost when it was asked.
    """

    id: str
    chat: str
    seq: int
    prompt: str
    status: TurnStatus
    created: str
    updated: str
    fingerprint: str
    run: str
    reply: str = ""
    citations: tuple[Passage, ...] = ()
    model: str = ""
    input_tokens: int = 0
    rate: Rate | None = None
    finish_reason: str | None = None
    error: TurnError | None = None
    lease: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A question and its answer, as a later prompt repeats them; tokens are estimated."""

    prompt: str
    reply: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """A chat's last answered turns up to the one with the number `through`, oldest first: all there are, but at most `limit`."""

    through: int
    limit: int
    exchanges: tuple[Exchange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowResult:
    """What came of a flow: an object that fits its schema, and what its calls took together."""

    output: Mapping[str, Any]
    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    estimated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRun:
    """A flow run under a key; `fingerprint` tells a repeated request from another one under the same key.

    `run` names this attempt in the ledger, `result` is a `FlowResult` as text, `input_tokens` estimates the prompt, and `rate` is
    what the model cost when the run began.
    """

    id: str
    flow: str
    status: JobStatus
    created: str
    updated: str
    fingerprint: str
    run: str
    model: str
    input_tokens: int
    rate: Rate | None = None
    result: str | None = None
    error: TurnError | None = None
    lease: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One paid call, the ledger's row: tokens as the provider counted them, or estimated; times in milliseconds.

    `cost` is in picodollars, by what the model cost when it was called; None in rows from before there were prices.
    """

    id: str
    kind: str
    model: str
    created: str
    outcome: str
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False
    cost: int | None = None
    first_token_ms: float | None = None
    total_ms: float = 0.0
    request_id: str = ""
    chat: str | None = None
    turn: str | None = None
    flow: str | None = None
    job: str | None = None
