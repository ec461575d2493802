"""What is not an app's: the list of apps, health, readiness, the API's description."""

from __future__ import annotations

import functools

import msgspec
from flask import Response

from service import __version__
from service.api import firebase, openapi, schemas
from service.api.routing import AnyOperation, Call, Operation, Reply
from service.api.schemas import NoQuery
from service.errors import Forbidden, InvalidToken
from service.ingestion.formats import FORMATS
from service.scope import enter
from service.services import Services

STAND_IN = "stand-in"


def system(services: Services, others: list[AnyOperation]) -> list[AnyOperation]:
    """The operations that need no app; `others` are the rest, to be described with these."""
    settings, backends = services.settings, services.backends

    def list_apps(call: Call[NoQuery, None]) -> msgspec.Struct:
        found = []
        for app in services.apps.available():
            try:
                enter(call.principal, app, services.members.role)
            except (Forbidden, InvalidToken):
                continue
            found.append(schemas.AppAnswer(app.id, app.file.name, app.file.description))
        return schemas.AppsAnswer(found)

    def health(call: Call[NoQuery, None]) -> msgspec.Struct:
        return schemas.HealthAnswer("ok", __version__)

    def ready(call: Call[NoQuery, None]) -> Reply:
        states = services.readiness.states()
        is_ready = all(value == "ok" for value in states.values())
        return Reply(200 if is_ready else 503, schemas.ReadyAnswer(is_ready, states))

    def config(call: Call[NoQuery, None]) -> msgspec.Struct:
        model = backends.model.name
        return schemas.ConfigAnswer(
            version=__version__,
            sign_in="firebase" if firebase.signs_in(services) else backends.names["tokens"],
            firebase=firebase.describe(services),
            model=schemas.ModelAnswer(model, model == STAND_IN),
            max_upload_bytes=settings.max_upload_bytes,
            accept=[extension for kind in FORMATS for extension in kind.extensions],
        )

    @functools.cache
    def description() -> bytes:
        return msgspec.json.format(msgspec.json.encode(openapi.describe([*mine, *others])), indent=2)

    def get_openapi(call: Call[NoQuery, None]) -> Response:
        return Response(description(), content_type="application/json")

    mine: list[AnyOperation] = [
        Operation("health", "GET", "/health", "public", "Alive", health, {200: schemas.HealthAnswer}),
        Operation(
            "ready", "GET", "/ready", "public", "Whether every backend answers, and which does not", ready,
            {200: schemas.ReadyAnswer, 503: schemas.ReadyAnswer},
        ),
        Operation("config", "GET", "/config.json", "public", "What a page needs to know", config, {200: schemas.ConfigAnswer}),
        Operation("openapi", "GET", "/openapi.json", "public", "This description", get_openapi, {200: None}),
        Operation("list_apps", "GET", "/v1/apps", "signed-in", "The apps that you may use", list_apps, {200: schemas.AppsAnswer}),
    ]  # fmt: skip
    return mine
