"""Every error that Brainstem raises, each with the HTTP status and the stable code that a client sees.

BrainstemError
├── ConfigError                 the process refuses to start
├── RequestError                the caller can mend it
│   ├── BadRequest              400  malformed
│   ├── InvalidToken            401  no credential, or one that does not hold
│   ├── Forbidden               403  a valid user, but not of this app
│   ├── NotFound                404  not there, or not yours: never told apart
│   ├── MethodNotAllowed        405
│   ├── NotAcceptable           406
│   ├── Conflict                409  the object changed, or exists already
│   │   └── TurnInProgress      409  this chat is answering already
│   ├── LengthRequired          411
│   ├── TooLarge                413
│   ├── UnsupportedMediaType    415
│   └── Unprocessable           422  well-formed, but not acceptable
│       ├── UnknownField        422
│       ├── IdempotencyMismatch 422  the same key with another request
│       ├── ContextTooLong      422  the model cannot read that much
│       ├── InvalidInput        422  does not fit the schema of a flow's input
│       ├── DocumentRejected    422  a file that cannot be read, with the reason
│       ├── SourceRefused       422  an address that may not be asked, or has nothing to read
│       └── ReportTooLong       422  more than a report's file may hold
├── StoreError                  a write's precondition did not hold
│   ├── AlreadyExists
│   ├── PreconditionFailed
│   └── Superseded               the job is another attempt's now
└── DependencyError             503  something behind us fails
    ├── Unavailable             503  store, index, blobs, queue or keys
    ├── SourceUnavailable       503  a source of a flow does not answer now
    ├── UpstreamBusy            503  the model's provider is overloaded
    │   └── UpstreamQuota       503  our quota or money at the provider is used up
    ├── UpstreamConfig          503  the provider refuses our key or model
    ├── UpstreamProtocol        502  the provider answers nonsense
    │   └── InvalidOutput       502  the model's answer does not fit the schema
    ├── UpstreamInterrupted     502  the answer broke off
    └── DeadlineExceeded        504  no answer within our deadline
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class BrainstemError(Exception):
    """The root of the tree; `detail` is written by us and safe to show, never an upstream's words."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str = "", *, retry_after: int | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.retry_after = retry_after


class ConfigError(BrainstemError):
    """A setting, an app folder or the machine keeps the process from starting; the text names it and the remedy."""

    code = "config"
    title = "Configuration error"


class RequestError(BrainstemError):
    """What the caller sent is at fault."""

    status = 400
    code = "bad_request"
    title = "Bad request"


class BadRequest(RequestError):
    """The request is malformed."""


class InvalidToken(RequestError):
    """No credential was sent, or one that does not hold."""

    status = 401
    code = "invalid_token"
    title = "Sign in first"


class Forbidden(RequestError):
    """The user is known, but may not use this app."""

    status = 403
    code = "forbidden"
    title = "Not allowed"


class NotFound(RequestError):
    """The object is not there, or is not the caller's: both are the same answer."""

    status = 404
    code = "not_found"
    title = "Not found"


class MethodNotAllowed(RequestError):
    """The path exists, but not with this method."""

    status = 405
    code = "method_not_allowed"
    title = "Method not allowed"


class NotAcceptable(RequestError):
    """None of the media types that the client accepts can be produced."""

    status = 406
    code = "not_acceptable"
    title = "Not acceptable"


class Conflict(RequestError):
    """The object changed since it was read, or exists already."""

    status = 409
    code = "conflict"
    title = "Conflict"
    retryable = True


class TurnInProgress(Conflict):
    """The chat is answering already."""

    code = "turn_in_progress"
    title = "This chat is still answering"


class LengthRequired(RequestError):
    """The body has no stated length."""

    status = 411
    code = "length_required"
    title = "Content-Length required"


class TooLarge(RequestError):
    """The body or the file is larger than allowed."""

    status = 413
    code = "too_large"
    title = "Too large"


class UnsupportedMediaType(RequestError):
    """The body's media type is not one that this endpoint reads."""

    status = 415
    code = "unsupported_media_type"
    title = "Unsupported media type"


class Unprocessable(RequestError):
    """The request is well-formed, but not acceptable."""

    status = 422
    code = "unprocessable"
    title = "Not acceptable content"


class UnknownField(Unprocessable):
    """The body has a field that the endpoint does not know."""

    code = "unknown_field"
    title = "Unknown field"


class IdempotencyMismatch(Unprocessable):
    """The key was used before with another request."""

    code = "idempotency_mismatch"
    title = "This key was used for another request"


class ContextTooLong(Unprocessable):
    """The prompt does not fit the model's context window."""

    code = "context_too_long"
    title = "Too long for the model"


class InvalidInput(Unprocessable):
    """What was sent does not fit the schema; `problems` are pairs of a JSON path and what is wrong there, without a word of it."""

    code = "invalid_input"
    title = "The input does not fit"

    def __init__(self, detail: str, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__(detail)
        self.problems = problems


class DocumentRejected(Unprocessable):
    """A file cannot be read; `detail` says why in words for its owner."""

    code = "document_rejected"
    title = "This file cannot be read"


class SourceRefused(Unprocessable):
    """An address is not one that may be asked, or what is there cannot be read; trying again does not change it."""

    code = "source_refused"
    title = "This source cannot be read"


class ReportTooLong(Unprocessable):
    """A report's file would hold more than such a file may."""

    code = "report_too_long"
    title = "Too long for a report"


class StoreError(BrainstemError):
    """A write's precondition did not hold, so nothing of its commit was written."""

    status = 409
    code = "conflict"
    title = "Conflict"
    retryable = True


class AlreadyExists(StoreError):
    """A document to create is there already."""


class PreconditionFailed(StoreError):
    """A document to change is gone, or has another version."""


class Superseded(StoreError):
    """The job is another attempt's, or was cancelled: what this attempt writes is refused."""


class DependencyError(BrainstemError):
    """Something that the service depends on fails."""

    status = 503
    code = "unavailable"
    title = "Temporarily unavailable"
    retryable = True


class Unavailable(DependencyError):
    """The store, the index, the blobs, the queue or the signing keys cannot be reached."""


class SourceUnavailable(DependencyError):
    """A source of a flow does not answer now, or not in time."""

    code = "source_unavailable"
    title = "The source does not answer"


class UpstreamBusy(DependencyError):
    """The model's provider is overloaded; `limited` if it says that we ask too much of it."""

    code = "upstream_busy"
    title = "The model is busy"

    def __init__(self, detail: str = "", *, retry_after: int | None = None, limited: bool = False) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.limited = limited


class UpstreamQuota(UpstreamBusy):
    """Our quota or money at the model's provider is used up, which trying again does not change."""

    code = "upstream_quota"
    title = "The model's quota is used up"
    retryable = False


class UpstreamConfig(DependencyError):
    """The model's provider refuses our key, our model's name or our request."""

    code = "upstream_config"
    title = "The model is not set up rightly"
    retryable = False


class UpstreamProtocol(DependencyError):
    """The model's provider answers what is not its protocol."""

    status = 502
    code = "upstream_protocol"
    title = "The model's answer could not be read"


class InvalidOutput(UpstreamProtocol):
    """The model's answer does not fit the schema, also after it was told so."""

    code = "invalid_output"
    title = "The model's answer does not fit"


class UpstreamInterrupted(DependencyError):
    """The model's answer broke off before it was finished."""

    status = 502
    code = "upstream_interrupted"
    title = "The answer broke off"


class DeadlineExceeded(DependencyError):
    """No answer came within our own deadline."""

    status = 504
    code = "deadline_exceeded"
    title = "The model took too long"
