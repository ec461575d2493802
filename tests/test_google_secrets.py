"""What Secret Manager promises beyond the contract: what is kept for how long, and what a failure does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import google.auth.exceptions
import pytest
from google.api_core import exceptions
from grpc import StatusCode

from service.backends.google import calls
from service.backends.google.secrets import FRESH_SECONDS, OUTLIVE_SECONDS, PAUSE_SECONDS, SecretManager
from service.errors import ConfigError, Unavailable
from service.proof.process import free_port
from tests.kit.secret_manager import SecretManagerServer

CANARY = "sk-canary-0123456789"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[SecretManagerServer]:
    with SecretManagerServer() as running:
        running.add("MAPS_KEY", CANARY)
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def secrets(server: SecretManagerServer, clock: Clock) -> SecretManager:
    return SecretManager(server.settings, clock=clock)


def test_a_secret_is_asked_for_once_in_five_minutes(
    secrets: SecretManager, server: SecretManagerServer, clock: Clock
) -> None:
    assert server.reads == []
    for _ in range(3):
        assert secrets.get("MAPS_KEY") == CANARY
    clock.now += FRESH_SECONDS - 1
    assert secrets.get("MAPS_KEY") == CANARY
    assert server.reads == ["MAPS_KEY"]


def test_a_rotation_is_seen_after_five_minutes(
    secrets: SecretManager, server: SecretManagerServer, clock: Clock
) -> None:
    assert FRESH_SECONDS == 300
    secrets.get("MAPS_KEY")
    server.add("MAPS_KEY", "the new one")
    assert secrets.get("MAPS_KEY") == CANARY
    clock.now += FRESH_SECONDS
    assert secrets.get("MAPS_KEY") == "the new one"


def test_a_value_outlives_an_outage_for_an_hour_and_no_longer(
    secrets: SecretManager, server: SecretManagerServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    secrets.get("MAPS_KEY")
    server.down = StatusCode.UNAVAILABLE
    clock.now += FRESH_SECONDS
    assert secrets.get("MAPS_KEY") == CANARY
    assert [record.message for record in caplog.records] == ["secret_not_renewed"]
    tried = server.fired
    assert tried >= 2
    clock.now += PAUSE_SECONDS - 1
    assert secrets.get("MAPS_KEY") == CANARY
    assert server.fired == tried  # not asked at every call
    clock.now = 1000 + FRESH_SECONDS + OUTLIVE_SECONDS
    with pytest.raises(Unavailable):
        secrets.get("MAPS_KEY")
    server.down = None
    clock.now += 1
    assert secrets.get("MAPS_KEY") == CANARY


def test_a_secret_that_is_withdrawn_does_not_outlive_its_five_minutes(
    secrets: SecretManager, server: SecretManagerServer, clock: Clock
) -> None:
    secrets.get("MAPS_KEY")
    for withdraw in (
        lambda: server.versions["MAPS_KEY"].append(None),
        lambda: server.versions.pop("MAPS_KEY"),
        lambda: server.denied.add("MAPS_KEY"),
    ):
        withdraw()
        clock.now += FRESH_SECONDS
        with pytest.raises(ConfigError, match="MAPS_KEY"):
            secrets.get("MAPS_KEY")
        server.down = StatusCode.UNAVAILABLE  # nor does an outage bring it back
        with pytest.raises(Unavailable):
            secrets.get("MAPS_KEY")
        server.down = None
        server.denied.clear()
        server.add("MAPS_KEY", CANARY)
        assert secrets.get("MAPS_KEY") == CANARY


def test_many_who_ask_at_once_cause_one_read(secrets: SecretManager, server: SecretManagerServer) -> None:
    server.delay = 0.2
    values: list[str] = []
    threads = [threading.Thread(target=lambda: values.append(secrets.get("MAPS_KEY"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == [CANARY] * 16
    assert server.reads == ["MAPS_KEY"]


def test_nobody_waits_for_a_secret_that_is_read_anew(
    secrets: SecretManager, server: SecretManagerServer, clock: Clock
) -> None:
    secrets.get("MAPS_KEY")
    clock.now += FRESH_SECONDS
    server.delay = 1.0
    renewing = threading.Thread(target=secrets.get, args=("MAPS_KEY",))
    renewing.start()
    while len(server.reads) < 2:
        time.sleep(0.01)
    started = time.monotonic()
    assert secrets.get("MAPS_KEY") == CANARY
    assert time.monotonic() - started < 0.5
    renewing.join()


def test_who_waits_for_a_read_that_fails_fails_with_it(server: SecretManagerServer) -> None:
    secrets = SecretManager(server.settings)
    server.down = StatusCode.UNAVAILABLE
    errors: list[Unavailable] = []

    def ask() -> None:
        try:
            secrets.get("MAPS_KEY")
        except Unavailable as error:
            errors.append(error)

    started = time.monotonic()
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 8
    assert time.monotonic() - started < 6


@pytest.mark.parametrize("code", [StatusCode.UNAVAILABLE, StatusCode.INTERNAL, StatusCode.RESOURCE_EXHAUSTED])
def test_what_passes_is_tried_again(secrets: SecretManager, server: SecretManagerServer, code: StatusCode) -> None:
    server.failures = [code, code]
    assert secrets.get("MAPS_KEY") == CANARY
    assert server.fired == 2


def test_a_secret_manager_that_hangs_or_is_not_there_is_unavailable_in_five_seconds(
    server: SecretManagerServer, secrets: SecretManager
) -> None:
    server.delay = 6.0
    nowhere = SecretManager(replace(server.settings, secret_manager_emulator_host=f"127.0.0.1:{free_port()}"))
    for each in (secrets, nowhere):
        started = time.monotonic()
        with pytest.raises(Unavailable, match="Secret Manager cannot be used"):
            each.get("MAPS_KEY")
        assert time.monotonic() - started < 5.5
    assert server.fired >= 1


def test_a_value_that_was_damaged_is_not_taken(secrets: SecretManager, server: SecretManagerServer) -> None:
    server.damaged = True
    with pytest.raises(Unavailable):
        secrets.get("MAPS_KEY")
    assert server.fired == 1
    server.damaged = False
    assert secrets.get("MAPS_KEY") == CANARY


@pytest.mark.parametrize(
    "name", ["", "a/b", "..", "x/versions/1", "../../other/secrets/x", "é", "a b", "a" * 256, "\ud800"]
)
def test_a_name_that_is_none_is_refused_before_the_call(
    secrets: SecretManager, server: SecretManagerServer, name: str
) -> None:
    with pytest.raises(ConfigError):
        secrets.get(name)
    assert server.reads == []


@pytest.mark.parametrize("value", [b"", b"\n", b"\xff\xfe"])
def test_a_secret_that_is_no_text_is_named(secrets: SecretManager, server: SecretManagerServer, value: bytes) -> None:
    server.add("MAPS_KEY", value)
    with pytest.raises(ConfigError, match="MAPS_KEY"):
        secrets.get("MAPS_KEY")


def test_the_line_end_that_echo_adds_is_no_part_of_a_secret(
    secrets: SecretManager, server: SecretManagerServer
) -> None:
    server.add("MAPS_KEY", " two words \r\n")
    assert secrets.get("MAPS_KEY") == " two words "


def test_a_secret_setting_of_the_environment_goes_first(server: SecretManagerServer) -> None:
    secrets = SecretManager(replace(server.settings, openai_api_key="of the environment"))
    server.add("OPENAI_API_KEY", "of the project")
    assert secrets.get("OPENAI_API_KEY") == "of the environment"
    assert server.reads == []


def test_no_value_is_ever_shown(
    secrets: SecretManager, server: SecretManagerServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets.get("MAPS_KEY")
    clock.now += FRESH_SECONDS
    server.down = StatusCode.INTERNAL
    secrets.get("MAPS_KEY")
    with pytest.raises(Unavailable) as raised:
        secrets.get("OTHER")
    ours = [record for record in caplog.records if record.name == "brainstem"]
    assert [record.message for record in ours] == ["secret_not_renewed"]
    assert "canary" not in repr([vars(record) for record in ours]) + repr(raised.value) + raised.value.detail
    assert CANARY not in repr([vars(record) for record in caplog.records]) + repr(secrets) + repr(vars(secrets))


def test_it_is_ready_as_long_as_secret_manager_answers(secrets: SecretManager, server: SecretManagerServer) -> None:
    secrets.check()
    server.denied.add(server.reads[-1])
    secrets.check()
    server.down = StatusCode.UNAVAILABLE
    with pytest.raises(Unavailable):
        secrets.check()


def test_an_api_that_is_switched_off_is_no_missing_secret(secrets: SecretManager, server: SecretManagerServer) -> None:
    server.disabled = True
    for call in (secrets.check, lambda: secrets.get("MAPS_KEY")):
        with pytest.raises(Unavailable, match="the project the Secret Manager API"):
            call()


def test_without_a_project_it_does_not_start(server: SecretManagerServer) -> None:
    with pytest.raises(ConfigError, match="GOOGLE_CLOUD_PROJECT"):
        SecretManager(replace(server.settings, google_cloud_project=""))


def subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for below in kind.__subclasses__():
        yield from subclasses(below)


def instance(kind: type[Exception]) -> Exception:
    """Make an exception of a class with whatever its constructor demands."""
    for count in range(4):
        with suppress(TypeError):
            return kind(*["canary-of-google"] * count)
    raise AssertionError(kind)


@pytest.mark.parametrize("service", [calls.SECRETS, calls.TASKS], ids=lambda service: service.name)
def test_every_failure_of_googles_libraries_has_a_meaning(service: calls.Service) -> None:
    kinds = {*subclasses(exceptions.GoogleAPIError), *subclasses(google.auth.exceptions.GoogleAuthError)}
    assert len(kinds) > 50
    for kind in kinds:
        assert issubclass(kind, calls.FAILURES)
        error = calls.mapped(instance(kind), service)
        assert type(error) is Unavailable
        assert error.detail.startswith(f"{service.name} cannot be used: ")
        assert "canary" not in error.detail


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
def test_every_status_of_grpc_has_a_meaning(code: StatusCode) -> None:
    error = exceptions.from_grpc_status(code, "canary-of-google")  # type: ignore[no-untyped-call]
    wrapped = exceptions.RetryError("canary-of-google", cause=error)  # type: ignore[no-untyped-call]
    for each in (error, wrapped):
        detail = calls.mapped(each, calls.TASKS).detail
        assert detail.startswith("Cloud Tasks cannot be used: ")
        assert "canary" not in detail
    if code is StatusCode.PERMISSION_DENIED:
        assert "roles/cloudtasks.enqueuer" in calls.mapped(error, calls.TASKS).detail
