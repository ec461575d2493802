"""The child program that reads one file: it limits itself, then imports the reader, and writes what it found.

`service.ingestion.sandbox` runs it by its path with the file as standard input and the order as argument, in JSON: `format`,
`seconds`, `memory_bytes`. It writes a JSON object for each block, then `[outcome, detail]`, each on a line. Its limits keep a
faulty or hostile file from taking the machine; they are no wall around native code that has been taken over.
"""

import importlib
import json
import os
import resource
import signal
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.ingestion.blocks import Block

HERE = os.path.dirname(os.path.abspath(__file__))

OPEN_FILES = 32
GRACE_SECONDS = 2

# No reader has business with these; files may be opened to import, not to write (their size is limited to nothing).
FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "ctypes.")


def main() -> None:
    order = json.loads(sys.argv[1])
    limit(int(order["seconds"]), int(order["memory_bytes"]))
    sys.addaudithook(forbid)
    find_package()
    # Whatever a library prints must not get between the lines.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1 << 16, newline="\n")
    os.dup2(2, 1)
    outcome, detail = run(order["format"], out.write)
    out.write(json.dumps([outcome, detail]) + "\n")
    out.flush()
    # A big tree takes long to tear down, and nobody waits for it.
    os._exit(0)


def limit(seconds: int, memory_bytes: int) -> None:
    """Bound what this process may take, as far as the platform lets it (macOS knows no limit of address space)."""
    limits = {
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_NPROC": 0,
        "RLIMIT_NOFILE": OPEN_FILES,
        "RLIMIT_CPU": seconds + 1,
        "RLIMIT_AS": memory_bytes,
    }
    for name, value in limits.items():
        try:
            # At its hard limit of time a process is killed without a word; at the soft one the signal says why.
            resource.setrlimit(getattr(resource, name), (value, value + 1 if name == "RLIMIT_CPU" else value))
        except (AttributeError, ValueError, OSError):
            continue
    # Should the parent die, nobody else ends a child that sleeps.
    signal.alarm(seconds + GRACE_SECONDS)
    os.nice(5)


def forbid(event: str, _: object) -> None:
    if event.startswith(FORBIDDEN):
        raise PermissionError(event)


def find_package() -> None:
    """Make the readers importable from where this file lies, without the pipeline that their package starts with."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(HERE)))
    package = types.ModuleType("service.ingestion")
    package.__path__ = [HERE]
    sys.modules["service.ingestion"] = package


def run(name: str, write: Callable[[str], object]) -> tuple[str, str]:
    """Read standard input and write its blocks; returns how it ended, and for `rejected` the reason."""
    from service.errors import DocumentRejected

    seen = False
    try:
        reader = importlib.import_module(f"service.ingestion.formats.{name}")
        for block in reader.read(sys.stdin.buffer):
            seen = seen or any(map(str.isalnum, block.text))
            write(line_of(block))
    except DocumentRejected as error:
        return "rejected", error.detail
    except MemoryError:
        return "memory", ""
    except RecursionError:
        return "nested", ""
    except Exception:  # noqa: BLE001  # the edge of this process: a parser meets damage with any error
        return "damaged", ""
    return ("read" if seen else "empty"), ""


def line_of(block: "Block") -> str:
    fields = {
        "text": block.text,
        "headings": block.headings,
        "page": block.page,
        "line": block.line,
        "kind": block.kind,
    }
    return json.dumps({name: value for name, value in fields.items() if value}, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
