"""The table of operations: how each is called by who may, and with whose objects. A route that is not here fails the proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from service.proof.client import Request
from service.proof.world import DIARY, Belongings

Kind = Literal["one", "list", "write", "service"]

ERASURE = {"kind": "erasure", "input": {"user": "nobody-at-all", "confirm": "nobody-at-all"}}
"""A job of an app's that does nobody any harm."""

FORM = "multipart/form-data; boundary=proof"


@dataclass(frozen=True, slots=True)
class Target:
    """An operation on what is somebody's. `path` is below the app, or below `/internal` for what only service accounts call."""

    name: str
    kind: Kind
    method: str
    path: str
    body: object = None
    role: Literal["member", "admin"] = "member"
    shared: bool = False
    canary: bool = True

    def request(self, app: str, ids: Mapping[str, str], **headers: str) -> Request:
        path = self.path.format(**ids)
        if self.body is FORM:
            return upload(f"/v1/apps/{app}/{path}", "stolen.txt", b"Stolen by the proof.")
        return Request(self.method, f"/v1/apps/{app}/{path}", self.body, headers)


TARGETS = (
    Target("chats.get_chat", "one", "GET", "chats/{chat}"),
    Target("chats.rename_chat", "one", "PATCH", "chats/{chat}", {"title": "Taken"}),
    Target("chats.delete_chat", "one", "DELETE", "chats/{chat}"),
    Target("documents.get_document", "one", "GET", "documents/{document}"),
    Target("documents.get_original", "one", "GET", "documents/{document}/original", canary=False),
    Target("documents.delete_document", "one", "DELETE", "documents/{document}"),
    Target("jobs.get_job", "one", "GET", "jobs/{made}"),
    Target("jobs.get_artifact", "one", "GET", "jobs/{made}/artifact", canary=False),
    Target("jobs.cancel_job", "one", "POST", "jobs/{job}/cancel", canary=False),
    Target("jobs.retry_job", "one", "POST", "jobs/{job}/retry", canary=False),
    Target("erasures.get_erasure", "one", "GET", "erasures/{erasure}"),
    Target("data.get_data", "one", "GET", "data/{data}"),
    Target("data.delete_data", "one", "DELETE", "data/{data}"),
    Target("chats.list_chats", "list", "GET", "chats"),
    Target("documents.list_documents", "list", "GET", "documents"),
    Target("jobs.list_jobs", "list", "GET", "jobs"),
    Target("data.list_data", "list", "GET", "data"),
    Target("documents.search", "list", "POST", "search", {"text": "What does the zebra keep?", "limit": 50}),
    Target("flows.list_flows", "list", "GET", "flows", canary=False),
    Target("usage.get_usage", "list", "GET", "usage", canary=False),
    Target("chats.post_message", "write", "POST", "chats/{chat}/messages", {"text": "What does the zebra keep?"}),
    Target("data.put_data", "write", "PUT", "data/{data}", {"taken": True}, canary=False),
    Target("flows.run_flow", "write", "POST", "flows/note", {"text": "What does the zebra keep?"}, canary=False),
    Target("documents.add_document", "write", "POST", "documents", FORM, canary=False),
    Target("documents.list_shared_documents", "list", "GET", "shared/documents", shared=True),
    Target("documents.get_shared_document", "one", "GET", "shared/documents/{shared}", shared=True),
    Target(
        "documents.get_shared_original", "one", "GET", "shared/documents/{shared}/original", shared=True, canary=False
    ),
    Target("documents.delete_shared_document", "one", "DELETE", "shared/documents/{shared}", role="admin", shared=True),
    Target(
        "documents.add_shared_document", "write", "POST", "shared/documents", FORM, "admin", shared=True, canary=False
    ),
    Target("usage.get_app_usage", "list", "GET", "shared/usage", role="admin", shared=True),
    Target("jobs.post_job", "write", "POST", "jobs", {"kind": "export"}, canary=False),
    Target("jobs.list_shared_jobs", "list", "GET", "shared/jobs", role="admin", shared=True),
    Target("jobs.get_shared_job", "one", "GET", "shared/jobs/{app_made}", role="admin", shared=True),
    Target(
        "jobs.get_shared_artifact",
        "one",
        "GET",
        "shared/jobs/{app_made}/artifact",
        None,
        "admin",
        shared=True,
        canary=False,
    ),
    Target("jobs.post_shared_job", "write", "POST", "shared/jobs", ERASURE, "admin", shared=True, canary=False),
    Target(
        "jobs.cancel_shared_job",
        "one",
        "POST",
        "shared/jobs/{app_job}/cancel",
        None,
        "admin",
        shared=True,
        canary=False,
    ),
    Target(
        "jobs.retry_shared_job", "one", "POST", "shared/jobs/{app_job}/retry", None, "admin", shared=True, canary=False
    ),
)
BY_NAME = {target.name: target for target in TARGETS}

SERVICE = {
    "internal.run_job": "jobs/run",
    "internal.sweep_jobs": "jobs/sweep",
    "internal.object_finalized": "events/object-finalized",
    "internal.data_written": "events/data-written",
}
LIST_APPS = "system.list_apps"
DOWNLOAD = "downloads.get_blob"

PUBLIC = {
    "system.health": Request("GET", "/health"),
    "system.ready": Request("GET", "/ready"),
    "system.config": Request("GET", "/config.json"),
    "system.openapi": Request("GET", "/openapi.json"),
    "pages.index": Request("GET", "/"),
    "pages.reports": Request("GET", "/reports"),
    "pages.asset": Request("GET", "/web/early.js"),
    "sign_in.sign_in": Request("POST", "/local/sign-in", {"user": "nil"}),
}
"""What anyone may call: it must hold nobody's canary, whoever asks."""


def ids(mine: Belongings, shared: str) -> dict[str, str]:
    """The ids that paths name, as somebody's things have them."""
    return {
        "chat": mine.chat,
        "document": mine.document,
        "data": mine.data,
        "job": mine.job,
        "made": mine.made,
        "erasure": mine.erasure,
        "shared": shared,
        "app_made": f"made-of-{mine.app}",
        "app_job": f"job-of-{mine.app}",
    }


ABSENT = {
    "chat": "chat-00000000",
    "document": "0" * 32,
    "data": "data-00000000",
    "job": "0" * 32,
    "made": "0" * 32,
    "erasure": "0" * 32,
    "shared": "0" * 32,
    "app_made": "made-of-none",
    "app_job": "job-of-none",
}
"""Ids of the same form that nothing has."""


def internal(name: str, mine: Belongings) -> Request:
    """What Cloud Tasks or a function says of somebody's job, upload or data."""
    bodies: dict[str, dict[str, object] | None] = {
        "internal.run_job": {"app": mine.app, "user": mine.user, "job": mine.job},
        "internal.sweep_jobs": None,
        "internal.object_finalized": {"name": f"apps/{mine.app}/users/{mine.user}/uploads/{mine.upload}"},
        "internal.data_written": {"app": mine.app, "user": mine.user, "document": DIARY},
    }
    return Request("POST", f"/internal/{SERVICE[name]}", bodies[name])


def upload(path: str, filename: str, content: bytes) -> Request:
    head = f'--proof\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\nContent-Type: text/plain\r\n\r\n'
    return Request("POST", path, head.encode() + content + b"\r\n--proof--\r\n", {"Content-Type": FORM})
