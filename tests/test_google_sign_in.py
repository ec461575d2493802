"""Google's tokens at the service's own doors: every bad one is a plain 401, soon, and its caller learns nothing from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from flask import Flask
from werkzeug.test import TestResponse

from service.app import create_app
from service.config import Settings
from tests.kit import keys as kit
from tests.kit.apps import write_app
from tests.kit.keys import KeyServer, faulty, status
from tests.kit.tokens import AUDIENCE, EMAIL, NUMBER, bad_app_tokens, bad_id_tokens, bad_service_tokens, crossed

Ask: TypeAlias = Callable[[str], TestResponse]
JOB = {"app": "alpha", "user": "ada", "job": "none"}
SHOWN, P99_SECONDS = 800, 0.05


@pytest.fixture
def keys() -> Iterator[KeyServer]:
    with KeyServer() as server:
        yield server


@pytest.fixture
def app(served: Settings, keys: KeyServer) -> Iterator[Flask]:
    """The service with Google's tokens; `beta` demands App Check."""
    write_app(served.apps_dir, "beta", f'[access]\nfirebase_apps = ["1:{NUMBER}:web:abcdef"]\n')
    made = create_app(
        replace(
            served,
            backend_tokens="google",
            google_keys_emulator_host=keys.host,
            service_url=AUDIENCE,
            internal_callers=EMAIL,
        )
    )
    yield made
    made.extensions["brainstem"].backends.queue.stop()


@pytest.fixture
def stranger() -> RSAPrivateKey:
    return kit.key(8)


@pytest.fixture
def doors(app: Flask, keys: KeyServer) -> dict[str, Ask]:
    """How each kind of token is shown, with whatever else the request needs being good."""
    user = keys.users.factory.sign(keys.users.factory.id_claims())
    return {
        "user": lambda token: get(app, "/v1/apps/alpha/chats", Authorization=f"Bearer {token}"),
        "app": lambda token: get(
            app, "/v1/apps/beta/chats", **{"Authorization": f"Bearer {user}", "X-Firebase-AppCheck": token}
        ),
        "service": lambda token: app.test_client().post(
            "/internal/jobs/run", json=JOB, headers={"Authorization": f"Bearer {token}"}
        ),
    }


def get(app: Flask, path: str, **headers: str) -> TestResponse:
    return app.test_client().get(path, headers=headers)


def test_good_tokens_are_let_in(doors: dict[str, Ask], keys: KeyServer) -> None:
    users, apps, services = (each.factory for each in keys.sets)
    assert doors["user"](users.sign(users.id_claims())).status_code == 200
    assert doors["app"](apps.sign(apps.app_claims())).status_code == 200
    assert doors["service"](services.sign(services.service_claims())).status_code == 204  # there is no such job
    assert doors["app"](apps.sign(apps.app_claims(sub=f"1:{NUMBER}:web:other"))).status_code == 403
    assert doors["service"](services.sign(services.service_claims(email="eve@evil.example"))).status_code == 403


def test_bad_tokens_are_401_and_soon(doors: dict[str, Ask], keys: KeyServer, stranger: RSAPrivateKey) -> None:
    users, apps, services = (each.factory for each in keys.sets)
    bad = {
        "user": bad_id_tokens(users, stranger),
        "app": bad_app_tokens(apps, stranger),
        "service": bad_service_tokens(services, stranger),
    }
    table = [(door, why, token) for door, tokens in bad.items() for why, token in sendable(tokens)]
    table += [(door, why, token) for why, door, token in crossed(users, apps, services)]
    assert len(table) >= SHOWN, len(table)
    test_good_tokens_are_let_in(doors, keys)
    seconds, wrong = [], {}
    for door, why, token in table:
        started = time.thread_time()  # what others on this machine do does not count
        answer = doors[door](token)
        seconds.append(time.thread_time() - started)
        told: Any = answer.get_json()
        if answer.status_code != 401 or told["code"] != "invalid_token" or repeats(answer.text, token):
            wrong[f"{door}: {why}"] = f"{answer.status_code} {answer.text}"
    assert wrong == {}
    assert sorted(seconds)[int(len(seconds) * 0.99)] < P99_SECONDS
    test_good_tokens_are_let_in(doors, keys)


def sendable(tokens: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Leave out what no header can hold, and for `Bearer` and App Check what is no token at all: nothing."""
    for why, token in tokens:
        if token.strip() == token != "" and token.isprintable() and token.isascii():
            yield why, token


def repeats(answer: str, token: str) -> bool:
    return any(part in answer for part in token.split(".") if len(part) > 12)


def test_without_keys_a_good_user_is_told_to_come_back(doors: dict[str, Ask], keys: KeyServer) -> None:
    users = keys.users.factory
    with faulty(keys.users, status(500)):
        answer = doors["user"](users.sign(users.id_claims()))
    assert answer.status_code == 503
    assert answer.get_json()["retryable"] is True
    assert answer.headers["Retry-After"] == "1"


def test_the_service_is_ready_once_it_has_keys(app: Flask, keys: KeyServer) -> None:
    with faulty(keys.users, status(500)):
        assert get(app, "/ready").status_code == 503
    time.sleep(1.05)
    assert get(app, "/ready").status_code == 200
