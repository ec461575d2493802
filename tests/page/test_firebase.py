"""The page where users have Firebase accounts: real Auth and Firestore emulators, and chats that are heard of as they change."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Request, Route, expect

from service.api.firebase import APP_CHECK, RECAPTCHA_FRAMES, RECAPTCHA_SCRIPTS, Sources
from service.api.pages import policy
from tests.kit.apps import write_app
from tests.kit.browser import Visit, Visitor
from tests.kit.emulators import PROJECT, Emulators
from tests.kit.server import Server
from tests.page import WHALES
from tests.page.test_access import PHONE, brightness, low_contrast

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]  # the first test waits for the emulators
FIRST = "first@example.com"
PASSWORD = "long enough"  # of accounts that an emulator forgets
SEAMS = ("TOKENS", "DOCUMENTS", "VECTORS", "BLOBS")

SDK = """
  const [{ getApp }, { getAuth }, { collection, getDocs, getFirestore }] = await Promise.all(
    ['app', 'auth', 'firestore'].map((part) => import(`/web/vendor/firebase-${part}.js`)));
  const app = getApp(), auth = getAuth(app);
"""
ACCOUNTS = """() => new Promise((resolve) => {
  const opening = indexedDB.open('firebaseLocalStorageDb');
  opening.onsuccess = () => {
    const reading = opening.result.transaction('firebaseLocalStorage').objectStore('firebaseLocalStorage').getAllKeys();
    reading.onsuccess = () => resolve(reading.result.filter((key) => key.startsWith('firebase:authUser')));
  };
})"""

RECAPTCHA = """(() => {
  let widget;
  const execute = async () => {
    widget.callback();
    return `proof-by-${widget.sitekey}`;
  };
  self.grecaptcha = { enterprise: { ready: (run) => run(), render: (_, options) => { widget = options; return 0; }, execute } };
})();"""


@pytest.fixture(scope="module")
def cloud(browser: object, firebase: Emulators, apps: Path) -> Iterator[Server]:
    """The service as `make emulators` starts it."""
    write_app(apps, "guests", "[access]\nanonymous = true\n")
    backends = {f"BACKEND_{seam}": "google" for seam in SEAMS}
    environ = {**firebase.environ, **backends, "STORAGE_BUCKET": f"{PROJECT}.appspot.com"}
    with Server(apps.parent / "cloud", environ, apps) as server:
        account(firebase, "signUp", {"email": FIRST, "password": PASSWORD})
        warm(Client(server, firebase, FIRST))
        yield server


@pytest.fixture
def come(visit: Visit, cloud: Server, firebase: Emulators) -> Any:
    """Makes visitors of that service, which talk to it and to its emulators alone."""
    others = tuple(f"http://{firebase.hosts[name]}" for name in ("auth", "firestore", "storage"))

    def come(**options: Any) -> Visitor:
        return visit(cloud, others=others, **options)

    return come


@pytest.fixture
def email(name: str) -> str:
    return f"{name}@example.com"


class Client:
    """Another client of the same user, which knows nothing of the page."""

    def __init__(self, cloud: Server, firebase: Emulators, email: str) -> None:
        self._cloud = cloud
        answer = account(
            firebase, "signInWithPassword", {"email": email, "password": PASSWORD, "returnSecureToken": True}
        )
        self._headers = {"Authorization": f"Bearer {answer['idToken']}"}

    def call(self, method: str, path: str, body: object = None) -> None:
        status, answer = self.answer(method, path, body)
        assert status in (200, 204), answer

    def answer(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        return self._cloud.request(method, f"/v1/apps/assistant/chats/{path}", body, self._headers)


def warm(client: Client) -> None:
    """Ask a first question, until the server has loaded what takes it longer than it may take: a busy machine is slow at that."""
    for _ in range(10):
        status, answer = client.answer("POST", "first/messages", {"text": "Are you there?", "id": "first"})
        if status == 200:
            return
    raise AssertionError(answer)


def account(firebase: Emulators, method: str, body: object) -> Any:
    url = f"http://{firebase.hosts['auth']}/identitytoolkit.googleapis.com/v1/accounts:{method}?key=any"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def listings(page: Page) -> list[str]:
    """The requests for lists of chats that the page makes from now on."""
    made: list[str] = []

    def note(request: Request) -> None:
        if request.url.partition("?")[0].endswith("/chats"):
            made.append(request.url)

    page.on("request", note)
    return made


def test_a_visitor_signs_up_asks_about_a_document_and_is_known_again(come: Any, email: str) -> None:
    ada = come().sign_up(email, PASSWORD)
    expect(ada.page.locator("#mode")).to_have_text("Firebase emulators")
    ada.add("whales.md", WHALES)
    ada.answered("How long is a blue whale?")
    expect(ada.turns.locator(".citation").first).to_be_visible()
    expect(ada.chats).to_have_count(1)
    ada.turns.locator(".citation").first.click()
    with ada.page.expect_download() as download:
        ada.button("Download the original").click()
    assert Path(download.value.path()).read_bytes() == WHALES
    ada.page.reload()
    expect(ada.page.locator("#user")).to_have_text(email)
    expect(ada.turns).to_contain_text("30 metres")


def test_chats_of_another_client_appear_change_and_go_without_a_request(
    come: Any, cloud: Server, firebase: Emulators, email: str
) -> None:
    ada = come()
    with ada.page.expect_response(re.compile(r"/chats\?")):  # it is asked for once, for what is older
        ada.sign_up(email, PASSWORD)
    made = listings(ada.page)
    other = Client(cloud, firebase, email)
    other.call("POST", "elsewhere/messages", {"text": "Asked elsewhere"})
    expect(ada.chats.get_by_role("link")).to_have_text(["Asked elsewhere"])
    other.call("POST", "second/messages", {"text": "And again"})
    expect(ada.chats.get_by_role("link")).to_have_text(["And again", "Asked elsewhere"])
    ada.chats.get_by_role("link", name="Asked elsewhere").click()
    expect(ada.turns).to_have_count(1)
    other.call("PATCH", "elsewhere", {"title": "Called otherwise"})
    expect(ada.chats.last.get_by_role("link")).to_have_text("Called otherwise")
    expect(ada.page.get_by_role("heading", name="Called otherwise")).to_be_visible()
    other.call("DELETE", "second")
    expect(ada.chats.get_by_role("link")).to_have_text(["Called otherwise"])
    assert made == []


def test_nobody_hears_of_the_chats_of_another_user(come: Any, email: str) -> None:
    ada, eve = come().sign_up(email, PASSWORD), come().sign_up(f"eve-{email}", PASSWORD)
    ada.answered("For me alone")
    expect(ada.chats).to_have_count(1)
    eve.answered("Mine")
    expect(eve.chats.get_by_role("link")).to_have_text(["Mine"])
    expect(ada.chats.get_by_role("link")).to_have_text(["For me alone"])
    uid = ada.page.evaluate(f"async () => {{ {SDK} return auth.currentUser.uid; }}")
    read = f"""async (uid) => {{ {SDK}
      const chats = collection(getFirestore(app), 'apps/assistant/users', uid, 'chats');
      return getDocs(chats).then(({{ size }}) => size, ({{ code }}) => code);
    }}"""
    assert ada.page.evaluate(read, uid) == 1
    assert eve.page.evaluate(read, uid) == "permission-denied"


def test_who_comes_back_finds_their_chats_and_who_follows_finds_nothing(come: Any, email: str) -> None:
    ada = come().sign_up(email, PASSWORD)
    ada.answered("Keep this between us")
    ada.page.get_by_label("Your question").fill("An unsent draft")
    ada.button("Sign out").click()
    expect(ada.page.get_by_label("E-mail")).to_be_focused()
    expect(ada.page.get_by_label("E-mail")).to_have_value("")
    assert "Keep this between us" not in ada.page.content()
    assert email not in ada.page.content()
    assert ada.page.evaluate(ACCOUNTS) == []

    ada.button("Create an account").click()
    ada.enter(f"next-{email}", PASSWORD, "Create the account")
    expect(ada.page.get_by_text("Your chats will be listed here.")).to_be_visible()
    expect(ada.page.get_by_label("Your question")).to_have_value("")
    ada.button("Sign out").click()
    ada.enter(email, PASSWORD)
    expect(ada.chats.get_by_role("link")).to_have_text(["Keep this between us"])


def test_signing_out_in_one_tab_signs_out_all(come: Any, email: str) -> None:
    ada = come().sign_up(email, PASSWORD)
    ada.answered("In both tabs")
    other = Visitor(ada.context, ada.base, ada.watch)
    other.page.goto(ada.page.url)
    expect(other.turns).to_have_count(1)
    ada.button("Sign out").click()
    expect(other.page.get_by_text("Your sign-in has ended.")).to_be_visible()
    assert "In both tabs" not in other.page.content()
    other.enter(email, PASSWORD)
    expect(other.chats).to_have_count(1)
    expect(ada.chats).to_have_count(1)


def test_what_is_wrong_with_a_sign_in_is_said_in_plain_words(come: Any, email: str) -> None:
    ada = come().sign_up(email, PASSWORD)
    ada.button("Sign out").click()
    note = ada.page.locator("#account-problem .note")
    ada.enter(email, "not my password")
    expect(note).to_contain_text("The e-mail address or the password is wrong")
    ada.enter(f"nobody-{email}", PASSWORD)
    expect(note).to_contain_text("The e-mail address or the password is wrong")
    ada.button("Create an account").click()
    expect(note).to_have_count(0)
    ada.enter(email, PASSWORD, "Create the account")
    expect(note).to_contain_text("There is an account of this e-mail address")
    ada.enter(f"new-{email}", "short", "Create the account")
    expect(note).to_contain_text("This password is too easy to guess")
    ada.watch.allow("status of 400")
    ada.page.route("**/identitytoolkit.googleapis.com/**", lambda route: route.abort())
    ada.enter(f"new-{email}", PASSWORD, "Create the account")
    expect(note).to_contain_text("Brainstem cannot be reached")
    expect(note).to_contain_text("Check that “make emulators” still runs")
    ada.watch.allow("ERR_FAILED")
    ada.page.unroute("**/identitytoolkit.googleapis.com/**")
    ada.button("I have an account").click()
    for address in (email, f"nobody-{email}"):
        ada.page.get_by_label("E-mail").fill(address)
        with ada.page.expect_response(re.compile("sendOobCode")):
            ada.button("Forgot the password?").click()
        expect(ada.page.locator("#account-problem")).to_contain_text("a link to a new password is on its way")
    ada.watch.allow("status of 400")


def test_where_firestore_is_not_heard_the_chats_are_read_over_http(
    come: Any, cloud: Server, firebase: Emulators, email: str
) -> None:
    ada = come()
    listen = re.compile(r"/google\.firestore\.v1\.Firestore/Listen/")
    refused: list[str] = []

    def refuse(route: Route) -> None:
        refused.append(route.request.url)
        route.abort()

    ada.context.route(listen, refuse)
    ada.sign_up(email, PASSWORD)
    expect(ada.page.get_by_text("Your chats will be listed here.")).to_be_visible()
    Client(cloud, firebase, email).call("POST", "elsewhere/messages", {"text": "Asked elsewhere"})
    ada.page.evaluate("document.dispatchEvent(new Event('visibilitychange', { bubbles: true }))")
    expect(ada.chats.get_by_role("link")).to_have_text(["Asked elsewhere"])
    ada.answered("Asked here")
    expect(ada.chats).to_have_count(2)
    expect(ada.page.locator(".note")).to_have_count(0)
    assert refused
    ada.page.close()
    ada.watch.allow("ERR_FAILED|WebChannelConnection|Could not reach Cloud Firestore")
    ada.watch.allow(
        "cleardot"
    )  # the SDK tries whether there is a network by a picture of Google's, which the policy blocks


def test_where_the_rules_let_nobody_listen_the_chats_are_read_over_http(come: Any, email: str) -> None:
    """The rules do not know the app `guests`, as where an app was added and its rules are not deployed yet."""
    guest = come()
    guest.page.goto(f"{guest.base}/#/guests")
    guest.button("Go on without an account").click()
    expect(guest.page.locator("#user")).to_have_text("Guest")
    expect(guest.page.get_by_role("combobox", name="App")).to_have_count(0)
    guest.answered("May I?")
    expect(guest.chats.get_by_role("link")).to_have_text(["May I?"])
    guest.page.reload()
    expect(guest.chats.get_by_role("link")).to_have_text(["May I?"])
    expect(guest.page.locator(".note")).to_have_count(0)
    denied = [line for line in guest.watch.seen if "permission" in line.lower()]
    guest.watch.seen = [line for line in guest.watch.seen if line not in denied]


def test_a_refused_token_is_renewed_without_a_word(come: Any, email: str) -> None:
    ada = come().sign_up(email, PASSWORD)
    sent: list[str] = []

    def refuse(route: Route) -> None:
        sent.append(route.request.headers["authorization"])
        route.fulfill(status=401, json={"status": 401, "code": "invalid_token"})

    ada.page.route("**/messages", refuse, times=1)
    ada.answered("Still there?")
    assert len(sent) == 1
    ada.watch.allow("status of 401")


def test_it_works_by_keyboard_alone(come: Any, email: str) -> None:
    ada = come()
    page, keyboard = ada.page, ada.page.keyboard
    page.goto(ada.base)
    expect(page.get_by_label("E-mail")).to_be_focused()
    for _ in range(3):
        keyboard.press("Tab")
    expect(ada.button("Create an account")).to_be_focused()
    keyboard.press("Enter")
    expect(page.get_by_label("E-mail")).to_be_focused()
    keyboard.type(email)
    keyboard.press("Tab")
    keyboard.type(PASSWORD)
    keyboard.press("Enter")
    expect(page.get_by_label("Your question")).to_be_focused()
    keyboard.type("By hand")
    keyboard.press("Enter")
    expect(ada.turns).to_have_attribute("data-status", "COMPLETED", timeout=20_000)
    ada.button("Sign out").focus()
    keyboard.press("Enter")
    expect(page.get_by_label("E-mail")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_sign_in_is_readable_in_both_themes_and_on_a_phone(come: Any, scheme: str) -> None:
    ada = come(color_scheme=scheme, **PHONE)
    page = ada.page
    page.goto(ada.base)
    ada.enter("nobody@example.com", PASSWORD)
    expect(page.locator("#account-problem .note")).to_be_visible()
    ada.watch.allow("status of 400")
    assert brightness(page) == scheme
    assert low_contrast(page) == []
    ada.button("Create an account").tap()
    assert low_contrast(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_pages_connect_to_the_hosts_of_their_project_alone(cloud: Server, firebase: Emulators) -> None:
    allowed = connections(cloud)
    assert allowed == ["'self'", *(f"http://{firebase.hosts[name]}" for name in ("auth", "firestore"))]


def test_where_app_check_is_set_up_each_request_carries_its_token(come: Any, cloud: Server, email: str) -> None:
    """reCAPTCHA and the exchange of its proof are Google's, so both are answered here in their stead."""
    hosts = [source for source in connections(cloud) if source != "'self'"]
    # A page that the test answers has no address of its own, and such a one must ask before it goes to this machine.
    rules = policy(Sources([*hosts, *APP_CHECK], RECAPTCHA_SCRIPTS, RECAPTCHA_FRAMES))
    ada = come(permissions=["local-network-access"])
    carried: list[str | None] = []

    def serve_page(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, headers={**answer.headers, "content-security-policy": rules})

    def serve_config(route: Route) -> None:
        config = route.fetch().json()
        config["firebase"] |= {"appId": "1:1:web:1", "appCheckKey": "site-key"}
        route.fulfill(json=config)

    def exchange(route: Route) -> None:
        proof = route.request.post_data_json["recaptcha_enterprise_token"]
        route.fulfill(json={"token": f"app-token-for-{proof}", "ttl": "3600s"})

    def forward(route: Route) -> None:
        carried.append(route.request.headers.get("x-firebase-appcheck"))
        without = {name: value for name, value in route.request.headers.items() if name != "x-firebase-appcheck"}
        route.continue_(headers=without)  # no key has signed this token, and the service would refuse it

    ada.page.route(f"{cloud.url}/", serve_page)
    ada.page.route("**/config.json", serve_config)
    ada.page.route(
        "https://www.google.com/recaptcha/enterprise.js*",
        lambda route: route.fulfill(body=RECAPTCHA, content_type="text/javascript"),
    )
    ada.page.route("https://content-firebaseappcheck.googleapis.com/**", exchange)
    ada.page.route(re.compile(f"{cloud.url}/v1/.*"), forward)
    ada.sign_up(email, PASSWORD)
    ada.answered("Which app am I?")
    assert set(carried) == {"app-token-for-proof-by-site-key"}
    elsewhere = [line for line in ada.watch.seen if line.startswith("request to https://")]
    assert {line.split("?")[0] for line in elsewhere} == {
        "request to https://www.google.com/recaptcha/enterprise.js",
        "request to https://content-firebaseappcheck.googleapis.com/v1/projects/demo-brainstem/apps/1:1:web:1:exchangeRecaptchaEnterpriseToken",
    }
    ada.watch.seen = [line for line in ada.watch.seen if line not in elsewhere]


def test_a_local_page_loads_nothing_of_firebase(visit: Visit, offline: Server, name: str) -> None:
    assert connections(offline) == ["'self'"]
    ada = visit(offline)
    loaded: list[str] = []
    ada.page.on("request", lambda request: loaded.append(request.url))
    ada.come(name).answered("Hello")
    assert any(url.endswith("/web/door.js") for url in loaded)
    assert [url for url in loaded if "firebase" in url] == []


def connections(server: Server) -> list[str]:
    """What the policy of a server's page lets it connect to."""
    with urllib.request.urlopen(server.url, timeout=10) as answer:
        directives: list[list[str]] = [part.split() for part in answer.headers["Content-Security-Policy"].split(";")]
    [(_, *allowed)] = [directive for directive in directives if directive[0] == "connect-src"]
    return allowed
