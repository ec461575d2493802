"""The house keeps its shape: imports go down only, frameworks and SDKs stay in their rooms, start-up stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.apps import write_app

ROOT = Path(__file__).parent.parent
SERVICE = ROOT / "service"

FLOORS: list[list[str]] = [
    ["service.errors", "service.models"],
    [
        "service.records",
        "service.logging",
        "service.tokenizer",
        "service.loop",
        "service.json_schema",
        "service.prompt_template",
        "service.fetching",
    ],
    ["service.apps", "service.config", "service.reports"],
    ["service.scope", "service.queues"],
    ["service.backends.interfaces"],
    [
        "service.backends.paths",
        "service.backends.limits",
        "service.backends.words",
        "service.backends.batching",
        "service.backends.packed",
        "service.backends.jwts",
        "service.backends.vertex_ai",
    ],
    ["service.backends.checks", "service.backends.fusion", "service.backends.seen"],
    ["service.backends.local", "service.backends.google", "service.backends.openai", "service.backends.postgres"],
    ["service.backends.registry"],
    ["service.auth", "service.members", "service.usage", "service.readiness", "service.chat_cache", "service.chunks"],
    ["service.conversations", "service.context"],
    ["service.chat", "service.flows", "service.ingestion"],
    ["service.jobs", "service.rules"],
    ["service.services"],
    ["service.api"],
    ["service.app"],
    ["service.proof"],
    ["service.cli"],
    ["service.wsgi", "service.__main__"],
]
ROOM_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# Who may import what comes from outside; what is not listed here anyone may import.
OWNERS = {
    "flask": ["service.app", "service.api"],
    "werkzeug": ["service.api"],
    "gunicorn": ["service.cli"],
    "click": ["service.cli"],
    "rich": ["service.cli"],
    "httptools": ["service.backends.openai"],
    "aiohappyeyeballs": ["service.backends.openai"],
    "uvloop": ["service.loop"],
    "openai": ["service.backends.openai"],
    "httpx2": ["service.backends.openai"],
    "httpcore2": ["service.backends.openai"],
    "jsonschema_rs": ["service.json_schema"],
    "numpy": ["service.backends"],
    "onnxruntime": ["service.backends.local"],
    "tokenizers": ["service.backends.local"],
    "threadpoolctl": ["service.backends.local"],
    "sqlite3": ["service.backends.local"],
    "google": ["service.backends"],
    "grpc": ["service.backends.google"],
    "firebase_admin": ["service.backends.google"],
    "psycopg": ["service.backends.postgres"],
    "psycopg_pool": ["service.backends.postgres"],
    "requests": ["service.backends.google"],
    "jwt": ["service.backends"],
    "cryptography": ["service.backends"],
    "pypdf": ["service.ingestion"],
    "docx": [],
    "lxml": ["service.ingestion"],
    "markdown_it": ["service.ingestion"],
    "reportlab": ["service.reports"],
}

HEAVY = [
    "httptools",
    "aiohappyeyeballs",
    "uvloop",
    "numpy",
    "onnxruntime",
    "openai",
    "tokenizers",
    "safetensors",
    "pypdf",
    "docx",
    "lxml",
    "markdown_it",
    "reportlab",
    "jsonschema_rs",
    "pydantic",
    "rich",
    "httpx2",
    "httpcore2",
    "google.api_core",
    "google.auth",
    "google.protobuf",
    "grpc",
    "firebase_admin",
    "psycopg",
    "requests",
]


def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(SERVICE.rglob("*.py")):
        if "templates" in path.parts:
            continue
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def room(module: str) -> str | None:
    return max((r for r in ROOM_OF if module == r or module.startswith(r + ".")), key=len, default=None)


def imports(tree: ast.Module) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(name if name in MODULES else node.module, node.lineno) for name in names]
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module: str) -> None:
    own = room(module)
    if own is None:
        assert module in ("service", "service.backends"), f"{module} has no floor: give it one in FLOORS"
        return
    for name, line in imports(MODULES[module]):
        other = room(name)
        if other is not None and other != own:
            assert ROOM_OF[other] < ROOM_OF[own], f"{module}:{line} imports {name}, which is not below it"


@pytest.mark.parametrize("module", MODULES)
def test_frameworks_and_sdks_stay_in_their_rooms(module: str) -> None:
    for name, line in imports(MODULES[module]):
        owners = OWNERS.get(name.partition(".")[0])
        if owners and not (module == "service.backends.interfaces" and name.startswith("numpy")):
            assert any(module == o or module.startswith(o + ".") for o in owners), f"{module}:{line} imports {name}"


def calls(tree: ast.Module, name: str) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (getattr(node.func, "id", None) == name or getattr(node.func, "attr", None) == name)
    ]


@pytest.mark.parametrize("module", [m for m in MODULES if m != "service.scope"])
def test_only_scope_makes_scopes(module: str) -> None:
    assert calls(MODULES[module], "Scope") == []


def test_only_app_and_cli_build_backends() -> None:
    builders = {
        module
        for module, tree in MODULES.items()
        for name, _ in imports(tree)
        if name == "service.backends.registry" or name.startswith("service.backends.registry.")
    }
    assert all(room(module) in ("service.app", "service.cli") for module in builders), builders


@pytest.mark.parametrize("module", MODULES)
def test_rooms_stay_readable(module: str) -> None:
    tree = MODULES[module]
    last = max((getattr(node, "end_lineno", 0) or 0 for node in ast.walk(tree)), default=0)
    assert last <= 400, f"{module} has {last} lines: make it a package"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            nested = any(isinstance(child, ast.FunctionDef) for child in node.body)
            assert lines <= 60 or nested, f"{module}.{node.name} has {lines} lines"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(MODULES[module]), f"{module} has no docstring"


def test_start_up_imports_nothing_heavy(tmp_path: Path) -> None:
    """Of an app without flows: their schemas take what checks them."""
    write_app(tmp_path / "apps", "plain")
    settings = f"data_dir=Path({str(tmp_path)!r}), apps_dir=Path({str(tmp_path / 'apps')!r}), openai_api_key='sk-none'"
    program = (
        "import sys; from pathlib import Path; from service.app import create_app; from service.config import Settings\n"
        f"create_app(Settings({settings}))\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
