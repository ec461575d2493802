"""The real service as a process: gunicorn on a free port of 127.0.0.1, to be asked over HTTP and to be killed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from service.proof.process import free_port

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 30.0


class Server:
    """`brainstem serve` with its data in `data_dir`; restart it on the same data by entering a new one."""

    def __init__(
        self, data_dir: Path, environ: Mapping[str, str] | None = None, apps_dir: Path = ROOT / "apps"
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environ = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ},
            "DATA_DIR": str(data_dir),
            "APPS_DIR": str(apps_dir),
            "WEB_DIR": str(ROOT / "web"),
            "PORT": str(self.port),
            "STAND_IN_WORDS_PER_SECOND": "0",
            **(environ or {}),
        }
        self._data_dir = data_dir
        self.process: subprocess.Popen[bytes] | None = None
        self.start_seconds = 0.0

    def __enter__(self) -> Self:
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self.log = self._data_dir.parent / f"server-{self.port}.log"
        started = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", "serve"],
                cwd=ROOT,
                env=self._environ,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while time.monotonic() - started < START_SECONDS:
            if self.process.poll() is not None:
                break
            try:
                if self.request("GET", "/health")[0] == 200:
                    self.start_seconds = time.monotonic() - started
                    return self
            except OSError:
                time.sleep(0.01)
        self.kill()
        raise AssertionError(f"The server did not start:\n{self.log.read_text(errors='replace')}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process and self.process.poll() is None:
            self.terminate()

    def terminate(self, seconds: float = 10.0) -> int:
        """End it as Cloud Run does, by SIGTERM, and return its exit code."""
        assert self.process
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL the process and all its children at once."""
        assert self.process
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def processes(self) -> list[psutil.Process]:
        """The server's process and its workers."""
        assert self.process
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def request(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """One request of its own connection; returns the status and the JSON answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
            given = {"Content-Type": "application/json"} if data is not None and not isinstance(body, bytes) else {}
            connection.request(method, path, data, {**given, **(headers or {})})
            response = connection.getresponse()
            answer = response.read()
            return response.status, json.loads(answer) if answer else None
        finally:
            connection.close()

    def sign_in(self, user: str = "ada") -> dict[str, str]:
        """Headers that make a request this user's."""
        status, answer = self.request("POST", "/local/sign-in", {"user": user})
        assert status == 200, answer
        return {"Authorization": f"Bearer {answer['token']}"}

    def upload(self, app: str, name: str, content: bytes, headers: Mapping[str, str]) -> Any:
        """Upload a file and wait until it is searchable or has failed; return its document."""
        boundary = "kit-boundary"
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}", **headers}
        status, document = self.request("POST", f"/v1/apps/{app}/documents", body, kind)
        assert status in (200, 202), document
        for _ in range(1200):
            _, found = self.request("GET", f"/v1/apps/{app}/documents/{document['id']}", headers=headers)
            if found["status"] in ("COMPLETED", "FAILED"):
                return found
            time.sleep(0.1)
        raise AssertionError(f"{name} is still {found['status']}")
