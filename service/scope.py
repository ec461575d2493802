"""From a principal and an app to a scope, the only key that opens a store. Nothing else makes one."""

from __future__ import annotations

from service.apps import App
from service.errors import Forbidden, InvalidToken
from service.models import Principal, Scope


def enter(principal: Principal, app: App) -> Scope:
    """Let a principal into an app; raises `Forbidden` for who is no member, `InvalidToken` if the app is not proved."""
    access = app.file.access
    if access.firebase_apps and principal.firebase_app is None:
        raise InvalidToken("This app demands App Check: send its token as `X-Firebase-AppCheck`.")
    if access.firebase_apps and principal.firebase_app not in access.firebase_apps:
        raise Forbidden("The App Check token is another app's.")
    if principal.provider == "anonymous" and not access.anonymous:
        raise Forbidden("This app demands a real sign-in.")
    if access.membership == "claim" and not is_member(principal, app.id):
        raise Forbidden("You are not a member of this app.")
    return Scope(app.id, principal.uid)


def is_member(principal: Principal, app_id: str) -> bool:
    apps = principal.claims.get("apps")
    return isinstance(apps, list) and app_id in apps


def shared(scope: Scope) -> Scope:
    """The part of a scope's app that all its users read."""
    return Scope(scope.app, None)


def local(app: App, user: str | None) -> Scope:
    """The scope of a person at this machine's terminal, who holds the data and needs no token."""
    return Scope(app.id, user)


def of_job(app: str, user: str | None) -> Scope:
    """The scope that a queue stored with a job when a verified caller made it."""
    return Scope(app, user)
