from __future__ import annotations

import time

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from service.errors import InvalidToken
from tests.contracts.conftest import Verification
from tests.kit.tokens import bad_app_tokens, bad_id_tokens

LIMIT_SECONDS = 0.05


def test_a_good_id_token_gives_its_claims(tokens: Verification) -> None:
    claims = tokens.factory.id_claims(apps=["recipes"], email="ada@example.com")
    assert tokens.verifier.verify(tokens.factory.sign(claims)) == claims


def test_a_good_app_check_token_gives_its_app(tokens: Verification) -> None:
    assert tokens.verifier.verify_app(tokens.factory.sign(tokens.factory.app_claims())) == "1:1234567890:web:abcdef"


@pytest.mark.parametrize("uid", ["a/b", "..", "a\0b", "__x__", "日本語", "u" * 128, " ", "é"])
def test_a_uid_may_be_anything_that_a_custom_token_may_hold(tokens: Verification, uid: str) -> None:
    assert tokens.verifier.verify(tokens.factory.sign(tokens.factory.id_claims(sub=uid)))["sub"] == uid


def test_clocks_may_differ_by_some_seconds(tokens: Verification) -> None:
    now = int(time.time())
    make = tokens.factory
    tokens.verifier.verify(make.sign(make.id_claims(exp=now - 3)))
    tokens.verifier.verify(make.sign(make.id_claims(iat=now + 3)))
    tokens.verifier.verify_app(make.sign(make.app_claims(exp=now - 3)))


def test_no_bad_id_token_passes(tokens: Verification, strange_key: RSAPrivateKey) -> None:
    table = dict(bad_id_tokens(tokens.factory, strange_key))
    assert len(table) >= 200
    outcomes = {why: outcome(tokens.verifier.verify, token) for why, token in table.items()}
    assert {why: result for why, result in outcomes.items() if result} == {}
    tokens.verifier.verify(tokens.factory.sign(tokens.factory.id_claims()))


def test_no_bad_app_check_token_passes(tokens: Verification, strange_key: RSAPrivateKey) -> None:
    table = dict(bad_app_tokens(tokens.factory, strange_key))
    assert len(table) >= 200
    outcomes = {why: outcome(tokens.verifier.verify_app, token) for why, token in table.items()}
    assert {why: result for why, result in outcomes.items() if result} == {}
    tokens.verifier.verify_app(tokens.factory.sign(tokens.factory.app_claims()))


def outcome(verify: object, token: str, attempts: int = 3) -> str:
    """Return what is wrong with a verifier's answer to a bad token: nothing, if it refuses it, soon and without repeating it.

    The best of three counts, for the machine may pause any of them.
    """
    assert callable(verify)
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
