"""What Cloud Tasks promises beyond the contract: what is sent, that nothing is lost, and how much comes twice."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jwt
import pytest
from grpc import StatusCode

from service.backends.google.cloud_tasks import CloudTasks
from service.backends.interfaces import JobAddress
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.tokens import LocalTokens
from service.config import Settings
from service.errors import BadRequest, ConfigError, Unavailable
from service.models import Scope
from service.proof.process import free_port
from tests.kit.apps import write_app
from tests.kit.cloud_tasks import ACCOUNT, PATHS, Receiver, TasksServer
from tests.kit.server import Server
from tests.kit.tokens import new_key
from tests.kit.upstream import Upstream

ADA = Scope("alpha", "ada")
JOB = JobAddress(ADA, "j1")
KEY = new_key()


class Worker:
    def __init__(self) -> None:
        self.delivered: list[JobAddress] = []
        self.busy = threading.Event()

    def __call__(self, address: JobAddress) -> None:
        self.delivered.append(address)
        if self.busy.is_set():
            raise RuntimeError("later")


@pytest.fixture
def tasks() -> Iterator[TasksServer]:
    with TasksServer(lambda claims: jwt.encode(claims, KEY, "RS256")) as server:
        yield server


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def settings(tasks: TasksServer, port: int) -> Settings:
    return tasks.settings(f"http://127.0.0.1:{port}")


@pytest.fixture
def queue(settings: Settings) -> CloudTasks:
    return CloudTasks(settings, EnvironmentSecrets(settings))


@pytest.fixture
def worker(port: int) -> Iterator[Worker]:
    worker = Worker()
    receiver = Receiver(port, worker)
    yield worker
    receiver.end()


def test_a_task_is_what_the_service_takes(
    queue: CloudTasks, tasks: TasksServer, settings: Settings, worker: Worker
) -> None:
    for address in (JOB, JobAddress(Scope("alpha", None), "j2")):
        queue.enqueue(address)
    tasks.wait(lambda: len(tasks.deliveries) == 2 and not tasks.tasks)
    assert sorted(json.loads(delivery.body)["job"] for delivery in tasks.deliveries) == ["j1", "j2"]
    for delivery in tasks.deliveries:
        sent = json.loads(delivery.body)
        assert sent == {
            "app": "alpha",
            "user": "ada" if sent["job"] == "j1" else None,
            "job": sent["job"],
            "queue": "batch",
        }
        assert delivery.headers["Content-Type"] == "application/json"
        token = delivery.headers["Authorization"].removeprefix("Bearer ")
        claims = jwt.decode(token, KEY.public_key(), algorithms=["RS256"], audience=settings.service_url)
        assert (claims["email"], claims["email_verified"]) == (ACCOUNT, True)
    for request in tasks.asked("CreateTask"):
        assert request.parent == PATHS["batch"]
        assert request.task.http_request.url == f"{settings.service_url}/internal/jobs/run"
        assert request.task.dispatch_deadline.ToSeconds() == 1800
        assert not request.task.HasField("schedule_time")


@pytest.mark.parametrize(
    "code", [StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.INTERNAL, StatusCode.ABORTED]
)
def test_a_reply_that_is_lost_makes_no_second_task(
    queue: CloudTasks, tasks: TasksServer, worker: Worker, code: StatusCode
) -> None:
    tasks.behaviour.failures = [("CreateTask", code, True)]
    queue.enqueue(JOB)
    assert tasks.fired == 1
    assert len(tasks.asked("CreateTask")) == 2
    tasks.wait(lambda: bool(tasks.deliveries) and not tasks.tasks)
    assert worker.delivered == [JOB]


def test_a_name_is_never_used_twice(queue: CloudTasks, tasks: TasksServer, worker: Worker) -> None:
    """Cloud Tasks keeps a name for an hour after its task, so an address that had one would not be delivered again."""
    for count in range(1, 4):
        queue.enqueue(JOB)
        tasks.wait(lambda count=count: len(tasks.deliveries) == count and not tasks.tasks)  # type: ignore[misc]
    assert worker.delivered == [JOB] * 3
    assert len({request.task.name for request in tasks.asked("CreateTask")}) == 3


def test_what_is_enqueued_while_it_runs_is_delivered_afterwards(
    queue: CloudTasks, tasks: TasksServer, port: int
) -> None:
    running, proceed, begun = threading.Event(), threading.Event(), Counter[str]()

    def run(address: JobAddress) -> None:
        begun[address.id] += 1
        running.set()
        proceed.wait(10)

    receiver = Receiver(port, run)
    queue.enqueue(JOB)
    assert running.wait(10)
    queue.enqueue(JOB)
    proceed.set()
    tasks.wait(lambda: not tasks.tasks)
    assert begun == {"j1": 2}
    receiver.end()


def test_nothing_is_lost_however_the_queue_delivers(
    queue: CloudTasks, tasks: TasksServer, worker: Worker, settings: Settings
) -> None:
    """Duplicates, another order, lost replies, a service that is busy or down at times."""
    tasks.behaviour.duplicate, tasks.behaviour.shuffled = 0.3, True
    tasks.behaviour.unreliable = 0.2
    addresses = [JobAddress(ADA, f"j{n}") for n in range(120)]
    worker.busy.set()

    def enqueue(some: list[JobAddress]) -> None:
        for address in some:
            try:
                queue.enqueue(address, delay=0.3)
                queue.enqueue(address)
            except Unavailable:
                unacknowledged.append(address)

    unacknowledged: list[JobAddress] = []
    threads = [threading.Thread(target=enqueue, args=(addresses[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worker.busy.clear()
    tasks.wait(lambda: not tasks.tasks, 20)
    assert tasks.fired > 20
    assert len(unacknowledged) < 10
    done = Counter(json.loads(delivery.body)["job"] for delivery in tasks.deliveries if delivery.status == 204)
    assert set(done) >= {address.id for address in addresses if address not in unacknowledged}


@pytest.mark.parametrize("status", [429, 503])
def test_a_queue_whose_worker_is_overloaded_goes_slower_and_the_others_do_not(
    queue: CloudTasks, tasks: TasksServer, port: int, status: int
) -> None:
    overloaded = threading.Event()
    overloaded.set()

    def run(address: JobAddress) -> None:
        if overloaded.is_set() and address.id.startswith("slow"):
            raise RuntimeError

    receiver = Receiver(port, run)
    receiver.refusal = status
    for n in range(20):
        queue.enqueue(JobAddress(ADA, f"slow{n}"), queue="ingest")
    tasks.wait(lambda: len(tasks.deliveries) >= 4)
    for n in range(20):
        queue.enqueue(JobAddress(ADA, f"quick{n}"), queue="interactive")
    tasks.wait(lambda: sum(delivery.status == 204 for delivery in tasks.deliveries) == 20)
    # Unhindered, twenty tasks with pauses of 0.2 s at most would have failed many times as often.
    assert tasks.throttles[PATHS["ingest"]].gap > 0
    assert sum(delivery.status == status for delivery in tasks.deliveries) < 60
    overloaded.clear()
    tasks.wait(lambda: not tasks.tasks, 30)
    receiver.end()


def test_a_queue_keeps_to_its_caps_whatever_comes_twice_or_in_another_order(
    queue: CloudTasks, tasks: TasksServer, port: int
) -> None:
    tasks.behaviour.concurrent, tasks.behaviour.per_second = {"ingest": 3}, {"ingest": 40.0}
    tasks.behaviour.shuffled = True
    lock, running, most, times = threading.Lock(), [0], [0], list[float]()

    def run(address: JobAddress) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
            times.append(time.monotonic())
        time.sleep(0.02)
        with lock:
            running[0] -= 1

    receiver = Receiver(port, run)
    for n in range(80):
        queue.enqueue(JobAddress(ADA, f"j{n}"), queue="ingest", delay=0.2 * (n % 2))
    tasks.wait(lambda: not tasks.tasks, 30)
    assert most[0] <= 3
    assert times[-1] - times[0] > 0.9  # forty at once after a rest, then forty in a second
    receiver.end()


def test_a_queue_that_hangs_or_is_not_there_is_unavailable_in_five_seconds(
    queue: CloudTasks, tasks: TasksServer, settings: Settings
) -> None:
    tasks.behaviour.delay = 6.0
    gone = replace(settings, cloud_tasks_emulator_host=f"127.0.0.1:{free_port()}")
    for each in (queue, CloudTasks(gone, EnvironmentSecrets(gone))):
        started = time.monotonic()
        with pytest.raises(Unavailable, match="Cloud Tasks cannot be used"):
            each.enqueue(JOB)
        assert time.monotonic() - started < 5.5
    assert tasks.calls


@pytest.mark.parametrize("delay", [-1.0, 31 * 86400.0, float("inf"), float("nan")])
def test_a_delay_that_cloud_tasks_does_not_take_is_refused(queue: CloudTasks, tasks: TasksServer, delay: float) -> None:
    with pytest.raises(BadRequest):
        queue.enqueue(JOB, delay=delay)
    assert tasks.calls == []
    queue.enqueue(JOB, delay=29 * 86400.0)
    assert len(tasks.tasks) == 1


def test_it_is_ready_if_it_may_create_tasks(queue: CloudTasks, tasks: TasksServer, settings: Settings) -> None:
    queue.check()
    tasks.behaviour.permissions.clear()
    with pytest.raises(Unavailable, match=r"roles/cloudtasks\.enqueuer"):
        queue.check()
    other = replace(settings, tasks_queue="none")
    with pytest.raises(Unavailable):
        CloudTasks(other, EnvironmentSecrets(other)).check()
    assert len(tasks.tasks) == 0


def test_a_queue_that_is_not_there_is_named(tasks: TasksServer, settings: Settings) -> None:
    other = replace(settings, tasks_queue="none")
    with pytest.raises(Unavailable, match="TASKS_QUEUE") as raised:
        CloudTasks(other, EnvironmentSecrets(other)).enqueue(JOB)
    assert "canary" not in raised.value.detail


@pytest.mark.parametrize(
    "name", ["google_cloud_project", "google_cloud_region", "tasks_queue", "tasks_service_account", "service_url"]
)
def test_a_setting_that_is_missing_is_named(settings: Settings, name: str) -> None:
    with pytest.raises(ConfigError, match=name.upper()):
        CloudTasks(replace(settings, **{name: ""}), EnvironmentSecrets(settings))  # type: ignore[arg-type]


def test_an_upload_is_ingested_by_one_delivery(tasks: TasksServer, tmp_path: Path, upstream: Upstream) -> None:
    """The whole way: the service enqueues, Cloud Tasks calls it back with a signed token, the document becomes searchable."""
    local = LocalTokens(Settings(data_dir=tmp_path / "data"), EnvironmentSecrets(Settings()))
    tasks.sign = lambda claims: local.mint_service(str(claims["email"]), str(claims["aud"]))
    environ = {
        "BACKEND_QUEUE": "google",
        "CLOUD_TASKS_EMULATOR_HOST": tasks.host,
        "TASKS_SERVICE_ACCOUNT": ACCOUNT,
        "SERVICE_URL": "https://set-below.example",
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "sk-canary-key",
    }
    write_app(tmp_path / "apps", "alpha", "")
    server = Server(tmp_path / "data", environ, tmp_path / "apps")
    server._environ["SERVICE_URL"] = server.url
    with server:
        found = server.upload("alpha", "notes.md", b"# Tea\nSteep it for four minutes.", server.sign_in())
        assert found["status"] == "COMPLETED"
        tasks.wait(lambda: not tasks.tasks)
    assert [delivery.status for delivery in tasks.deliveries] == [204]
    assert len(tasks.asked("CreateTask")) == 1


def test_a_delivery_that_nobody_signed_runs_nothing(tasks: TasksServer, tmp_path: Path, upstream: Upstream) -> None:
    local = LocalTokens(Settings(data_dir=tmp_path / "data"), EnvironmentSecrets(Settings()))
    tasks.sign = lambda claims: local.mint_service("evil@attacker.iam.gserviceaccount.com", str(claims["aud"]))
    tasks.behaviour.attempts = 2
    url = "https://brainstem.example"
    settings = replace(tasks.settings(url), data_dir=tmp_path / "data")
    with Server(tmp_path / "data", {"SERVICE_URL": url, "TASKS_SERVICE_ACCOUNT": ACCOUNT}) as server:
        queue = CloudTasks(replace(settings, service_url=server.url), EnvironmentSecrets(settings))
        queue.enqueue(JOB)
        tasks.wait(lambda: bool(tasks.dropped))
    assert {delivery.status for delivery in tasks.deliveries} <= {401, 403}
