"""Whether a sign-in still holds: asked of the real Auth emulator, and of servers that fail to tell."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from inspect import isclass
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest

from service.backends.google.firebase import FirebaseTokens
from service.backends.google.users import Users, mapped
from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
from service.errors import BrainstemError, InvalidToken, Unavailable
from service.proof.process import free_port
from tests.kit.emulators import PROJECT, Emulators
from tests.kit.keys import Fault, KeyServer, drip, faulty, garbage, hang, hang_up, status
from tests.kit.tokens import TokenFactory

SECRET = "canary-of-the-upstream"
NO_KEY: Any = None
"""The emulator signs nothing."""


@dataclass(frozen=True)
class Auth:
    """The REST API of the Auth emulator, as its administrator."""

    host: str

    def call(self, path: str, body: object, *, admin: bool = True) -> Any:
        request = urllib.request.Request(
            f"http://{self.host}/identitytoolkit.googleapis.com/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", **({"Authorization": "Bearer owner"} if admin else {})},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def sign_up(self, tenant: str | None = None) -> tuple[str, str]:
        """Return the uid and the ID token of a new user."""
        body = {"email": f"{uuid4().hex}@example.com", "password": "s3cret-enough", "returnSecureToken": True}
        done = self.call("v1/accounts:signUp?key=none", body | ({"tenantId": tenant} if tenant else {}), admin=False)
        return done["localId"], done["idToken"]

    def update(self, uid: str, tenant: str | None = None, **changes: object) -> None:
        where = f"v1/projects/{PROJECT}" + (f"/tenants/{tenant}" if tenant else "")
        self.call(f"{where}/accounts:update", {"localId": uid, **changes})

    def remove(self, uid: str) -> None:
        self.call(f"v1/projects/{PROJECT}/accounts:delete", {"localId": uid})

    def new_tenant(self) -> str:
        made = self.call(f"v2/projects/{PROJECT}/tenants", {"displayName": "agency", "allowPasswordSignup": True})
        return str(made["name"]).rpartition("/")[2]


@pytest.fixture
def auth(firebase: Emulators) -> Auth:
    return Auth(firebase.hosts["auth"])


@pytest.fixture
def tokens(settings: Settings, auth: Auth) -> FirebaseTokens:
    return verifier(settings, auth.host)


def verifier(settings: Settings, host: str, *, check_revoked: bool = True, seconds: float = 3.0) -> FirebaseTokens:
    given = replace(settings, check_revoked=check_revoked, firebase_auth_emulator_host=host)
    return FirebaseTokens(given, EnvironmentSecrets(given), seconds=seconds)


def test_a_user_of_the_emulator_is_let_in(tokens: FirebaseTokens, auth: Auth) -> None:
    uid, token = auth.sign_up()
    claims = tokens.verify(token)
    assert (claims["sub"], claims["aud"]) == (uid, PROJECT)
    tokens.check()


def test_a_disabled_user_is_refused_and_let_in_again(tokens: FirebaseTokens, auth: Auth) -> None:
    uid, token = auth.sign_up()
    other, others = auth.sign_up()
    tokens.verify(token)
    auth.update(uid, disableUser=True)
    with pytest.raises(InvalidToken):
        tokens.verify(token)
    assert tokens.verify(others)["sub"] == other
    auth.update(uid, disableUser=False)
    tokens.verify(token)


def test_a_revoked_sign_in_is_refused(tokens: FirebaseTokens, auth: Auth) -> None:
    uid, token = auth.sign_up()
    tokens.verify(token)
    auth.update(uid, validSince=str(int(time.time()) + 2))
    with pytest.raises(InvalidToken):
        tokens.verify(token)


def test_what_was_issued_before_the_revocation_is_refused_and_what_came_after_is_not(
    tokens: FirebaseTokens, auth: Auth
) -> None:
    uid, _ = auth.sign_up()
    make = TokenFactory(NO_KEY, "", PROJECT)

    def issued(ago: int) -> str:
        return make.unsigned(make.id_claims(sub=uid, user_id=uid, iat=int(time.time()) - ago))

    auth.update(uid, validSince=str(int(time.time())))
    assert tokens.verify(issued(-5))["sub"] == uid
    for ago in (5, 60, 3600):
        with pytest.raises(InvalidToken):
            tokens.verify(issued(ago))


def test_who_changes_their_own_password_stays_signed_in_here_and_nowhere_else(
    tokens: FirebaseTokens, auth: Auth
) -> None:
    uid, token = auth.sign_up()
    time.sleep(1.1)  # revocation counts in whole seconds
    body = {"idToken": token, "password": "another-s3cret", "returnSecureToken": True}
    renewed = auth.call("v1/accounts:update?key=none", body, admin=False)["idToken"]
    assert tokens.verify(renewed)["sub"] == uid
    with pytest.raises(InvalidToken):
        tokens.verify(token)


def test_the_sdk_says_the_same(tokens: FirebaseTokens, auth: Auth, monkeypatch: pytest.MonkeyPatch) -> None:
    import firebase_admin  # type: ignore[import-untyped]
    from firebase_admin import auth as sdk
    from google.auth.credentials import AnonymousCredentials

    monkeypatch.setenv("FIREBASE_AUTH_EMULATOR_HOST", auth.host)
    anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
    client = sdk.Client(firebase_admin.App("reference", anonymous, {"projectId": PROJECT, "httpTimeout": 10}))
    make = TokenFactory(NO_KEY, "", PROJECT)
    states = []
    for change in ({}, {"disableUser": True}, {"disableUser": False}, {"validSince": str(int(time.time()))}):
        uid, _ = auth.sign_up()
        auth.update(uid, **change)
        for ago in (-5, 5, 600):
            token = make.unsigned(make.id_claims(sub=uid, user_id=uid, iat=int(time.time()) - ago))
            states.append((taken(tokens.verify, token), taken(lambda t: client.verify_id_token(t, True), token)))
    assert all(ours == theirs for ours, theirs in states)
    assert {ours for ours, _ in states} == {True, False}


def taken(verify: Callable[[str], object], token: str) -> bool:
    try:
        verify(token)
    except Exception:  # noqa: BLE001  # the SDK has errors of its own
        return False
    return True


def test_a_removed_user_is_refused(tokens: FirebaseTokens, auth: Auth) -> None:
    uid, token = auth.sign_up()
    tokens.verify(token)
    auth.remove(uid)
    with pytest.raises(InvalidToken):
        tokens.verify(token)


def test_a_user_is_looked_for_in_the_tenant_of_the_token(tokens: FirebaseTokens, auth: Auth) -> None:
    tenant, other = auth.new_tenant(), auth.new_tenant()
    uid, token = auth.sign_up(tenant)
    claims = tokens.verify(token)
    assert (claims["sub"], claims["firebase"]["tenant"]) == (uid, tenant)
    make = TokenFactory(NO_KEY, "", PROJECT)
    for elsewhere in (None, other, "no-such-tenant", f"../tenants/{tenant}", f"{tenant}/", f"{tenant}?x=", "", 7):
        firebase = {"sign_in_provider": "password", **({} if elsewhere is None else {"tenant": elsewhere})}
        with pytest.raises(InvalidToken):
            tokens.verify(make.unsigned(make.id_claims(sub=uid, user_id=uid, firebase=firebase)))
    auth.update(uid, tenant, disableUser=True)
    with pytest.raises(InvalidToken):
        tokens.verify(token)


def test_nobody_is_asked_unless_the_setting_says_so(settings: Settings, auth: Auth) -> None:
    uid, token = auth.sign_up()
    auth.update(uid, disableUser=True)
    assert verifier(settings, auth.host, check_revoked=False).verify(token)["sub"] == uid


def test_the_environment_is_left_as_it_was(settings: Settings, auth: Auth, monkeypatch: pytest.MonkeyPatch) -> None:
    for before in (None, "127.0.0.1:1", auth.host):
        if before:
            monkeypatch.setenv("FIREBASE_AUTH_EMULATOR_HOST", before)
        _, token = auth.sign_up()
        verifier(settings, auth.host).verify(token)
        assert os.environ.get("FIREBASE_AUTH_EMULATOR_HOST") == before


# An Auth service that fails. The key server's faults are those of any server.

ACCOUNTS = f"/identitytoolkit.googleapis.com/v1/projects/{PROJECT}/accounts:lookup"
FAULTS: dict[str, Fault] = {
    "500": status(500, SECRET.encode()),
    "503": status(503),
    "429": status(429, b'{"error": {"message": "TOO_MANY_ATTEMPTS_TRY_LATER"}}'),
    "401": status(401, b'{"error": {"message": "INVALID_CREDENTIAL"}}'),
    "403": status(403, b'{"error": {"message": "INSUFFICIENT_PERMISSION", "details": [{"reason": "x"}]}}'),
    "a page of no UTF-8": status(404, b"\xff\xfe<html>"),
    "an odd error": status(400, b'{"error": {"message": 7}}'),
    "nothing": garbage(b""),
    "a page": garbage(b"<html>" + SECRET.encode()),
    "a list": garbage(b"[1]"),
    "users that are none": garbage(b'{"users": {"localId": "ada"}}'),
    "a user that is none": garbage(b'{"users": [7]}'),
    "a nameless user": garbage(b'{"users": [{"email": "ada@example.com"}]}'),
    "a time that is none": garbage(b'{"users": [{"localId": "ada", "validSince": "yesterday"}]}'),
    "a hang-up": hang_up,
    "no answer": hang,
    "a slow head": drip([b"HTTP/1.1 200 OK\r\n", *[b"X-Slow: 1\r\n"] * 100]),
}


@pytest.fixture
def broken() -> Iterator[KeyServer]:
    with KeyServer() as server:
        server.users.path = ACCOUNTS
        yield server


@pytest.mark.parametrize("fault", FAULTS)
def test_where_it_cannot_be_told_nobody_is_signed_out(
    settings: Settings, broken: KeyServer, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = verifier(settings, broken.host, seconds=1.0)
    make = TokenFactory(NO_KEY, "", PROJECT)
    token = make.unsigned(make.id_claims())
    started = time.monotonic()
    with faulty(broken.users, FAULTS[fault]), pytest.raises(Unavailable) as caught:
        tokens.verify(token)
    assert time.monotonic() - started < 2
    told = (
        f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r} {[vars(r) for r in caplog.records]}"
    )
    assert SECRET not in told
    assert not any(part in told for part in token.split(".") if part)


def test_a_user_as_the_service_gives_it_is_let_in(settings: Settings, broken: KeyServer) -> None:
    """That the faults above are what is refused, not whoever speaks from there."""
    make = TokenFactory(NO_KEY, "", PROJECT)
    with faulty(broken.users, garbage(b'{"users": [{"localId": "ada", "validSince": "1700000000"}]}')):
        assert verifier(settings, broken.host).verify(make.unsigned(make.id_claims()))["sub"] == "ada"


def test_of_a_token_seen_too_it_is_asked_every_time(settings: Settings, broken: KeyServer) -> None:
    """The keys prove it once; whether its user was disabled since, is not remembered."""
    user = '{"users": [{"localId": "ada", "validSince": "1700000000", "disabled": %s}]}'
    with KeyServer() as keys:
        tokens = verifier(replace(settings, google_keys_emulator_host=keys.host), "")
        tokens._users = Users(replace(settings, firebase_auth_emulator_host=broken.host))
        token = keys.users.factory.sign(keys.users.factory.id_claims())
        for n, (disabled, taken_now) in enumerate([("false", True), ("false", True), ("true", False), ("false", True)]):
            with faulty(broken.users, garbage((user % disabled).encode())):
                assert taken(tokens.verify, token) is taken_now
            assert broken.users.fetches == n + 1
        with faulty(broken.users, status(503)), pytest.raises(Unavailable):
            tokens.verify(token)
        assert keys.users.fetches == 1


def test_a_service_that_is_not_there_is_unavailable(settings: Settings) -> None:
    make = TokenFactory(NO_KEY, "", PROJECT)
    with pytest.raises(Unavailable):
        verifier(settings, f"127.0.0.1:{free_port()}").verify(make.unsigned(make.id_claims()))


def test_without_the_setting_no_emulator_is_asked_and_without_credentials_nobody(
    settings: Settings, broken: KeyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An emulator's answer would let the user in, whom the real service cannot be asked about from here."""
    monkeypatch.setenv("FIREBASE_AUTH_EMULATOR_HOST", broken.host)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    broken.users.fault = garbage(b'{"users": [{"localId": "ada"}]}')
    with KeyServer() as keys:
        given = replace(settings, google_keys_emulator_host=keys.host)
        make = keys.users.factory
        token = make.sign(make.id_claims())
        assert verifier(given, "", check_revoked=False).verify(token)["sub"] == "ada"
        with pytest.raises(Unavailable):
            verifier(given, "").verify(token)
    assert broken.users.fetches == 0
    assert os.environ["FIREBASE_AUTH_EMULATOR_HOST"] == broken.host


def test_many_requests_ask_at_once(settings: Settings, broken: KeyServer) -> None:
    make = TokenFactory(NO_KEY, "", PROJECT)
    token = make.unsigned(make.id_claims())
    tokens = verifier(settings, broken.host)
    with faulty(broken.users, garbage(b'{"users": [{"localId": "ada"}]}', seconds=0.2)):
        tokens.verify(token)
        started = time.monotonic()
        with ThreadPoolExecutor(32) as pool:
            assert {claims["sub"] for claims in pool.map(tokens.verify, [token] * 32)} == {"ada"}
        assert time.monotonic() - started < 4  # 6.4 s one after the other


def test_every_error_of_the_sdk_means_something() -> None:
    import firebase_admin.auth  # type: ignore[import-untyped]
    import firebase_admin.exceptions  # type: ignore[import-untyped]
    import firebase_admin.tenant_mgt  # type: ignore[import-untyped]
    import google.auth.exceptions
    import requests.exceptions

    modules = (
        firebase_admin.exceptions,
        firebase_admin.auth,
        firebase_admin.tenant_mgt,
        google.auth.exceptions,
        requests.exceptions,
    )
    met = {kind: mapped(made(kind)) for module in modules for kind in errors(module)}
    assert len(met) >= 60
    gone = {kind.__name__ for kind, error in met.items() if isinstance(error, InvalidToken)}
    assert gone == {"UserNotFoundError", "TenantNotFoundError"}
    assert all(isinstance(error, Unavailable) for kind, error in met.items() if kind.__name__ not in gone)
    assert all(SECRET not in str(error) and isinstance(error, BrainstemError) for error in met.values())


def errors(module: ModuleType) -> Iterator[type[Exception]]:
    return (kind for kind in vars(module).values() if isclass(kind) and issubclass(kind, Exception))


def made(kind: type[Exception]) -> Exception:
    """An error of a class, however it wants to be made."""
    error = kind.__new__(kind)
    error.args = (SECRET,)
    return error
