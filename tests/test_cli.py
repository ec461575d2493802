"""The command line: what each command does and prints, and that whatever goes wrong is a sentence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from docs.cli import cli_page
from service.apps import AppFile, load
from service.auth import authenticate
from service.backends import registry
from service.cli import main
from service.config import Settings
from service.services import assemble
from tests.kit.server import ROOT
from tests.kit.terminal import Terminal, environment
from tests.kit.upstream import Gate, Hang, Reset, Response, Upstream, faults

FACT = "# Kettle\n\nThe kettle of the moon base boils water at sixty-one degrees.\n"
HEAVY = [
    "flask",
    "msgspec",
    "numpy",
    "openai",
    "rich",
    "gunicorn",
    "sqlite3",
    "service.services",
    "service.api.schemas",
]


@pytest.fixture
def terminal(served: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal in an empty folder; the apps `alpha` and `beta`, answered by the scripted provider."""
    folder = tmp_path / "desk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return Terminal(folder, environment(served))


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    for name, inner in command.commands.items():
        yield from commands(inner, (*path, name))


# All commands.


def test_the_page_of_commands_says_what_help_says() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == cli_page(), "run `python -m docs`"


@pytest.mark.parametrize(
    ("path", "command"), list(commands(main)), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_explains_itself_and_speaks_json(path: tuple[str, ...], command: click.Command) -> None:
    options = {name for parameter in command.params for name in parameter.opts}
    assert "--json" in options
    assert command.help
    assert all(parameter.help for parameter in command.params if isinstance(parameter, click.Option))
    assert CliRunner().invoke(main, [*path, "-h"]).exit_code == 0


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from click.testing import CliRunner; from service.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("args", "environ", "words"),
    [
        (["chat", "nope", "hi"], {}, "There is no app `nope`. There are: alpha, beta. `brainstem apps new NAME` makes one."),
        (["chat", "../alpha", "hi"], {}, "There is no app"),
        (["chat", "alpha", " "], {}, "The message is empty."),
        (["chat", "alpha", "hi", "--chat", "a/b"], {}, "A chat's id has 1 to 64"),
        (["chat", "alpha", "x" * 9000], {}, "longer than 8000 characters"),
        (["search", "alpha", " "], {}, "The query is empty."),
        (["documents", "list", "alpha", "--user", ""], {}, "must not be empty"),
        (["usage", "alpha"], {"LEASE_SECONDS": "soon"}, "LEASE_SECONDS must be a number."),
        (["config"], {"LOG_LEVEL": "loud"}, "LOG_LEVEL must be one of"),
        (["config"], {"THREADS": "0"}, "THREADS must be 1 or more."),
        (["apps", "list"], {"APPS_DIR": "/nowhere"}, "Set APPS_DIR"),
        (["serve"], {"BACKEND_MODEL": "oracle"}, "BACKEND_MODEL: there is no `oracle`."),
        (["serve"], {"BIND_HOST": "0.0.0.0"}, "Use BIND_HOST=127.0.0.1."),
        (["serve"], {"PORT": "65536"}, "a port is a number from 0 to 65535"),
        (["serve"], {"K_SERVICE": "x"}, "On Cloud Run the local backends"),
        (["documents", "list", "alpha"], {"DATA_DIR": "/proc/nowhere"}, "cannot be used"),
        (["serve"], {"DATA_DIR": "/proc/nowhere"}, "Set DATA_DIR"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_one_sentence(
    terminal: Terminal, args: list[str], environ: dict[str, str], words: str
) -> None:
    result = terminal.run(*args, **environ)
    assert result.exit_code == 1
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert words in line


def test_a_reader_that_leaves_ends_a_command_silently(terminal: Terminal) -> None:
    process = terminal.start("config", bufsize=0)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait(10)


# config


def test_config_says_where_each_value_comes_from_and_masks_secrets(terminal: Terminal) -> None:
    terminal.write(".env", "CHAT_MODEL=small-model\nTHREADS=7\nOPENAI_API_KEY=sk-from-dotenv\nEMBEDDING_MODEL=other\n")
    environ = {"THREADS": "9", "EMBEDDING_MODEL": "", "OPENAI_BASE_URL": "http://ada:pass-canary@127.0.0.1:9/v1"}
    result = terminal.run("config", "--json", **environ)
    rows = {row["name"]: (row["value"], row["source"]) for row in json.loads(result.stdout)}
    assert rows["CHAT_MODEL"] == ("small-model", ".env")
    assert rows["THREADS"] == ("9", "environment")
    assert rows["EMBEDDING_MODEL"] == ("text-embedding-3-small", "default")
    assert rows["PORT"] == ("8080", "default")
    assert rows["OPENAI_API_KEY"] == ("********", "environment")
    assert "canary" not in result.output
    table = terminal.run("config", **environ)
    assert "THREADS\t9\tenvironment\tRequests worked on at once" in table.stdout
    assert "canary" not in table.output


# apps


def test_a_new_app_holds_and_explains_every_key(terminal: Terminal, served: Settings) -> None:
    result = terminal.run("apps", "new", "meal-plans", "--title", 'Meals "for" $all')
    assert result.exit_code == 0
    assert "brainstem chat meal-plans" in result.stdout
    app = load(served.apps_dir / "meal-plans")
    assert app.file.name == 'Meals "for" $all'
    assert 'You are the assistant of Meals "for" $all.' in app.prompt
    assert msgspec.structs.replace(app.file, name="x") == AppFile("x")
    text = (served.apps_dir / "meal-plans" / "app.toml").read_text()
    offered = msgspec.toml.decode(re.sub(r"^# ([a-z_]+ = )", r"\1", text, flags=re.MULTILINE))
    assert isinstance(msgspec.convert(offered, AppFile), AppFile)
    assert keys(offered) == keys(msgspec.to_builtins(AppFile("x")))


def keys(table: dict[str, Any]) -> set[str]:
    inner = {f"{name}.{key}" for name, value in table.items() if isinstance(value, dict) for key in value}
    return inner | {name for name, value in table.items() if not isinstance(value, dict)}


@pytest.mark.parametrize(
    "name", ["Meals", "1meal", "../meals", "a/b", "", "me_als", "a" * 33, "méals", "-x", "\x1b[31m"]
)
def test_a_bad_name_is_refused_with_the_rule(terminal: Terminal, served: Settings, name: str) -> None:
    result = terminal.run("apps", "new", "--", name)
    assert result.exit_code == 1
    assert "Use a-z, 0-9 and -, a letter first, at most 32" in result.stderr
    assert "\x1b" not in result.output
    assert sorted(folder.name for folder in served.apps_dir.iterdir()) == ["alpha", "beta"]


def test_an_app_that_is_there_is_not_overwritten(terminal: Terminal, served: Settings) -> None:
    before = (served.apps_dir / "alpha" / "app.toml").read_text()
    result = terminal.run("apps", "new", "alpha")
    assert result.exit_code == 1
    assert "is there already. Choose another name" in result.stderr
    assert (served.apps_dir / "alpha" / "app.toml").read_text() == before


def test_check_names_file_key_and_remedy(terminal: Terminal, served: Settings) -> None:
    assert terminal.json("apps", "check") == [
        {"id": "alpha", "ok": True, "problem": None},
        {"id": "beta", "ok": True, "problem": None},
    ]
    (served.apps_dir / "beta" / "app.toml").write_text('name = "Beta"\n[limits]\nmessage_chars = "many"\n')
    (served.apps_dir / "empty").mkdir()
    result = terminal.run("apps", "check")
    assert result.exit_code == 1
    assert result.stdout == "alpha: holds\n"
    assert "beta/app.toml: `limits.message_chars`" in result.stderr
    assert "has no app.toml" in result.stderr
    listed = terminal.run("apps", "list")
    assert [line.split("\t")[0] for line in listed.stdout.splitlines()] == ["APP", "alpha"]
    assert "beta/app.toml" in listed.stderr


# documents


def test_files_folders_and_patterns_are_added_each_once(terminal: Terminal) -> None:
    terminal.write("notes/kettle.md", FACT)
    terminal.write("notes/deep/tea.txt", "Tea is made with hot water from the kettle.")
    terminal.write("notes/.hidden/secret.md", "Hidden.")
    terminal.write("notes/picture.png", b"\x89PNG\r\n")
    terminal.write("loose.csv", "name,price\ntea,3\n")
    result = terminal.run("documents", "add", "alpha", "notes", "notes/*.md", "*.csv", "notes/kettle.md")
    assert result.exit_code == 0, result.stderr
    assert sorted(result.stdout.splitlines()) == [
        "loose.csv: added, 1 passage",
        "notes/deep/tea.txt: added, 1 passage",
        "notes/kettle.md: added, 1 passage",
    ]
    titles = [document["title"] for document in terminal.json("documents", "list", "alpha")["documents"]]
    assert sorted(titles) == ["kettle.md", "loose.csv", "tea.txt"]
    again = terminal.run("documents", "add", "alpha", "notes/kettle.md")
    assert again.stdout == "notes/kettle.md: there already, 1 passage\n"


def test_each_file_that_fails_says_why_and_the_others_are_added(terminal: Terminal) -> None:
    good, empty = terminal.write("kettle.md", FACT), terminal.write("empty.txt", "")
    lie, foreign = terminal.write("lie.pdf", "no pdf"), terminal.write("song.mp3", b"ID3")
    broken = terminal.write("broken.pdf", b"%PDF-1.7\nnothing of a PDF follows")
    unreadable = terminal.folder / "folder"
    unreadable.mkdir()
    result = terminal.run("documents", "add", "alpha", good, empty, lie, foreign, broken, "missing.md", str(unreadable))
    assert result.exit_code == 1
    assert result.stdout == f"{good}: added, 1 passage\n"
    reasons = dict(line.split(": ", 1) for line in result.stderr.splitlines() if ": " in line)
    assert reasons[empty] == "This file is empty."
    assert "sent as PDF" in reasons[lie]
    assert "not .mp3" in reasons[foreign]
    assert "PDF" in reasons[broken]
    assert reasons["missing.md"] == "There is no such file."
    assert "no file in this folder" in reasons[str(unreadable)]
    assert result.stderr.splitlines()[-1] == "6 of 7 files failed."
    rows = json.loads(terminal.run("documents", "add", "alpha", good, empty, "--json").stdout)
    assert [(row["known"], row["error"], row["document"] and row["document"]["status"]) for row in rows] == [
        (True, None, "COMPLETED"),
        (False, "This file is empty.", None),
    ]


def test_documents_are_one_users_unless_they_are_shared(terminal: Terminal) -> None:
    own, common = terminal.write("own.md", FACT), terminal.write("common.md", "# Rules\n\nNobody touches the kettle.")
    assert terminal.run("documents", "add", "alpha", own, "--user", "ada").exit_code == 0
    assert terminal.run("documents", "add", "alpha", common, "--shared").exit_code == 0

    def found(app: str, user: str) -> set[str]:
        return {passage["title"] for passage in terminal.json("search", app, "kettle", "--user", user)["passages"]}

    assert found("alpha", "ada") == {"own.md", "common.md"}
    assert found("alpha", "eve") == {"common.md"}
    assert found("beta", "ada") == set()
    result = terminal.run("documents", "list", "alpha", BRAINSTEM_USER="ada")
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["TITLE", "own.md"]
    shared = terminal.json("documents", "list", "alpha", "--shared")["documents"]
    assert [document["title"] for document in shared] == ["common.md"]


def test_documents_are_removed_by_title_pattern_id_or_file(terminal: Terminal) -> None:
    names = ["a1.md", "a2.md", "b.md", "c.md", "d.md"]
    for name in names:
        terminal.write(name, f"{FACT}\nOf {name}.")
    assert terminal.run("documents", "add", "alpha", *names).exit_code == 0
    ids = {document["title"]: document["id"] for document in terminal.json("documents", "list", "alpha")["documents"]}
    copy = terminal.write("elsewhere/other-name.md", f"{FACT}\nOf c.md.")
    result = terminal.run("documents", "remove", "alpha", "a*.md", ids["b.md"][:12], copy, "no.md")
    assert result.exit_code == 1
    assert sorted(result.stdout.splitlines()) == [f"Removed {name}." for name in names[:-1]]
    assert "no.md: there is no such document" in result.stderr
    assert [d["title"] for d in terminal.json("documents", "list", "alpha")["documents"]] == ["d.md"]
    assert {p["title"] for p in terminal.json("search", "alpha", "kettle")["passages"]} == {"d.md"}
    assert terminal.json("documents", "remove", "alpha", "d.md") == {"removed": [ids["d.md"]], "missing": []}


def test_an_interrupted_add_keeps_what_is_done_and_leaves_the_rest_to_be_gone_on_with(
    terminal: Terminal, upstream: Upstream
) -> None:
    done = terminal.write("kettle.md", FACT)
    assert terminal.run("documents", "add", "alpha", done).exit_code == 0
    slow = terminal.write("slow.md", "# Slow\n\nThis one takes its time.")
    upstream.script(Response([Hang()]), on="embeddings")
    process = terminal.start("documents", "add", "alpha", done, slow)
    upstream.until(lambda: len(upstream.asked("embeddings")) == 2, seconds=20)
    process.send_signal(2)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert output == f"{done}: there already, 1 passage\n"
    assert "The same command goes on from here" in errors
    states = {d["title"]: d["status"] for d in terminal.json("documents", "list", "alpha")["documents"]}
    assert states == {"kettle.md": "COMPLETED", "slow.md": "PROCESSING"}


# chat, search, usage


def test_an_answer_comes_with_the_passages_it_cites(terminal: Terminal, upstream: Upstream) -> None:
    terminal.write("kettle.md", FACT)
    terminal.write("tea.md", "# Tea\n\nTea leaves of the moon base come from the greenhouse, next to the kettle.\n")
    terminal.run("documents", "add", "alpha", "kettle.md", "tea.md")
    upstream.enqueue("At sixty-one", " degrees [1].")
    result = terminal.run("chat", "alpha", "At how many degrees does the kettle boil water?")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "At sixty-one degrees [1].\n\n[1] kettle.md › Kettle, line 3\n"


def test_a_chat_remembers_and_each_line_of_a_pipe_is_a_message(terminal: Terminal, upstream: Upstream) -> None:
    result = terminal.run("chat", "alpha", "--chat", "c1", "--json", stdin="first canary\n\nsecond\n")
    turns = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(turn["chat"], turn["seq"], turn["prompt"], turn["status"]) for turn in turns] == [
        ("c1", 1, "first canary", "COMPLETED"),
        ("c1", 2, "second", "COMPLETED"),
    ]
    assert "first canary" in json.dumps(upstream.asked()[-1].json["messages"])
    whole = terminal.run("chat", "alpha", "-", "--json", stdin="one\ntwo\n")
    assert json.loads(whole.stdout)["prompt"] == "one\ntwo\n"


def test_an_answer_that_breaks_off_is_kept_and_ends_with_1(terminal: Terminal, upstream: Upstream) -> None:
    upstream.enqueue("The first half", Reset())
    result = terminal.run("chat", "alpha", "Tell me", "--chat", "c1")
    assert result.exit_code == 1
    assert result.stdout == "The first half\n"
    assert result.stderr.startswith("Error: ")
    upstream.script(faults.status(401))
    refused = terminal.run("chat", "alpha", "Tell me more", "--chat", "c1", "--json")
    assert refused.exit_code == 1
    assert json.loads(refused.stdout)["status"] == "FAILED"
    assert "sk-canary" not in refused.output


def test_what_a_document_holds_never_speaks_to_the_terminal(terminal: Terminal, upstream: Upstream) -> None:
    terminal.write("evil.txt", "The kettle \x1b]0;owned\x07 is \x1b[31mred\x9b2J.")
    terminal.run("documents", "add", "alpha", "evil.txt")
    upstream.enqueue("Look: \x1b", "[2J[1]")
    for result in (terminal.run("search", "alpha", "kettle"), terminal.run("chat", "alpha", "kettle?")):
        assert result.exit_code == 0
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", result.stdout)


def test_ctrl_c_stops_an_answer_and_keeps_what_came(terminal: Terminal, served: Settings, upstream: Upstream) -> None:
    upstream.enqueue("The first half", gate := Gate(), " and the second")
    process = terminal.start("chat", "alpha", "Tell me", "--chat", "c1", "--user", "ada")
    assert process.stdout is not None
    assert process.stdout.read(14) == "The first half"
    assert gate.reached.wait(10)
    pressed = time.monotonic()
    process.send_signal(2)
    _, errors = process.communicate(timeout=10)
    assert time.monotonic() - pressed < 3
    gate.open()
    assert (process.returncode, errors) == (130, "Stopped; what came is kept.\n")
    services = assemble(served, registry.build(served))
    scope = scope_of(services, "alpha", "ada")
    [turn] = services.conversations.turns(scope, "c1", 10)
    assert (turn.status, turn.reply) == ("INTERRUPTED", "The first half")
    assert services.conversations.chat(scope, "c1").running is None


def scope_of(services: Any, app: str, user: str) -> Any:
    from service.scope import local

    return local(services.apps.get(app), user)


def test_usage_sums_up_what_was_spent(terminal: Terminal, upstream: Upstream) -> None:
    upstream.enqueue("Yes.", usage=(70, 5))
    terminal.run("chat", "alpha", "Is it?")
    spent = terminal.json("usage", "alpha")
    answers = [row for row in spent["rows"] if row["kind"] == "answer"]
    assert [(row["calls"], row["inputTokens"], row["outputTokens"]) for row in answers] == [(1, 70, 5)]
    assert spent["calls"] == sum(row["calls"] for row in spent["rows"])
    table = terminal.run("usage", "alpha").stdout.splitlines()
    assert table[0].split("\t") == ["DAY", "KIND", "MODEL", "CALLS", "INPUT TOKENS", "CACHED", "OUTPUT TOKENS", "USD"]
    assert terminal.json("usage", "alpha", "--user", "eve")["calls"] == 0


# tokens


def test_a_minted_token_signs_its_user_in(terminal: Terminal, served: Settings) -> None:
    verifier = registry.build(served).tokens
    token = terminal.run(
        "tokens", "mint", "--user", "ada", "--app", "beta", "--claim", "level=3", "--claim", "team=red"
    ).stdout
    principal = authenticate(verifier, f"Bearer {token.strip()}", None)
    assert principal.uid == "ada"
    assert {name: principal.claims[name] for name in ("apps", "level", "team")} == {
        "apps": {"beta": "member"},
        "level": 3,
        "team": "red",
    }
    usual = terminal.json("tokens", "mint")
    assert usual["user"] == "local"
    assert authenticate(verifier, f"Bearer {usual['token']}", None).claims["apps"] == {
        "alpha": "member",
        "beta": "member",
    }
    admin = terminal.json("tokens", "mint", "--app", "beta", "--admin")["token"]
    assert authenticate(verifier, f"Bearer {admin}", None).claims["apps"] == {"beta": "admin"}


def test_a_token_that_cannot_be_made_is_not_pretended(terminal: Terminal) -> None:
    foreign = terminal.run("tokens", "mint", BACKEND_TOKENS="tests.kit.foreign:Tokens")
    assert foreign.exit_code == 1
    assert "Tokens are not made here: BACKEND_TOKENS is `tests.kit.foreign:Tokens`" in foreign.stderr
    assert "no app `gamma`" in terminal.run("tokens", "mint", "--app", "gamma").stderr
    assert "NAME=VALUE" in terminal.run("tokens", "mint", "--claim", "admin").stderr
    assert "issuer's to set" in terminal.run("tokens", "mint", "--claim", "sub=eve").stderr


# doctor


def findings(result: Result) -> dict[str, tuple[str, str]]:
    return {finding["what"]: (finding["state"], finding["text"]) for finding in json.loads(result.stdout)["findings"]}


def test_the_doctor_finds_a_good_set_up_good(terminal: Terminal) -> None:
    result = terminal.run("doctor", "--json", PORT="0")
    assert result.exit_code == 0
    found = findings(result)
    assert {state for state, _ in found.values()} == {"ok"}
    assert found["apps"] == ("ok", "alpha, beta")
    assert terminal.run("doctor", PORT="0").stdout.splitlines()[-1] == "Next: brainstem serve"


def test_the_doctor_names_each_thing_that_is_broken(terminal: Terminal, served: Settings, tmp_path: Path) -> None:
    (served.apps_dir / "beta" / "app.toml").write_text("nome = 1\n")
    environ = {
        "WEB_DIR": str(tmp_path),
        "DATA_DIR": "/proc/nowhere",
        "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
        "PORT": "0",
    }
    result = terminal.run("doctor", "--json", **environ)
    assert result.exit_code == 1
    found = findings(result)
    for what, words in {"data": "Set DATA_DIR", "page": "set WEB_DIR", "model": "cannot be reached"}.items():
        assert found[what][0] == "broken", found
        assert words in found[what][1]
    assert "beta/app.toml" in result.stdout
    assert (
        terminal.run("doctor", **environ).stdout.splitlines()[-1]
        == "Mend what is BROKEN, then run `brainstem doctor` again."
    )


def test_the_doctor_hints_at_the_stand_in_and_at_old_embeddings(terminal: Terminal) -> None:
    terminal.write("kettle.md", FACT)
    terminal.run("documents", "add", "alpha", "kettle.md")
    result = terminal.run("doctor", "--json", BACKEND_MODEL="local", EMBEDDING_MODEL="text-embedding-3-large", PORT="0")
    assert result.exit_code == 0
    found = findings(result)
    assert found["answers"][0] == "hint"
    assert "OPENAI_API_KEY" in found["answers"][1]
    embedded = json.loads(result.stdout)["findings"][-1]
    assert embedded["state"] == "hint"
    assert "1 document of alpha (local) was embedded by text-embedding-3-small" in embedded["text"]
    assert "brainstem documents add alpha PATH --user local" in embedded["text"]


def test_members_are_added_listed_and_removed(terminal: Terminal) -> None:
    assert terminal.run("members", "add", "alpha", "uid-1").stdout == "uid-1 is a member of alpha.\n"
    added = terminal.run("members", "add", "alpha", "uid-2", "--role", "admin")
    assert added.stdout == "uid-2 is an admin of alpha.\n"
    assert 'say "record"' in added.stderr
    listed = terminal.json("members", "list", "alpha")
    assert [(member["user"], member["role"]) for member in listed] == [("uid-2", "admin"), ("uid-1", "member")]
    assert "uid-1" in terminal.run("members", "list", "alpha").stdout
    assert "no member of alpha any more" in terminal.run("members", "remove", "alpha", "uid-1").stdout
    again = terminal.run("members", "remove", "alpha", "uid-1")
    assert (again.exit_code, "uid-1 has no record in alpha" in again.stderr) == (1, True)
    assert terminal.run("members", "add", "alpha", "uid-1", "--role", "owner").exit_code == 2
    assert terminal.run("members", "add", "gone", "uid-1").exit_code == 1
