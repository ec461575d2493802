"""What only a local server offers: signing in as anyone, and serving its own signed URLs. Loopback keeps others out."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import msgspec
from flask import Flask, Response, send_file
from flask.globals import request_ctx

from service.api import schemas
from service.api.routing import AnyOperation, Call, Operation
from service.api.schemas import NoQuery, SignInBody
from service.backends.local.blobs import FileBlobs
from service.backends.local.tokens import LocalTokens
from service.errors import Forbidden, Unprocessable
from service.models import JSON, timestamp
from service.services import Services

TOKEN_SECONDS = 3600
MAX_NAME_BYTES = 400


def sign_in(services: Services) -> list[AnyOperation]:
    """The sign-in of a server whose tokens are local."""
    tokens = services.backends.tokens
    assert isinstance(tokens, LocalTokens)

    def sign_in(call: Call[NoQuery, SignInBody]) -> msgspec.Struct:
        name = call.body.user
        if not name.strip() or not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES:
            raise Unprocessable("Sign in with a name that can be shown, of 128 letters at most.")
        apps: dict[str, JSON] = {app.id: call.body.role for app in services.apps.available()}
        token = tokens.mint(call.body.user, claims={"apps": apps}, lifetime=TOKEN_SECONDS)
        expires = timestamp(datetime.now(UTC) + timedelta(seconds=TOKEN_SECONDS))
        return schemas.TokenAnswer(token, call.body.user, expires)

    return [
        Operation(
            "sign_in", "POST", "/local/sign-in", "public", "Sign in as anyone; only a local server has this", sign_in,
            {200: schemas.TokenAnswer}, body=SignInBody,
        )
    ]  # fmt: skip


def downloads(services: Services) -> list[AnyOperation]:
    """The downloads that the local blob store signs."""
    blobs = services.backends.blobs
    assert isinstance(blobs, FileBlobs)

    def get_blob(call: Call[NoQuery, None]) -> Response:
        file, filename = blobs.resolve(call.ids["token"])
        name = "".join(character if character.isprintable() else "_" for character in filename)
        response = send_file(file, mimetype="application/octet-stream", as_attachment=True, download_name=name)
        response.content_length = os.fstat(file.fileno()).st_size
        response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
        return response

    return [
        Operation(
            "get_blob", "GET", "/local/blobs/<token>", "public", "Download by a signed URL of a local server", get_blob,
            {200: None},
        )
    ]  # fmt: skip


def refuse_foreign_hosts(app: Flask) -> None:
    """Answer only to loopback names, so that no web page can reach a local server through a name of its own."""

    @app.before_request
    def check_host() -> None:
        given = request_ctx.request.host.lower()
        name, _, port = given.rpartition(":")
        host = name if port.isdigit() else given
        if host not in ("localhost", "127.0.0.1", "[::1]"):
            raise Forbidden("A local server answers only to localhost and 127.0.0.1.")
