"""What an ID token must say beyond a good signature; each refusal first proves that the same token with good claims is accepted."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from service.apps import App, AppFile
from service.auth import authenticate, authenticate_service
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.tokens import LocalTokens
from service.config import Settings
from service.errors import Forbidden, InvalidToken
from service.models import Principal, Role, Scope
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

    def verify_service(self, token: str, audience: str) -> str:
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
        {"auth_time": NOW + 86400},
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
    ],
)
def test_claims_that_the_sdk_lets_through_are_refused(changes: dict[str, Any]) -> None:
    assert authenticate(Claims(), "Bearer x", None).uid == "ada"
    with pytest.raises(InvalidToken):
        authenticate(Claims(**changes), "Bearer x", None)


def app(**access: Any) -> App:
    return App("alpha", msgspec.convert({"name": "Alpha", "access": access}, AppFile), "Answer.")


def principal(
    provider: str = "password", firebase_app: str | None = None, tenant: str | None = None, **claims: Any
) -> Principal:
    return Principal("ada", provider, claims, tenant, firebase_app)


def role(principal: Principal, app: App, recorded: Role | None = None) -> Role:
    member = enter(principal, app, lambda scope: recorded)
    assert member.scope == Scope("alpha", "ada")
    return member.role


NO_ROLES = [
    [],
    ["alpha"],
    "alpha",
    {"alpha": True},
    {"alpha": "owner"},
    {"alpha": ["admin"]},
    {"beta": "admin"},
    None,
    {"Alpha": "admin"},
]


@pytest.mark.parametrize("apps", NO_ROLES)
def test_membership_by_claim(apps: object) -> None:
    closed = app(membership="claim")
    assert role(principal(apps={"alpha": "member", "beta": "admin"}), closed) is Role.MEMBER
    assert role(principal(apps={"alpha": "admin"}), closed) is Role.ADMIN
    with pytest.raises(Forbidden):
        role(principal(apps=apps), closed, recorded=Role.ADMIN)


def test_membership_by_record() -> None:
    closed = app(membership="record")
    assert role(principal(), closed, recorded=Role.MEMBER) is Role.MEMBER
    assert role(principal(), closed, recorded=Role.ADMIN) is Role.ADMIN
    with pytest.raises(Forbidden):
        role(principal(apps={"alpha": "admin"}), closed)


@pytest.mark.parametrize("apps", NO_ROLES)
def test_everyone_is_a_member_of_an_open_app_and_its_admins_by_claim(apps: object) -> None:
    assert role(principal(apps={"alpha": "admin"}), app()) is Role.ADMIN
    assert role(principal(apps=apps), app(), recorded=Role.ADMIN) is Role.MEMBER


def test_membership_by_tenant() -> None:
    theirs = app(membership="tenant", tenant="acme-1")
    assert role(principal(tenant="acme-1"), theirs) is Role.MEMBER
    assert role(principal(tenant="acme-1", apps={"alpha": "admin"}), theirs) is Role.ADMIN
    for tenant in ("acme-2", "ACME-1", "acme-1 ", None):
        with pytest.raises(Forbidden):
            role(principal(tenant=tenant, apps={"alpha": "admin"}), theirs)


@pytest.mark.parametrize("membership", ["open", "claim", "record"])
def test_the_same_uid_in_a_tenant_is_somebody_else(membership: str) -> None:
    plain, theirs = app(membership=membership), app(membership=membership, tenant="acme-1")
    assert role(principal(apps={"alpha": "member"}), plain, Role.MEMBER) is Role.MEMBER
    assert role(principal(apps={"alpha": "member"}, tenant="acme-1"), theirs, Role.MEMBER) is Role.MEMBER
    with pytest.raises(Forbidden):
        role(principal(apps={"alpha": "member"}, tenant="acme-1"), plain, Role.MEMBER)
    with pytest.raises(Forbidden):
        role(principal(apps={"alpha": "member"}), theirs, Role.MEMBER)


def test_anonymous_users_enter_only_where_the_app_lets_them() -> None:
    assert role(principal("anonymous"), app(anonymous=True)) is Role.MEMBER
    with pytest.raises(Forbidden):
        role(principal("anonymous"), app())


def test_app_check_must_prove_the_app_of_the_url() -> None:
    bound = app(firebase_apps=["1:2:web:3"])
    assert role(principal(firebase_app="1:2:web:3"), bound) is Role.MEMBER
    with pytest.raises(Forbidden):
        role(principal(firebase_app="1:2:web:4"), bound)
    with pytest.raises(InvalidToken):
        role(principal(), bound)


def test_a_tenant_is_read_from_the_token() -> None:
    signed_in = {"sign_in_provider": "password", "tenant": "acme-1"}
    assert authenticate(Claims(firebase=signed_in), "Bearer x", None).tenant == "acme-1"
    assert authenticate(Claims(), "Bearer x", None).tenant is None
    for tenant in ("", None, 7, ["acme-1"]):
        with pytest.raises(InvalidToken):
            authenticate(Claims(firebase=signed_in | {"tenant": tenant}), "Bearer x", None)


def test_only_our_own_service_accounts_call_in() -> None:
    ours = "tasks@demo.iam.gserviceaccount.com"

    def call(email: str, audience: str = "https://run.example", callers: tuple[str, ...] = (ours,)) -> str:
        return authenticate_service(Claims(), f"Bearer {email}", audience, callers)

    assert call(ours) == ours
    with pytest.raises(Forbidden):
        call("evil@other.iam.gserviceaccount.com")
    with pytest.raises(InvalidToken):
        call(ours, audience="")
    with pytest.raises(InvalidToken):
        call(ours, callers=())
    with pytest.raises(InvalidToken):
        authenticate_service(Claims(), None, "https://run.example", [ours])
