"""The shapes that go over HTTP, in camelCase; they validate what comes in and describe it in `/openapi.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Identifier = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Title = Annotated[str, Meta(min_length=1, max_length=200)]
Limit = Annotated[int, Meta(ge=1, le=100)]
Cursor = Annotated[str, Meta(max_length=500)]


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What a client sends; a field that is not listed is refused."""


class Answer(msgspec.Struct, frozen=True, rename="camel"):
    """What a client gets."""


class PageQuery(Body, frozen=True):
    limit: Limit = 20
    cursor: Cursor | None = None


class NoQuery(Body, frozen=True):
    pass


class DaysQuery(Body, frozen=True):
    days: Annotated[int, Meta(ge=1, le=366)] = 30


class NameQuery(Body, frozen=True):
    name: Annotated[str, Meta(max_length=200)] | None = None


class MessageBody(Body, frozen=True):
    """A message of the user. `id` makes it safe to send again: the same id is the same turn."""

    text: Annotated[str, Meta(min_length=1, max_length=200_000)]
    id: Identifier | None = None


class RenameBody(Body, frozen=True):
    title: Title


class SearchBody(Body, frozen=True):
    text: Annotated[str, Meta(min_length=1, max_length=8000)]
    limit: Annotated[int, Meta(ge=1, le=50)] = 10


class SignInBody(Body, frozen=True):
    """Whom to sign in as; `role` is what the token says of them in every app."""

    user: Annotated[str, Meta(min_length=1, max_length=128)]
    role: Literal["member", "admin"] = "member"


UserID = Annotated[str, Meta(min_length=1, max_length=128)]


class JobBody(Body, frozen=True):
    """A job's address, and all that a queue knows of it; `queue` is the one that delivers it."""

    app: Identifier
    user: UserID | None
    job: Identifier
    queue: Literal["interactive", "ingest", "batch"] = "batch"


class ObjectFinalizedBody(Body, frozen=True):
    """The name of an object in the bucket."""

    name: Annotated[str, Meta(min_length=1, max_length=1024)]


class DataWrittenBody(Body, frozen=True):
    """Whose `data/{document}` was written or removed."""

    app: Identifier
    user: UserID
    document: Identifier


class AppAnswer(Answer, frozen=True):
    id: str
    name: str
    description: str


class AppsAnswer(Answer, frozen=True):
    apps: list[AppAnswer]


class ChatAnswer(Answer, frozen=True):
    id: str
    title: str
    created: str
    updated: str
    turn_count: int


class PassageAnswer(Answer, frozen=True):
    document: str
    chunk: int
    title: str
    text: str
    headings: list[str]
    page: int | None
    line: int | None
    shared: bool
    score: float


class TurnErrorAnswer(Answer, frozen=True):
    code: str
    title: str
    detail: str
    status: int
    retryable: bool


class TurnAnswer(Answer, frozen=True):
    """One question and its answer. `status` runs ACCEPTED → STREAMING → COMPLETED | INTERRUPTED | FAILED."""

    id: str
    chat: str
    seq: int
    prompt: str
    reply: str
    status: str
    citations: list[PassageAnswer]
    created: str
    updated: str
    model: str
    finish_reason: str | None
    error: TurnErrorAnswer | None


class ChatsAnswer(Answer, frozen=True):
    chats: list[ChatAnswer]
    next_cursor: str | None


class ChatWithTurnsAnswer(ChatAnswer, frozen=True):
    turns: list[TurnAnswer]
    next_cursor: str | None


class SummaryAnswer(Answer, frozen=True):
    """What `model` made of a document's text; `cut` if that is longer than what it was shown."""

    text: str
    model: str
    created: str
    cut: bool


class DocumentAnswer(Answer, frozen=True):
    """An uploaded file. `status` runs PENDING → PROCESSING (`done` of `total` chunks) → COMPLETED | FAILED (`error`)."""

    id: str
    title: str
    media_type: str
    bytes: int
    sha256: str
    status: str
    created: str
    updated: str
    chunks: int
    done: int
    total: int
    error: str | None
    summary: SummaryAnswer | None


class DocumentsAnswer(Answer, frozen=True):
    documents: list[DocumentAnswer]
    next_cursor: str | None


class ArtifactAnswer(Answer, frozen=True):
    name: str
    media_type: str
    bytes: int
    sha256: str


class JobAnswer(Answer, frozen=True):
    """Work that outlives its request. `status` runs PENDING → PROCESSING → COMPLETED | FAILED (`error`, `code`) | CANCELLED; `done` of
    `total` and `note` tell how far it is. `flow` is the one that it runs, if any, and `title` what its report is called."""

    id: str
    kind: str
    flow: str | None
    title: str
    status: str
    created: str
    updated: str
    started: str | None
    ended: str | None
    attempts: int
    done: int
    total: int
    note: str
    output: Any
    artifacts: list[ArtifactAnswer]
    input_tokens: int
    output_tokens: int
    error: str | None
    code: str | None
    retry_of: str | None


class JobsAnswer(Answer, frozen=True):
    jobs: list[JobAnswer]
    next_cursor: str | None


class LinkAnswer(Answer, frozen=True):
    """A URL that works without a token until it expires."""

    url: str
    expires_at: str


class SearchAnswer(Answer, frozen=True):
    passages: list[PassageAnswer]


class DataAnswer(Answer, frozen=True):
    id: str
    data: Mapping[str, Any]
    updated: str


class DataListAnswer(Answer, frozen=True):
    data: list[DataAnswer]
    next_cursor: str | None


Dollars = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]{1,12})?$", description="USD, exactly, as a decimal number")]


class UsageRowAnswer(Answer, frozen=True):
    """`unpriced` calls are of a time without prices; what they cost is not known."""

    day: str
    kind: str
    model: str
    calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: Dollars
    unpriced: int


class AppUsageRowAnswer(UsageRowAnswer, frozen=True):
    user: str


class AppUsageAnswer(Answer, frozen=True):
    """The calls of all users of an app."""

    since: str
    calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: Dollars
    unpriced: int
    rows: list[AppUsageRowAnswer]


class UsageAnswer(Answer, frozen=True):
    since: str
    calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: Dollars
    unpriced: int
    rows: list[UsageRowAnswer]


class TokenAnswer(Answer, frozen=True):
    token: str
    user: str
    expires_at: str


class ModelAnswer(Answer, frozen=True):
    name: str
    stand_in: bool


class EmulatorsAnswer(Answer, frozen=True):
    """The emulators that take Firebase's place, each as `host:port`."""

    auth: str | None
    firestore: str | None


class FirebaseAnswer(Answer, frozen=True):
    """The Firebase project that a page signs in at; none of it is a secret.

    `database` is the Firestore database that holds the chats, if one does; `anonymous` says whether some app takes guests;
    `app_check_key` is the site key of reCAPTCHA Enterprise, where pages prove by App Check which app they are.
    """

    api_key: str
    auth_domain: str
    project_id: str
    app_id: str | None
    app_check_key: str | None
    database: str | None
    anonymous: bool
    emulators: EmulatorsAnswer | None


class ConfigAnswer(Answer, frozen=True):
    """What a page must know before anyone signs in.

    `sign_in` is `local` (any name will do), `firebase` (an account of the project that `firebase` describes), or the verifier's own name.
    """

    version: str
    sign_in: str
    firebase: FirebaseAnswer | None
    model: ModelAnswer
    max_upload_bytes: int
    accept: list[str]


class HealthAnswer(Answer, frozen=True):
    status: str
    version: str


class ReadyAnswer(Answer, frozen=True):
    """`backends` says of each `ok`, or in a sentence what fails."""

    ready: bool
    backends: dict[str, str]


class InputProblem(Answer, frozen=True):
    """What is wrong at a place of an input; `path` begins with `$`, the input itself."""

    path: str
    problem: str


class Problem(Answer, frozen=True):
    """An error as RFC 9457 describes it, with a stable `code`; `retryable` says whether the same request may succeed later.

    `problems` are there if an input does not fit its schema.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    retryable: bool
    problems: list[InputProblem] | msgspec.UnsetType = msgspec.UNSET


class AcceptedEvent(Answer, frozen=True):
    turn: TurnAnswer
    chat: ChatAnswer


class CitationsEvent(Answer, frozen=True):
    citations: list[PassageAnswer]


class DeltaEvent(Answer, frozen=True):
    text: str


class DoneEvent(Answer, frozen=True):
    turn: TurnAnswer


class ErrorEvent(Problem, frozen=True, kw_only=True):
    turn: TurnAnswer
