"""Gives everyone their belongings: chats and data over HTTP as any client would, documents and jobs through the stores themselves."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from secrets import token_hex

from service.backends.interfaces import Create, Entry, Set, Write
from service.chunks import group_writes
from service.context import documents_path
from service.errors import ConfigError, Unavailable
from service.ingestion.pipeline import passage_of
from service.jobs.erasure import Receipt, receipt_path, subject_of
from service.models import Artifact, Call, Chunk, Document, Job, JobStatus, Role, Scope, timestamp
from service.proof.canaries import Canaries, probe
from service.proof.client import Answer, Client, Request
from service.proof.model import Model
from service.proof.world import ADMIN, APPS, DISABLED, PAIRS, THIEVES, VICTIMS, Belongings, World
from service.records import to_record
from service.scope import of_job, shared
from service.services import Services

TWIN = b"The zebra lives in the long grass of the savannah, and keeps its secret there.\n"
PROSE = "The zebra keeps its secret in the long grass of the savannah, {probe}: {canary}."
THREADS = 8
TRIES = 10


def plant(services: Services, world: World) -> list[Belongings]:
    """Store what can be stored without asking the service: members, calls and files."""
    patiently(lambda: record_members(services))
    for app in APPS:
        world.shared[app] = plant_shared(services, world.canaries, app)
        plant_call(services, app, world.canaries.new(f"{app}/admins"))
    named = [(app, user) for app in APPS for user in VICTIMS]
    named += [("alpha", user) for pair in PAIRS for user in pair]
    return [plant_files(services, world.canaries, Belongings(app=app, user=user)) for app, user in named]


def converse_all(world: World, client: Client, model: Model, files: Sequence[Belongings]) -> None:
    """Have everyone ask and write; raises `ConfigError` if an owner is refused their own."""

    def settle(mine: Belongings) -> Belongings:
        return converse(world, client, model, mine)

    with ThreadPoolExecutor(THREADS) as threads:
        for belongings in threads.map(settle, files):
            world.victims[belongings.app].append(belongings)


def patiently(store: Callable[[], None]) -> None:
    """Store what may be stored twice, again while the store does not answer: an emulator is slow at its first writes."""
    for _ in range(TRIES):
        try:
            return store()
        except Unavailable:
            time.sleep(1)
    return store()


def record_members(services: Services) -> None:
    """Record who belongs to beta: all but `nil`, and `dan` as what is no role."""
    members = (*VICTIMS, *THIEVES, *(user for pair in PAIRS for user in pair))
    roles = {**dict.fromkeys(members, Role.MEMBER.value), ADMIN: Role.ADMIN.value, DISABLED: "disabled"}
    records = [Set(("users", user), {"role": role, "updated": timestamp()}) for user, role in roles.items()]
    services.backends.documents.commit(of_job("beta", None), records)


def plant_shared(services: Services, canaries: Canaries, app: str) -> tuple[str, str]:
    owner, word = f"{app}/shared", probe()
    text = PROSE.format(probe=word, canary=canaries.new(owner))
    plant_document(services, of_job(app, None), "twin.txt", TWIN)
    plant_made(services, of_job(app, None), f"made-of-{app}", canaries.new(f"{app}/admins"))
    return plant_document(services, of_job(app, None), f"shared {canaries.new(owner)}.txt", text.encode()), word


def plant_files(services: Services, canaries: Canaries, mine: Belongings) -> Belongings:
    """Give a user two documents, of which one has the same content as everybody's; a job that waits; and an upload."""
    scope = of_job(mine.app, mine.user)
    text = PROSE.format(probe=mine.probe, canary=canaries.new(mine.owner))
    document = plant_document(services, scope, f"notes {canaries.new(mine.owner)}.txt", text.encode())
    twin = plant_document(services, scope, f"twin {canaries.new(mine.owner)}.txt", TWIN)
    upload = f"An upload of {canaries.new(mine.owner)}.".encode()
    services.backends.blobs.put(scope, f"uploads/{mine.upload}", io.BytesIO(upload), "text/plain")
    pending = plant_job(services, scope, mine.job, f"waiting {canaries.new(mine.owner)}.txt")
    plant_made(services, scope, mine.made, canaries.new(mine.owner))
    plant_receipt(services, scope, mine.erasure, canaries.new(mine.owner))
    return replace(mine, document=document, twin=twin, pending=pending)


def plant_document(services: Services, scope: Scope, title: str, content: bytes) -> str:
    """Store a document as ingestion leaves it, and return its id."""
    backends = services.backends
    received = services.ingestion.receive(scope, io.BytesIO(content), title, "text/plain")
    embedder = backends.embedder.name
    document = replace(received.document, status=JobStatus.COMPLETED, chunks=1, written=1, embedder=embedder)
    piece = Chunk(n=0, text=content.decode().strip(), line=1, tokens=20)
    path = documents_path(scope, document.id)
    backends.documents.commit(scope, [Set(path, to_record(document)), *group_writes(path, [piece])])
    passage = passage_of(document, piece, shared=scope.user is None)
    [vector] = backends.embedder.embed([f"{title}\n{piece.text}"]).vectors
    backends.vectors.upsert(scope, [Entry(passage, vector, embedder)])
    return document.id


def plant_job(services: Services, scope: Scope, job: str, title: str) -> str:
    """Store a document with a job that nobody has delivered yet, and return its id."""
    content = io.BytesIO(f"What waits is {title}.".encode())
    document: Document = replace(services.ingestion.receive(scope, content, title, "text/plain").document, job=job)
    waiting = Job(
        id=job,
        kind="ingest",
        status=JobStatus.PENDING,
        input={"document": document.id},
        created=document.created,
        updated=document.created,
    )
    writes: list[Write] = [
        Set(documents_path(scope, document.id), to_record(document)),
        Create(("jobs", job), to_record(waiting)),
    ]
    services.backends.documents.commit(scope, writes)
    return document.id


def plant_made(services: Services, scope: Scope, job: str, content: str) -> None:
    """Store a job that has ended with a file."""
    name = f"jobs/{job}/1-report.txt"
    blob = services.backends.blobs.put(scope, name, io.BytesIO(content.encode()), "text/plain")
    made = Artifact(name="report.txt", media_type="text/plain", bytes=blob.bytes, sha256=blob.sha256, blob=name)
    now = timestamp()
    ended = Job(
        id=job,
        kind="report",
        status=JobStatus.COMPLETED,
        input={},
        created=now,
        updated=now,
        note=content,
        artifacts=(made,),
    )
    services.backends.documents.commit(scope, [Create(("jobs", job), to_record(ended))])


def plant_receipt(services: Services, scope: Scope, name: str, kind: str) -> None:
    """Store the receipt of an erasure of a user who began anew."""
    now, subject = timestamp(), subject_of(scope)
    receipt = Receipt(id=name, subject=subject, status=JobStatus.COMPLETED, created=now, ended=now, removed={kind: 1})
    services.backends.documents.commit(shared(scope), [Set(receipt_path(name), to_record(receipt))])


def plant_call(services: Services, app: str, user: str) -> None:
    """Put a call into the ledger of a user whose name is a canary: only the app's admins see it."""
    call = Call(id=token_hex(16), kind="answer", model="m", created=timestamp(), outcome="ok", input_tokens=1)
    services.usage.record(of_job(app, user), call)


def converse(world: World, client: Client, model: Model, mine: Belongings) -> Belongings:
    """Have a user ask, name the chat and write data. What a thief may repeat of it holds no canary, but the answers do."""
    headers, canaries = world.headers(mine.app, mine.user), world.canaries
    base = f"/v1/apps/{mine.app}"
    questions = [f"What does the zebra keep, {mine.probe}? ask{token_hex(8)}" for _ in range(3)]
    questions[2] += f" {canaries.new(mine.owner)}"
    for question in questions:
        model.script(question, f"It is {canaries.new(mine.owner)}.")
    messages = f"{base}/chats/{mine.chat}/messages"
    requests: Sequence[Request] = (
        Request("POST", messages, {"id": mine.message, "text": questions[0]}),
        Request("POST", messages, {"text": questions[1]}, {"Idempotency-Key": mine.key}),
        Request("POST", messages, {"text": questions[2]}),
        Request("PATCH", f"{base}/chats/{mine.chat}", {"title": f"Chat {canaries.new(mine.owner)}"}),
        Request("PUT", f"{base}/data/{mine.data}", {"secret": canaries.new(mine.owner)}),
        Request("PUT", f"{base}/data/profile", {"secret": canaries.new(mine.owner)}),
    )
    for request in requests:
        succeed(client.send(request, headers), f"{mine.user} of {mine.app}", request)
    return replace(mine, question=questions[0], keyed=questions[1])


def succeed(answer: Answer, who: str, request: Request) -> Answer:
    """Return an answer that is a success, else raise `ConfigError`: without an owner's success nothing can be proved."""
    if answer.status >= 300:
        raise ConfigError(f"{who} is refused their own: {request.method} {request.path} gives {answer.status}.")
    return answer
