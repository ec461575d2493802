"""The functions in their emulator: what a client does with Firebase's SDK ends as a signed call, and in the service."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from service.backends.google.firebase import FirebaseTokens
from service.backends.local.secrets import EnvironmentSecrets
from service.cli import main
from service.cli.functions import KINDS
from service.config import Settings
from tests.kit.apps import write_app
from tests.kit.emulators import ENVIRON, PROJECT, Emulators
from tests.kit.functions import CALLER, FUNCTIONS, REGION, Metadata, Receiver, functions_emulators, service_token
from tests.kit.keys import KeyServer
from tests.kit.required import left_out
from tests.kit.server import ROOT, Server

BUCKET = f"{PROJECT}.appspot.com"
FINALIZED, WRITTEN, RUN = (
    "/internal/events/object-finalized",
    "/internal/events/data-written",
    "/internal/jobs/run",
)
DATA = {"data": {"diet": "no peanuts"}, "updated": "2026-01-31T10:00:00.000Z"}
MEMBERSHIP = """
[[give]]
app = "recipes"
role = "admin"
addresses = ["chief@example.com"]

[[give]]
app = "recipes"
role = "member"
domains = ["example.com"]

[[give]]
app = "recipes"
role = "admin"
addresses = ["Boss@example.org"]

[[give]]
app = "notes"
role = "member"
domains = ["example.com"]
tenant = "t-1"
"""


@pytest.fixture(scope="module")
def keys() -> Iterator[KeyServer]:
    with KeyServer() as server:
        yield server


@pytest.fixture(scope="module")
def metadata(keys: KeyServer) -> Iterator[Metadata]:
    with Metadata(keys.services.factory) as server:
        yield server


@pytest.fixture(scope="module")
def all_of_it(metadata: Metadata) -> Iterator[tuple[Receiver, Emulators]]:
    with Receiver() as receiver, functions_emulators(receiver.url, metadata, MEMBERSHIP) as running:
        yield receiver, running


@pytest.fixture
def running(all_of_it: tuple[Receiver, Emulators]) -> Emulators:
    return all_of_it[1]


@pytest.fixture
def receiver(all_of_it: tuple[Receiver, Emulators]) -> Iterator[Receiver]:
    found = all_of_it[0]
    found.requests.clear()
    yield found
    found.answers.clear()
    found.behind = None


def client(running: Emulators, user: str, *steps: dict[str, object]) -> dict[str, Any]:
    """What became of each step of a client app, and the user's id and token."""
    environ = {
        **ENVIRON,
        "FIREBASE_AUTH_EMULATOR_HOST": running.hosts["auth"],
        "FIRESTORE_EMULATOR_HOST": running.hosts["firestore"],
        "FIREBASE_STORAGE_EMULATOR_HOST": running.hosts["storage"],
    }
    command = ["node", str(ROOT / "tests" / "rules" / "client.mjs"), json.dumps({"user": user, "steps": steps})]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def send(method: str, url: str, body: object, **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        content = answer.read()
        return answer.status, json.loads(content) if content else None


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def enqueue(running: Emulators, data: object) -> None:
    """Put a task into the queue of `runjob`, as the Admin SDK does."""
    where = f"projects/{PROJECT}/locations/{REGION}"
    body = base64.b64encode(json.dumps({"data": data}).encode()).decode()
    url = f"http://{running.hosts['functions']}/{PROJECT}/{REGION}/runjob"
    request = {"url": url, "headers": {"Content-Type": "application/json"}, "body": body}
    send("POST", f"http://{running.hosts['tasks']}/{where}/queues/runjob/tasks", {"task": {"httpRequest": request}})


def sweep(running: Emulators) -> None:
    """Run the schedule now; the emulator has no clock for it."""
    name = f"{REGION}-sweep_uploads-0"
    status, _ = send("POST", f"http://{running.hosts['functions']}/functions/projects/{PROJECT}/triggers/{name}", {})
    assert status == 200


def test_an_upload_becomes_a_call_in_our_own_name(running: Emulators, receiver: Receiver, keys: KeyServer) -> None:
    done = client(running, "ada@ada.example", {"upload": "apps/assistant/users/UID/uploads/My notes.txt", "text": "x"})
    assert done["results"] == ["ok"]
    name = f"apps/assistant/users/{done['uid']}/uploads/My notes.txt"
    [call] = receiver.wait(FINALIZED, {"name": name})
    settings = Settings(google_keys_emulator_host=keys.host)
    tokens = FirebaseTokens(settings, EnvironmentSecrets(settings))
    assert tokens.verify_service(call.token, receiver.url) == CALLER


def test_what_is_no_upload_of_a_client_calls_nobody(running: Emulators, receiver: Receiver) -> None:
    where = f"http://{running.hosts['storage']}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name="
    names = ["apps/assistant/users/ada/documents/d1/original", "apps/assistant/users/ada/uploads/a/b", "uploads/x"]
    for name in [*names, "apps/assistant/users/ada/uploads/last.txt"]:
        send("POST", where + urllib.parse.quote(name, safe=""), b"x", Authorization="Bearer owner")
    receiver.wait(FINALIZED, {"name": "apps/assistant/users/ada/uploads/last.txt"})
    assert [request.body["name"] for request in receiver.requests] == ["apps/assistant/users/ada/uploads/last.txt"]


def test_nobody_uploads_or_writes_for_another(running: Emulators, receiver: Receiver) -> None:
    done = client(
        running,
        "eve@eve.example",
        {"upload": "apps/assistant/users/victim/uploads/x.txt", "text": "x"},
        {"upload": "apps/assistant/users/UID/documents/d1/original", "text": "x"},
        {"upload": "apps/unknown/users/UID/uploads/x.txt", "text": "x"},
        {"write": "apps/assistant/users/victim/data/profile", "data": DATA},
        {"write": "apps/assistant/users/UID/jobs/j1", "data": DATA},
        {"upload": "apps/assistant/users/UID/uploads/own.txt", "text": "x"},
        {"write": "apps/assistant/users/UID/data/profile", "data": DATA},
    )
    assert done["results"] == [*["storage/unauthorized"] * 3, *["permission-denied"] * 2, "ok", "ok"]
    receiver.wait(FINALIZED, {"name": f"apps/assistant/users/{done['uid']}/uploads/own.txt"})
    receiver.wait(WRITTEN, {"app": "assistant", "user": done["uid"], "document": "profile"})
    assert len(receiver.requests) == 2


def test_data_that_a_client_writes_or_removes_becomes_a_call(running: Emulators, receiver: Receiver) -> None:
    path = "apps/assistant/users/UID/data/diary"
    done = client(running, "ada@ada.example", {"write": path, "data": DATA}, {"remove": path})
    assert done["results"] == ["ok", "ok"]
    receiver.wait(WRITTEN, {"app": "assistant", "user": done["uid"], "document": "diary"}, times=2)


def test_ids_that_the_service_stores_encoded_are_told_as_they_are(running: Emulators, receiver: Receiver) -> None:
    root = f"http://{running.hosts['firestore']}/v1/projects/{PROJECT}/databases/(default)/documents"
    path = "apps/assistant/users/a%252Fb%2540c/data/profile"
    send("PATCH", f"{root}/{path}", {"fields": {}}, Authorization="Bearer owner")
    receiver.wait(WRITTEN, {"app": "assistant", "user": "a/b@c", "document": "profile"})


def test_the_sweep_sends_lost_uploads_again(running: Emulators, receiver: Receiver) -> None:
    receiver.answers.append(503)
    done = client(running, "ada@ada.example", {"upload": "apps/assistant/users/UID/uploads/lost.txt", "text": "x"})
    body = {"name": f"apps/assistant/users/{done['uid']}/uploads/lost.txt"}
    receiver.wait(FINALIZED, body)
    assert not receiver.answers, "the first call was not refused"
    sweep(running)
    receiver.wait(FINALIZED, body, times=2)
    assert all(request.path == FINALIZED for request in receiver.requests)


def test_a_task_comes_again_until_its_job_is_done(running: Emulators, receiver: Receiver) -> None:
    receiver.answers.extend([503, 409])
    body = {"app": "assistant", "user": None, "job": "j1"}
    enqueue(running, body)
    receiver.wait(RUN, body, times=3)
    time.sleep(2.5)  # longer than the pause before another attempt
    assert len(receiver.requests) == 3


def test_a_refusal_that_nothing_changes_ends_the_task(running: Emulators, receiver: Receiver) -> None:
    receiver.answers.append(422)
    body = {"app": "assistant", "user": "ada", "job": "malformed"}
    enqueue(running, body)
    receiver.wait(RUN, body)
    time.sleep(2.5)
    assert len(receiver.requests) == 1


def sign_in_with_google(running: Emulators, address: str, verified: bool) -> dict[str, Any]:
    """The claims of a user who signs up, or in, with an account of Google's."""
    account = json.dumps({"sub": address, "email": address, "email_verified": verified})
    body = {
        "postBody": f"providerId=google.com&id_token={urllib.parse.quote(account)}",
        "requestUri": "http://localhost",
        "returnSecureToken": True,
    }
    url = f"http://{running.hosts['auth']}/identitytoolkit.googleapis.com/v1/accounts:signInWithIdp?key=fake"
    return claims_of(send("POST", url, body)[1]["idToken"])


def test_who_signs_up_with_a_proved_address_is_a_member(running: Emulators) -> None:
    assert sign_in_with_google(running, "bo@example.com", True)["apps"] == {"recipes": "member"}
    assert sign_in_with_google(running, "chief@example.com", True)["apps"] == {"recipes": "admin"}
    assert sign_in_with_google(running, "boss@EXAMPLE.org", True)["apps"] == {"recipes": "admin"}
    assert "apps" not in sign_in_with_google(running, "bo@example.net", True)
    assert "apps" not in sign_in_with_google(running, "bo@sub.example.com", True)


def test_an_address_counts_once_it_is_proved(running: Emulators) -> None:
    done = client(running, "new@example.com")
    assert "apps" not in claims_of(done["token"])
    url = f"http://{running.hosts['auth']}/identitytoolkit.googleapis.com/v1/projects/{PROJECT}/accounts:update"
    claims = {
        "localId": done["uid"],
        "emailVerified": True,
        "customAttributes": '{"plan": "gold", "apps": {"beta": "admin"}}',
    }
    send("POST", url, claims, Authorization="Bearer owner")
    again = claims_of(client(running, "new@example.com")["token"])
    assert again["apps"] == {"beta": "admin", "recipes": "member"}
    assert again["plan"] == "gold"


def test_functions_import_nothing_of_the_service() -> None:
    for path in FUNCTIONS.glob("*.py"):
        names = re.findall(r"^\s*(?:from|import) ([a-z_]+)", path.read_text(), re.MULTILINE)
        assert "service" not in names, path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an app and the functions."""
    write_app(tmp_path / "apps", "meal-plans")
    shutil.copytree(FUNCTIONS, tmp_path / "functions", ignore=shutil.ignore_patterns("venv", "__pycache__", ".env*"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


TRIGGERS = """
import json, main
found = {name: vars(value)["__firebase_endpoint__"] for name, value in vars(main).items() if hasattr(value, "__firebase_endpoint__")}
print(json.dumps({name: {**(each.eventTrigger or each.taskQueueTrigger or each.scheduleTrigger or each.httpsTrigger or {}), "region": each.region} for name, each in found.items()}))
"""


def triggers(folder: Path) -> dict[str, Any]:
    """What the functions of a folder are fired by, as firebase-tools would deploy them."""
    python = FUNCTIONS / "venv" / "bin" / "python"
    if not python.exists():
        left_out("emulators", "functions/venv is missing: `make install-functions` makes it")
    environ = {"FIREBASE_CONFIG": '{"storageBucket": "b"}', "GCLOUD_PROJECT": PROJECT, "SERVICE_URL": "http://x"}
    command = [str(python), "-W", "error::SyntaxWarning", "-c", TRIGGERS]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_events_come_again_when_their_function_fails() -> None:
    found = triggers(FUNCTIONS)
    assert {name for name, trigger in found.items() if trigger.get("retry") is True} == {
        "ingest_upload",
        "refresh_data",
    }


def test_each_kind_of_new_function_can_be_deployed(project: Path) -> None:
    for kind in KINDS:
        told = CliRunner().invoke(main, ["functions", "new", "meal-plans", f"on-{kind}", "--on", kind])
        assert told.exit_code == 0, told.output
    found = triggers(project / "functions")
    assert {*triggers(FUNCTIONS)} < {*found}
    assert found["meal_plans_on_object"]["retry"] is True
    assert found["meal_plans_on_data"]["eventFilterPathPatterns"] == {
        "document": "apps/meal-plans/users/{user}/data/{document}"
    }
    assert found["meal_plans_on_schedule"]["schedule"] == "every 24 hours"
    assert found["mealplansontask"]["retryConfig"]["maxAttempts"] == 5
    assert found["meal_plans_on_http"]["invoker"] == ["private"]
    assert {trigger["region"][0] for trigger in found.values() if trigger["region"]} == {REGION}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "x"], "There is no app `nowhere`"),
        (["meal-plans", "../x"], "cannot be a function's name"),
        (["meal-plans", "class x"], "cannot be a function's name"),
        (["meal-plans", "taken"], "is there already"),
    ],
)
def test_a_function_that_cannot_be_made_is_told(project: Path, arguments: list[str], words: str) -> None:
    (project / "functions" / "meal_plans_taken.py").write_text("")
    before = (project / "functions" / "main.py").read_text()
    told = CliRunner().invoke(main, ["functions", "new", *arguments])
    assert told.exit_code == 1
    assert words in told.output
    assert (project / "functions" / "main.py").read_text() == before


def test_main_without_its_anchor_is_left_alone(project: Path) -> None:
    (project / "functions" / "main.py").write_text("")
    told = CliRunner().invoke(main, ["functions", "new", "meal-plans", "x"])
    assert told.exit_code == 1
    assert "has no line `# brainstem functions new" in told.output
    assert not (project / "functions" / "meal_plans_x.py").exists()


@pytest.fixture
def service(tmp_path: Path, running: Emulators, receiver: Receiver, keys: KeyServer) -> Iterator[Server]:
    """The real service on these emulators; it takes the receiver's address for its own, and answers in its stead."""
    write_app(tmp_path / "apps", "assistant", '[retrieval]\ndata = ["diary"]\n')
    environ = {
        **running.environ,
        **{f"BACKEND_{seam}": "google" for seam in ("TOKENS", "DOCUMENTS", "VECTORS", "BLOBS")},
        "STORAGE_BUCKET": BUCKET,
        "GOOGLE_KEYS_EMULATOR_HOST": keys.host,
        "SERVICE_URL": receiver.url,
        "INTERNAL_CALLERS": CALLER,
    }
    with Server(tmp_path / "data", environ, tmp_path / "apps") as server:
        receiver.behind = server
        yield server


def search_until(service: Server, token: str, text: str, found: bool = True) -> list[Any]:
    headers = {"Authorization": f"Bearer {token}"}
    for _ in range(150):
        status, answer = service.request("POST", "/v1/apps/assistant/search", {"text": text, "limit": 5}, headers)
        assert status == 200, answer
        passages: list[Any] = answer["passages"]
        if bool(passages) == found:
            return passages
        time.sleep(0.2)
    raise AssertionError(f"the search for {text} found {passages}")


def test_what_a_client_uploads_is_found(running: Emulators, receiver: Receiver, service: Server) -> None:
    text = "The canary of this test is called Xylophone-4711 and sings at dawn."
    done = client(running, "cy@cy.example", {"upload": "apps/assistant/users/UID/uploads/My birds.txt", "text": text})
    assert done["results"] == ["ok"]
    [passage] = search_until(service, done["token"], "Xylophone-4711")
    assert (passage["title"], passage["text"]) == ("My birds.txt", text)
    other = client(running, "di@di.example")
    _, answer = service.request(
        "POST", "/v1/apps/assistant/search", {"text": "Xylophone-4711"}, {"Authorization": f"Bearer {other['token']}"}
    )
    assert answer["passages"] == []


def test_data_that_a_client_writes_is_found_until_it_is_gone(
    running: Emulators, receiver: Receiver, service: Server
) -> None:
    path = "apps/assistant/users/UID/data/diary"
    done = client(running, "ed@ed.example", {"write": path, "data": {**DATA, "data": {"pet": "an axolotl"}}})
    assert done["results"] == ["ok"]
    [passage] = search_until(service, done["token"], "axolotl")
    assert "an axolotl" in passage["text"]
    client(running, "ed@ed.example", {"remove": path})
    search_until(service, done["token"], "axolotl", found=False)


def test_the_service_refuses_calls_that_are_not_ours(receiver: Receiver, service: Server, keys: KeyServer) -> None:
    body = {"name": "apps/assistant/users/ada/uploads/x.txt"}
    ours, another = keys.services.factory, "https://another.example"

    def answered(token: str | None) -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return service.request("POST", FINALIZED, body, headers)[0]

    assert answered(service_token(ours, receiver.url)) == 204
    assert answered(None) == 401
    assert answered(service_token(ours, another)) == 401
    assert answered(service_token(keys.users.factory, receiver.url)) == 401
    assert answered(service_token(ours, receiver.url, "evil@attacker.iam.gserviceaccount.com")) == 403
