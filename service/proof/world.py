"""The world that is attacked: apps of every kind of membership, the same user names in all of them, and what belongs to whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from service.proof.canaries import Canaries, probe
from service.proof.credentials import Mint, Visitor, bearer

APPS = {"alpha": "claim", "beta": "record", "gamma": "open", "delta": "tenant"}
"""How a user belongs to each; gamma demands App Check."""

VICTIMS = ("ada", "bob", "cyd")
THIEF, ADMIN, DISABLED, NOBODY = "eve", "root", "dan", "nil"
THIEVES = tuple(f"{THIEF}{n}" for n in range(100))
"""Members who ask questions: each asks once, so that nothing they are told comes from what they asked before."""

TENANT, FIREBASE_APP = "tenant-delta", "1:1:web:gamma"
ORIGIN = "https://{app}.example"
PAIRS = (("x/y", "x%2Fy"), ("v/w", "v%2Fw"))
"""Users of alpha whose names are each other's in the spelling of a path."""

DIARY = "diary"
"""The data that apps have searched like files."""

TASKS, FUNCTIONS = "tasks@proof.example", "functions@proof.example"
SERVICE_URL = "https://proof.example"
EMBEDDER = "words"


@dataclass(frozen=True, slots=True, kw_only=True)
class Belongings:
    """What one user has in one app: where each thing is, and the word to search it by. `question` began the chat."""

    app: str
    user: str
    chat: str = field(default_factory=lambda: f"chat-{token_hex(4)}")
    message: str = field(default_factory=lambda: f"message-{token_hex(4)}")
    key: str = field(default_factory=lambda: f"key-{token_hex(4)}")
    data: str = field(default_factory=lambda: f"data-{token_hex(4)}")
    job: str = field(default_factory=lambda: token_hex(16))
    made: str = field(default_factory=lambda: token_hex(16))
    erasure: str = field(default_factory=lambda: token_hex(16))
    upload: str = field(default_factory=lambda: f"upload-{token_hex(4)}.txt")
    probe: str = field(default_factory=probe)
    question: str = ""
    keyed: str = ""
    document: str = ""
    twin: str = ""
    pending: str = ""

    @property
    def owner(self) -> str:
        return f"{self.app}/{self.user}"


@dataclass(frozen=True, slots=True)
class World:
    """Who and what there is. `shared` is the document that each app shares, with the word to search it by."""

    mint: Mint
    canaries: Canaries
    victims: dict[str, list[Belongings]]
    shared: dict[str, tuple[str, str]]
    _visitors: dict[tuple[str, str, str], Visitor] = field(default_factory=dict)

    def everyone(self) -> list[Belongings]:
        return [victim for victims in self.victims.values() for victim in victims]

    def visitor(self, app: str, user: str, role: str = "member") -> Visitor:
        """Somebody with credentials that let them into an app."""
        known = self._visitors.get((app, user, role))
        if known is None:
            sees = {f"{app}/{user}", f"{app}/shared", f"{app}/members", "beta/members"} | admins(app, role)
            known = Visitor(f"{user} of {app}", self._sign_in(app, user, role), frozenset(sees), app, user)
            self._visitors[app, user, role] = known
        return known

    def headers(self, app: str, user: str, role: str = "member") -> dict[str, str]:
        """The headers of somebody whom an app lets in."""
        return dict(self.visitor(app, user, role).headers)

    def _sign_in(self, app: str, user: str, role: str) -> dict[str, str]:
        apps = {app: role}
        if app == "gamma":
            return bearer(self.mint.user(user, apps=apps), self.mint.app(FIREBASE_APP))
        if app == "delta":
            return bearer(self.mint.user(user, apps=apps, tenant=TENANT))
        return bearer(self.mint.user(user, apps=apps))

    def service(self, email: str = TASKS) -> Visitor:
        return Visitor(email, bearer(self.mint.service(email)))


def admins(app: str, role: str) -> set[str]:
    return {f"{app}/admins"} if role == "admin" else set()


def write_apps(folder: Path, canaries: Canaries) -> None:
    """Write the folders of the apps, each with canaries in its card, its prompt and its model's name."""
    for app, membership in APPS.items():
        model = f"model-{canaries.new(f'{app}/members')}"
        rules = {"membership": f'"{membership}"', "origins": f'["{ORIGIN.format(app=app)}"]'}
        if app == "gamma":
            rules["firebase_apps"] = f'["{FIREBASE_APP}"]'
        if app == "delta":
            rules["tenant"] = f'"{TENANT}"'
        lines = [
            f'name = "{app}"',
            f'description = "{canaries.new(f"{app}/members")}"',
            "[access]",
            *(f"{name} = {value}" for name, value in rules.items()),
            "[model]",
            f'name = "{model}"',
            f"[prices.{model}]",
            "free = true",
            f"[prices.{EMBEDDER}]",
            "free = true",
            "[context]",
            'data = ["profile"]',
            "[retrieval]",
            f'data = ["{DIARY}"]',
            "[flows.note]",
            'prompt = "prompts/note.md"',
            'input = "note.json"',
            'output = "note.json"',
        ]
        (folder / app / "prompts").mkdir(parents=True)
        (folder / app / "app.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        prompt = f"Answer in the name of {canaries.new(f'{app}/prompt')}.\n"
        (folder / app / "prompts" / "system.md").write_text(prompt, encoding="utf-8")
        (folder / app / "prompts" / "note.md").write_text("Note {{text}}.\n", encoding="utf-8")
        schema = '{"type": "object", "properties": {"text": {"type": "string"}}}\n'
        (folder / app / "note.json").write_text(schema, encoding="utf-8")
