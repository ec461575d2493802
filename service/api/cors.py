"""Which web pages may call an app: those of the origins that its `app.toml` lists. No cookie is ever involved."""

from __future__ import annotations

from flask import Flask, Response
from flask.globals import request_ctx

from service.apps import AppCatalog
from service.errors import BrainstemError

METHODS = "GET, POST, PUT, PATCH, DELETE"
HEADERS = "Authorization, Content-Type, Idempotency-Key, X-Firebase-AppCheck"
EXPOSED = "Location, Retry-After, X-Request-Id"


def register(flask: Flask, apps: AppCatalog) -> None:
    """Answer preflights and mark answers for the origins of the app in the path."""

    def allowed() -> str | None:
        request = request_ctx.request
        origin = request.headers.get("Origin")
        if origin is None:
            return None
        parts = request.path.split("/")
        if parts[1:3] != ["v1", "apps"] or len(parts) < 4:
            return None
        try:
            return origin if origin in apps.get(parts[3]).file.access.origins else None
        except BrainstemError:
            return None

    @flask.before_request
    def preflight() -> Response | None:
        request = request_ctx.request
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
            return None
        response = Response(status=204)
        if allowed():
            response.headers["Access-Control-Allow-Methods"] = METHODS
            response.headers["Access-Control-Allow-Headers"] = HEADERS
            response.headers["Access-Control-Max-Age"] = "3600"
        return response

    @flask.after_request
    def mark(response: Response) -> Response:
        response.headers.add("Vary", "Origin")
        if origin := allowed():
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = EXPOSED
        return response
