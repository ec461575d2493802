"""Tokens whose check waits, or fails, so that a test sees a server that is starting."""

from __future__ import annotations

import threading
import time

from service.backends.interfaces import Secrets
from service.backends.local.tokens import LocalTokens
from service.config import Settings
from service.errors import Unavailable

SECRET = "canary-of-the-check"
GO = "go"
"""The file of the data folder that lets a check go on."""


class HeldTokens(LocalTokens):
    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        super().__init__(settings, secrets)
        self._go = settings.data_dir / GO

    def check(self) -> None:
        while not self._go.exists():
            time.sleep(0.01)
        super().check()


class FailingTokens(LocalTokens):
    """Behind the first requests it fails as no adapter should; who asks is told what is wrong."""

    def check(self) -> None:
        if threading.current_thread().name == "warm":
            raise RuntimeError(SECRET)
        raise Unavailable("The keys are away.")
