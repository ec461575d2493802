"""Gemini and the embedding models of Vertex AI, against a server that speaks their protocols."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import google.auth.exceptions
import numpy as np
import pytest
import requests
import urllib3
from google.oauth2.credentials import Credentials

from service.backends import vertex_ai
from service.backends.google.embeddings import VertexEmbedder
from service.backends.google.embeddings.failures import FAILURES, Refused, mapped
from service.backends.interfaces import Embedder, Finish, LanguageModel
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.openai import VertexModel
from service.config import Settings
from service.errors import (
    BrainstemError,
    ConfigError,
    ContextTooLong,
    DeadlineExceeded,
    DependencyError,
    Unavailable,
    UpstreamBusy,
    UpstreamConfig,
    UpstreamInterrupted,
    UpstreamProtocol,
)
from service.proof.process import free_port
from tests.kit.models import REQUEST, answer, broken, text
from tests.kit.server import ROOT
from tests.kit.upstream import (
    Close,
    Hang,
    Pause,
    Repeat,
    Reset,
    Response,
    blackhole,
    faults,
    json_response,
    text_vector,
)
from tests.kit.upstream.script import Step
from tests.kit.vertex_models import CHAT, PLACE, REFRESH_TOKEN, VertexModels, google_error, predictions


@pytest.fixture
def server() -> Iterator[VertexModels]:
    with VertexModels() as running:
        yield running


@pytest.fixture
def settings(server: VertexModels) -> Settings:
    return server.settings


def embedder_of(settings: Settings) -> Embedder:
    return VertexEmbedder(settings, EnvironmentSecrets(settings))


def model_of(settings: Settings) -> LanguageModel:
    return VertexModel(settings, EnvironmentSecrets(settings))


def failure_of(settings: Settings, texts: int = 1) -> BrainstemError:
    with pytest.raises(BrainstemError) as caught:
        embedder_of(settings).embed(["a canary text"] * texts)
    assert "canary" not in "".join(traceback.format_exception(caught.value)).replace("a canary text", "")
    return caught.value


# Where it is.


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("us-central1", "https://us-central1-aiplatform.googleapis.com"),
        ("global", "https://aiplatform.googleapis.com"),
        ("eu", "https://aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_each_kind_of_region_has_its_server(region: str, expected: str) -> None:
    assert vertex_ai.server(Settings(google_cloud_region=region)) == expected


@pytest.mark.parametrize("adapter", [VertexEmbedder, VertexModel])
@pytest.mark.parametrize("name", ["google_cloud_project", "google_cloud_region"])
def test_missing_settings_are_named_at_the_start(adapter: type[VertexEmbedder | VertexModel], name: str) -> None:
    settings = Settings(google_cloud_region="") if name == "google_cloud_region" else Settings(google_cloud_project="")
    with pytest.raises(ConfigError, match=name.upper()):
        adapter(settings, EnvironmentSecrets(settings))


def test_to_build_them_imports_no_sdk_and_calls_nobody() -> None:
    program = (
        "import sys\n"
        "from service.backends.google.embeddings import VertexEmbedder\n"
        "from service.backends.openai import VertexModel\n"
        "from service.config import Settings\n"
        "VertexEmbedder(Settings(), None); VertexModel(Settings(), None)\n"
        "print([name for name in ('google.auth', 'requests', 'openai', 'numpy', 'grpc') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.strip() == "[]", done.stderr


# The model.


def test_gemini_is_asked_at_its_endpoint_by_its_full_name(server: VertexModels, settings: Settings) -> None:
    server.enqueue("Hello", " world")
    events = answer(model_of(settings), replace(REQUEST, model=""))
    assert text(events) == "Hello world"
    assert Finish("stop") in events
    [asked] = server.asked()
    assert asked.json["model"] == "google/gemini-2.5-flash"
    assert asked.json["max_tokens"] == 1024
    assert asked.headers["authorization"] == "Bearer emulator"
    answer(model_of(settings), replace(REQUEST, model="gemini-2.5-pro"))
    answer(model_of(settings), replace(REQUEST, model="meta/llama-4"))
    assert [asked.json["model"] for asked in server.asked()[1:]] == ["google/gemini-2.5-pro", "meta/llama-4"]


def google_list(code: int, message: str) -> Response:
    """The compatible endpoint's errors are lists of one."""
    return json_response([{"error": {"code": code, "message": message, "status": "X"}}], code)


@pytest.mark.parametrize(
    ("script", "expected", "words"),
    [
        (google_list(400, "The input token count (9) exceeds the maximum number of tokens allowed (8)."), ContextTooLong, "longer"),
        (google_list(403, "canary"), UpstreamConfig, "roles/aiplatform.user"),
        (google_list(401, "canary"), UpstreamConfig, "roles/aiplatform.user"),
        (google_list(404, "canary"), UpstreamConfig, "GOOGLE_CLOUD_REGION"),
        (google_list(429, "canary"), UpstreamBusy, "429"),
        (faults.html(), UpstreamProtocol, ""),
    ],
)  # fmt: skip
def test_a_refusal_tells_what_to_check_here(
    server: VertexModels, settings: Settings, script: Response, expected: type[BrainstemError], words: str
) -> None:
    server.script(script, times=3)
    _, error = broken(model_of(settings))
    assert type(error) is expected
    assert words in error.detail
    assert "OPENAI" not in error.detail
    assert "canary" not in error.detail
    assert server.asked()


def test_a_token_is_fetched_once_and_used_until_it_ends(
    server: VertexModels, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.open = False
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(server.key_file(tmp_path)))
    signed_in = replace(settings, vertex_emulator_host="")
    url = f"http://{server.host}{CHAT.removesuffix('/chat/completions')}"
    model = VertexModel(signed_in, EnvironmentSecrets(signed_in), url=url)
    model.check()
    for _ in range(3):
        assert Finish("stop") in answer(model)
    assert len(server.tokens) == 1
    assert {asked.headers["authorization"] for asked in server.asked()} == {f"Bearer {server.tokens[0]}"}

    # One that ends within minutes is renewed before each call.
    server.token_seconds = 60
    hasty = VertexModel(signed_in, EnvironmentSecrets(signed_in), url=url)
    for _ in range(2):
        assert Finish("stop") in answer(hasty)
    assert len(server.tokens) == 3
    assert server.asked()[-1].headers["authorization"] == f"Bearer {server.tokens[-1]}"


def test_without_credentials_the_model_is_not_set_up_rightly(
    server: VertexModels, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none.json").write_text('{"type": "canary"}', encoding="utf-8")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    signed_in = replace(settings, vertex_emulator_host="")
    model = VertexModel(signed_in, EnvironmentSecrets(signed_in), url=f"http://{server.host}/v1")
    _, error = broken(model)
    assert type(error) is UpstreamConfig
    assert "gcloud auth application-default login" in error.detail
    for check in (model.check, embedder_of(signed_in).check):
        with pytest.raises(Unavailable, match="no credentials that Google accepts"):
            check()
    assert server.requests == []


def test_a_sign_in_that_is_down_is_unavailable(
    server: VertexModels, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = server.key_file(tmp_path)
    key.write_text(key.read_text().replace(str(server.port), str(free_port())))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    signed_in = replace(settings, vertex_emulator_host="")
    _, error = broken(VertexModel(signed_in, EnvironmentSecrets(signed_in), url=f"http://{server.host}/v1"))
    assert type(error) is Unavailable
    assert server.requests == []


# The embedder.


def test_vectors_come_in_order_at_unit_length_with_their_tokens(server: VertexModels, settings: Settings) -> None:
    texts = [f"number {n} of them" for n in range(20)]
    told = embedder_of(settings).embed(texts)
    np.testing.assert_allclose(told.vectors, np.stack([text_vector(one, 768) for one in texts]), atol=1e-6)
    assert told.vectors.dtype == np.float32
    assert (told.tokens, told.estimated) == (80, False)
    # This model takes one text a request.
    assert len(server.predicted) == 20
    asked = server.predicted[0]
    assert asked.path == f"{PLACE}/publishers/google/models/gemini-embedding-001:predict"
    assert asked.json["parameters"] == {"outputDimensionality": 768, "autoTruncate": True}


def test_other_models_take_many_texts_up_to_their_limit(server: VertexModels, settings: Settings) -> None:
    chosen = replace(settings, vertex_embedding_model="text-embedding-005", embedding_dimensions=256)
    embedder = embedder_of(chosen)
    assert embedder.name == "text-embedding-005/256"
    assert embedder.embed(["short"] * 32).vectors.shape == (32, 256)
    assert len(server.predicted) == 1
    embedder.embed(["word " * 3000] * 6)
    sizes = [sum(len(i["content"]) for i in asked.json["instances"]) for asked in server.predicted[1:]]
    assert len(sizes) == 3
    assert max(sizes) <= 40_000


def test_requests_of_one_call_are_under_way_at_once(server: VertexModels, settings: Settings) -> None:
    one = predictions([1.0] * 768)
    server.always(Response([*slowly(one)], framing="chunked"), on="embeddings")
    began = time.monotonic()
    embedder_of(settings).embed(["text"] * 16)
    assert time.monotonic() - began < 16 * 0.2 / 2
    assert len(server.predicted) == 16


def slowly(response: Response) -> list[Step]:
    return [Pause(0.2), *response.steps]


def test_tokens_that_are_not_counted_are_estimated(server: VertexModels, settings: Settings) -> None:
    server.script(predictions([2.0] * 768, tokens=None), on="embeddings")
    told = embedder_of(settings).embed(["four words of text"])
    assert told.estimated
    assert told.tokens > 0
    assert np.linalg.norm(told.vectors) == pytest.approx(1)


@pytest.mark.parametrize(
    ("script", "expected", "again"),
    [
        (google_error(400, "INVALID_ARGUMENT"), UpstreamConfig, False),
        (google_error(401, "UNAUTHENTICATED"), UpstreamConfig, False),
        (google_error(403, "PERMISSION_DENIED"), UpstreamConfig, False),
        (google_error(404, "NOT_FOUND"), UpstreamConfig, False),
        (google_error(429, "RESOURCE_EXHAUSTED"), UpstreamBusy, True),
        (google_error(429, "RESOURCE_EXHAUSTED", "3600"), UpstreamBusy, False),
        (google_error(500, "INTERNAL"), UpstreamBusy, True),
        (google_error(503, "UNAVAILABLE"), UpstreamBusy, True),
        (faults.redirect("http://127.0.0.1:1/"), UpstreamProtocol, False),
        (faults.html(), UpstreamProtocol, False),
        (predictions([1.0] * 767), UpstreamProtocol, False),
        (predictions([0.0] * 768), UpstreamProtocol, False),
        (predictions([1e39] * 768), UpstreamProtocol, False),
        (predictions([1.0] * 768, [1.0] * 768), UpstreamProtocol, False),
        (predictions(), UpstreamProtocol, False),
        (json_response({"predictions": [{"embeddings": {"values": "canary"}}]}), UpstreamProtocol, False),
        (Response([b"[" * 100_000], framing="length", media_type="application/json"), UpstreamProtocol, False),
        (Response([Reset()]), Unavailable, True),
        (Response([b"{", Close()]), UpstreamInterrupted, True),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_ours_and_tried_again_where_that_helps(
    server: VertexModels, settings: Settings, script: Response, expected: type[BrainstemError], again: bool
) -> None:
    server.always(script, on="embeddings")
    assert type(failure_of(settings)) is expected
    assert (len(server.predicted) > 1) == again
    assert len(server.predicted) in range(1, 5)


def test_a_passing_failure_is_got_over(server: VertexModels, settings: Settings) -> None:
    server.script(google_error(503, "UNAVAILABLE"), on="embeddings")
    server.script(Response([Reset()]), on="embeddings")
    assert embedder_of(settings).embed(["text"]).vectors.shape == (1, 768)
    assert len(server.predicted) == 3


@pytest.mark.parametrize("script", [Response([Hang()]), Response([Repeat(b" ", 0.05)])], ids=["silent", "dripping"])
def test_a_server_that_does_not_come_to_an_end_is_given_up_in_time(
    server: VertexModels, settings: Settings, script: Response
) -> None:
    server.always(script, on="embeddings")
    began = time.monotonic()
    assert type(failure_of(replace(settings, first_byte_seconds=0.8), texts=3)) is DeadlineExceeded
    assert time.monotonic() - began < 2
    assert server.predicted


def test_a_server_that_is_not_there_is_unavailable_in_time(settings: Settings) -> None:
    began = time.monotonic()
    nobody = replace(settings, vertex_emulator_host=f"127.0.0.1:{free_port()}", first_byte_seconds=2.0)
    assert type(failure_of(nobody)) is Unavailable
    with pytest.raises(Unavailable):
        embedder_of(nobody).check()
    with blackhole() as port:
        nowhere = replace(nobody, vertex_emulator_host=f"127.0.0.1:{port}", connect_seconds=0.2, first_byte_seconds=1.0)
        assert isinstance(failure_of(nowhere), Unavailable | DeadlineExceeded)
    assert time.monotonic() - began < 5


def test_the_embedder_signs_in_once_for_all_requests(server: VertexModels, settings: Settings) -> None:
    server.open = False
    assert type(failure_of(settings)) is UpstreamConfig
    signed_in = Credentials(
        None, REFRESH_TOKEN, token_uri=f"http://{server.host}/token", client_id="c", client_secret="s"
    )  # type: ignore[no-untyped-call]
    embedder = VertexEmbedder(settings, EnvironmentSecrets(settings), credentials=signed_in)
    assert embedder.embed(["text"] * 8).vectors.shape == (8, 768)
    assert len(server.tokens) == 1
    assert {asked.headers["authorization"] for asked in server.predicted[-8:]} == {f"Bearer {server.tokens[0]}"}


# Every exception of the libraries below has a meaning.


def classes() -> list[type[BaseException]]:
    homes = (google.auth.exceptions, requests.exceptions, urllib3.exceptions, http.client)
    found = {value for home in homes for value in vars(home).values() if isinstance(value, type)}
    kept = {c for c in found if issubclass(c, Exception) and not issubclass(c, Warning)}
    return sorted(kept, key=lambda c: (c.__module__, c.__name__))


@pytest.mark.parametrize("failure", classes(), ids=lambda c: f"{c.__module__}.{c.__name__}")
def test_every_failure_has_a_meaning_that_repeats_nothing(failure: type[Exception]) -> None:
    exc = failure.__new__(failure)
    exc.args = ("canary",)
    if isinstance(exc, google.auth.exceptions.GoogleAuthError):
        exc._retryable = False
    assert isinstance(exc, FAILURES)
    assert isinstance(mapped(exc), DependencyError)
    assert "canary" not in mapped(exc).detail


@pytest.mark.parametrize("status", [*range(300, 309), *range(400, 430), 451, *range(500, 512)])
def test_every_status_has_a_meaning(status: int) -> None:
    assert isinstance(mapped(Refused(status, "canary")), DependencyError)
