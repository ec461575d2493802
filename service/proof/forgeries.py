"""Credentials that must not hold: each with the status that it gets, and who would show it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from service.backends import jwts
from service.proof.credentials import GONE, Mint, bearer, grafted, tampered, unsigned
from service.proof.world import ADMIN, APPS, DISABLED, FIREBASE_APP, FUNCTIONS, NOBODY, TASKS, TENANT, THIEF


@dataclass(frozen=True, slots=True)
class Credential:
    """Headers to show and the status that they must get."""

    actor: str
    technique: str
    headers: Mapping[str, str]
    status: int


def refused(mint: Mint, app: str, user: str) -> Iterator[Credential]:
    """Yield what must not let anyone into an app, though much of it names its user."""
    good = good_token(mint, app, user)
    proof = mint.app(FIREBASE_APP) if app == "gamma" else None
    yield from without(good, proof)
    for technique, token in forged_tokens(mint, app, user, good):
        yield Credential("forged", technique, bearer(token, proof), 401)
    for actor, technique, token in outsiders(mint, app, user):
        yield Credential(actor, technique, bearer(token, proof), 403)
    if app == "gamma":
        yield from unproved_apps(mint, good)


def good_token(
    mint: Mint, app: str, user: str, role: str = "member", changes: Mapping[str, object] | None = None
) -> str:
    return mint.user(user, changes, apps={app: role}, tenant=TENANT if app == "delta" else GONE)


def without(good: str, proof: str | None) -> Iterator[Credential]:
    """Yield headers without a credential, or with one where none is read."""
    app_check = {} if proof is None else {"X-Firebase-AppCheck": proof}
    for technique, headers in {
        "nothing": {},
        "an empty bearer": {"Authorization": "Bearer "},
        "a password": {"Authorization": "Basic YWRhOmFkYQ=="},
        "the token without its scheme": {"Authorization": good},
        "the token in a cookie": {"Cookie": f"__session={good}; token={good}"},
        "the token in another header": {
            "X-Authorization": f"Bearer {good}",
            "X-Forwarded-Authorization": f"Bearer {good}",
        },
        "two tokens": {"Authorization": f"Bearer {good},Bearer {good}"},
        "a proxy's word": {"X-Goog-Authenticated-User-Id": "ada", "X-Endpoint-API-UserInfo": "eyJpZCI6ImFkYSJ9"},
    }.items():
        yield Credential("nobody", technique, {**app_check, **headers}, 401)


def forged_tokens(mint: Mint, app: str, user: str, good: str) -> Iterator[tuple[str, str]]:
    """Yield tokens that are no ID token of a user of this project."""
    now = int(time.time())
    yield "no token", "x.y.z"
    yield "a signature changed by a bit", tampered(good)
    yield "another's signature", grafted(good, good_token(mint, app, THIEF))
    yield "no algorithm", unsigned(good)
    yield "no signature", good.rsplit(".", 1)[0] + "."
    claims: dict[str, dict[str, object]] = {
        "expired": {"exp": now - 60},
        "issued in the future": {"iat": now + 600},
        "not valid yet": {"nbf": now + 600},
        "signed in in the future": {"auth_time": now + 600},
        "good for a month": {"exp": now + 30 * 86400},
        "another issuer": {"iss": "https://securetoken.google.com/demo-evil"},
        "Google's issuer": {"iss": jwts.SERVICE_ISSUERS[0]},
        "another audience": {"aud": "demo-evil"},
        "two audiences": {"aud": [mint.project, "demo-evil"]},
        "no subject": {"sub": ""},
        "a subject that is a list": {"sub": [user]},
        "a subject too long": {"sub": "u" * 129},
        "no sign-in": {"firebase": GONE},
        "an empty tenant": {"firebase": {"sign_in_provider": "custom", "tenant": ""}},
    }
    for technique, changes in claims.items():
        yield technique, good_token(mint, app, user, changes=changes)
    yield "an App Check token", mint.app(FIREBASE_APP)
    yield "a service account's token", mint.service(TASKS)


def outsiders(mint: Mint, app: str, user: str) -> Iterator[tuple[str, str, str]]:
    """Yield (actor, technique, token) of real users who do not belong to an app; whom it lets in as they are, are left out."""
    tenant = TENANT if app == "delta" else GONE
    elsewhere = {other: "admin" for other in APPS if other != app}
    yield "outsider", "anonymous sign-in", mint.user(user, apps={app: "member"}, provider="anonymous", tenant=tenant)
    yield "outsider", "a tenant that is not the app's", mint.user(user, apps={app: "admin"}, tenant="tenant-evil")
    if app == "delta":
        yield "other app", "no tenant", mint.user(user, apps={app: "admin"})
    if app == "alpha":
        for technique, apps in {
            "no claim": GONE,
            "a claim of no role": {app: "owner"},
            "a role that is no text": {app: True},
            "a claim that is a list": [app],
            "a claim that is text": app,
            "a claim in capitals": {app.upper(): "member"},
        }.items():
            yield "outsider", technique, mint.user(user, apps=apps)
        yield "other app", "a member elsewhere", mint.user(user, apps={"beta": "member"})
        yield "admin", "an admin elsewhere", mint.user(ADMIN, apps=elsewhere)
    if app == "beta":
        yield "outsider", "no record", mint.user(NOBODY, apps={app: "admin"})
        yield "outsider", "a record of no role", mint.user(DISABLED, apps={app: "admin"})
        yield "other app", "a member elsewhere", mint.user(NOBODY, apps={"alpha": "member"})
        yield "admin", "an admin elsewhere", mint.user(NOBODY, apps=elsewhere)


def unproved_apps(mint: Mint, good: str) -> Iterator[Credential]:
    """Yield App Check tokens that do not prove gamma."""
    now = int(time.time())
    proof = mint.app(FIREBASE_APP)
    yield Credential("outsider", "no App Check", bearer(good), 401)
    yield Credential("other app", "another app's App Check", bearer(good, mint.app("1:1:web:alpha")), 403)
    for technique, token in {
        "App Check changed by a bit": tampered(proof),
        "App Check without algorithm": unsigned(proof),
        "App Check expired": mint.app(FIREBASE_APP, exp=now - 60),
        "App Check of another project": mint.app(FIREBASE_APP, aud=["projects/demo-evil"]),
        "App Check of another issuer": mint.app(
            FIREBASE_APP, iss=jwts.APP_ISSUER.replace("firebase", "evilbase") + mint.project
        ),
        "App Check without a subject": mint.app(FIREBASE_APP, sub=""),
        "an ID token as App Check": good,
    }.items():
        yield Credential("forged", technique, bearer(good, token), 401)


def no_service(mint: Mint, user: str) -> Iterator[Credential]:
    """Yield what must not let anyone call `/internal`."""
    now = int(time.time())
    good = mint.service(TASKS)
    yield from without(good, None)
    queue = {"X-CloudTasks-TaskName": "t", "X-CloudTasks-QueueName": "brainstem", "X-AppEngine-QueueName": "q"}
    yield Credential("nobody", "Cloud Tasks' headers alone", queue, 401)
    yield Credential("same app", "a user's token", bearer(good_token(mint, "alpha", user)), 401)
    yield Credential("admin", "an admin's token", bearer(good_token(mint, "alpha", ADMIN, "admin")), 401)
    yield Credential("other app", "an App Check token", bearer(mint.app(FIREBASE_APP)), 401)
    claims: dict[str, dict[str, object]] = {
        "another audience": {"aud": "https://evil.example"},
        "the audience with a slash": {"aud": f"{mint.audience}/"},
        "two audiences": {"aud": [mint.audience, "https://evil.example"]},
        "another issuer": {"iss": "https://evil.example"},
        "a user's issuer": {"iss": jwts.USER_ISSUER + mint.project},
        "expired": {"exp": now - 60},
        "issued in the future": {"iat": now + 600},
        "an address that is not proved": {"email_verified": False},
        "an address said to be proved": {"email_verified": "true"},
        "no address": {"email": GONE},
        "no subject": {"sub": ""},
    }
    for technique, changes in claims.items():
        yield Credential("service", technique, bearer(mint.service(TASKS, **changes)), 401)
    yield Credential("forged", "a signature changed by a bit", bearer(tampered(good)), 401)
    yield Credential("forged", "no algorithm", bearer(unsigned(good)), 401)
    for technique, email in {
        "a service account of others": "tasks@evil.example",
        "our account in capitals": TASKS.upper(),
        "our account with a suffix": f"{FUNCTIONS}.evil.example",
        "all our accounts at once": f"{TASKS},{FUNCTIONS}",
    }.items():
        yield Credential("service", technique, bearer(mint.service(email)), 403)
