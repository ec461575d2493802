"""Cloud Tasks on a socket: real gRPC in, signed HTTP deliveries out, at least once, and the service that receives them.

What is refused is what the real one refuses: names, queues, URLs, times. A delivery carries an OIDC token, signed by whatever function
the server is given, and the `X-CloudTasks-…` headers; what is not answered with 2xx is delivered again, later each time.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import grpc
from google.cloud.tasks_v2 import types
from google.iam.v1 import iam_policy_pb2  # type: ignore[import-untyped]
from google.protobuf.empty_pb2 import Empty
from grpc import StatusCode

from service.backends.interfaces import JobAddress, JobQueue
from service.config import Settings
from service.models import QueueName, Scope
from service.proof.loopback import LoopbackServer
from service.proof.process import free_port
from service.queues import QUEUES

SERVICE = "google.cloud.tasks.v2.CloudTasks"
QUEUE = "projects/demo-brainstem/locations/us-central1/queues/brainstem"
"""What the names of the queues begin with."""

PATHS = {name: f"{QUEUE}-{name}" for name in QUEUES}
ACCOUNT = "tasks@demo-brainstem.iam.gserviceaccount.com"
TASK = re.compile(re.escape(QUEUE) + r"-[a-z]+/tasks/[A-Za-z0-9_-]{1,500}")
MOST_AHEAD = 30 * 86400


@dataclass(frozen=True)
class Delivery:
    """One attempt: what was sent, and the status that came back, 0 if none did."""

    task: str
    headers: Mapping[str, str]
    body: bytes
    status: int
    at: float


@dataclass
class Task:
    message: Any
    due: float
    attempts: int = 0
    running: bool = False
    last: int = 0

    @property
    def queue(self) -> str:
        path: str = self.message.name.partition("/tasks/")[0]
        return path


@dataclass
class Throttle:
    """How fast one queue goes: within its limits, and slower while its worker answers 429 or 503, until it answers well again."""

    running: int = 0
    most: int = 0
    tokens: float = 0.0
    filled: float = 0.0
    gap: float = 0.0
    not_before: float = 0.0

    def may_begin(self, now: float, concurrent: int, per_second: float) -> bool:
        if now < self.not_before or (concurrent and self.running >= concurrent):
            return False
        if per_second:
            self.tokens = min(max(1.0, per_second), self.tokens + (now - self.filled) * per_second)
            self.filled = now
        return not per_second or self.tokens >= 1

    def begin(self, now: float) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        self.tokens -= 1
        self.not_before = now + self.gap

    def end(self, now: float, status: int, retry_after: float) -> None:
        self.running -= 1
        if status in (429, 503):
            self.gap = min(max(0.05, 2 * self.gap), 1.0)
            self.not_before = now + max(self.gap, retry_after)
        else:
            self.gap = self.gap / 2 if self.gap > 0.02 else 0.0


@dataclass
class Behaviour:
    """How the queue delivers; the faults are ordered here too."""

    paused: bool = False
    duplicate: float = 0.0
    """The share of deliveries that are made twice."""
    shuffled: bool = False
    per_second: dict[str, float] = field(default_factory=dict)
    concurrent: dict[str, int] = field(default_factory=dict)
    """The most deliveries of a queue, by its name: begun in a second, and at once."""
    delay: float = 0.0
    """Seconds that each call to the queue takes."""
    attempts: int = 100
    backoff: float = 0.05
    longest: float = 0.2
    reserve_seconds: float = 3600.0
    """How long a name is taken after its task has ended."""
    permissions: set[str] = field(default_factory=lambda: {"cloudtasks.tasks.create", "cloudtasks.tasks.delete"})
    unreliable: float = 0.0
    """The share of `CreateTask` calls that end UNAVAILABLE, every other one after it took effect."""
    failures: list[tuple[str, StatusCode, bool]] = field(default_factory=list)
    """(method, status, whether the call takes effect before it fails), each for one call."""


class TasksServer:
    """The three queues. `calls` lists what was asked, `deliveries` what was sent, `dropped` the tasks that failed too often."""

    def __init__(self, sign: Callable[[dict[str, object]], str]) -> None:
        self.behaviour = Behaviour()
        self.calls: list[tuple[str, Any]] = []
        self.deliveries: list[Delivery] = []
        self.dropped: list[str] = []
        self.fired = 0
        self.tasks: dict[str, Task] = {}
        self.throttles = {path: Throttle(filled=time.time()) for path in PATHS.values()}
        self._ended: dict[str, float] = {}
        self.sign = sign
        self._changed = threading.Condition()
        self._stopping = False

    def __enter__(self) -> Self:
        self.host = f"127.0.0.1:{free_port()}"
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        methods = {name: self._handler(name, *kinds) for name, kinds in METHODS.items()}
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
        if not self._server.add_insecure_port(self.host):
            raise OSError(self.host)
        self._server.start()
        self._senders = ThreadPoolExecutor(16)
        self._dispatcher = threading.Thread(target=self._dispatch, daemon=True)
        self._dispatcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._dispatcher.join()
        self._senders.shutdown(cancel_futures=True)
        self._server.stop(None).wait()

    def settings(self, url: str) -> Settings:
        return Settings(
            service_url=url, tasks_service_account=ACCOUNT, cloud_tasks_emulator_host=self.host, tasks_queue="brainstem"
        )

    def asked(self, method: str) -> list[Any]:
        return [message for name, message in self.calls if name == method]

    def wait(self, holds: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait until something of this server holds."""
        with self._changed:
            assert self._changed.wait_for(holds, seconds), (self.tasks, self.deliveries)

    # What is asked over gRPC

    def _handler(self, method: str, request: Any, reply: Any) -> Any:
        def handle(message: Any, context: Any) -> Any:
            with self._changed:
                self.calls.append((method, message))
                failures = self.behaviour.failures
                failure = next((one for one in failures if one[0] == method), None)
                if failure:
                    failures.remove(failure)
                elif method == "CreateTask" and random.random() < self.behaviour.unreliable:
                    failure = (method, StatusCode.UNAVAILABLE, self.fired % 2 == 0)
                self.fired += failure is not None
            time.sleep(self.behaviour.delay)
            if failure and not failure[2]:
                context.abort(failure[1], "canary-of-google")
            [(name, value)] = [(field.name, value) for field, value in message.ListFields()[:1]]
            if unquote(dict(context.invocation_metadata()).get("x-goog-request-params", "")) != f"{name}={value}":
                context.abort(StatusCode.INVALID_ARGUMENT, "the routing header does not name the resource")
            with self._changed:
                answer = getattr(self, f"_{method}")(message, context)
                self._changed.notify_all()
            if failure:
                context.abort(failure[1], "canary-of-google")
            return answer

        return grpc.unary_unary_rpc_method_handler(
            handle, request_deserializer=request.FromString, response_serializer=reply.SerializeToString
        )

    def _CreateTask(self, request: Any, context: Any) -> Any:  # noqa: N802  # named as Google names it
        if request.parent not in PATHS.values():
            context.abort(StatusCode.NOT_FOUND, "Queue does not exist.")
        if "cloudtasks.tasks.create" not in self.behaviour.permissions:
            context.abort(StatusCode.PERMISSION_DENIED, "The principal lacks IAM permission cloudtasks.tasks.create.")
        task = request.task
        if why := refusal(task):
            context.abort(StatusCode.INVALID_ARGUMENT, why)
        name = task.name or f"{request.parent}/tasks/{random.getrandbits(63)}"
        if name in self.tasks or time.time() < self._ended.get(name, 0.0) + self.behaviour.reserve_seconds:
            context.abort(
                StatusCode.ALREADY_EXISTS, "The task cannot be created because a task with this name existed."
            )
        due = task.schedule_time.ToNanoseconds() / 1e9 if task.HasField("schedule_time") else 0.0
        task.name = name
        self.tasks[name] = Task(task, max(due, time.time()))
        return task

    def _DeleteTask(self, request: Any, context: Any) -> Any:  # noqa: N802
        if "cloudtasks.tasks.delete" not in self.behaviour.permissions:
            context.abort(StatusCode.PERMISSION_DENIED, "The principal lacks IAM permission cloudtasks.tasks.delete.")
        if request.name not in self.tasks:
            context.abort(StatusCode.NOT_FOUND, "The task does not exist.")
        self._end(request.name)
        return Empty()

    def _TestIamPermissions(self, request: Any, context: Any) -> Any:  # noqa: N802
        granted = self.behaviour.permissions if request.resource in PATHS.values() else set()
        return iam_policy_pb2.TestIamPermissionsResponse(permissions=granted.intersection(request.permissions))

    # What is sent over HTTP

    def _dispatch(self) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                now = time.time()
                open_ones = {path for path in self.throttles if self._may_begin(path, now)}
                ready = [
                    task
                    for task in self.tasks.values()
                    if not task.running and task.due <= now and task.queue in open_ones
                ]
                if not ready or self.behaviour.paused:
                    coming = [task.due - now for task in self.tasks.values() if not task.running]
                    self._changed.wait(min([0.02, *(wait for wait in coming if wait > 0)]))
                    continue
                task = random.choice(ready) if self.behaviour.shuffled else min(ready, key=lambda ready: ready.due)
                task.running = True
                self.throttles[task.queue].begin(now)
                copies = 2 if random.random() < self.behaviour.duplicate else 1
            for copy in range(copies):
                self._senders.submit(self._deliver, task, copy)

    def _may_begin(self, path: str, now: float) -> bool:
        name, behaviour = path.rpartition("-")[2], self.behaviour
        return self.throttles[path].may_begin(
            now, behaviour.concurrent.get(name, 0), behaviour.per_second.get(name, 0.0)
        )

    def _deliver(self, task: Task, copy: int) -> None:
        status, retry_after, at = 0, 0.0, time.time()
        headers = self._headers(task)
        with suppress(OSError, http.client.HTTPException):
            status, retry_after = send(task.message.http_request, headers)
        with self._changed:
            self.deliveries.append(Delivery(task.message.name, headers, task.message.http_request.body, status, at))
            if copy == 0:
                self._settle(task, status, retry_after)
            self._changed.notify_all()

    def _settle(self, task: Task, status: int, retry_after: float) -> None:
        task.running, task.last = False, status
        task.attempts += 1
        self.throttles[task.queue].end(time.time(), status, retry_after)
        if 200 <= status < 300:
            self._end(task.message.name)
        elif task.attempts >= self.behaviour.attempts:
            self.dropped.append(task.message.name)
            self._end(task.message.name)
        else:
            pause = min(self.behaviour.backoff * 2 ** (task.attempts - 1), self.behaviour.longest)
            task.due = time.time() + pause

    def _end(self, name: str) -> None:
        if self.tasks.pop(name, None):
            self._ended[name] = time.time()

    def _headers(self, task: Task) -> dict[str, str]:
        call, now = task.message.http_request, int(time.time())
        claims: dict[str, object] = {
            "iss": "https://accounts.google.com",
            "aud": call.oidc_token.audience or call.url,
            "azp": "1234567890",
            "sub": "1234567890",
            "email": call.oidc_token.service_account_email,
            "email_verified": True,
            "iat": now,
            "exp": now + 3600,
        }
        return {
            **call.headers,
            "Authorization": f"Bearer {self.sign(claims)}",
            "User-Agent": "Google-Cloud-Tasks",
            "X-CloudTasks-QueueName": task.queue.rpartition("/")[2],
            "X-CloudTasks-TaskName": task.message.name.rpartition("/")[2],
            "X-CloudTasks-TaskRetryCount": str(task.attempts),
            "X-CloudTasks-TaskExecutionCount": str(task.attempts),
            "X-CloudTasks-TaskETA": f"{task.due:.6f}",
            **({"X-CloudTasks-TaskPreviousResponse": str(task.last)} if task.last else {}),
        }


METHODS = {
    "CreateTask": (types.CreateTaskRequest.pb(), types.Task.pb()),
    "DeleteTask": (types.DeleteTaskRequest.pb(), Empty),
    "TestIamPermissions": (iam_policy_pb2.TestIamPermissionsRequest, iam_policy_pb2.TestIamPermissionsResponse),
}


def refusal(task: Any) -> str:
    """Say why a task is none, or nothing."""
    call = task.http_request
    if task.name and not TASK.fullmatch(task.name):
        return "Task name must be formatted projects/…/locations/…/queues/…/tasks/…"
    if not call.url.startswith(("http://", "https://")):
        return "HttpRequest.url must start with http:// or https://"
    if not call.HasField("oidc_token") or not call.oidc_token.service_account_email:
        return "OidcToken.service_account_email is required"
    if task.HasField("schedule_time") and task.schedule_time.ToNanoseconds() / 1e9 > time.time() + MOST_AHEAD:
        return "schedule_time is more than 30 days ahead"
    if task.HasField("dispatch_deadline") and not 15 <= task.dispatch_deadline.ToNanoseconds() / 1e9 <= 1800:
        return "dispatch_deadline must be 15 seconds to 30 minutes"
    return "The task is larger than 1 MB" if task.ByteSize() > 1_000_000 else ""


def send(call: Any, headers: Mapping[str, str]) -> tuple[int, float]:
    """Return the status of the answer, and the seconds that it asks to wait."""
    parts = urlsplit(call.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request(types.HttpMethod(call.http_method).name, parts.path, call.body, dict(headers))
        response = connection.getresponse()
        response.read()
        return response.status, float(response.headers.get("Retry-After", 0))
    finally:
        connection.close()


class Deployed:
    """A cloud's queue and the service that it delivers to, as one `JobQueue`: `start` and `stop` are the service's."""

    def __init__(self, port: int, queue: JobQueue) -> None:
        self._port = port
        self._queue = queue
        self._server: Receiver | None = None

    def enqueue(self, address: JobAddress, *, queue: QueueName = "batch", delay: float = 0.0) -> None:
        self._queue.enqueue(address, queue=queue, delay=delay)

    def start(self, run: Callable[[JobAddress], None]) -> None:
        self._server = Receiver(self._port, run)

    def stop(self) -> None:
        if self._server:
            self._server.end()
        self._server = None

    def check(self) -> None:
        self._queue.check()


class Receiver(LoopbackServer):
    """What answers `/internal/jobs/run`: 204 when `run` returns, `refusal` when it raises, and nothing once it has ended."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, run: Callable[[JobAddress], None]) -> None:
        super().__init__(("127.0.0.1", port), ReceiverHandler)
        self.run = run
        self.refusal = 409
        self.open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def end(self) -> None:
        """End as a killed process does: connections break, whatever is under way."""
        self.shutdown()
        self.server_close()
        self._thread.join()
        for connection in list(self.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class ReceiverHandler(BaseHTTPRequestHandler):
    server: Receiver

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = 204 if self.path == "/internal/jobs/run" and set(sent) == {"app", "user", "job", "queue"} else 400
        if status == 204:
            try:
                self.server.run(JobAddress(Scope(sent["app"], sent["user"]), sent["job"]))
            except Exception:  # noqa: BLE001  # the job runner's edge
                status = self.server.refusal
        with suppress(OSError):
            self.send_response(status)
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass
