"""What the file blob store promises beyond the contract: its URLs, crashes, full disks."""

from __future__ import annotations

import io
import os
import stat
import time
import unicodedata
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.backends.local.blobs import FileBlobs
from service.backends.local.secrets import EnvironmentSecrets
from service.config import Settings
from service.errors import NotFound, Unavailable
from service.models import Scope
from tests.contracts.conftest import SCOPES
from tests.kit.processes import line, lines, python

ADA = Scope("recipes", "ada")
NAME = "documents/d1/original"


@pytest.fixture
def blobs(settings: Settings) -> FileBlobs:
    return FileBlobs(settings, EnvironmentSecrets(settings))


def put(blobs: FileBlobs, scope: Scope = ADA, content: bytes = b"content") -> None:
    blobs.put(scope, NAME, io.BytesIO(content), "text/plain")


def token(blobs: FileBlobs, scope: Scope = ADA, seconds: int = 600, filename: str = "a.txt") -> str:
    prefix, _, token = blobs.sign(scope, NAME, seconds=seconds, filename=filename).rpartition("/")
    assert prefix == "/local/blobs"
    return token


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("scope", [ADA, Scope("recipes", None), Scope("recipes", "a/../b\0"), Scope("recipes", "é")])
def test_a_signed_url_serves_the_file_under_its_name(blobs: FileBlobs, scope: Scope) -> None:
    put(blobs, scope)
    file, filename = blobs.resolve(token(blobs, scope, filename='Bericht "2"\n– ä.pdf'))
    with file:
        assert (file.read(), filename) == (b"content", 'Bericht "2"\n– ä.pdf')


def test_a_url_with_one_character_changed_serves_nothing(blobs: FileBlobs) -> None:
    put(blobs)
    good = token(blobs)
    for at, character in enumerate(good):
        for other in {"A", "B", "-", ".", character.swapcase()} - {character}:
            with pytest.raises(NotFound):
                blobs.resolve(good[:at] + other + good[at + 1 :])
    blobs.resolve(good)[0].close()


def test_what_was_never_signed_serves_nothing(blobs: FileBlobs, tmp_path: Path) -> None:
    put(blobs)
    good = token(blobs)
    other = FileBlobs(Settings(data_dir=tmp_path / "other"), EnvironmentSecrets(Settings()))
    put(other)
    for bad in ("", ".", "..", "a.b", good + "=", good + " ", " " + good, good[:-1], good.replace(".", ""), "é.é", "\ud800.\ud800",
                "[" * 100_000, "../../keys/blobs.key", token(other)):  # fmt: skip
        with pytest.raises(NotFound):
            blobs.resolve(bad)


def test_a_url_expires(blobs: FileBlobs) -> None:
    put(blobs)
    with pytest.raises(NotFound):
        blobs.resolve(token(blobs, seconds=0))
    short = token(blobs, seconds=1)
    blobs.resolve(short)[0].close()
    time.sleep(1.05)
    with pytest.raises(NotFound):
        blobs.resolve(short)


def test_a_url_of_a_deleted_file_serves_nothing(blobs: FileBlobs) -> None:
    put(blobs)
    signed = token(blobs)
    blobs.delete(ADA, NAME)
    with pytest.raises(NotFound):
        blobs.resolve(signed)


def test_a_url_holds_in_another_process_and_after_a_restart(blobs: FileBlobs, settings: Settings) -> None:
    with ExitStack() as stack:
        code = f"""
            import io
            blobs = FileBlobs(settings, secrets)
            blobs.put(ada, "{NAME}", io.BytesIO(b"content"), "text/plain")
            say(blobs.sign(ada, "{NAME}", seconds=600, filename="a").rpartition("/")[2])
        """
        # They race for the key that signs: all must end up with the same one.
        processes = [stack.enter_context(python(code, settings.data_dir)) for _ in range(4)]
        for process in processes:
            blobs.resolve(line(process))[0].close()


def test_a_full_disk_is_unavailable_and_leaves_nothing(settings: Settings, blobs: FileBlobs) -> None:
    code = f"""
        import io, resource
        blobs = FileBlobs(settings, secrets)
        blobs.put(ada, "{NAME}", io.BytesIO(b"content"), "text/plain")
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        for name in ("{NAME}", "new"):
            try:
                blobs.put(ada, name, io.BytesIO(b"x" * 1_000_000), "text/plain")
            except Unavailable as exc:
                say(exc.detail)
    """
    with python(code, settings.data_dir) as process:
        assert lines(process) == ["The blob store cannot be used: File too large."] * 2
    assert len(files(settings.data_dir / "blobs")) == 1
    with blobs.open(ADA, NAME) as file:
        assert file.read() == b"content"


def test_a_writer_that_is_killed_leaves_no_half_file_and_its_draft_goes_later(
    settings: Settings, blobs: FileBlobs
) -> None:
    code = f"""
        class Endless:
            def read(self, size):
                say("read")
                time.sleep(0.01)
                return b"x" * 100_000
        FileBlobs(settings, secrets).put(ada, "{NAME}", Endless(), "text/plain")
    """
    with python(code, settings.data_dir) as process:
        for _ in range(4):
            assert line(process) == "read"
    with pytest.raises(NotFound):
        blobs.open(ADA, NAME)
    (draft,) = files(settings.data_dir / "blobs")
    put(blobs)
    assert draft.exists()  # it might be another process's that still writes
    os.utime(draft, (0, 0))
    put(blobs)
    assert len(files(settings.data_dir / "blobs")) == 1


def test_a_folder_that_cannot_be_used_is_unavailable(settings: Settings, blobs: FileBlobs) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / "blobs").write_bytes(b"in the way")
    for call in (lambda: put(blobs), blobs.check, lambda: blobs.open(ADA, NAME), lambda: blobs.delete(ADA, NAME)):
        with pytest.raises(Unavailable, match="The blob store cannot be used"):
            call()


def test_no_two_scopes_share_a_folder_where_case_is_ignored(settings: Settings, blobs: FileBlobs) -> None:
    for scope in SCOPES:
        put(blobs, scope)
    folded = {unicodedata.normalize("NFC", str(path)).casefold() for path in files(settings.data_dir)}
    assert len(folded) == len(SCOPES)


def test_only_the_owner_may_read_the_data(settings: Settings, blobs: FileBlobs) -> None:
    put(blobs)
    token(blobs)
    found = files(settings.data_dir)
    assert sorted(path.suffix for path in found) == [".blob", ".key"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700
