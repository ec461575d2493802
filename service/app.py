"""The application factory: settings → backends → services → Flask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask

from service.api import cors, local, problems, routing
from service.api.chats import chats
from service.api.data import data
from service.api.documents import documents
from service.api.erasures import erasures
from service.api.flows import flows
from service.api.internal import internal
from service.api.jobs import jobs
from service.api.pages import pages
from service.api.system import system
from service.api.usage import usage
from service.backends import registry
from service.config import Settings
from service.services import Services, assemble


class Synchronous(Flask):
    """Flask without coroutines, for which it looks at each function before each call."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def create_app(settings: Settings | None = None) -> Flask:
    """Make the WSGI application; raises `ConfigError`. It delivers jobs too, from the moment on that it is made."""
    settings = settings or Settings.load()
    services = assemble(settings, registry.build(settings))
    services.apps.check()  # an app that does not hold keeps the process from starting
    services.backends.queue.start(services.jobs.run)
    return create_flask(services)


def create_flask(services: Services) -> Flask:
    """Make the Flask application of assembled services."""
    app = Synchronous("brainstem", static_folder=None)
    app.url_map.merge_slashes = False
    app.extensions["brainstem"] = services
    routing.register(app)
    problems.register(app)
    nouns = {
        "chats": chats(services),
        "documents": documents(services),
        "jobs": jobs(services),
        "erasures": erasures(services),
        "data": data(services),
        "flows": flows(services),
        "usage": usage(services),
        "internal": internal(services),
    }
    if services.backends.names["tokens"] == "local":
        nouns["sign_in"] = local.sign_in(services)
        local.refuse_foreign_hosts(app)
    if services.backends.names["blobs"] == "local":
        nouns["downloads"] = local.downloads(services)
    nouns["system"] = system(services, [operation for noun in nouns.values() for operation in noun])
    cors.register(app, services.apps)
    for noun, operations in nouns.items():
        app.register_blueprint(routing.blueprint(noun, services, operations))
    app.register_blueprint(pages(services))
    return app
