"""From a principal and an app to a scope, the only key that opens a store. Nothing else makes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from service.apps import App
from service.errors import Forbidden, InvalidToken
from service.models import Member, Principal, Role, Scope


def enter(principal: Principal, app: App, recorded: Callable[[Scope], Role | None]) -> Member:
    """Let a principal into an app; `recorded` reads the role that the app's records give.

    Raises `Forbidden` for who is no member, `InvalidToken` if the app is not proved.
    """
    access = app.file.access
    if access.firebase_apps and principal.firebase_app is None:
        raise InvalidToken("This app demands App Check: send its token as `X-Firebase-AppCheck`.")
    if access.firebase_apps and principal.firebase_app not in access.firebase_apps:
        raise Forbidden("The App Check token is another app's.")
    if principal.provider == "anonymous" and not access.anonymous:
        raise Forbidden("This app demands a real sign-in.")
    # Tenants choose the uids of their users, so the same uid in another tenant is somebody else.
    if principal.tenant != (access.tenant or None):
        raise Forbidden("You signed in to another tenant than this app's.")
    scope = Scope(app.id, principal.uid)
    role = recorded(scope) if access.membership == "record" else claimed(principal, app.id)
    if role is None and access.membership in ("open", "tenant"):
        role = Role.MEMBER
    if role is None:
        raise Forbidden("You are not a member of this app.")
    return Member(scope, role)


def claimed(principal: Principal, app_id: str) -> Role | None:
    """Return the role that the custom claim `apps`, like `{"recipes": "member"}`, gives for an app."""
    apps = principal.claims.get("apps")
    return Role.named(apps.get(app_id)) if isinstance(apps, Mapping) else None


def shared(scope: Scope) -> Scope:
    """The part of a scope's app that all its users read."""
    return Scope(scope.app, None)


def local(app: App, user: str | None) -> Scope:
    """The scope of a person at this machine's terminal, who holds the data and needs no token."""
    return Scope(app.id, user)


def of_job(app: str, user: str | None) -> Scope:
    """The scope that a queue stored with a job when a verified caller made it."""
    return Scope(app, user)


def of_event(app: App, user: str) -> Scope:
    """The scope of what a client wrote under the security rules, which let users write to their own subtree alone."""
    return Scope(app.id, user)
