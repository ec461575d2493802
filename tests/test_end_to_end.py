"""A newcomer's first hour against the real server, offline: a real PDF, the README's own commands, kill -9, and start again."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.debian import ANSWER_PAGE, ANSWER_SNIPPET, PAGES, QUESTION, debian_pdf
from tests.kit.files import pdf
from tests.kit.required import left_out
from tests.kit.server import ROOT, Server

pytestmark = [pytest.mark.offline_model, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("end-to-end") / "data"


@pytest.fixture(scope="module")
def ingested(data: Path) -> Any:
    """The document of a real PDF, ingested by a server that keeps its data in `data`."""
    assert PAGES > 20
    with Server(data) as server:
        document = server.upload("assistant", "fhs.pdf", debian_pdf().read_bytes(), server.sign_in("ada"))
    assert document["status"] == "COMPLETED", document
    return document


@pytest.fixture
def server(data: Path, ingested: Any) -> Iterator[Server]:
    with Server(data) as running:
        yield running


def flat(text: str) -> str:
    return " ".join(text.split())


def test_a_question_about_a_real_pdf_is_answered_with_the_right_passage(server: Server, ingested: Any) -> None:
    body = {"text": QUESTION}
    status, turn = server.request("POST", "/v1/apps/assistant/chats/real/messages", body, server.sign_in("ada"))
    assert (status, turn["status"]) == (200, "COMPLETED")
    right = [n for n, passage in enumerate(turn["citations"], 1) if ANSWER_SNIPPET in flat(passage["text"])]
    assert right, [flat(passage["text"])[:80] for passage in turn["citations"]]
    passage = turn["citations"][right[0] - 1]
    assert (passage["document"], passage["page"], passage["title"]) == (ingested["id"], ANSWER_PAGE, "fhs.pdf")
    assert f"[{right[0]}]" in turn["reply"]
    assert "language model" in turn["reply"]


def test_a_server_killed_in_the_midst_of_an_answer_keeps_everything(data: Path, ingested: Any) -> None:
    environ = {"STAND_IN_WORDS_PER_SECOND": "10", "LEASE_SECONDS": "2"}
    with Server(data, environ) as server:
        ada = server.sign_in("ada")
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        headers = {**ada, "Content-Type": "application/json", "Accept": "text/event-stream"}
        connection.request(
            "POST", "/v1/apps/assistant/chats/killed/messages", json.dumps({"text": QUESTION, "id": "m1"}), headers
        )
        response, seen = connection.getresponse(), b""
        while seen.count(b"event: delta") < 15:
            seen += response.readline()
        server.kill()
        connection.close()
    with Server(data) as server:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            _, chat = server.request("GET", "/v1/apps/assistant/chats/killed", headers=ada)
            if chat["turns"][0]["status"] == "INTERRUPTED":
                break
            time.sleep(0.2)
        [turn] = chat["turns"]
        assert (turn["status"], turn["prompt"]) == ("INTERRUPTED", QUESTION)
        assert turn["reply"]
        _, found = server.request("POST", "/v1/apps/assistant/search", {"text": QUESTION}, ada)
        assert any(ANSWER_SNIPPET in flat(passage["text"]) for passage in found["passages"])


def readme_blocks() -> list[str]:
    """The shell commands under "The API by example", paragraph by paragraph."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## The API by example")[2]
    [block] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)[:1]
    return [paragraph for paragraph in block.split("\n\n") if paragraph.strip()]


def test_the_commands_of_the_readme_work_as_they_stand(tmp_path: Path, server: Server) -> None:
    if shutil.which("curl") is None:
        left_out("curl", "needs curl")
    (tmp_path / "handbook.pdf").write_bytes(pdf(["Parental leave lasts fourteen weeks. It is paid in full."]))
    script = "\n".join(readme_blocks()).replace("8080", str(server.port))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert '"status":"PENDING"' in done.stdout
    assert '"passages":[' in done.stdout
    names = re.findall(r"^event: (\w+)$", done.stdout, re.MULTILINE)
    assert names[0] == "accepted"
    assert names[-1] == "done"
    assert "delta" in names
