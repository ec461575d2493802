"""What the Firebase adapter promises beyond the contract: how it comes by Google's keys, and the Auth emulator."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from service.backends.google.firebase import FirebaseTokens
from service.backends.google.key_formats import certificates
from service.backends.google.keys import KeySet
from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
from service.errors import BrainstemError, ConfigError, InvalidToken, Unavailable
from service.proof.process import free_port
from tests.kit import keys as kit
from tests.kit.certificates import certificate as tls_certificate
from tests.kit.keys import Fault, KeyServer, drip, faulty, garbage, hang, late, redirect, status
from tests.kit.tokens import AUDIENCE, BAD_ID_CLAIMS, EMAIL, TokenFactory, base64url, new_key

HOUR = 3600.0
HEAD = b"HTTP/1.1 200 OK\r\n"
UNAVAILABLE_WITHIN = 2.5
SECONDS = 0.8
"""What a fetch may take here; a test of its own has the three seconds of the product."""


class Clock:
    """Tells the time that a test wants it to be."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys() -> Iterator[KeyServer]:
    with KeyServer() as server:
        yield server
        settle()


@pytest.fixture
def tokens(settings: Settings, keys: KeyServer, clock: Clock) -> FirebaseTokens:
    return verifier(replace(settings, google_keys_emulator_host=keys.host), clock)


def verifier(settings: Settings, clock: Callable[[], float] = time.monotonic) -> FirebaseTokens:
    return FirebaseTokens(settings, EnvironmentSecrets(settings), clock=clock, seconds=SECONDS)


def settle(seconds: float = 10.0) -> None:
    """Wait until no keys are being fetched."""
    for thread in threading.enumerate():
        if thread.name == "keys":
            thread.join(seconds)
            assert not thread.is_alive(), "the fetch goes on"


def user(factory: TokenFactory) -> str:
    return factory.sign(factory.id_claims())


def answer(call: Callable[[], object]) -> str:
    """What a call comes to, and that soon."""
    started = time.monotonic()
    try:
        call()
    except BrainstemError as exc:
        assert time.monotonic() - started < UNAVAILABLE_WITHIN
        return type(exc).__name__
    assert time.monotonic() - started < UNAVAILABLE_WITHIN
    return "accepted"


# Rotation.


def test_keys_are_fetched_once_and_when_they_are_needed(tokens: FirebaseTokens, keys: KeyServer) -> None:
    assert [each.fetches for each in keys.sets] == [0, 0, 0]
    for _ in range(20):
        tokens.verify(user(keys.users.factory))
    assert [each.fetches for each in keys.sets] == [1, 0, 0]
    apps, services = keys.apps.factory, keys.services.factory
    tokens.verify_app(apps.sign(apps.app_claims()))
    assert tokens.verify_service(services.sign(services.service_claims()), AUDIENCE) == EMAIL
    assert [each.fetches for each in keys.sets] == [1, 1, 1]


def test_a_new_key_is_believed_after_one_fetch_and_the_old_one_as_long_as_it_is_published(
    tokens: FirebaseTokens, keys: KeyServer, clock: Clock
) -> None:
    old = keys.users.factory
    tokens.verify(user(old))
    new = keys.users.rotate()
    clock.pass_by(9.9)
    assert answer(lambda: tokens.verify(user(new))) == "InvalidToken"
    clock.pass_by(0.2)
    assert answer(lambda: tokens.verify(user(new))) == "accepted"
    assert answer(lambda: tokens.verify(user(old))) == "accepted"
    assert keys.users.fetches == 2
    keys.users.rotate(keep=0)
    clock.pass_by(HOUR + 1)
    tokens.verify(user(old))  # it is usable while others are fetched
    settle()
    assert answer(lambda: tokens.verify(user(old))) == "InvalidToken"
    assert keys.users.fetches == 3


def test_a_key_that_is_renamed_or_replaced_under_its_name_is_not_believed(
    tokens: FirebaseTokens, keys: KeyServer, clock: Clock
) -> None:
    tokens.verify(user(keys.users.factory))
    stranger = TokenFactory(kit.key(8), keys.users.factory.kid, keys.users.project)
    assert answer(lambda: tokens.verify(user(stranger))) == "InvalidToken"


@pytest.mark.parametrize(
    ("max_age", "age", "seconds"),
    [(7200, 0, 7200), (7200, 3600, 3600), (None, 0, 3600), (0, 0, 60), (600, 900, 60), (10**8, 0, 6 * 3600)],
)
def test_keys_are_fetched_anew_when_they_are_no_longer_fresh(
    tokens: FirebaseTokens, keys: KeyServer, clock: Clock, max_age: int | None, age: int, seconds: int
) -> None:
    keys.users.max_age, keys.users.age = max_age, age
    tokens.verify(user(keys.users.factory))
    clock.pass_by(seconds - 1)
    tokens.verify(user(keys.users.factory))
    settle()
    assert keys.users.fetches == 1
    clock.pass_by(2)
    tokens.verify(user(keys.users.factory))
    settle()
    assert keys.users.fetches == 2


# A token that was seen before.


def kinds(tokens: FirebaseTokens, keys: KeyServer) -> dict[str, tuple[kit.Published, Callable[[str], object], str]]:
    """What publishes its keys, what verifies it, and a token, of users and of apps."""
    users, apps = keys.users.factory, keys.apps.factory
    return {
        "users": (keys.users, tokens.verify, users.sign(users.id_claims())),
        "apps": (keys.apps, tokens.verify_app, apps.sign(apps.app_claims())),
    }


@pytest.mark.parametrize("kind", ["users", "apps"])
def test_a_token_seen_ends_with_its_key(tokens: FirebaseTokens, keys: KeyServer, clock: Clock, kind: str) -> None:
    published, verify, token = kinds(tokens, keys)[kind]
    assert answer(lambda: verify(token)) == "accepted"
    published.rotate(keep=0)
    clock.pass_by(HOUR + 1)
    verify(token)  # as any token is until others have come
    settle()
    assert answer(lambda: verify(token)) == "InvalidToken"
    assert published.fetches == 2


@pytest.mark.parametrize("kind", ["users", "apps"])
def test_a_token_seen_ends_when_its_key_is_replaced_under_its_name(
    tokens: FirebaseTokens, keys: KeyServer, clock: Clock, kind: str
) -> None:
    published, verify, token = kinds(tokens, keys)[kind]
    assert answer(lambda: verify(token)) == "accepted"
    good = published.factories
    published.factories = [TokenFactory(kit.key(8), published.factory.kid, published.project)]
    clock.pass_by(HOUR + 1)
    verify(token)
    settle()
    assert answer(lambda: verify(token)) == "InvalidToken"
    published.factories = good
    clock.pass_by(HOUR + 1)
    assert answer(lambda: verify(token)) == "InvalidToken"
    settle()
    assert answer(lambda: verify(token)) == "accepted"


@pytest.mark.parametrize("kind", ["users", "apps"])
def test_a_token_seen_outlives_an_outage_no_longer_than_its_key(
    tokens: FirebaseTokens, keys: KeyServer, clock: Clock, kind: str
) -> None:
    published, verify, token = kinds(tokens, keys)[kind]
    assert answer(lambda: verify(token)) == "accepted"
    with faulty(published, status(500)):
        clock.pass_by(13 * HOUR - 1)
        assert answer(lambda: verify(token)) == "accepted"
        settle()
        clock.pass_by(2)
        assert answer(lambda: verify(token)) == "Unavailable"


# Floods.


def test_tokens_of_unknown_keys_cause_one_fetch_in_ten_seconds(
    tokens: FirebaseTokens, keys: KeyServer, clock: Clock
) -> None:
    good = user(keys.users.factory)
    tokens.verify(good)
    stranger = kit.key(8)
    for period in range(1, 4):
        clock.pass_by(10.1)
        for n in range(100):
            flood = TokenFactory(stranger, f"flood-{n}", keys.users.project)
            assert answer(lambda flood=flood: tokens.verify(user(flood))) == "InvalidToken"  # type: ignore[misc]
        assert keys.users.fetches == 1 + period
    assert answer(lambda: tokens.verify(good)) == "accepted"


@pytest.mark.parametrize("known", [True, False])
def test_fifty_threads_cause_one_fetch(tokens: FirebaseTokens, keys: KeyServer, clock: Clock, known: bool) -> None:
    """At a cold start with good tokens; and later with tokens of a new key, all at once."""
    if not known:
        tokens.verify(user(keys.users.factory))
        keys.users.rotate()
        clock.pass_by(10.1)
    before = keys.users.fetches
    token = user(keys.users.factory)
    barrier = threading.Barrier(50)

    def verify(_: int) -> str:
        barrier.wait(10)
        return answer(lambda: tokens.verify(token))

    with faulty(keys.users, late(0.3)), ThreadPoolExecutor(50) as pool:
        assert set(pool.map(verify, range(50))) == {"accepted"}
    assert keys.users.fetches == before + 1


# Faults.


def slow_end(handler: kit.Handler, ended: threading.Event) -> None:
    """Good keys, and then white space that does not end."""
    drip([HEAD + b"\r\n" + handler.published.body, *[b" "] * 100])(handler, ended)


FAULTS: dict[str, Fault] = {
    "500": status(500),
    "503 with keys": lambda handler, ended: handler.answer(503, handler.published.body),
    "404": status(404, b"{}"),
    "204": status(204),
    "a redirection to good keys": redirect,
    "nothing": garbage(b""),
    "a page": garbage(b"<!doctype html><title>Sign in to the wireless network</title>"),
    "null": garbage(b"null"),
    "no object": garbage(b"[]"),
    "no keys": garbage(b"{}"),
    "no keys in a set": garbage(b'{"keys": []}'),
    "no text": garbage(b"\xff\xfe\x00{"),
    "a deep nest": garbage(b"[" * 100_000),
    "no key for an id": garbage(b'{"user-0": null, "keys": [null]}'),
    "text for a key": garbage(b'{"user-0": "-----BEGIN CERTIFICATE-----", "keys": ["app-0"]}'),
    "half of it": kit.cut_off,
    "a megabyte": lambda handler, ended: handler.answer(200, handler.published.body + b" " * 1_000_000),
    "an endless one": drip([HEAD + b"\r\n", *[b" " * 100_000] * 10_000], seconds=0),
    "no answer": hang,
    "an end without an answer": kit.hang_up,
    "no HTTP": drip([b"220 smtp ready\r\n"]),
    "a slow head": drip([HEAD, *[b"X-Slow: 1\r\n"] * 100]),
    "a slow line": drip([HEAD + b"X-Slow: ", *[b"x"] * 100]),
    "a slow body": drip([HEAD + b"Content-Length: 1000\r\n\r\n{", *[b" "] * 100]),
    "a slow end": slow_end,
}
SLOW = [fault for fault in FAULTS if fault.startswith("a slow")]
WAITED_FOR = {*SLOW, "no answer"}


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("users", fault) for fault in FAULTS] + [("apps", fault) for fault in FAULTS if fault not in WAITED_FOR],
)
def test_without_any_key_nobody_is_told_that_their_token_is_bad(
    tokens: FirebaseTokens, keys: KeyServer, clock: Clock, kind: str, fault: str
) -> None:
    published, verify = (keys.users, tokens.verify) if kind == "users" else (keys.apps, tokens.verify_app)
    factory = published.factory
    token = factory.sign(factory.id_claims() if kind == "users" else factory.app_claims())
    with faulty(published, FAULTS[fault]):
        assert answer(lambda: verify(token)) == "Unavailable"
        if kind == "users":
            assert answer(tokens.check) == "Unavailable"
        assert published.fetches == 1
        settle()
    clock.pass_by(1.1)
    assert answer(lambda: verify(token)) == "accepted"
    assert (published.fetches, published.followed) == (2, 0)
    tokens.check()


@pytest.mark.parametrize("fault", SLOW)
def test_a_fetch_ends_in_time_though_its_answer_does_not(
    tokens: FirebaseTokens, keys: KeyServer, clock: Clock, fault: str
) -> None:
    token = user(keys.users.factory)
    with faulty(keys.users, FAULTS[fault]):
        assert answer(lambda: tokens.verify(token)) == "Unavailable"
        settle(5.0)
    clock.pass_by(1.1)
    assert answer(lambda: tokens.verify(token)) == "accepted"


@pytest.mark.parametrize("fault", FAULTS)
def test_good_keys_outlive_an_outage(tokens: FirebaseTokens, keys: KeyServer, clock: Clock, fault: str) -> None:
    token = user(keys.users.factory)
    tokens.verify(token)
    clock.pass_by(HOUR + 1)
    with faulty(keys.users, FAULTS[fault]):
        started = time.monotonic()
        for _ in range(5):
            tokens.verify(token)
        tokens.check()
        assert time.monotonic() - started < SECONDS
        until(lambda: keys.users.hits > 0)
        settle()
        assert answer(lambda: tokens.verify(token)) == "accepted"
        assert keys.users.fetches == 2
    new = keys.users.rotate()
    clock.pass_by(10.1)
    assert answer(lambda: tokens.verify(user(new))) == "accepted"
    assert (keys.users.fetches, keys.users.followed) == (3, 0)


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_good_keys_are_believed_for_twelve_hours_beyond_their_time(
    tokens: FirebaseTokens, keys: KeyServer, clock: Clock
) -> None:
    token = user(keys.users.factory)
    tokens.verify(token)
    with faulty(keys.users, status(500)):
        for _ in range(12):
            clock.pass_by(HOUR)
            assert answer(lambda: tokens.verify(token)) == "accepted"
            settle()
        clock.pass_by(HOUR - 1)
        assert answer(lambda: tokens.verify(token)) == "accepted"
        settle()
        clock.pass_by(2)
        assert answer(lambda: tokens.verify(token)) == "Unavailable"
        assert answer(tokens.check) == "Unavailable"
    clock.pass_by(10.1)
    assert answer(lambda: tokens.verify(token)) == "accepted"


def test_during_an_outage_it_cannot_be_told_whether_an_unknown_key_is_googles(
    tokens: FirebaseTokens, keys: KeyServer, clock: Clock
) -> None:
    old = user(keys.users.factory)
    tokens.verify(old)
    new = user(keys.users.rotate())
    clock.pass_by(10.1)
    with faulty(keys.users, status(500)):
        for _ in range(20):
            assert answer(lambda: tokens.verify(new)) == "Unavailable"
            assert answer(lambda: tokens.verify(old)) == "accepted"
    assert keys.users.fetches == 2
    clock.pass_by(10.1)
    assert answer(lambda: tokens.verify(new)) == "accepted"


def test_a_bad_signature_of_a_known_key_is_told_during_an_outage(
    tokens: FirebaseTokens, keys: KeyServer, clock: Clock
) -> None:
    tokens.verify(user(keys.users.factory))
    clock.pass_by(HOUR + 1)
    with faulty(keys.users, status(500)):
        bad = keys.users.factory.sign(keys.users.factory.id_claims(), kit.key(8))
        assert answer(lambda: tokens.verify(bad)) == "InvalidToken"
        settle()


def test_one_kind_of_keys_fails_alone(tokens: FirebaseTokens, keys: KeyServer) -> None:
    apps = keys.apps.factory
    with faulty(keys.apps, status(500)):
        assert answer(lambda: tokens.verify_app(apps.sign(apps.app_claims()))) == "Unavailable"
        assert answer(lambda: tokens.verify(user(keys.users.factory))) == "accepted"
        tokens.check()


def test_nothing_is_fetched_more_than_once_a_second_where_there_are_no_keys(settings: Settings, clock: Clock) -> None:
    tokens = verifier(replace(settings, google_keys_emulator_host=f"127.0.0.1:{free_port()}"), clock)
    token = user(TokenFactory(kit.key(0), "user-0", settings.google_cloud_project))
    assert answer(lambda: tokens.verify(token)) == "Unavailable"
    settle()
    with KeyServer() as server:
        tokens = verifier(replace(settings, google_keys_emulator_host=server.host), clock)
        with faulty(server.users, status(500)):
            for _ in range(50):
                assert answer(lambda: tokens.verify(token)) == "Unavailable"
        assert server.users.fetches == 1
        clock.pass_by(1.1)
        assert answer(lambda: tokens.verify(token)) == "accepted"
        settle()


@pytest.mark.parametrize("warm", [False, True])
def test_while_keys_are_being_fetched_nobody_else_fetches_them(
    tokens: FirebaseTokens, keys: KeyServer, clock: Clock, warm: bool
) -> None:
    """Nor is a token refused whose key may be among them."""
    if warm:
        tokens.verify(user(keys.users.factory))
        keys.users.rotate()
        clock.pass_by(10.1)
    before = keys.users.fetches
    token = user(keys.users.factory)
    with faulty(keys.users, hang), ThreadPoolExecutor(1) as pool:
        first = pool.submit(answer, lambda: tokens.verify(token))
        until(lambda: keys.users.hits > 0)
        clock.pass_by(30)
        assert answer(lambda: tokens.verify(token)) == "Unavailable"
        assert any(thread.name == "keys" for thread in threading.enumerate()), "it waited for a fetch that is overdue"
        assert first.result(5) == "Unavailable"
    assert keys.users.fetches == before + 1


def test_a_cold_start_waits_three_seconds_for_keys_and_no_longer(settings: Settings, keys: KeyServer) -> None:
    given = replace(settings, google_keys_emulator_host=keys.host)
    tokens = FirebaseTokens(given, EnvironmentSecrets(given))
    with faulty(keys.users, drip([HEAD, *[b"X-Slow: 1\r\n"] * 100])):
        started = time.monotonic()
        with pytest.raises(Unavailable):
            tokens.verify(user(keys.users.factory))
        assert 2.9 < time.monotonic() - started < 4
        keys.ended.set()


BAD_SETS: dict[str, Callable[[dict[str, object]], object]] = {
    "a private key": lambda jwk: {**jwk, "d": base64url(kit.key(3).private_numbers().d.to_bytes(256, "big"))},
    "half a private key": lambda jwk: {**jwk, "d": "AQAB"},
    "no id": lambda jwk: {**jwk, "kid": None},
    "an empty id": lambda jwk: {**jwk, "kid": ""},
    "a number for a modulus": lambda jwk: {**jwk, "n": 7},
    "no modulus": lambda jwk: {name: value for name, value in jwk.items() if name != "n"},
    "no exponent": lambda jwk: {name: value for name, value in jwk.items() if name != "e"},
    "the exponent 1": lambda jwk: {**jwk, "e": "AQ"},
    "a modulus of zero": lambda jwk: {**jwk, "n": "A" * 340 + "AA"},
    "no base64": lambda jwk: {**jwk, "n": "&&&&"},
    "a weak key": lambda jwk: kit.jwk(new_key(1024), "app-0"),
    "another use": lambda jwk: {**jwk, "use": "enc"},
    "another algorithm": lambda jwk: {**jwk, "alg": "RS512"},
    "another kind": lambda jwk: {**jwk, "kty": "EC"},
}


@pytest.mark.parametrize("why", BAD_SETS)
def test_a_bad_key_is_never_kept(tokens: FirebaseTokens, keys: KeyServer, clock: Clock, why: str) -> None:
    apps = keys.apps.factory
    token = apps.sign(apps.app_claims())
    bad = BAD_SETS[why](kit.jwk(apps.private, apps.kid))
    with faulty(keys.apps, garbage(json.dumps({"keys": [bad]}).encode())):
        assert answer(lambda: tokens.verify_app(token)) == "Unavailable"
    clock.pass_by(1.1)
    assert answer(lambda: tokens.verify_app(token)) == "accepted"


def test_keys_of_other_kinds_beside_ours_are_left_out(tokens: FirebaseTokens, keys: KeyServer) -> None:
    apps = keys.apps.factory
    ours = kit.jwk(apps.private, apps.kid)
    curve = {"kty": "EC", "crv": "P-256", "kid": "curve", "x": "AA", "y": "AA", "use": "sig", "alg": "ES256"}
    others = [curve, {**ours, "kid": "enc", "use": "enc"}, {**ours, "kid": "pss", "alg": "PS256"}]
    keys.apps.fault = garbage(json.dumps({"keys": [*others, ours]}).encode())
    assert answer(lambda: tokens.verify_app(apps.sign(apps.app_claims()))) == "accepted"
    for kid in ("enc", "pss", "curve"):
        assert answer(lambda kid=kid: tokens.verify_app(apps.sign(apps.app_claims(), kid=kid))) == "InvalidToken"  # type: ignore[misc]


@pytest.mark.parametrize("kind", [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()])
def test_a_certificate_of_another_kind_spoils_the_set(
    tokens: FirebaseTokens, keys: KeyServer, kind: kit.CertificateKey
) -> None:
    pems = json.loads(keys.users.body) | {"other": kit.certificate(kind)}
    with faulty(keys.users, garbage(json.dumps(pems).encode())):
        assert answer(lambda: tokens.verify(user(keys.users.factory))) == "Unavailable"


def test_two_keys_of_one_name_and_too_many_keys_are_refused(
    tokens: FirebaseTokens, keys: KeyServer, clock: Clock
) -> None:
    apps = keys.apps.factory
    for listed in ([apps.kid] * 2, [apps.kid, *map(str, range(64))]):
        content = json.dumps({"keys": [kit.jwk(apps.private, kid) for kid in listed]}).encode()
        with faulty(keys.apps, garbage(content)):
            assert answer(lambda: tokens.verify_app(apps.sign(apps.app_claims()))) == "Unavailable"
        clock.pass_by(1.1)


# TLS, and what is written down.


def test_over_tls_the_server_must_be_the_one_that_it_says(
    keys: KeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, trusted = tls_certificate(tmp_path)
    server = keys.server
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://{keys.host}{keys.users.path}"
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    assert answer(lambda: KeySet(url, certificates, seconds=SECONDS).get("user-0")) == "Unavailable"
    assert keys.users.fetches == 0
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    assert answer(lambda: KeySet(url, certificates, seconds=SECONDS).get("user-0")) == "accepted"
    with faulty(keys.users, FAULTS["a slow body"]):
        assert answer(lambda: KeySet(url, certificates, seconds=SECONDS).get("user-0")) == "Unavailable"
        settle(5.0)


def test_a_failure_is_logged_without_any_token(
    tokens: FirebaseTokens, keys: KeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    token = user(keys.users.factory)
    with caplog.at_level(logging.DEBUG), faulty(keys.users, garbage(b"secret-of-the-network")):
        assert answer(lambda: tokens.verify(token)) == "Unavailable"
        settle()
    (record,) = [record for record in caplog.records if record.name == "brainstem"]
    assert record.getMessage() == "keys_not_fetched"
    told = str(vars(record))
    assert keys.users.path in told
    assert not any(part in told for part in (*token.split("."), "secret-of-the-network"))


def test_a_project_must_be_named(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="GOOGLE_CLOUD_PROJECT"):
        verifier(replace(settings, google_cloud_project=""))


# The Auth emulator's tokens.


def test_an_emulators_token_is_believed_only_where_an_emulator_is_set(
    settings: Settings, tokens: FirebaseTokens, keys: KeyServer
) -> None:
    make = keys.users.factory
    unsigned = make.unsigned(make.id_claims())
    emulated = verifier(replace(settings, firebase_auth_emulator_host=f"127.0.0.1:{free_port()}"))
    assert emulated.verify(unsigned)["sub"] == "ada"
    emulated.check()
    with pytest.raises(InvalidToken):
        emulated.verify(user(make))
    with pytest.raises(InvalidToken):
        tokens.verify(unsigned)


def test_of_an_emulators_token_all_but_the_signature_is_checked(settings: Settings, keys: KeyServer) -> None:
    make = keys.users.factory
    emulated = verifier(replace(settings, firebase_auth_emulator_host=f"127.0.0.1:{free_port()}"))
    good = make.unsigned(make.id_claims())
    header, payload, _ = good.split(".")
    bad = [
        make.unsigned(make.id_claims(**{name: value}))
        for name, values in BAD_ID_CLAIMS(make.project).items()
        for value in values
    ]
    bad += [make.unsigned(make.id_claims(), alg=alg) for alg in ("None", "NONE", "RS256", "HS256", "", None, 0)]
    bad += [make.unsigned(make.id_claims(), kid=kid) for kid in ("user-0", "", None)]
    bad += [make.unsigned(make.id_claims(), crit=["exp"]), make.unsigned(make.id_claims(), typ="at+jwt")]
    bad += ["", ".", "..", f"{header}.{payload}", f"{header}..", f".{payload}.", good + "AAAA", good + ".", " " + good]
    bad += [user(make), f"{header}.{payload}.{user(make).split('.')[2]}", good * 2, good + "A" * 9000]
    assert len(bad) >= 100
    for token in bad:
        with pytest.raises(InvalidToken):
            emulated.verify(token)
    emulated.verify(good)


def test_with_an_auth_emulator_apps_and_services_are_still_proved_by_signature(
    settings: Settings, keys: KeyServer
) -> None:
    given = replace(settings, firebase_auth_emulator_host="127.0.0.1:1", google_keys_emulator_host=keys.host)
    emulated = verifier(given)
    apps, services = keys.apps.factory, keys.services.factory
    assert emulated.verify_app(apps.sign(apps.app_claims()))
    assert emulated.verify_service(services.sign(services.service_claims()), AUDIENCE) == EMAIL
    for bad in (apps.unsigned(apps.app_claims()), apps.sign(apps.app_claims(), kit.key(8))):
        with pytest.raises(InvalidToken):
            emulated.verify_app(bad)
    for bad in (services.unsigned(services.service_claims()), services.sign(services.service_claims(), kit.key(8))):
        with pytest.raises(InvalidToken):
            emulated.verify_service(bad, AUDIENCE)
