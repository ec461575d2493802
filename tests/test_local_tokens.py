"""What the local tokens promise beyond the contract: how they are minted, and their key."""

from __future__ import annotations

import json
import stat
import time
from base64 import urlsafe_b64decode
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.backends.local.secrets import EnvironmentSecrets
from service.backends.local.tokens import LocalTokens
from service.config import Settings
from service.errors import BadRequest, InvalidToken, Unavailable
from tests.kit.processes import line, python


@pytest.fixture
def tokens(settings: Settings) -> LocalTokens:
    return LocalTokens(settings, EnvironmentSecrets(settings))


def part(token: str, n: int) -> dict[str, object]:
    segment = token.split(".")[n]
    found: dict[str, object] = json.loads(urlsafe_b64decode(segment + "=="))
    return found


def test_a_minted_token_has_firebases_shape(tokens: LocalTokens) -> None:
    now = 1_700_000_000
    token = tokens.mint("ada", claims={"apps": ["recipes"]}, provider="password", lifetime=60, now=now + 0.5)
    assert part(token, 1) == {
        "iss": "https://securetoken.google.com/demo-brainstem",
        "aud": "demo-brainstem",
        "auth_time": now,
        "user_id": "ada",
        "sub": "ada",
        "iat": now,
        "exp": now + 60,
        "firebase": {"identities": {}, "sign_in_provider": "password"},
        "apps": ["recipes"],
    }
    header = part(token, 0)
    assert (header["alg"], header["typ"]) == ("RS256", "JWT")
    assert isinstance(header["kid"], str)


def test_a_minted_app_check_token_has_firebases_shape(tokens: LocalTokens) -> None:
    assert part(tokens.mint_app("1:1:web:a", now=1_700_000_000, lifetime=60), 1) == {
        "iss": "https://firebaseappcheck.googleapis.com/demo-brainstem",
        "aud": ["projects/demo-brainstem"],
        "sub": "1:1:web:a",
        "iat": 1_700_000_000,
        "exp": 1_700_000_060,
    }


def test_a_minted_service_token_has_googles_shape(tokens: LocalTokens) -> None:
    token = tokens.mint_service("tasks@demo.example", "https://brainstem.example", now=1_700_000_000, lifetime=60)
    assert part(token, 1) == {
        "iss": "https://accounts.google.com",
        "aud": "https://brainstem.example",
        "azp": "tasks@demo.example",
        "sub": "tasks@demo.example",
        "email": "tasks@demo.example",
        "email_verified": True,
        "iat": 1_700_000_000,
        "exp": 1_700_000_060,
    }


def test_what_is_minted_holds_for_its_lifetime(tokens: LocalTokens) -> None:
    assert tokens.verify(tokens.mint("ada"))["sub"] == "ada"
    assert tokens.verify_app(tokens.mint_app("1:1:web:a")) == "1:1:web:a"
    service = tokens.mint_service("tasks@demo.example", "https://brainstem.example")
    assert tokens.verify_service(service, "https://brainstem.example") == "tasks@demo.example"
    with pytest.raises(InvalidToken, match="another service"):
        tokens.verify_service(service, "https://other.example")
    with pytest.raises(InvalidToken, match="expired"):
        tokens.verify_service(
            tokens.mint_service("a@b.example", "https://x.example", lifetime=-60), "https://x.example"
        )
    for late in (tokens.mint("ada", now=time.time() - 4000), tokens.mint("ada", lifetime=-60)):
        with pytest.raises(InvalidToken, match="expired"):
            tokens.verify(late)
    with pytest.raises(InvalidToken):
        tokens.verify(tokens.mint_app("1:1:web:a"))
    with pytest.raises(InvalidToken):
        tokens.verify_app(tokens.mint("ada"))


def test_a_token_of_another_project_or_machine_does_not_hold(
    settings: Settings, tmp_path: Path, tokens: LocalTokens
) -> None:
    other_project = LocalTokens(
        Settings(data_dir=settings.data_dir, google_cloud_project="demo-other"), EnvironmentSecrets(settings)
    )
    other_machine = LocalTokens(Settings(data_dir=tmp_path / "other"), EnvironmentSecrets(settings))
    for other in (other_project, other_machine):
        with pytest.raises(InvalidToken):
            tokens.verify(other.mint("ada"))
        with pytest.raises(InvalidToken):
            tokens.verify_app(other.mint_app("1:1:web:a"))


@pytest.mark.parametrize("uid", ["", "u" * 129])
def test_a_uid_that_firebase_refuses_is_not_minted(tokens: LocalTokens, uid: str) -> None:
    with pytest.raises(BadRequest):
        tokens.mint(uid)


def test_custom_claims_cannot_replace_firebases(tokens: LocalTokens) -> None:
    with pytest.raises(BadRequest, match="aud, sub"):
        tokens.mint("ada", claims={"sub": "eve", "aud": "x", "apps": []})


def test_processes_that_race_for_the_key_get_the_same_one(settings: Settings, tokens: LocalTokens) -> None:
    code = """
        say("ready"); sys.stdin.readline()
        say(LocalTokens(settings, secrets).mint("ada"))
    """
    with ExitStack() as stack:
        processes = [stack.enter_context(python(code, settings.data_dir)) for _ in range(4)]
        for process in processes:
            assert line(process) == "ready"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            assert tokens.verify(line(process))["sub"] == "ada"
    assert [path.name for path in (settings.data_dir / "keys").iterdir()] == ["tokens.pem"]


def test_only_the_owner_may_read_the_key(settings: Settings, tokens: LocalTokens) -> None:
    tokens.check()
    folder = settings.data_dir / "keys"
    assert stat.S_IMODE((folder / "tokens.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_without_a_key_nobody_is_told_that_their_token_is_bad(
    settings: Settings, tokens: LocalTokens, content: bytes
) -> None:
    good = tokens.mint("ada")
    (settings.data_dir / "keys" / "tokens.pem").write_bytes(content)
    fresh = LocalTokens(settings, EnvironmentSecrets(settings))
    for call in (
        fresh.check,
        lambda: fresh.verify(good),
        lambda: fresh.verify_app(good),
        lambda: fresh.verify_service(good, "https://brainstem.example"),
    ):
        with pytest.raises(Unavailable, match="damaged"):
            call()
    assert tokens.verify(good)["sub"] == "ada"  # the key was read once


def test_no_key_is_made_before_it_is_needed(settings: Settings, tokens: LocalTokens) -> None:
    assert not settings.data_dir.exists()


def test_a_token_seen_ends_with_the_process_that_has_its_key(settings: Settings, tokens: LocalTokens) -> None:
    token, app = tokens.mint("ada"), tokens.mint_app("1:1:web:a")
    assert (tokens.verify(token)["sub"], tokens.verify_app(app)) == ("ada", "1:1:web:a")
    (settings.data_dir / "keys" / "tokens.pem").unlink()
    assert (tokens.verify(token)["sub"], tokens.verify_app(app)) == ("ada", "1:1:web:a")
    again = LocalTokens(settings, EnvironmentSecrets(settings))
    for call in (lambda: again.verify(token), lambda: again.verify_app(app)):
        with pytest.raises(InvalidToken, match="unknown key"):
            call()
