"""Operations: what a route is called, who may call it, what it takes and gives. Routes and `/openapi.json` come from one table."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Literal, TypeVar, cast

import msgspec
from flask import Blueprint, Flask, Request, Response
from flask.globals import app_ctx, request_ctx

from service import logging as log
from service.api import parsing
from service.api.answers import Answer, Whole
from service.api.schemas import NoQuery
from service.apps import App
from service.auth import authenticate, authenticate_service
from service.errors import BadRequest, Forbidden
from service.models import Principal, Role, Scope
from service.scope import enter
from service.services import Services

B = TypeVar("B")
Q = TypeVar("Q")

Access = Literal["public", "signed-in", "member", "admin", "service"]
JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, B]):
    """A request that passed its operation's checks.

    `scope` and `app` are there for members and admins, `principal` for them and for who signed in.
    """

    request: Request
    request_id: str
    ids: dict[str, str]
    query: Q
    body: B
    _principal: Principal | None
    _app: App | None
    _scope: Scope | None

    @property
    def principal(self) -> Principal:
        assert self._principal is not None
        return self._principal

    @property
    def app(self) -> App:
        assert self._app is not None
        return self._app

    @property
    def scope(self) -> Scope:
        assert self._scope is not None
        return self._scope


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer other than 200 with a body."""

    status: int
    body: msgspec.Struct | None = None
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Call[Q, B]], "msgspec.Struct | Reply | Response"]


@dataclass(frozen=True)
class Operation(Generic[Q, B]):
    """One method of one path.

    `access` is its guard: `public`, `signed-in` (any user), `member` or `admin` (of the app in the path), or `service` (a
    service account of ours).
    """

    name: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    access: Access
    summary: str
    handler: Handler[Q, B]
    answers: dict[int, type[msgspec.Struct] | None]
    query: type[Q] = cast("type[Q]", NoQuery)
    body: type[B] = cast("type[B]", type(None))
    any_object: bool = False
    upload: bool = False
    streams: bool = False
    headers: dict[str, str] = field(default_factory=dict)


AnyOperation = Operation[Any, Any]


def blueprint(noun: str, services: Services, operations: Sequence[AnyOperation]) -> Blueprint:
    """Make a noun's blueprint of its operations."""
    made = Blueprint(noun, __name__)
    for operation in operations:
        made.add_url_rule(
            operation.path,
            endpoint=operation.name,
            view_func=view(services, operation),
            methods=[operation.method],
        )
    return made


def view(services: Services, operation: AnyOperation) -> Callable[..., Response]:
    """Wrap an operation: who calls, may they, is what they send sound; only then the handler runs."""

    def run(**ids: str) -> Response:
        # The things themselves: Flask's proxies look them up anew each time.
        request, state = request_ctx.request, app_ctx.g
        principal = app = scope = None
        if operation.access == "service":
            admit_service(services, request)
        elif operation.access != "public":
            principal = authenticate(
                services.backends.tokens,
                request.headers.get("Authorization"),
                request.headers.get("X-Firebase-AppCheck"),
            )
        if operation.access in ("member", "admin"):
            assert principal is not None
            app = services.apps.get(ids.pop("app"))
            member = enter(principal, app, services.members.role)
            if operation.access == "admin" and member.role is not Role.ADMIN:
                raise Forbidden("Only an admin of this app may do this.")
            scope = member.scope
            state.log_fields["app"] = app.id
        checked = {
            name: value if operation.access == "public" else parsing.check_id(value) for name, value in ids.items()
        }
        query = parsing.query_struct(request, operation.query)
        body = read_body(services, operation, request)
        call = Call(request, state.request_id, checked, query, body, principal, app, scope)
        return render(operation.handler(call))

    return run


def admit_service(services: Services, request: Request) -> None:
    settings = services.settings
    authenticate_service(
        services.backends.tokens,
        request.headers.get("Authorization"),
        settings.service_url,
        settings.callers,
    )


def read_body(services: Services, operation: AnyOperation, request: Request) -> object:
    if operation.upload:
        return None
    limit = services.settings.max_body_bytes
    if operation.any_object:
        return parsing.read_json(request, limit)
    if operation.body is not type(None):
        return parsing.to_struct(parsing.read_json(request, limit), operation.body)
    sent = request.content_length or "Transfer-Encoding" in request.headers
    if sent and parsing.read_body(request, limit):
        raise BadRequest("This endpoint takes no body.")
    return None


def render(answer: msgspec.Struct | Reply | Response) -> Response:
    if isinstance(answer, Response):
        return answer
    reply = answer if isinstance(answer, Reply) else Reply(200, answer)
    body = b"" if reply.body is None else msgspec.json.encode(reply.body)
    response = Response(body, status=reply.status, headers=reply.headers, content_type=JSON_TYPE)
    if reply.body is None:
        del response.headers["Content-Type"]
    return response


def report_request(level: int, started: float, fields: dict[str, log.Field], status: int) -> None:
    with log.bind(**fields):
        log.event("request", level, status=status, ms=round((time.monotonic() - started) * 1000, 1))


def register(app: Flask) -> None:
    """Give each request an id, log it once when it is answered, and keep answers out of caches."""

    @app.before_request
    def begin() -> None:
        state = app_ctx.g
        state.request_id = uuid.uuid4().hex
        state.started = time.monotonic()
        state.log_fields = {}
        state.binding = log.bind(request=state.request_id)
        state.binding.__enter__()

    @app.after_request
    def finish(response: Response) -> Response:
        request, state = request_ctx.request, app_ctx.g
        response.headers["X-Request-Id"] = state.request_id
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        level = logging.DEBUG if request.endpoint in ("system.health", "pages.asset") else logging.INFO
        route = {"method": request.method, "route": str(request.url_rule or "-")}
        fields = {"request": state.request_id, **route, **state.log_fields}
        report = partial(report_request, level, state.started, fields)
        if isinstance(response.response, Answer | Whole):
            response.response.report = report
        else:
            report(response.status_code)
        return response

    @app.teardown_request
    def end(_: BaseException | None) -> None:
        state = app_ctx.g
        if "binding" in state:
            state.binding.__exit__(None, None, None)
