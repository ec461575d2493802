"""A whole corpus through the real service, past an embedding server that refuses what is above its rate, as providers do.

`make ingest-1000` runs it with a thousand documents; otherwise there are fewer of them.
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from service.backends.interfaces import Embedder, Embeddings
from service.backends.local.bucket import Bucket
from service.errors import UpstreamBusy, UpstreamQuota
from service.ingestion import pacing
from service.ingestion.pacing import PacedEmbedder
from tests.kit.apps import write_app
from tests.kit.server import ROOT, Server
from tests.kit.upstream import Request, Response, Upstream, faults

FULL = bool(os.environ.get("BRAINSTEM_TEST_1000_DOCUMENTS"))
DOCUMENTS = 1000 if FULL else 70
PER_SECOND = 5 if FULL else 3
"""Less than a machine that does other things beside can ingest: else that, and not the provider, is what is waited for."""

LEAST_USED, MOST_REFUSED = (0.9, 0.1) if FULL else (0.6, 0.2)
"""The share of the provider's rate that is used, and of the calls that are refused: of a short run the beginning, when it is not known yet, is a large part."""


class Limited(Upstream):
    """Takes so many embedding calls a second, and as many at once after a rest; what is above gets 429 and `Retry-After: 1`."""

    def __init__(self, per_second: float) -> None:
        super().__init__(record=False)
        self.answered: list[float] = []
        self.refused: list[float] = []
        self._bucket = Bucket(per_second)

    def __enter__(self) -> Limited:
        super().__enter__()
        return self

    def respond(self, request: Request) -> Response:
        if request.path == "/v1/embeddings":
            if self._bucket.take():
                self.refused.append(time.monotonic())
                return faults.rate_limited(retry_after=1)
            self.answered.append(time.monotonic())
        return super().respond(request)


def corpus(count: int) -> list[bytes]:
    """Small documents of real prose, each another one: some paragraphs of the documentation in bench/retrieval, always the same."""
    pages = sorted((ROOT / "bench" / "retrieval" / "corpus").glob("*.md"))
    text = "\n\n".join(page.read_text(encoding="utf-8") for page in pages)
    paragraphs = [part for part in re.split(r"\n\s*\n", text) if len(part) > 150 and "```" not in part]
    chance = random.Random(7)
    notes = ("\n\n".join([f"# Note {n}", *chance.sample(paragraphs, 3)]) for n in range(count))
    return [note.encode() for note in notes]


def send(server: Server, headers: dict[str, str], n: int, content: bytes) -> str:
    head = f'--kit\r\nContent-Disposition: form-data; name="file"; filename="note{n}.md"\r\n\r\n'
    body = head.encode() + content + b"\r\n--kit--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=kit", **headers}
    status, document = server.request("POST", "/v1/apps/alpha/documents", body, kind)
    assert status == 202, document
    return str(document["id"])


@pytest.mark.timeout(900 if FULL else 120)
def test_a_corpus_is_ingested_at_the_rate_that_the_provider_gives(tmp_path: Path) -> None:
    write_app(tmp_path / "apps", "alpha", "")
    documents = corpus(DOCUMENTS)
    assert len(set(documents)) == DOCUMENTS
    with Limited(PER_SECOND) as upstream:
        environ = {
            "OPENAI_BASE_URL": upstream.url,
            "OPENAI_API_KEY": "sk-canary",
            "EMBEDDING_DIMENSIONS": "64",
            "INGEST_WORKERS": "4",
        }
        with Server(tmp_path / "data", environ, tmp_path / "apps") as server:
            headers = server.sign_in()
            with ThreadPoolExecutor(4) as clients:
                sent = list(clients.map(lambda pair: send(server, headers, *pair), enumerate(documents)))
            assert len(set(sent)) == DOCUMENTS
            jobs = finished(server, headers)
            _, usage = server.request("GET", "/v1/apps/alpha/usage", headers=headers)
    seconds = upstream.answered[-1] - upstream.answered[0]
    used = len(upstream.answered) / (PER_SECOND * (1 + seconds))
    refused = len(upstream.refused) / (len(upstream.refused) + len(upstream.answered))
    figures = f"{DOCUMENTS} documents in {seconds:.1f} s, {used:.1%} of the rate used, {refused:.1%} refused"
    sys.stdout.write(f"{figures}\n")
    assert {job["status"] for job in jobs} == {"COMPLETED"}
    assert {job["attempts"] for job in jobs} == {1}, "one began again"
    assert len(upstream.answered) == DOCUMENTS == usage["calls"], "each call that was paid is in the ledger, once"
    assert upstream.refused, "nothing was refused"
    assert refused < MOST_REFUSED, figures
    assert used > LEAST_USED, figures


def finished(server: Server, headers: dict[str, str]) -> list[dict[str, object]]:
    """Wait until each document has been ingested, or not, and return the jobs."""
    deadline = time.monotonic() + (800 if FULL else 100)
    while True:
        jobs, cursor = list[dict[str, object]](), ""
        while True:
            _, page = server.request("GET", f"/v1/apps/alpha/jobs?limit=100{cursor}", headers=headers)
            jobs += page["jobs"]
            if not page.get("nextCursor"):
                break
            cursor = f"&cursor={page['nextCursor']}"
        if all(job["status"] not in ("PENDING", "PROCESSING") for job in jobs) and len(jobs) == DOCUMENTS:
            return jobs
        assert time.monotonic() < deadline, json.dumps(jobs[:3])
        time.sleep(1.0)


# The pace alone.


class Provider:
    """An embedder that refuses as it is told, and notes when it was called."""

    name, model, dimensions, batch_size = "scripted", "scripted", 2, 8

    def __init__(self, *refusals: UpstreamBusy | None) -> None:
        self.refusals = list(refusals)
        self.calls: list[float] = []
        self._lock = threading.Lock()

    def embed(self, texts: object, *, wait: bool = True) -> Embeddings:
        import numpy as np

        with self._lock:
            self.calls.append(time.monotonic())
            refusal = self.refusals.pop(0) if self.refusals else None
        if refusal:
            raise refusal
        return Embeddings(np.ones((1, 2), np.float32), 1)

    def check(self) -> None: ...


def paced(provider: Provider) -> PacedEmbedder:
    embedder: Embedder = provider
    return PacedEmbedder(embedder)


def test_after_a_refusal_nobody_calls_before_its_time_and_then_one() -> None:
    provider = Provider(*[UpstreamBusy(limited=True, retry_after=1)] * 4)
    embedder = paced(provider)
    threads = [threading.Thread(target=embedder.embed, args=(["text"],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    # Those that were under way already were refused too; then one asked at a time.
    together = [later - earlier < 0.5 for earlier, later in pairwise(provider.calls)]
    first_pause = together.index(False)
    assert first_pause <= 3
    assert provider.calls[first_pause + 1] - provider.calls[0] >= 1.0
    assert not any(together[first_pause : first_pause + 2])


def test_a_quota_that_is_used_up_and_an_upstream_that_fails_are_not_waited_for() -> None:
    for error in (UpstreamQuota(), UpstreamBusy(retry_after=60)):
        provider = Provider(error)
        embedder = paced(provider)
        with pytest.raises(UpstreamBusy):
            embedder.embed(["text"])
        embedder.embed(["text"])  # and hold up nobody else
        assert len(provider.calls) == 2


def test_who_is_refused_for_too_long_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "PATIENCE_SECONDS", 1.5)
    provider = Provider(*[UpstreamBusy(limited=True, retry_after=1)] * 9)
    with pytest.raises(UpstreamBusy) as raised:
        paced(provider).embed(["text"])
    assert raised.value.retry_after == 1
    assert 1 < len(provider.calls) <= 3


def test_a_pace_that_is_not_known_is_found_soon() -> None:
    """The first call of a process is refused: of the rate that says nothing."""
    provider = Provider(UpstreamBusy(limited=True, retry_after=1))
    embedder, begun = paced(provider), time.monotonic()
    for _ in range(100):
        embedder.embed(["text"])
    assert time.monotonic() - begun < 15
