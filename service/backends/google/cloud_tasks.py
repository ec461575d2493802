"""The job queue on Cloud Tasks, which delivers by calling this service back. Google's messages are imported with the first call.

**Names.** Cloud Tasks refuses a name for an hour after its task has ended (nine days for old queues). A name made of the address would
therefore swallow what is enqueued again once a job has run, or while it runs: a delivery would be lost. So each enqueue draws a name
of its own, which serves one purpose: when a reply is lost, the attempt that repeats the call meets ALREADY_EXISTS, and there is one task.

Sources: the references of `CreateTaskRequest` and `HttpRequest` in google.cloud.tasks.v2.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from service.backends import paths
from service.backends.interfaces import JobAddress, Secrets
from service.config import Settings
from service.errors import BadRequest
from service.models import QueueName
from service.queues import QUEUES, task_queue

if TYPE_CHECKING:
    from service.backends.google.calls import Connection

SERVER, SERVICE = "cloudtasks.googleapis.com", "google.cloud.tasks.v2.CloudTasks"
RUN = "/internal/jobs/run"
PERMISSION = "cloudtasks.tasks.create"

DISPATCH_SECONDS = 1800
"""How long a job may run: the most that Cloud Tasks waits for an answer."""
MOST_DELAY_SECONDS = 30 * 86400 - 3600
"""Cloud Tasks takes a task for 30 days ahead, by its own clock."""


class CloudTasks:
    """Stores tasks that call `/internal/jobs/run` with a token of the account TASKS_SERVICE_ACCOUNT; nothing runs in this process.

    The queues' caps are Cloud Tasks' to keep: `brainstem queues --gcloud` prints the commands that set them.
    """

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        settings.require(
            "The Cloud Tasks adapter",
            "google_cloud_project",
            "google_cloud_region",
            "tasks_queue",
            "tasks_service_account",
            "service_url",
        )
        place = f"projects/{settings.google_cloud_project}/locations/{settings.google_cloud_region}"
        self._queues = {queue: f"{place}/queues/{task_queue(settings, queue)}" for queue in QUEUES}
        self._audience = settings.service_url
        self._account = settings.tasks_service_account
        self._emulator = settings.cloud_tasks_emulator_host
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def enqueue(self, address: JobAddress, *, queue: QueueName = "batch", delay: float = 0.0) -> None:
        if not 0 <= delay <= MOST_DELAY_SECONDS:
            raise BadRequest("A job cannot be put off for more than 30 days.")
        name, due = f"{self._queues[queue]}/tasks/{uuid.uuid4().hex}", time.time() + delay
        self._create(name, body(address, queue), due if delay else None)

    def start(self, run: Callable[[JobAddress], None]) -> None:
        """Do nothing: Cloud Tasks delivers to the service's `/internal/jobs/run`."""

    def stop(self) -> None:
        """Do nothing: what Cloud Tasks has under way, it sees through by itself."""

    def check(self) -> None:
        """Ask whether we may create tasks in each queue, which takes no permission and makes none."""
        # At once, so that three queues take no longer than one.
        with ThreadPoolExecutor(len(self._queues)) as threads:
            for _ in threads.map(self._check, self._queues.values()):
                pass

    def _check(self, queue: str) -> None:
        from google.iam.v1 import iam_policy_pb2  # type: ignore[import-untyped]

        from service.backends.google import calls

        request = iam_policy_pb2.TestIamPermissionsRequest(resource=queue, permissions=[PERMISSION])
        answer = iam_policy_pb2.TestIamPermissionsResponse
        try:
            granted = self._open().call("TestIamPermissions", request, answer, names="resource")
        except calls.FAILURES as exc:
            raise calls.mapped(exc, calls.TASKS) from None
        if PERMISSION not in granted.permissions:
            raise calls.refused(calls.TASKS)

    def _create(self, name: str, content: bytes, due: float | None) -> None:
        from google.api_core.exceptions import AlreadyExists
        from google.cloud.tasks_v2.types import Task

        from service.backends.google import calls

        try:
            self._open().call("CreateTask", self._request(name, content, due), Task.pb(), names="parent")
        except AlreadyExists:
            return  # an earlier attempt made it, for nobody else draws this name
        except calls.FAILURES as exc:
            raise calls.mapped(exc, calls.TASKS) from None

    def _request(self, name: str, content: bytes, due: float | None) -> Any:
        from google.cloud.tasks_v2.types import CreateTaskRequest, HttpMethod

        request = CreateTaskRequest.pb()(parent=name.partition("/tasks/")[0])
        task, call = request.task, request.task.http_request
        task.name = name
        task.dispatch_deadline.FromSeconds(DISPATCH_SECONDS)
        if due is not None:
            task.schedule_time.FromNanoseconds(int(due * 1_000_000) * 1_000)
        call.url = self._audience.rstrip("/") + RUN
        call.http_method = HttpMethod.POST
        call.headers["Content-Type"] = "application/json"
        call.body = content
        call.oidc_token.service_account_email = self._account
        call.oidc_token.audience = self._audience
        return request

    def _open(self) -> Connection:
        from service.backends.google.calls import Connection

        with self._lock:
            if self._connection is None:
                self._connection = Connection(SERVER, SERVICE, self._emulator)
            return self._connection


def body(address: JobAddress, queue: QueueName) -> bytes:
    paths.locate(address.scope, ("jobs", address.id))  # refuses what no store could hold
    sent = {"app": address.scope.app, "user": address.scope.user, "job": address.id, "queue": queue}
    return json.dumps(sent).encode()
