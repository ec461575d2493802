"""What is remembered of tokens stays within its bound and its time, whoever comes at once."""

from __future__ import annotations

import gc
import time
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from service.backends.jwts import Claims
from service.backends.seen import SeenTokens
from service.errors import InvalidToken
from tests.kit.tokens import TokenFactory, new_key


class Said:
    """What a token said; those that are alive are remembered, those counted were proved."""

    alive: weakref.WeakSet[Said]
    proved: Counter[str]

    def __init__(self, claims: Claims) -> None:
        self.sub = str(claims["sub"])
        Said.alive.add(self)
        Said.proved[self.sub] += 1


@pytest.fixture(scope="module")
def private() -> RSAPrivateKey:
    return new_key()


@pytest.fixture
def factory(private: RSAPrivateKey) -> TokenFactory:
    Said.alive, Said.proved = weakref.WeakSet(), Counter()
    return TokenFactory(private, "k1", "demo-brainstem")


def seen(private: RSAPrivateKey, size: int = 10) -> SeenTokens[Said]:
    public = private.public_key()
    return SeenTokens(lambda kid: public, Said, size=size)


def remembered() -> set[str]:
    gc.collect()
    return {said.sub for said in Said.alive}


def test_the_newest_are_remembered_and_no_more(private: RSAPrivateKey, factory: TokenFactory) -> None:
    tokens = seen(private)
    signed = [factory.sign(factory.id_claims(sub=str(n))) for n in range(100)]
    for token in signed:
        tokens.prove(token)
    assert remembered() == {str(n) for n in range(90, 100)}
    for token in signed[90:]:
        tokens.prove(token)
    assert set(Said.proved.values()) == {1}
    assert tokens.prove(signed[0]).sub == "0"
    assert Said.proved["0"] == 2


def test_who_are_over_are_forgotten_when_others_come(
    private: RSAPrivateKey, factory: TokenFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = seen(private)
    now = int(time.time())
    for n in range(3):
        tokens.prove(factory.sign(factory.id_claims(sub=str(n), exp=now + 60)))
    monkeypatch.setattr(time, "time", lambda: now + 61.0)
    tokens.prove(factory.sign(factory.id_claims(sub="later")))
    assert remembered() == {"later"}


def test_nothing_is_remembered_of_a_token_that_was_refused(private: RSAPrivateKey, factory: TokenFactory) -> None:
    tokens = seen(private)
    for token in ("", "x.y.z", factory.sign(factory.id_claims(), new_key())):
        for _ in range(2):
            with pytest.raises(InvalidToken):
                tokens.prove(token)
    assert not Said.proved


def test_many_threads_each_get_their_own(private: RSAPrivateKey, factory: TokenFactory) -> None:
    tokens = seen(private, size=3)
    signed = {str(n): factory.sign(factory.id_claims(sub=str(n))) for n in range(8)}

    def show(n: int) -> bool:
        return all(tokens.prove(token).sub == sub for _ in range(40) for sub, token in sorted(signed.items(), key=hash))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(show, range(8)))
    assert len(remembered()) <= 3
