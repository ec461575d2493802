"""Reads a file in a child process that is limited in time, memory and output, so that no file harms the service."""

from __future__ import annotations

import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from service.errors import DocumentRejected
from service.ingestion.blocks import Block
from service.ingestion.formats import HEAD, Format, recognise
from service.records import learned

CHILD = Path(__file__).with_name("child.py")
MOST_BLOCKS = 100_000
READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading one file may take: seconds by the clock and of the processor, memory, and text that comes out."""

    seconds: float = 60
    memory_bytes: int = 1_500_000_000
    output_bytes: int = 12_000_000


def read(
    path: Path, *, filename: str, media_type: str, limits: Limits = Limits(), program: Path = CHILD
) -> list[Block]:
    """Return the text of a file as blocks in their order; raises `DocumentRejected` with the reason if it cannot be had.

    `filename` and `media_type` are the sender's words for the file at `path`; they choose the reader. `program` is
    run to read it; a test gives one that misbehaves.
    """
    deadline = time.monotonic() + limits.seconds
    with path.open("rb", buffering=0) as file:
        kind = recognise(filename, media_type, file.read(HEAD))
        file.seek(0)
        process = launch(program, file, kind, limits)
    try:
        return collect(process, kind, limits, deadline)
    finally:
        stop(process)


def launch(program: Path, file: IO[bytes], kind: Format, limits: Limits) -> subprocess.Popen[bytes]:
    seconds = math.ceil(limits.seconds)
    order = json.dumps({"format": kind.name, "seconds": seconds, "memory_bytes": limits.memory_bytes})
    # Isolated from the working folder, the environment and the service's terminal; a group of its own, to end it whole.
    return subprocess.Popen(  # noqa: S603  # our own program, and no shell
        [sys.executable, "-I", str(program), order],
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"LC_ALL": "C.UTF-8"},
        cwd="/",
        bufsize=0,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def collect(process: subprocess.Popen[bytes], kind: Format, limits: Limits, deadline: float) -> list[Block]:
    """Take the child's lines until it says how it ended; what it writes is checked like any stranger's input."""
    decoder = msgspec.json.Decoder(learned(Block))
    blocks: list[Block] = []
    try:
        for line in lines(process, kind, limits, deadline):
            if line.startswith(b"["):
                outcome, detail = msgspec.json.decode(line, type=tuple[str, str])
                if outcome == "read":
                    return blocks
                raise rejection(outcome, kind, detail)
            if len(blocks) == MOST_BLOCKS:
                raise rejection("output", kind)
            blocks.append(decoder.decode(line))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise rejection("crashed", kind) from None
    raise rejection(how_it_died(process, deadline), kind)


def lines(process: subprocess.Popen[bytes], kind: Format, limits: Limits, deadline: float) -> Iterator[bytes]:
    """Yield the lines that the child writes until it closes its output, the deadline passes or it writes too much."""
    assert process.stdout is not None
    pending = bytearray()
    total = 0
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise rejection("slow", kind)
            data = os.read(process.stdout.fileno(), READ_BYTES)
            total += len(data)
            if total > limits.output_bytes:
                raise rejection("output", kind)
            *whole, rest = data.split(b"\n")
            for line in whole:
                yield bytes(pending) + line
                pending.clear()
            pending += rest
            if not data:
                return


def how_it_died(process: subprocess.Popen[bytes], deadline: float) -> str:
    try:
        code = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return "slow"
    if code in (-signal.SIGXCPU, -signal.SIGALRM):
        return "slow"
    # A limit of memory mostly shows as an error in the child; the kernel's last resort is to kill it.
    return "memory" if code == -signal.SIGKILL else "crashed"


def rejection(outcome: str, kind: Format, detail: str = "") -> DocumentRejected:
    """Return the error that tells a file's owner how reading it ended."""
    reasons = {
        "rejected": detail[:300],
        "empty": "No text was found in this file.",
        "slow": "Reading this file took too long. It may be damaged, or too complex: try a simpler or smaller copy.",
        "memory": "Reading this file takes too much memory. Split it into smaller files.",
        "output": "This file holds too much text. Split it into smaller files.",
        "nested": "This file is nested too deeply to be read safely.",
        "crashed": f"This {kind.label} file cannot be read: it is damaged in a way that breaks its reader.",
    }
    return DocumentRejected(reasons.get(outcome, f"This {kind.label} file is damaged and cannot be read."))
