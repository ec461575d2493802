"""What it costs to tell who is calling: a token that is new, and one that was shown before."""

from __future__ import annotations

import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from service.auth import authenticate
from service.backends.google.firebase import FirebaseTokens
from service.backends.interfaces import TokenVerifier
from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.tokens import LocalTokens
from service.config import Settings
from tests.kit.keys import KeyServer

TOKENS = 400
LOOKS = 100_000
ROUNDS = 5


def run() -> None:
    """Print the CPU time of a verification, the best of several rounds, and the memory that a token seen takes."""
    with tempfile.TemporaryDirectory() as folder, KeyServer() as keys:
        settings = Settings(data_dir=Path(folder), google_keys_emulator_host=keys.host)
        secrets = EnvironmentSecrets(settings)
        local = LocalTokens(settings, secrets)
        signed = [local.mint(f"user-{n}") for n in range(TOKENS)]
        measure("local", lambda: LocalTokens(settings, secrets), signed)
        factory = keys.users.factory
        given = replace(settings, google_cloud_project=keys.users.project)
        signed = [factory.sign(factory.id_claims(sub=f"user-{n}")) for n in range(TOKENS)]
        measure("Firebase", lambda: FirebaseTokens(given, secrets), signed)


def measure(name: str, make: Callable[[], TokenVerifier], tokens: Sequence[str]) -> None:
    new = min(newly_seen(make(), tokens) for _ in range(ROUNDS))
    verifier = make()
    verifier.verify(tokens[0])
    seen = min(cost(lambda: verifier.verify(tokens[0])) for _ in range(ROUNDS))
    bearer = f"Bearer {tokens[0]}"
    whole = min(cost(lambda: authenticate(verifier, bearer, None)) for _ in range(ROUNDS))
    print(
        f"{name:9} a new token {new * 1e6:5.1f} µs   one seen {seen * 1e6:4.2f} µs, with all that `authenticate` asks "
        f"{whole * 1e6:4.2f} µs   kept of each {kept(make(), tokens) / 1000:.1f} kB"
    )


def newly_seen(verifier: TokenVerifier, tokens: Sequence[str]) -> float:
    verifier.check()
    start = time.process_time()
    for token in tokens:
        verifier.verify(token)
    return (time.process_time() - start) / len(tokens)


def cost(call: Callable[[], object]) -> float:
    start = time.process_time()
    for _ in range(LOOKS):
        call()
    return (time.process_time() - start) / LOOKS


def kept(verifier: TokenVerifier, tokens: Sequence[str]) -> float:
    """Return how many bytes a verifier keeps of each token that it has seen."""
    verifier.verify(tokens[0])
    tracemalloc.start()
    for token in tokens[1:]:
        verifier.verify(token)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / (len(tokens) - 1)
