"""What names no object, made to show another's: query, body, headers, cursors, origins."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

from service.proof.attacks.scene import Scene
from service.proof.attempts import Attempt, Check, statuses
from service.proof.client import Answer, Request
from service.proof.credentials import Visitor
from service.proof.operations import BY_NAME, LIST_APPS, PUBLIC, TARGETS, Target, ids
from service.proof.world import ORIGIN, Belongings

PARAMETERS = (
    "user",
    "uid",
    "userId",
    "app",
    "appId",
    "scope",
    "owner",
    "tenant",
    "as",
    "path",
    "collection",
    "where",
    "filter",
)
FIELDS = (
    "user",
    "uid",
    "app",
    "appId",
    "ownerUid",
    "scope",
    "role",
    "documents",
    "attachments",
    "parentMessageId",
    "artifactId",
)
"""Names that an API might take somebody else's name under."""

BODIES = ("chats.post_message", "chats.rename_chat", "documents.search")


def attacks(scene: Scene) -> Iterator[Attempt]:
    """Yield what each thief may send beside the path."""
    for victim in scene.victims():
        named = ids(victim, scene.world.shared[victim.app][0])
        for actor, thief in scene.thieves(victim):
            yield from plain_lists(actor, thief)
            yield from by_query(victim, actor, thief, named)
            yield from by_body(victim, actor, thief, named)
            yield from by_header(victim, actor, thief)
            yield from by_cursor(scene, victim, actor, thief)
            yield from by_origin(scene, actor, thief)
            yield from public(scene, actor, thief)


def attempt(
    channel: str,
    actor: str,
    technique: str,
    name: str,
    request: Request,
    thief: Visitor,
    *allowed: int,
    check: Check | None = None,
) -> Attempt:
    return Attempt(
        channel=channel,
        actor=actor,
        technique=technique,
        operation=name,
        request=request,
        visitor=thief,
        expected=statuses(allowed),
        check=check,
    )


def lists(thief: Visitor) -> list[Target]:
    """The listings that a visitor may read and that cost nothing."""
    return [
        target for target in TARGETS if target.kind == "list" and target.role == "member" and target.method == "GET"
    ]


def plain_lists(actor: str, thief: Visitor) -> Iterator[Attempt]:
    for target in lists(thief):
        yield attempt("path", actor, "a listing", target.name, target.request(thief.app, {}), thief, 200)
    if thief.user == "root":
        for target in TARGETS:
            if target.kind == "list" and target.role == "admin":
                yield attempt("path", actor, "an app's listing", target.name, target.request(thief.app, {}), thief, 200)
    yield attempt("path", actor, "the list of apps", LIST_APPS, Request("GET", "/v1/apps"), thief, 200)


def by_query(victim: Belongings, actor: str, thief: Visitor, named: dict[str, str]) -> Iterator[Attempt]:
    for target in lists(thief):
        for n, name in enumerate(PARAMETERS):
            value = (victim.user, victim.app, f"apps/{victim.app}/users/{victim.user}")[n % 3].replace("/", "%2F")
            request = Request("GET", f"/v1/apps/{thief.app}/{target.path}?{name}={value}")
            yield attempt("query", actor, f"`{name}`", target.name, request, thief, 400)
    path = f"/v1/apps/{thief.app}/chats/{named['chat']}"
    for technique, query in {
        "the victim beside the id": f"user={victim.user[:3]}",
        "a cursor twice": "cursor=a&cursor=b",
        "a limit beyond all": "limit=100000",
        "a token": f"access_token={thief.headers['Authorization'][7:]}",
    }.items():
        yield attempt("query", actor, technique, "chats.get_chat", Request("GET", f"{path}?{query}"), thief, 400)


def by_body(victim: Belongings, actor: str, thief: Visitor, named: dict[str, str]) -> Iterator[Attempt]:
    for name in BODIES:
        target = BY_NAME[name]
        for field in FIELDS:
            channel = "reference" if field in ("documents", "attachments", "parentMessageId", "artifactId") else "body"
            value: object = [victim.document] if field in ("documents", "attachments") else victim.user
            body = {**target.body, field: value} if isinstance(target.body, dict) else target.body
            request = Request(target.method, f"/v1/apps/{thief.app}/{target.path.format(**named)}", body)
            yield attempt(channel, actor, f"the field `{field}`", name, request, thief, 422)
    for technique, body in {
        "a list": b'[{"text":"x"}]',
        "a field twice": b'{"text":"x","text":"y"}',
    }.items():
        request = Request("POST", f"/v1/apps/{thief.app}/search", body, {"Content-Type": "application/json"})
        yield attempt("body", actor, technique, "documents.search", request, thief, 400)


def by_header(victim: Belongings, actor: str, thief: Visitor) -> Iterator[Attempt]:
    """Yield headers that a proxy or a framework might believe: they change nothing, or are refused."""
    whole = f"/v1/apps/{victim.app}/chats/{victim.chat}"
    harmless = {
        "the user's name": {"X-User-Id": victim.user, "X-Forwarded-User": victim.user, "X-Remote-User": victim.user},
        "the app's name": {"X-App-Id": victim.app, "X-Tenant-Id": victim.app},
        "a proxy's user": {"X-Goog-Authenticated-User-Email": victim.user, "X-Goog-Authenticated-User-Id": victim.user},
        "another path": {
            "X-Original-URL": whole,
            "X-Rewrite-URL": whole,
            "X-Forwarded-Prefix": "/v1/apps/" + victim.app,
        },
        "another method": {"X-HTTP-Method-Override": "DELETE", "X-Method-Override": "DELETE"},
        "an inner address": {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1;host=evil.example"},
        "a cookie": {"Cookie": f"__session={victim.user}; user={victim.user}"},
        "a queue's name": {"X-CloudTasks-QueueName": "brainstem", "X-Appengine-Inbound-Appid": "demo"},
    }
    harmless = {
        technique: {name: value.encode("ascii", "replace").decode() for name, value in given.items()}
        for technique, given in harmless.items()
    }
    for technique, headers in harmless.items():
        one, absent = (
            Request("GET", f"/v1/apps/{thief.app}/chats/{chat}", None, headers)
            for chat in (victim.chat, "chat-00000000")
        )
        yield Attempt(
            channel="header",
            actor=actor,
            technique=technique,
            operation="chats.get_chat",
            request=one,
            visitor=thief,
            expected=statuses(404),
            absent=absent,
        )
        everything = Request("GET", f"/v1/apps/{thief.app}/documents", None, headers)
        yield attempt("header", actor, technique, "documents.list_documents", everything, thief, 200)


def by_cursor(scene: Scene, victim: Belongings, actor: str, thief: Visitor) -> Iterator[Attempt]:
    """Yield the victim's cursors at the thief's listings, then cursors that nobody was given."""
    for path, cursor in scene.cursors.get(victim.owner, []):
        name = {"chats": "chats.list_chats", "documents": "documents.list_documents", "data": "data.list_data"}[path]
        request = Request("GET", f"/v1/apps/{thief.app}/{path}?cursor={cursor}&limit=50")
        yield attempt("cursor", actor, "a victim's cursor", name, request, thief, 200)
    for technique, value in {
        "a path for an id": ["2999", f"../../{victim.user}/data/{victim.data}"],
        "a path for a value": [f"apps/{victim.app}/users/{victim.user}", "z"],
        "a number": [1, "x"],
        "only a value": ["x"],
        "three values": ["2999", "z", victim.user],
        "a list for a value": [[victim.user], "z"],
        "an object": {"user": victim.user, "app": victim.app},
        "a truth": [True, "x"],
        "nothing": [None, None],
        "a fraction": [1.5, "x"],
    }.items():
        cursor = base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
        sound = technique in ("a path for an id", "a path for a value", "a number")
        for path, name in (("chats", "chats.list_chats"), ("data", "data.list_data")):
            request = Request("GET", f"/v1/apps/{thief.app}/{path}?cursor={cursor}")
            yield attempt("cursor", actor, technique, name, request, thief, 200 if sound else 400)


def by_origin(scene: Scene, actor: str, thief: Visitor) -> Iterator[Attempt]:
    """Yield requests of web pages that the app does not list: the browser must not be told that they may read the answer."""
    others = [ORIGIN.format(app=app) for app in ("alpha", "beta", "gamma", "delta") if app != thief.app]
    own = ORIGIN.format(app=thief.app)
    for origin in (
        *others,
        "null",
        "https://evil.example",
        f"{own}.evil.example",
        own.replace("https", "http"),
        own + ":8443",
    ):
        request = Request("GET", f"/v1/apps/{thief.app}/chats", None, {"Origin": origin})
        yield attempt("origin", actor, "a page of others", "chats.list_chats", request, thief, 200, check=no_leave)
    foreign_host = Request("GET", f"/v1/apps/{thief.app}/chats", None, {"Host": "evil.example"})
    if actor == "same app" and "sign_in.sign_in" in scene.routes:  # a local server, which signs in anyone
        yield attempt("origin", actor, "a name of others for this server", "chats.list_chats", foreign_host, thief, 403)


def no_leave(answer: Answer) -> str | None:
    given = answer.header("access-control-allow-origin")
    return f"the page of another origin may read it: {given}" if given else None


def public(scene: Scene, actor: str, thief: Visitor) -> Iterator[Attempt]:
    """Yield what anyone may call; a token does not make it say more."""
    for name in PUBLIC.keys() & scene.routes:
        request = PUBLIC[name]
        yield attempt("path", actor, "what is public", name, request, Visitor(thief.name, thief.headers), 200)
