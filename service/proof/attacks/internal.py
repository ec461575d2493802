"""What only our own service accounts may call: by others, and by them for jobs, uploads and data of someone else."""

from __future__ import annotations

from collections.abc import Iterator

from service.proof.attacks.scene import Scene
from service.proof.attempts import Attempt, statuses
from service.proof.client import Request
from service.proof.credentials import Visitor
from service.proof.forgeries import no_service
from service.proof.operations import SERVICE, TARGETS, ids, internal
from service.proof.world import APPS, FUNCTIONS, PAIRS, Belongings

CHANNEL = {
    "internal.run_job": "job",
    "internal.sweep_jobs": "job",
    "internal.object_finalized": "event",
    "internal.data_written": "event",
}


def attacks(scene: Scene) -> Iterator[Attempt]:
    """Yield calls by those who are not ours, then calls of ours that name what is not there."""
    for victim in scene.victims():
        for credential in no_service(scene.world.mint, victim.user):
            for name in SERVICE:
                visitor = Visitor(credential.technique, credential.headers)
                yield call(
                    name, credential.actor, credential.technique, visitor, internal(name, victim), credential.status
                )
        yield from misdirected(scene, victim)
        yield from at_users_routes(scene, victim)


def call(name: str, actor: str, technique: str, visitor: Visitor, request: Request, *expected: int) -> Attempt:
    return Attempt(
        channel=CHANNEL[name],
        actor=actor,
        technique=technique,
        operation=name,
        request=request,
        visitor=visitor,
        expected=statuses(expected),
    )


def misdirected(scene: Scene, victim: Belongings) -> Iterator[Attempt]:
    """Yield calls of our own accounts for a victim's job, upload or data under a name that it does not have."""
    service = scene.world.service(FUNCTIONS)

    def ours(name: str, technique: str, body: dict[str, object], *expected: int) -> Attempt:
        return call(name, "service", technique, service, Request("POST", f"/internal/{SERVICE[name]}", body), *expected)

    run, upload, data = "internal.run_job", "internal.object_finalized", "internal.data_written"
    app, user = victim.app, victim.user
    others = [other for other in APPS if other != app]
    for other in others:
        yield ours(run, "a victim's job in another app", {"app": other, "user": user, "job": victim.job}, 204, 409)
    for name in {other.user for other in scene.victims()} - {user}:
        yield ours(run, "a victim's job for another user", {"app": app, "user": name, "job": victim.job}, 204, 409)
    yield ours(run, "a victim's job for all users", {"app": app, "user": None, "job": victim.job}, 204, 409)
    yield ours(run, "a job by a path", {"app": app, "user": None, "job": f"users/{user}/jobs/{victim.job}"}, 422)
    yield ours(run, "an app by a path", {"app": f"{app}/users/{user}", "user": user, "job": victim.job}, 422)
    yield ours(
        run, "a user by a path", {"app": others[0], "user": f"../../{app}/users/{user}", "job": victim.job}, 204, 409
    )
    yield ours(run, "a scope beside the job", {"app": app, "user": "nil", "job": victim.job, "scope": user}, 422)
    for technique, name in object_names(victim).items():
        yield ours(upload, technique, {"name": name}, 204)
    yield ours(data, "data by a path", {"app": app, "user": "nil", "document": f"../{user}/data/{victim.data}"}, 422)
    yield ours(data, "data of an app that is not there", {"app": "gone", "user": user, "document": victim.data}, 204)
    yield ours(data, "data that is not searched", {"app": app, "user": user, "document": victim.data}, 204)
    yield ours(
        data, "a user by a path", {"app": others[0], "user": f"../../{app}/users/{user}", "document": "diary"}, 204
    )


def object_names(victim: Belongings) -> dict[str, str]:
    """Names of objects that are nobody's upload, though parts of them are a victim's."""
    app, user, file = victim.app, victim.user, victim.upload
    other = next(name for name in APPS if name != app)
    names = {
        "an upload by dots": f"apps/{app}/users/nil/../{user}/uploads/{file}",
        "an upload behind a slash": f"/apps/{app}/users/{user}/uploads/{file}",
        "an upload below another": f"apps/{app}/users/{user}/uploads/x/{file}",
        "an upload without a file": f"apps/{app}/users/{user}/uploads/",
        "an upload of nobody": f"apps/{app}/users//uploads/{file}",
        "an upload of another user": f"apps/{app}/users/nil/uploads/{file}",
        "an upload of another app": f"apps/{other}/users/{user}/uploads/{file}",
        "an upload of an app that is not there": f"apps/gone/users/{user}/uploads/{file}",
        "an app in another spelling": f"apps/{app.upper()}/users/{user}/uploads/{file}",
        "a document's file": f"apps/{app}/users/{user}/documents/{victim.document}/original",
        "a folder in another spelling": f"apps/{app}/users/{user}/Uploads/{file}",
        "a name cut short": f"users/{user}/uploads/{file}",
    }
    if any(user == disguised for _, disguised in PAIRS):
        # In the bucket that is the path of the user `x/y`, while this user's lies elsewhere.
        names["a user in the spelling of a path"] = f"apps/{app}/users/{user}/uploads/{file}"
    return names


def at_users_routes(scene: Scene, victim: Belongings) -> Iterator[Attempt]:
    """Yield our own service accounts at what is for users: they are none."""
    named = ids(victim, scene.world.shared[victim.app][0])
    for target in TARGETS:
        yield Attempt(
            channel="path",
            actor="service",
            technique="our own service account at a user's route",
            operation=target.name,
            request=target.request(victim.app, named),
            visitor=scene.world.service(),
            expected=statuses(401),
        )
