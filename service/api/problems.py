"""Errors as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import logging

import msgspec
from flask import Flask, Response
from flask.globals import app_ctx
from werkzeug.exceptions import HTTPException

from service import errors
from service import logging as log
from service.api.schemas import InputProblem, Problem
from service.errors import BrainstemError
from service.models import TurnError

BY_STATUS: dict[int, type[BrainstemError]] = {
    400: errors.BadRequest,
    401: errors.InvalidToken,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    406: errors.NotAcceptable,
    411: errors.LengthRequired,
    413: errors.TooLarge,
    415: errors.UnsupportedMediaType,
}


def problem(error: BrainstemError | TurnError, request_id: str) -> Problem:
    """Describe an error to the client in our own words."""
    return Problem(
        type=f"urn:brainstem:{error.code}",
        title=error.title,
        status=error.status,
        code=error.code,
        detail=error.detail,
        request_id=request_id,
        retryable=error.retryable,
        problems=[InputProblem(path, told) for path, told in error.problems]
        if isinstance(error, errors.InvalidInput)
        else msgspec.UNSET,
    )


def answer(error: BrainstemError | TurnError, request_id: str) -> tuple[int, dict[str, str], bytes]:
    """Return an error's status, headers and body."""
    headers = {"Content-Type": "application/problem+json"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return error.status, headers, msgspec.json.encode(problem(error, request_id))


def respond(error: BrainstemError | TurnError) -> Response:
    status, headers, body = answer(error, app_ctx.g.request_id)
    return Response(body, status, headers)


def register(app: Flask) -> None:
    """Answer every error of the app with a problem."""

    @app.errorhandler(BrainstemError)
    def ours(error: BrainstemError) -> Response:
        if error.status >= 500:
            log.event("request_failed", logging.ERROR, error, code=error.code)
        # What a mistake in a folder or a setting is, the log says to who runs the service.
        return respond(type(error)() if isinstance(error, errors.ConfigError) else error)

    @app.errorhandler(HTTPException)
    def framework(error: HTTPException) -> Response:
        known = BY_STATUS.get(error.code or 500, errors.BadRequest if (error.code or 500) < 500 else BrainstemError)
        response = respond(known())
        if error.code == 405:
            response.headers["Allow"] = dict(error.get_headers()).get("Allow", "")
        return response

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        log.event("request_crashed", logging.ERROR, error)
        return respond(BrainstemError())
