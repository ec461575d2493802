"""What an ID token must say beyond a good signature; each refusal first proves that the same token with good claims is accepted."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from service.apps import App, AppFile
from service.auth import authenticate
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.tokens import LocalTokens
from service.config import Settings
from service.errors import Forbidden, InvalidToken
from service.models import Principal
from service.scope import enter


class Claims:
    """A verifier whose signature checks all passed; the rules under test come after them."""

    def __init__(self, **changes: Any) -> None:
        now = int(time.time())
        claims: dict[str, Any] = {
            "sub": "ada",
            "iat": now,
            "exp": now + 3600,
            "auth_time": now,
            "firebase": {"sign_in_provider": "password", "identities": {}},
        }
        self.claims = {name: value for name, value in {**claims, **changes}.items() if value is not ...}

    def verify(self, token: str) -> dict[str, Any]:
        return self.claims

    def verify_app(self, token: str) -> str:
        return token

    def check(self) -> None:
        pass


def test_a_real_local_token_makes_a_principal(settings: Settings) -> None:
    tokens = LocalTokens(settings, EnvironmentSecrets(settings))
    principal = authenticate(tokens, f"Bearer {tokens.mint('ada')}", None)
    assert (principal.uid, principal.firebase_app) == ("ada", None)
    principal = authenticate(tokens, f"bearer {tokens.mint('ada')}", tokens.mint_app("1:2:web:3"))
    assert principal.firebase_app == "1:2:web:3"


NOW = int(time.time())


@pytest.mark.parametrize(
    "changes",
    [
        {"auth_time": NOW + 600},
        {"auth_time": ...},
        {"auth_time": "now"},
        {"auth_time": True},
        {"auth_time": 1.5},
        {"exp": NOW + 10 * 365 * 86400},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"iat": ...},
        {"sub": ""},
        {"sub": "x" * 129},
        {"sub": 7},
        {"firebase": ...},
        {"firebase": "x"},
        {"firebase": {}},
        {"firebase": {"sign_in_provider": None}},
        {"firebase": {"sign_in_provider": "password", "tenant": "other"}},
    ],
)
def test_claims_that_the_sdk_lets_through_are_refused(changes: dict[str, Any]) -> None:
    assert authenticate(Claims(), "Bearer x", None).uid == "ada"
    with pytest.raises(InvalidToken):
        authenticate(Claims(**changes), "Bearer x", None)


def app(**access: Any) -> App:
    return App("alpha", msgspec.convert({"name": "Alpha", "access": access}, AppFile), "Answer.")


def principal(provider: str = "password", firebase_app: str | None = None, **claims: Any) -> Principal:
    return Principal("ada", provider, claims, firebase_app)


def test_membership_by_claim() -> None:
    closed = app(membership="claim")
    assert enter(principal(apps=["alpha"]), closed).user == "ada"
    for apps in ([], ["beta"], "alpha", {"alpha": True}, None, [["alpha"]]):
        with pytest.raises(Forbidden):
            enter(principal(apps=apps), closed)


def test_anonymous_users_enter_only_where_the_app_lets_them() -> None:
    assert enter(principal("anonymous"), app(anonymous=True)).app == "alpha"
    with pytest.raises(Forbidden):
        enter(principal("anonymous"), app())


def test_app_check_must_prove_the_app_of_the_url() -> None:
    bound = app(firebase_apps=["1:2:web:3"])
    assert enter(principal(firebase_app="1:2:web:3"), bound).app == "alpha"
    with pytest.raises(Forbidden):
        enter(principal(firebase_app="1:2:web:4"), bound)
    with pytest.raises(InvalidToken):
        enter(principal(), bound)
