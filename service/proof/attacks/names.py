"""A victim's ids, and spellings of paths that would lead to them, from everybody who is not the victim."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from service.proof.attacks.scene import Scene
from service.proof.attempts import Attempt, statuses
from service.proof.client import Request
from service.proof.credentials import Visitor
from service.proof.operations import ABSENT, TARGETS, Target, ids
from service.proof.world import Belongings

REFUSED = statuses(400, 403, 404, 405)


def attacks(scene: Scene) -> Iterator[Attempt]:
    """Yield the ids of each victim at each thief's own app, then the other spellings of where the victim's things are."""
    for victim in scene.victims():
        named = ids(victim, scene.world.shared[victim.app][0])
        for actor, thief in scene.thieves(victim):
            for target in TARGETS:
                if target.kind == "one" and (not target.shared or thief.app != victim.app) and target.role == "member":
                    yield stolen(victim, actor, thief, target, named)
            yield from spellings(victim, actor, thief)
        yield from writes(scene, victim)


def stolen(victim: Belongings, actor: str, thief: Visitor, target: Target, named: dict[str, str]) -> Attempt:
    """Ask for a victim's thing by its id: the answer must be that for one which is not there."""
    return Attempt(
        channel="path",
        actor=actor,
        technique="a victim's id",
        operation=target.name,
        request=target.request(thief.app, named),
        visitor=thief,
        expected=statuses(404),
        absent=target.request(thief.app, ABSENT),
    )


def spellings(victim: Belongings, actor: str, thief: Visitor) -> Iterator[Attempt]:
    """Yield paths that some part of a server might take for a victim's."""
    app, user = thief.app, quote(victim.user, safe="")
    chat, data = f"chats/{victim.chat}", f"data/{victim.data}"
    paths = {
        "the victim's app": f"/v1/apps/{victim.app}/../{victim.app}/{chat}",
        "dots": f"/v1/apps/{app}/chats/../../{victim.app}/{chat}",
        "encoded dots": f"/v1/apps/{app}/data/%2e%2e%2f%2e%2e%2f{user}%2f{data}",
        "dots encoded twice": f"/v1/apps/{app}/data/%252e%252e%252f{user}%252f{victim.data}",
        "backslashes": f"/v1/apps/{app}/data/..%5c..%5c{user}%5cdata%5c{victim.data}",
        "an encoded slash in the app": f"/v1/apps/{app}%2fusers%2f{user}/{data}",
        "the user in the path": f"/v1/apps/{app}/users/{user}/{chat}",
        "a path parameter": f"/v1/apps/{app};user={user}/{data}",
        "slashes doubled": f"//v1//apps/{victim.app}//{chat}",
        "capitals": f"/v1/apps/{victim.app.upper()}/{chat}",
        "a NUL": f"/v1/apps/{victim.app}%00/{chat}",
        "a dot behind the app": f"/v1/apps/{victim.app}./{chat}",
        "a space behind the app": f"/v1/apps/{victim.app}%20/{chat}",
        "a letter that looks alike": f"/v1/apps/{quote(victim.app.replace('a', chr(0x430)))}/{chat}",
        "the pages": f"/web/..%2f..%2fdata%2fdocuments.sqlite3?{victim.chat}",
    }
    for technique, path in paths.items():
        yield spelt(actor, thief, technique, Request("GET", path))
    for technique, path in {
        "a write by an encoded path": f"/v1/apps/{app}/data/..%2f..%2f{user}%2fdata%2f{victim.data}",
        "a write by a name with a dot": f"/v1/apps/{app}/data/{user}.{victim.data}",
        "a write by a name encoded twice": f"/v1/apps/{app}/data/{user}%252f{victim.data}",
    }.items():
        yield spelt(actor, thief, technique, Request("PUT", path, {"taken": True}))
    for method in ("HEAD", "TRACE", "PROPFIND", "COPY"):
        yield spelt(actor, thief, f"the method {method}", Request(method, f"/v1/apps/{app}/{chat}"))


def spelt(actor: str, thief: Visitor, technique: str, request: Request) -> Attempt:
    return Attempt(
        channel="path",
        actor=actor,
        technique=technique,
        operation="data.put_data" if request.method == "PUT" else "chats.get_chat",
        request=request,
        visitor=thief,
        expected=REFUSED,
    )


def writes(scene: Scene, victim: Belongings) -> Iterator[Attempt]:
    """Yield writes under a victim's ids, which make things of the writer's own."""
    for app in scene.world.victims:
        newcomer = scene.newcomer(app)
        actor = "same app" if app == victim.app else "other app"
        for name in (victim.data, "profile"):
            yield Attempt(
                channel="path",
                actor=actor,
                technique="a write under a victim's id",
                operation="data.put_data",
                request=Request("PUT", f"/v1/apps/{app}/data/{name}", {"taken": True, "user": victim.user}),
                visitor=newcomer,
                expected=statuses(200),
            )
    if victim.user == "x%2Fy":
        yield Attempt(
            channel="path",
            actor="odd name",
            technique="forgets a file of its own that another user has too",
            operation="documents.delete_document",
            request=Request("DELETE", f"/v1/apps/{victim.app}/documents/{victim.twin}"),
            visitor=scene.world.visitor(victim.app, victim.user),
            expected=statuses(204),
        )
