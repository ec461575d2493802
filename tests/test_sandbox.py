"""A file that means harm costs its owner a clear refusal, and the service nothing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import pytest

from service.errors import DocumentRejected
from service.ingestion.blocks import Block
from service.ingestion.sandbox import CHILD, Limits, read
from tests.kit.evil import Evil, all_evil, pdf_forms_of_forms
from tests.kit.files import body, package, paragraph

ROOT = Path(__file__).parent.parent
EVIL = list(all_evil())
TIGHT = Limits(seconds=3, memory_bytes=300_000_000, output_bytes=2_000_000)
MOST_GROWTH = 50_000_000

# Reads files, each in the folder under its number, in a process whose memory nothing else has touched.
READ_ALL = """
import json, sys, time
from pathlib import Path
from service.errors import DocumentRejected
from service.ingestion.sandbox import Limits, read

# The peak that getrusage knows is inherited from the process that started this one; the kernel's own mark is not.
def peak():
    status = Path("/proc/self/status")
    marks = [line.split() for line in status.open() if line.startswith("VmHWM")] if status.exists() else [[0, 0]]
    return int(marks[0][1]) * 1024

folder, names, limits = Path(sys.argv[1]), json.loads(sys.argv[2]), Limits(**json.loads(sys.argv[3]))
try:
    read(folder / "good", filename="good.txt", media_type="", limits=limits)
except DocumentRejected as error:
    sys.exit(error.detail)
for n, name in enumerate(names):
    start, before = time.monotonic(), peak()
    try:
        found = read(folder / str(n), filename=name, media_type="application/octet-stream", limits=limits)
        reason = f"READ {len(found)} blocks"
    except DocumentRejected as error:
        reason = error.detail
    print(json.dumps({"reason": reason, "seconds": time.monotonic() - start, "growth": peak() - before}), flush=True)
"""


@dataclass(frozen=True)
class Outcome:
    reason: str
    seconds: float
    growth: int


def read_all(folder: Path, names: list[str], limits: Limits) -> list[Outcome]:
    (folder / "good").write_text("Tea is hot.")
    command = [sys.executable, "-c", READ_ALL, str(folder), json.dumps(names), json.dumps(asdict(limits))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=110)
    return [Outcome(**json.loads(line)) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("evil")
    for n, evil in enumerate(EVIL):
        (folder / str(n)).write_bytes(evil.build())
    found = read_all(folder, [evil.filename for evil in EVIL], TIGHT)
    return {evil.name: outcome for evil, outcome in zip(EVIL, found, strict=True)}


@pytest.mark.parametrize("evil", EVIL, ids=lambda evil: evil.name)
def test_an_evil_file_is_refused_with_a_reason_in_time(evil: Evil, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[evil.name]
    assert evil.reason in outcome.reason
    assert not outcome.reason.startswith("READ")
    assert outcome.seconds < TIGHT.seconds + 2
    assert outcome.growth < MOST_GROWTH


def test_forms_in_forms_end_in_time(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf_forms_of_forms())
    start = time.monotonic()
    # The parser stops at a number of forms; a slow machine may not come that far. Either is well.
    with suppress(DocumentRejected):
        [block] = read(tmp_path / "a.pdf", filename="a.pdf", media_type="", limits=Limits(seconds=5))
        assert set(block.text.split()) == {"lol"}
    assert time.monotonic() - start < 7


def test_evil_files_are_many() -> None:
    assert len({evil.name for evil in EVIL}) == len(EVIL) >= 60


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's own peak of memory")
def test_text_up_to_the_limit_costs_the_service_little_memory(tmp_path: Path) -> None:
    (tmp_path / "0").write_text("Tea is hot and milk is cold.\n\n" * 90_000)
    (tmp_path / "1").write_text("茶\n\n" * 110_000, encoding="utf-8")
    (tmp_path / "2").write_bytes(b"word " * 4_000_000)
    [whole, many, much] = read_all(tmp_path, ["a.txt"] * 3, Limits())
    assert whole.reason == "READ 90000 blocks"
    assert "too much text" in many.reason
    assert "too much text" in much.reason
    assert max(whole.growth, many.growth, much.growth) < MOST_GROWTH
    assert whole.growth > 1_000_000, "nothing was measured"


# A child that misbehaves

HEAD = "import json, os, sys, time, signal\n"
READ_IT = 'print(json.dumps({"text": "hello"}), flush=True)\n'


@pytest.fixture
def original(tmp_path: Path) -> Path:
    path = tmp_path / "original"
    path.write_text("Tea is hot.")
    return path


def children() -> set[int]:
    """The processes that this one has not seen the end of; the emulators of a whole run are some."""
    return {child.pid for child in psutil.Process().children()}


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("", "breaks its reader"),
        (READ_IT, "breaks its reader"),
        (READ_IT + "sys.exit(3)", "breaks its reader"),
        (READ_IT + "os.kill(os.getpid(), signal.SIGSEGV)", "breaks its reader"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "too much memory"),
        ("os.kill(os.getpid(), signal.SIGXCPU)", "too long"),
        ("time.sleep(60)", "too long"),
        (READ_IT + "os.close(1); time.sleep(60)", "too long"),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)", "too long"),
        ("sys.stderr.write('e' * 10_000_000); time.sleep(60)", "too long"),
        ("while True: sys.stdout.write('x' * 65536)", "too much text"),
        ('while True: print(\'{"text":"a"}\')', "too much text"),
        ("print('garbage')", "breaks its reader"),
        ("print('{\"text\": 7}')", "breaks its reader"),
        ('print(\'{"text": "a", "kind": "spell"}\')', "breaks its reader"),
        ("print('[' * 100_000)", "breaks its reader"),
        ("print('{\"x\": ' + '[' * 100_000)", "breaks its reader"),
        ('while True: print(\'{"text":"a"}\', flush=True); time.sleep(0.01)', "too long"),
        ("print('[\"read\"]')", "breaks its reader"),
        ('print(\'["odd", ""]\')', "damaged and cannot be read"),
        ('sys.stdout.buffer.write(b\'{"text": "\\xff"}\\n\')', "breaks its reader"),
        ('print(\'{"text": "\\\\ud800"}\')', "breaks its reader"),
    ],
)
def test_a_child_that_misbehaves_is_ended_and_its_file_refused(
    tmp_path: Path, original: Path, program: str, reason: str
) -> None:
    child = tmp_path / "child.py"
    child.write_text(HEAD + program)
    before_it = children()
    limits = Limits(seconds=1.5, output_bytes=1_000_000)
    start = time.monotonic()
    with pytest.raises(DocumentRejected, match=reason):
        read(original, filename="a.txt", media_type="", limits=limits, program=child)
    assert time.monotonic() - start < 3.5
    assert children() == before_it


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the process in /proc")
def test_what_the_child_started_ends_with_it(tmp_path: Path, original: Path) -> None:
    child, note = tmp_path / "child.py", tmp_path / "note"
    child.write_text(
        f"import os, time\nif os.fork() == 0:\n    open({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    )
    with pytest.raises(DocumentRejected, match="too long"):
        read(original, filename="a.txt", media_type="", limits=Limits(seconds=1), program=child)
    deadline = time.monotonic() + 5
    while alive(int(note.read_text())):
        assert time.monotonic() < deadline, "a process of the child lives on"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_lines_in_pieces_are_put_together(tmp_path: Path, original: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(
        "import sys, time\n"
        'for part in (\'{"text": "hel\', \'lo"}\\n{"text": "tea", "headings": ["a"]}\\n["re\', \'ad", ""]\\n\'):\n'
        "    sys.stdout.write(part); sys.stdout.flush(); time.sleep(0.05)\n"
    )
    found = read(original, filename="a.txt", media_type="", program=child)
    assert found == [Block("hello"), Block("tea", ("a",))]


# What the child may do


def test_the_child_sees_no_secret_of_the_service(
    tmp_path: Path, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    child = tmp_path / "child.py"
    child.write_text(
        "import json, os\n"
        "print(json.dumps({'text': repr(dict(os.environ)) + os.getcwd() + repr(os.listdir('/dev/fd'))}))\n"
        'print(\'["read", ""]\')\n'
    )
    with socket.socket() as secret:
        secret.set_inheritable(True)
        [block] = read(original, filename="a.txt", media_type="", program=child)
    assert "canary" not in block.text
    assert "PATH" not in block.text
    # Standard input, output, error, and the folder that is being listed.
    assert "'4'" not in block.text


FORBIDDEN = [
    "import socket; socket.socket()",
    "import socket; socket.getaddrinfo('localhost', 80)",
    "import subprocess; subprocess.run(['true'])",
    "import os; os.system('true')",
    "import os; os.fork()",
    "import os; os.execv('/bin/true', ['true'])",
    "import ctypes; ctypes.CDLL(None)",
    "open('/tmp/brainstem-test-write', 'wb').write(b'x' * 10_000)",
    "x = 'a' * 500_000_000",
    "files = [open('/dev/null') for _ in range(100)]",
]


@pytest.mark.parametrize("deed", FORBIDDEN)
def test_the_child_is_limited_before_it_reads(deed: str, tmp_path: Path) -> None:
    setup = f"import sys; sys.path.insert(0, {str(CHILD.parent)!r}); import child, sys\n"
    limits = "child.limit(5, 400_000_000); sys.addaudithook(child.forbid)\n"
    deed = deed.replace("/tmp/brainstem-test-write", str(tmp_path / "file"))

    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False, timeout=20
        )

    if "exec" not in deed:
        assert run(setup + deed).returncode == 0, "it must be possible without the limits"
    limited = run(setup + limits + deed)
    assert limited.returncode != 0
    errors = ("PermissionError", "MemoryError", "Too many open files", "File too large", "SIGXFSZ")
    assert any(error in limited.stderr for error in errors) or limited.returncode < 0


def test_nothing_in_a_file_makes_its_reader_call_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        calls = []
        threading.Thread(target=lambda: calls.append(accept(server)), daemon=True).start()
        page = (
            f'<?xml version="1.0"?><!DOCTYPE html SYSTEM "{url}"><base href="{url}"><link rel="stylesheet" href="{url}">'
            f'<script src="{url}"></script><img src="{url}"><iframe src="{url}"></iframe><xi:include href="{url}"/><p>Tea'
        )
        doctype = f'<!DOCTYPE w SYSTEM "{url}" [<!ENTITY % p SYSTEM "{url}"> %p;]>'
        entity = package({"word/document.xml": body(paragraph("Tea"), doctype)})
        include = body(f'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="{url}"/>{paragraph("Tea")}')
        files = {"a.html": page.encode(), "a.md": f"![x]({url})\n\nTea".encode(), "b.docx": entity}
        files["c.docx"] = package({"word/document.xml": include})
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
            if name == "b.docx":
                with pytest.raises(DocumentRejected):
                    read(tmp_path / name, filename=name, media_type="")
            else:
                assert [b.text for b in read(tmp_path / name, filename=name, media_type="")] == ["Tea"]
        assert calls == []
        # The listener works: a call is seen.
        socket.create_connection(server.getsockname()).close()
        deadline = time.monotonic() + 5
        while not calls and time.monotonic() < deadline:
            time.sleep(0.01)
        assert calls == ["called"]


def accept(server: socket.socket) -> str:
    server.accept()[0].close()
    return "called"


# Where it runs


def test_the_working_folder_has_no_say(tmp_path: Path, original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "signal", "resource", "service"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    assert read(original, filename="a.txt", media_type="") == [Block("Tea is hot.", line=1)]


def test_it_runs_from_a_folder_where_it_is_not_installed(tmp_path: Path, original: Path) -> None:
    shutil.copytree(ROOT / "service", tmp_path / "service", ignore=shutil.ignore_patterns("__pycache__"))
    reader = tmp_path / "service" / "ingestion" / "formats" / "text.py"
    reader.write_text("from service.ingestion.blocks import Block\ndef read(file):\n    yield Block('from the copy')\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from pathlib import Path\nfrom service.ingestion.sandbox import read\n"
        f"print(read(Path({str(original)!r}), filename='a.txt', media_type='')[0].text)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout.strip() == "from the copy"


def test_many_threads_read_at_once_and_leave_nothing_behind(tmp_path: Path) -> None:
    paths = []
    for n in range(24):
        paths.append(tmp_path / f"{n}.md")
        paths[-1].write_text(f"# Tea {n}\n\nCup {n}\n")
    before_it = children()
    before = os.listdir("/dev/fd")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda path: read(path, filename=path.name, media_type=""), paths))
    assert found == [[Block(f"Cup {n}", (f"Tea {n}",), line=3)] for n in range(24)]
    assert os.listdir("/dev/fd") == before
    assert children() == before_it
