"""Google's own SDKs as the reference: whatever one of them refuses, our verifier refuses too.

They read their keys from the same server as ours. The converse does not hold, and is counted: what they take and we refuse.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

import pytest

from service.backends.google.firebase import FirebaseTokens
from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
from service.errors import InvalidToken
from tests.kit import keys as kit
from tests.kit.keys import KeyServer
from tests.kit.tokens import (
    AUDIENCE,
    GONE,
    NUMBER,
    Claims,
    TokenFactory,
    bad_app_tokens,
    bad_id_tokens,
    bad_service_tokens,
    crossed,
)

Verify: TypeAlias = Callable[[str], object]
RANDOM_TOKENS = 300


@pytest.fixture
def keys() -> Iterator[KeyServer]:
    with KeyServer() as server:
        yield server


@pytest.fixture
def tokens(settings: Settings, keys: KeyServer) -> FirebaseTokens:
    return FirebaseTokens(replace(settings, google_keys_emulator_host=keys.host), EnvironmentSecrets(settings))


@pytest.fixture
def app() -> Iterator[object]:
    """Firebase's SDK, signed in as nobody."""
    import firebase_admin  # type: ignore[import-untyped]
    from google.auth.credentials import AnonymousCredentials

    anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
    app = firebase_admin.initialize_app(anonymous, {"projectId": "demo-brainstem"}, "reference")
    yield app
    firebase_admin.delete_app(app)


def test_firebase_admin_refuses_no_id_token_that_we_take(
    tokens: FirebaseTokens, keys: KeyServer, app: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from firebase_admin import _token_gen, auth

    monkeypatch.setattr(_token_gen, "ID_TOKEN_CERT_URI", f"http://{keys.host}{keys.users.path}")
    client = auth.Client(app)
    make = keys.users.factory
    bad = [token for _, token in bad_id_tokens(make, kit.key(8))]
    bad += [token for _, place, token in crossed(*(each.factory for each in keys.sets)) if place == "user"]
    differ(
        ours=tokens.verify,
        theirs=lambda token: client.verify_id_token(token, clock_skew_seconds=10),
        good=make.sign(make.id_claims()),
        shown=[*bad, *mixed(make, make.id_claims())],
        only_ours=60,
    )


def test_firebase_admin_refuses_no_app_check_token_that_we_take(
    tokens: FirebaseTokens, keys: KeyServer, app: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from firebase_admin import app_check

    monkeypatch.setattr(app_check._AppCheckService, "_JWKS_URL", f"http://{keys.host}{keys.apps.path}")
    make = keys.apps.factory
    bad = [token for _, token in bad_app_tokens(make, kit.key(8))]
    bad += [token for _, place, token in crossed(*(each.factory for each in keys.sets)) if place == "app"]
    differ(
        ours=tokens.verify_app,
        theirs=lambda token: app_check.verify_token(token, app),
        good=make.sign(make.app_claims()),
        shown=[*bad, *mixed(make, make.app_claims())],
        only_ours=40,
    )


def test_google_auth_refuses_no_oidc_token_that_we_take(tokens: FirebaseTokens, keys: KeyServer) -> None:
    import requests
    from google.auth.transport.requests import Request
    from google.oauth2.id_token import verify_token

    url = f"http://{keys.host}{keys.services.path}"
    make = keys.services.factory
    bad = [token for _, token in bad_service_tokens(make, kit.key(8))]
    bad += [token for _, place, token in crossed(*(each.factory for each in keys.sets)) if place == "service"]
    with requests.Session() as session:
        request = Request(session)
        differ(
            ours=lambda token: tokens.verify_service(token, AUDIENCE),
            theirs=lambda token: verify_token(token, request, AUDIENCE, url),
            good=make.sign(make.service_claims()),
            shown=[*bad, *mixed(make, make.service_claims())],
            only_ours=120,
        )


def differ(*, ours: Verify, theirs: Verify, good: str, shown: list[str], only_ours: int) -> None:
    """Compare two verifiers; both take a good token, and `only_ours` is how many the reference takes and we do not, at least."""
    assert we_take(ours, good)
    assert they_take(theirs, good)
    answers = [(we_take(ours, token), they_take(theirs, token)) for token in shown]
    assert [token for token, answer in zip(shown, answers, strict=True) if answer == (True, False)] == []
    assert answers.count((False, True)) >= only_ours, f"{answers.count((False, True))} of {len(shown)}"
    assert answers.count((True, True)) >= 10  # among the mixed ones there are good tokens


def we_take(verify: Verify, token: str) -> bool:
    try:
        verify(token)
    except InvalidToken:
        return False
    return True


def they_take(verify: Verify, token: str) -> bool:
    try:
        verify(token)
    except Exception:  # noqa: BLE001  # the SDKs refuse with errors of every kind
        return False
    return True


def mixed(make: TokenFactory, claims: Claims) -> Iterator[str]:
    """Yield tokens, rightly signed, in which some claims are changed by chance, always by the same one."""
    now = int(time.time())
    pool: dict[str, list[object]] = {
        "exp": [
            now + 60,
            now + 10**9,
            10**20,
            1e300,
            now + 60.5,
            float("nan"),
            float("inf"),
            now - 60,
            "x",
            None,
            GONE,
        ],
        "iat": [0, -1, now, now + 60, now - 10**9, now - 0.5, float("-inf"), "x", None, True, GONE],
        "nbf": [0, now - 60, now + 60, "x", None, float("nan")],
        "auth_time": [0, now + 10**6, "x", None, GONE],
        "sub": ["ada", "a/b", "..", "a\0b", " ", "u" * 128, "u" * 129, "", 7, None, [], GONE],
        "user_id": ["eve", None, GONE],
        "uid": ["eve", 7],
        "aud": [claims["aud"], "demo-brainstem", f"projects/{NUMBER}", ["projects/demo-brainstem"], "", None, GONE],
        "iss": [claims["iss"], "accounts.google.com", "https://securetoken.google.com/demo-other", "", None, GONE],
        "firebase": [{}, None, [], "x", {"tenant": "agency"}, {"sign_in_provider": "anonymous"}, GONE],
        "email": ["eve@evil.example", "", None, 7],
        "email_verified": [True, False, "true", 1, None],
        "x": ["é", "\ud800", 10**40, {"a": [1, {"b": None}]}, 1.5],
    }
    chance = random.Random(7)
    for _ in range(RANDOM_TOKENS):
        names = chance.sample(sorted(pool), chance.choice((1, 1, 2, 3)))
        changes = {name: chance.choice(pool[name]) for name in names}
        changed = {name: value for name, value in {**claims, **changes}.items() if value is not GONE}
        yield make.sign(changed, typ=chance.choice(("JWT", "JWT", "JWT", GONE)))
