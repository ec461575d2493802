"""What is the owners' before the attacks and after them: digests of all they get by their own requests, and of what waits for them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from service.backends.interfaces import Snapshot
from service.context import documents_path
from service.errors import BrainstemError
from service.proof.client import Client, Request
from service.proof.world import PAIRS, Belongings, World
from service.scope import of_job
from service.services import Services

RENOUNCED = {PAIRS[0][1]: {"documents", "twin", "the file of twin"}}
"""What a user gives up in the course of the proof."""

State = dict[str, str]


def states(services: Services, client: Client, world: World) -> dict[str, State]:
    """Return each owner's things, by owner and name."""
    return {mine.owner: state(services, client, world, mine) for mine in world.everyone()}


def state(services: Services, client: Client, world: World, mine: Belongings) -> State:
    headers = world.headers(mine.app, mine.user)
    base = f"/v1/apps/{mine.app}"
    found: State = {}
    for name, path in {
        "chats": "chats?limit=100",
        "chat": f"chats/{mine.chat}?limit=100",
        "documents": "documents?limit=100",
        "document": f"documents/{mine.document}",
        "twin": f"documents/{mine.twin}",
        "data": "data?limit=100",
        "jobs": "jobs?limit=100",
        "profile": "data/profile",
    }.items():
        answer = client.send(Request("GET", f"{base}/{path}"), headers)
        found[name] = digest(str(answer.status).encode(), answer.body)
    usage = client.send(Request("GET", f"{base}/usage"), headers)
    found["calls"] = str(usage.json().get("calls"))
    for name, document in (("document", mine.document), ("twin", mine.twin)):
        found[f"the file of {name}"] = file(services, mine, f"documents/{document}/original")
    found["the file of a job"] = file(services, mine, f"jobs/{mine.made}/1-report.txt")
    found["the upload"] = file(services, mine, f"uploads/{mine.upload}")
    scope = of_job(mine.app, mine.user)
    waiting = services.backends.documents.get(scope, ("jobs", mine.job), documents_path(scope, mine.pending))
    found["the job that waits"], found["the document that waits"] = map(of_snapshot, waiting)
    return {name: value for name, value in found.items() if name not in RENOUNCED.get(mine.user, ())}


def file(services: Services, mine: Belongings, name: str) -> str:
    try:
        with services.backends.blobs.open(of_job(mine.app, mine.user), name) as content:
            return digest(content.read())
    except BrainstemError as error:
        return error.code


def of_snapshot(found: Snapshot | None) -> str:
    return "" if found is None else digest(repr(sorted(found.data.items())).encode(), found.version.encode())


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def changes(before: Mapping[str, State], after: Mapping[str, State], calls: Mapping[str, int]) -> list[str]:
    """Name the things that are no longer what they were; `calls` counts what owners paid for meanwhile themselves."""
    found = []
    for owner, things in before.items():
        for name, value in things.items():
            expected = str(int(value) + calls.get(owner, 0)) if name == "calls" and value.isdigit() else value
            if after[owner][name] != expected:
                found.append(f"{name} of {owner}")
    return found
