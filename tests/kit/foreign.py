"""A token verifier that is not this machine's, as Firebase's is not."""

from __future__ import annotations

from collections.abc import Mapping

from service.backends.interfaces import Secrets
from service.config import Settings
from service.errors import InvalidToken


class Tokens:
    """Verifies nothing and mints nothing."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        pass

    def verify(self, token: str) -> Mapping[str, object]:
        raise InvalidToken

    def verify_app(self, token: str) -> str:
        raise InvalidToken

    def check(self) -> None:
        pass
