"""What one turn is made of: the CPU that each of its parts takes, one after the other in a thread that does nothing else.

Together they are less than a turn takes in a server, where threads and other processes drive what was just used out of the caches.
"""

from __future__ import annotations

import asyncio
import io
import json
import socket
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import uvloop
from gunicorn.config import Config  # type: ignore[import-untyped]  # nothing of gunicorn has types
from gunicorn.http import wsgi  # type: ignore[import-untyped]
from gunicorn.http.parser import RequestParser  # type: ignore[import-untyped]

from bench.measure import TOKENS
from bench.systems import QUESTION, Upstream
from service.api.answers import TAKES_OVER, Answer, Last
from service.api.pump import Pump
from service.app import create_app
from service.auth import authenticate
from service.backends.interfaces import Create
from service.chat.prepare import Prepared
from service.config import Settings
from service.context import Retrieved, build
from service.conversations import new_turn
from service.models import Scope
from service.records import to_record
from tests.kit.apps import write_app

PATH = "/v1/apps/plain/chats/{}/messages"
ROUNDS = 5
TIMES = 200


def run() -> None:
    """Print the microseconds of each part; the least of some rounds, for only that is the part's own."""
    with tempfile.TemporaryDirectory() as folder, Upstream() as upstream:
        upstream.script(TOKENS)
        turn = Turn(Path(folder), upstream.url)
        show("gunicorn: parse the request, make its environment", turn.parse)
        show("Flask, API, prepare: a message until it is handed over", turn.message)
        show("  in it: prove a token that was seen", turn.prove)
        show("  in it: prepare", turn.prepare)
        show("    in that: read chat, turn and recent turns", turn.read)
        show("    in that: accept, one commit", turn.accept)
        show("    in that: compose the prompt", turn.compose)
        print(f"{'ask the model, pump 32 tokens, save the end':56} {turn.pump():6.0f} µs")
        turn.services.backends.queue.stop()


class Turn:
    """The service in this process, and each part of a turn as something to call."""

    def __init__(self, folder: Path, upstream: str) -> None:
        write_app(folder / "apps", "plain", "[retrieval]\nenabled = false\n")
        chosen = {"DATA_DIR": str(folder / "data"), "APPS_DIR": str(folder / "apps")}
        settings = Settings.load({**chosen, "OPENAI_BASE_URL": upstream, "OPENAI_API_KEY": "none"}, dotenv=None)
        self.flask = create_app(settings)
        self.services = self.flask.extensions["brainstem"]
        self.token = self.flask.test_client().post("/local/sign-in", json={"user": "ada"}).json["token"]
        self.scope, self.app = Scope("plain", "ada"), self.services.apps.get("plain")
        self._chats = (f"c{n}" for n in count())
        self._record = to_record(new_turn("c", "t", QUESTION))
        self._here, self._there = socket.socketpair()
        self._config = Config()
        for name, value in {"forwarded_allow_ips": "", "forwarder_headers": "", "secure_scheme_headers": {}}.items():
            self._config.set(name, value)

    def parse(self) -> None:
        body = json.dumps({"text": QUESTION})
        head = f"POST {PATH.format('c')} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Authorization: Bearer {self.token}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._there.sendall((head + body).encode())
        request = next(RequestParser(self._config, self._here, ("127.0.0.1", 1)))
        _, environ = wsgi.create(request, self._here, ("127.0.0.1", 1), ("127.0.0.1", 2), self._config)
        environ["wsgi.input"].read()

    def message(self) -> None:
        body = json.dumps({"text": QUESTION}).encode()
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": PATH.format(next(self._chats)),
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_AUTHORIZATION": f"Bearer {self.token}",
            "HTTP_HOST": "localhost",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            TAKES_OVER: True,
        }
        assert isinstance(self.flask(environ, lambda *_: lambda _: None), Answer)

    def prove(self) -> None:
        authenticate(self.services.backends.tokens, f"Bearer {self.token}", None)

    def prepare(self) -> Prepared:
        prepared = self.services.turns.prepare(self.scope, self.app, next(self._chats), None, QUESTION)
        assert isinstance(prepared, Prepared)
        return prepared

    def read(self) -> None:
        paths = [("chats", "c0"), ("chats", "c0", "turns", "t"), ("chats", "c0", "recent", "turns")]
        self.services.backends.documents.get(self.scope, *paths)

    def accept(self) -> None:
        chat, turn = next(self._chats), self._record
        writes = [Create(("chats", chat), turn), Create(("chats", chat, "turns", "t"), turn)]
        self.services.backends.documents.commit(self.scope, writes)

    def compose(self) -> None:
        build(self.app, QUESTION, (), {}, Retrieved())

    def pump(self) -> float:
        """Return the microseconds of a turn from where it is prepared to where its end is saved."""
        return 1e6 * min(uvloop.run(self._pumped([self.prepare() for _ in range(TIMES)])) for _ in range(ROUNDS))

    async def _pumped(self, turns: list[Prepared]) -> float:
        services, begun = self.services, time.process_time()
        for turn in turns:
            model, saving = services.backends.model, services.loop.saving
            await Pump(turn, model, services.conversations, saving, turn_seconds=60, tick=1.0).run(Last())
            await asyncio.sleep(0)
        return (time.process_time() - begun) / len(turns)


def show(name: str, part: Callable[[], object]) -> None:
    best = min(timed(part) for _ in range(ROUNDS))
    print(f"{name:56} {best * 1e6:6.0f} µs")


def timed(part: Callable[[], object]) -> float:
    begun = time.process_time()
    for _ in range(TIMES):
        part()
    return (time.process_time() - begun) / TIMES


if __name__ == "__main__":
    run()
