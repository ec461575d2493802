"""Tokens that were proved a short while ago: one that is shown again costs a look, not a signature."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from service.backends import jwts

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

T = TypeVar("T")

SIZE = 5_000
"""Tokens that are remembered at most. What a usual one says takes some 2 kB (`bench.identity`)."""


class Known(NamedTuple, Generic[T]):
    """What a proved token said, and as long as that goes without saying: between two times, by one key."""

    said: T
    begins: int
    ends: int
    kid: str
    key: RSAPublicKey


class SeenTokens(Generic[T]):
    """Proves tokens of one kind and remembers what they say by their digests, so that no token is kept.

    What is remembered holds no longer than a proof would: within the token's own times, and while its key id still stands for the very
    key that proved it, which is asked each time. So a key that was withdrawn, replaced or can no longer be had ends what it proved at
    that moment. What may change sooner (whether a user was disabled) the caller asks on every call, as without this.
    """

    def __init__(
        self, keys: jwts.Keys, read: Callable[[jwts.Claims], T], *, typed: bool = False, size: int = SIZE
    ) -> None:
        self._keys = keys
        self._read = read
        self._typed = typed
        self._size = size
        self._known: OrderedDict[bytes, Known[T]] = OrderedDict()
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def prove(self, token: str) -> T:
        """Return what `read` makes of a token's claims; raises what it raises, and `InvalidToken` or `Unavailable`."""
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(digest)
        if known and known.begins <= time.time() < known.ends and self._keys(known.kid) is known.key:
            return known.said
        proof = jwts.proved(token, self._keys, typed=self._typed)
        said = self._read(proof.claims)
        begins, ends = jwts.span(proof.claims)
        self._remember(digest, Known(said, begins, ends, proof.kid, proof.key))
        return said

    def _remember(self, digest: bytes, known: Known[T]) -> None:
        """Keep a token as the newest, and forget the oldest that are over or too many."""
        with self._changing:
            self._known[digest] = known
            self._known.move_to_end(digest)
            while self._known and (len(self._known) > self._size or self._oldest().ends <= time.time()):
                self._known.popitem(last=False)

    def _oldest(self) -> Known[T]:
        return next(iter(self._known.values()))
