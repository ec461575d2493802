"""The SDK's client for an endpoint, made on first use and shared by all threads, and the loop that tries a call again."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from service.backends.openai.calls import Call
from service.backends.openai.endpoint import Endpoint
from service.backends.openai.refusals import Retries

if TYPE_CHECKING:
    import openai

T = TypeVar("T")


class SDK:
    """Makes the calls that no stream waits for, and blocks while they last."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._client: openai.OpenAI | None = None

    def send(self, call: Call, request: Callable[[openai.OpenAI], T], retries: Retries) -> T:
        """Send a request until it is answered or no attempt may help; raises the SDK's errors, for the caller to map."""
        from service.backends.openai.failures import FAILURES, another_connection, refusal

        attempt = 0
        while True:
            try:
                with call.running():
                    return request(self.client())
            except FAILURES as exc:
                refused = refusal(exc)
                if not refused and not another_connection(exc, call, attempt):
                    raise
                pause = retries.pause(refused, attempt, call.age)
                if pause is None:
                    raise
            time.sleep(pause)
            attempt += 1

    def client(self) -> openai.OpenAI:
        with self._lock:
            if self._client is None:
                self._client = self._build()
            return self._client

    def _build(self) -> openai.OpenAI:
        import httpx2
        import openai

        from service.backends.openai.wire import Transport

        # At lower levels they log addresses, bodies and headers, whatever the environment says.
        for name in ("openai", "httpx2", "httpcore2"):
            logging.getLogger(name).setLevel(logging.WARNING)
        client = httpx2.Client(
            transport=Transport(),
            headers={"accept-encoding": "identity"},
            timeout=httpx2.Timeout(None, connect=self._endpoint.connect_seconds),
            follow_redirects=False,
            trust_env=False,
        )
        # Nothing closes an adapter, so its connections end with it.
        weakref.finalize(self, client.close)
        return openai.OpenAI(
            api_key=self._endpoint.key.get, base_url=self._endpoint.url, max_retries=0, http_client=client
        )
