from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from service.errors import InvalidToken
from tests.contracts.conftest import Verification
from tests.kit.tokens import AUDIENCE, EMAIL, bad_app_tokens, bad_id_tokens, bad_service_tokens, crossed

LIMIT_SECONDS = 0.05
APP = "1:1234567890:web:abcdef"
# How many bad tokens each verifier is shown at least. Who takes some away says so here.
FLOOR = {"user": 260, "app": 265, "service": 275, "crossed": 30}


def test_a_good_id_token_gives_its_claims(tokens: Verification) -> None:
    claims = tokens.users.id_claims(apps=["recipes"], email="ada@example.com")
    assert tokens.verifier.verify(tokens.users.sign(claims)) == claims


def test_a_good_app_check_token_gives_its_app(tokens: Verification) -> None:
    assert tokens.verifier.verify_app(tokens.apps.sign(tokens.apps.app_claims())) == APP


@pytest.mark.parametrize("issuer", ["https://accounts.google.com", "accounts.google.com"])
def test_a_good_oidc_token_gives_its_accounts_address(tokens: Verification, issuer: str) -> None:
    token = tokens.services.sign(tokens.services.service_claims(iss=issuer))
    assert tokens.verifier.verify_service(token, AUDIENCE) == EMAIL


def test_an_oidc_token_holds_for_its_audience_alone(tokens: Verification) -> None:
    token = tokens.services.sign(tokens.services.service_claims())
    for other in ("", "*", AUDIENCE + "/", AUDIENCE.upper(), AUDIENCE[:-1], "https://other.example"):
        with pytest.raises(InvalidToken):
            tokens.verifier.verify_service(token, other)
    nowhere: object
    for nowhere in ("", None, []):
        with pytest.raises(InvalidToken):
            tokens.verifier.verify_service(tokens.services.sign(tokens.services.service_claims(aud=nowhere)), "")


@pytest.mark.parametrize("uid", ["a/b", "..", "a\0b", "__x__", "日本語", "u" * 128, " ", "é"])
def test_a_uid_may_be_anything_that_a_custom_token_may_hold(tokens: Verification, uid: str) -> None:
    assert tokens.verifier.verify(tokens.users.sign(tokens.users.id_claims(sub=uid)))["sub"] == uid


def test_a_token_of_a_tenant_says_so(tokens: Verification) -> None:
    firebase = {"identities": {}, "sign_in_provider": "password", "tenant": "agency-x1y2z"}
    claims = tokens.verifier.verify(tokens.users.sign(tokens.users.id_claims(firebase=firebase)))
    assert claims["firebase"] == firebase


def test_clocks_may_differ_by_some_seconds(tokens: Verification) -> None:
    now = int(time.time())
    users, apps, services = tokens.users, tokens.apps, tokens.services
    for changes in ({"exp": now - 3}, {"iat": now + 3}, {"nbf": now + 3}):
        tokens.verifier.verify(users.sign(users.id_claims(**changes)))
        tokens.verifier.verify_app(apps.sign(apps.app_claims(**changes)))
        tokens.verifier.verify_service(services.sign(services.service_claims(**changes)), AUDIENCE)


def test_no_bad_id_token_passes(tokens: Verification, strange_key: RSAPrivateKey) -> None:
    assert accepted(tokens.verifier.verify, bad_id_tokens(tokens.users, strange_key), FLOOR["user"]) == {}
    tokens.verifier.verify(tokens.users.sign(tokens.users.id_claims()))


def test_no_bad_app_check_token_passes(tokens: Verification, strange_key: RSAPrivateKey) -> None:
    assert accepted(tokens.verifier.verify_app, bad_app_tokens(tokens.apps, strange_key), FLOOR["app"]) == {}
    tokens.verifier.verify_app(tokens.apps.sign(tokens.apps.app_claims()))


def test_no_bad_oidc_token_passes(tokens: Verification, strange_key: RSAPrivateKey) -> None:
    bad = bad_service_tokens(tokens.services, strange_key)
    assert accepted(as_service(tokens), bad, FLOOR["service"]) == {}
    as_service(tokens)(tokens.services.sign(tokens.services.service_claims()))


def test_no_token_passes_in_anothers_place(tokens: Verification) -> None:
    doors = {"user": tokens.verifier.verify, "app": tokens.verifier.verify_app, "service": as_service(tokens)}
    table = list(crossed(tokens.users, tokens.apps, tokens.services))
    assert len(table) >= FLOOR["crossed"]
    outcomes = {f"{why}, shown as {place}": outcome(doors[place], token) for why, place, token in table}
    assert len(outcomes) == len(table)
    assert {why: result for why, result in outcomes.items() if result} == {}


# A token that was seen before.


def test_a_token_seen_says_what_it_said_and_costs_a_tenth(tokens: Verification) -> None:
    claims = tokens.users.id_claims(sub="bob")
    fresh = [tokens.users.sign(tokens.users.id_claims(sub=f"user-{n}")) for n in range(50)]
    app = tokens.apps.sign(tokens.apps.app_claims())
    token = tokens.users.sign(claims)
    for _ in range(3):
        assert tokens.verifier.verify(token) == claims
        assert tokens.verifier.verify_app(app) == APP
    new = cpu_seconds(tokens.verifier.verify, fresh)
    assert min(cpu_seconds(tokens.verifier.verify, [token] * 50) for _ in range(5)) < new / 10


def cpu_seconds(verify: Callable[[str], object], shown: list[str]) -> float:
    started = time.thread_time()
    for token in shown:
        verify(token)
    return time.thread_time() - started


def test_a_token_seen_ends_when_it_says(tokens: Verification, monkeypatch: pytest.MonkeyPatch) -> None:
    now = int(time.time())
    token = tokens.users.sign(tokens.users.id_claims(iat=now - 60, exp=now + 600))
    app = tokens.apps.sign(tokens.apps.app_claims(iat=now - 60, exp=now + 600, nbf=now - 30))

    def at(moment: float) -> tuple[bool, bool]:
        monkeypatch.setattr(time, "time", lambda: moment)
        return takes(tokens.verifier.verify, token), takes(tokens.verifier.verify_app, app)

    assert at(now) == at(now + 1) == at(now + 599) == (True, True)
    assert at(now + 609) == (True, True)  # clocks may differ
    assert at(now + 611) == at(now + 86400) == (False, False)
    # A clock that was set back tells what it would tell of a new token.
    assert at(now - 39) == (True, True)
    assert at(now - 41) == (True, False)
    assert at(now - 71) == (False, False)
    assert at(now) == (True, True)


def test_a_token_seen_lets_none_in_that_differs_by_a_character(tokens: Verification) -> None:
    for verify, token in (
        (tokens.verifier.verify, tokens.users.sign(tokens.users.id_claims())),
        (tokens.verifier.verify_app, tokens.apps.sign(tokens.apps.app_claims())),
    ):
        verify(token)
        others = [token[:n] + ("B" if token[n] == "A" else "A") + token[n + 1 :] for n in range(len(token))]
        others += [token[:n] for n in range(len(token))]
        others += [token + more for more in ("A", "=", ".", " ", "\n", "\0", "é", "\ud800")] + [
            " " + token,
            token.upper(),
        ]
        assert [n for n, other in enumerate(others) if takes(verify, other)] == []
        assert takes(verify, token)


def test_a_token_seen_in_its_place_does_not_hold_in_another(tokens: Verification) -> None:
    user = tokens.users.sign(tokens.users.id_claims())
    app = tokens.apps.sign(tokens.apps.app_claims())
    service = tokens.services.sign(tokens.services.service_claims())
    doors = [(tokens.verifier.verify, user), (tokens.verifier.verify_app, app), (as_service(tokens), service)]
    for _ in range(2):
        assert [[takes(door, token) for _, token in doors] for door, _ in doors] == [
            [True, False, False],
            [False, True, False],
            [False, False, True],
        ]


def test_nobody_changes_what_a_token_seen_says(tokens: Verification) -> None:
    token = tokens.users.sign(tokens.users.id_claims())
    claims = tokens.verifier.verify(token)
    with pytest.raises(TypeError):
        claims["sub"] = "eve"
    assert tokens.verifier.verify(token)["sub"] == "ada"


def takes(verify: Callable[[str], object], token: str) -> bool:
    try:
        verify(token)
    except InvalidToken:
        return False
    return True


def as_service(tokens: Verification) -> Callable[[str], object]:
    return lambda token: tokens.verifier.verify_service(token, AUDIENCE)


def accepted(verify: Callable[[str], object], bad: Iterable[tuple[str, str]], floor: int) -> dict[str, str]:
    """Return what is wrong with a verifier's answers to bad tokens, of which there must be so many."""
    table = [(f"{n}: {why}", token) for n, (why, token) in enumerate(bad)]
    shown = len({token for _, token in table})
    assert shown >= floor, f"only {shown} bad tokens were shown"
    outcomes = {why: outcome(verify, token) for why, token in table}
    return {why: result for why, result in outcomes.items() if result}


def outcome(verify: Callable[[str], object], token: str, attempts: int = 3) -> str:
    """Return what is wrong with a verifier's answer to a bad token: nothing, if it refuses it, soon and without repeating it.

    The best of three counts, for the machine may pause any of them.
    """
    started = time.perf_counter()
    try:
        verify(token)
    except InvalidToken as exc:
        seconds = time.perf_counter() - started
        told = "".join(text(each) for each in chain(exc))
        if seconds > LIMIT_SECONDS:
            return outcome(verify, token, attempts - 1) if attempts > 1 else f"took {seconds:.3f} s"
        return "repeated" if any(part in told for part in token.split(".") if len(part) > 8) else ""
    except Exception as exc:  # noqa: BLE001  # whatever else comes out is the finding
        return f"raised {type(exc).__name__}"
    return "accepted"


def chain(error: BaseException | None) -> list[BaseException]:
    """Return an error and all that stand behind it in a traceback."""
    return (
        []
        if error is None
        else [error, *chain(error.__cause__ or (None if error.__suppress_context__ else error.__context__))]
    )


def text(error: BaseException) -> str:
    return f"{error} {error.args} {getattr(error, 'doc', '')}"


def test_it_is_ready(tokens: Verification) -> None:
    tokens.verifier.check()
