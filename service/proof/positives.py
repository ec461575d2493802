"""What owners must be able to do, tried before any attack: a request that nobody succeeds with proves nothing when it is refused."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from service.backends.interfaces import Set
from service.models import JSON, timestamp
from service.proof import index
from service.proof.attacks.scene import Scene
from service.proof.client import Answer, Client, Request
from service.proof.operations import FORM, PUBLIC, SERVICE, TARGETS, ids, internal, upload
from service.proof.planting import plant_job
from service.proof.world import ADMIN, DIARY, FUNCTIONS, ORIGIN, Belongings
from service.scope import of_job


@dataclass(slots=True)
class Positives:
    """Makes the owners' requests; `succeeded` counts those that did as they must, `failed` says of the others how not."""

    scene: Scene
    client: Client
    succeeded: int = 0
    failed: list[str] = field(default_factory=list)

    def run(self) -> None:
        for name in PUBLIC.keys() & self.scene.routes:
            self.call(PUBLIC[name], {})
        for victims in self.scene.world.victims.values():
            self.reads(victims[0])
            self.repeats(victims[0])
            self.writes(Belongings(app=victims[0].app, user=ADMIN))
        self.calls_of_ours(Belongings(app="alpha", user=ADMIN))

    def call(self, request: Request, headers: Mapping[str, str], *, sees: str = "", status: int = 0) -> Answer:
        """Send an owner's request; it must succeed, or get a certain status, and show a canary of the owner `sees`."""
        answer = self.client.send(request, headers)
        asked = f"{request.method} {request.path}"
        if not (answer.status == status if status else answer.status < 300):
            self.failed.append(f"{asked} is refused to its owner with {answer.status}")
        elif sees and sees not in self.scene.world.canaries.foreign(answer.text, ()):
            self.failed.append(f"{asked} shows its owner nothing of {sees}")
        else:
            self.succeeded += 1
        return answer

    def reads(self, victim: Belongings) -> None:
        """What the attacks read, read by its owner."""
        world = self.scene.world
        named = ids(victim, world.shared[victim.app][0])
        for target in TARGETS:
            if (target.method == "GET" or target.kind == "list") and target.role == "member":
                sees = f"{victim.app}/shared" if target.shared else victim.owner
                headers = world.headers(victim.app, victim.user)
                self.call(target.request(victim.app, named), headers, sees=sees if target.canary else "")
        admin = world.headers(victim.app, ADMIN, "admin")
        for target in TARGETS:
            if target.method == "GET" and target.role == "admin":
                self.call(
                    target.request(victim.app, named), admin, sees=f"{victim.app}/admins" if target.canary else ""
                )
        headers = world.headers(victim.app, victim.user)
        self.call(Request("GET", "/v1/apps"), headers, sees=f"{victim.app}/members")
        for path, cursor in self.scene.cursors.get(victim.owner, []):
            self.call(Request("GET", f"/v1/apps/{victim.app}/{path}?cursor={cursor}&limit=5"), headers)
        if link := self.scene.links.get(victim.owner):
            self.call(Request("GET", link), {}, sees=victim.owner)
        page = Request("GET", f"/v1/apps/{victim.app}/chats", None, {"Origin": ORIGIN.format(app=victim.app)})
        if not self.call(page, headers).header("access-control-allow-origin"):
            self.failed.append("a page that the app lists may not call it")
        forget = {"text": f"{index.order(victim.app, victim.user)} {victim.probe}", "limit": 50}
        search = Request("POST", f"/v1/apps/{victim.app}/search", forget)
        self.call(search, headers, sees=victim.owner)

    def repeats(self, victim: Belongings) -> None:
        """The owner who sends a message again gets its answer, and is refused other words under its id."""
        headers = self.scene.world.headers(victim.app, victim.user)
        path = f"/v1/apps/{victim.app}/chats/{victim.chat}/messages"
        again = Request("POST", path, {"id": victim.message, "text": victim.question})
        keyed = Request("POST", path, {"text": victim.keyed}, {"Idempotency-Key": victim.key})
        for request in (again, replace(again, headers={"Accept": "text/event-stream"}), keyed):
            self.call(request, headers, sees=victim.owner)
        other = Request("POST", path, {"id": victim.message, "text": "Go on."})
        self.call(other, headers, status=422)

    def writes(self, spare: Belongings) -> None:
        """What the attacks write and remove, done by an admin to things that are there for that."""
        app, headers = spare.app, self.scene.world.headers(spare.app, ADMIN, "admin")
        shared = upload(f"/v1/apps/{app}/shared/documents", "rules.txt", b"Rules of the proof.")
        own = upload(f"/v1/apps/{app}/documents", "spare.txt", b"A spare file of the proof.")
        made = {
            "shared": self.call(shared, headers).json().get("id"),
            "document": self.call(own, headers).json().get("id"),
            "chat": spare.chat,
            "data": spare.data,
            "job": spare.job,
            "app_job": f"job-of-{app}",
        }
        plant_job(self.scene.services, of_job(app, ADMIN), spare.job, "spare.md")
        plant_job(self.scene.services, of_job(app, None), f"job-of-{app}", "spare.md")
        named = {name: str(value) for name, value in made.items()}
        writes = [
            target for target in TARGETS if target.body is not FORM and target.method != "GET" and target.kind != "list"
        ]
        for target in sorted(writes, key=lambda target: (target.method == "DELETE", target.kind != "write")):
            self.call(target.request(app, named), headers)

    def calls_of_ours(self, spare: Belongings) -> None:
        """What Cloud Tasks and functions have done, seen by its effect."""
        services, headers = self.scene.services, self.scene.world.headers(spare.app, ADMIN, "admin")
        scope = of_job(spare.app, spare.user)
        pending = plant_job(services, scope, spare.job, "spare.txt")
        services.backends.blobs.put(scope, f"uploads/{spare.upload}", io.BytesIO(b"A spare upload."), "text/plain")
        record: dict[str, JSON] = {"data": {"zebra": "spare"}, "updated": timestamp()}
        services.backends.documents.commit(scope, [Set(("data", DIARY), record)])
        for name in SERVICE:
            self.call(internal(name, spare), self.scene.world.service(FUNCTIONS).headers)
        listed = self.client.send(Request("GET", f"/v1/apps/{spare.app}/documents"), headers).text
        status = services.ingestion.document(scope, pending).status
        if status != "COMPLETED" or spare.upload not in listed or f"{DIARY}.md" not in listed:
            self.failed.append("what our own service accounts call for has no effect")
