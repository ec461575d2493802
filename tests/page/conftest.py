"""One Chromium and two servers for all tests of the page, and a new visitor for each."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.kit.apps import write_app
from tests.kit.browser import PATIENCE, Visit, Visitor, Watch, chromium
from tests.kit.server import ROOT, Server
from tests.kit.upstream import Upstream


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="package")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped apps and one more."""
    folder = tmp_path_factory.mktemp("page") / "apps"
    for app in ("assistant", "riskreport"):
        shutil.copytree(ROOT / "apps" / app, folder / app)
    write_app(folder, "recipes")
    return folder


@pytest.fixture(scope="package")
def offline(browser: Browser, apps: Path) -> Iterator[Server]:
    """The service as `make run` starts it: without any model but the stand-in."""
    with Server(apps.parent / "offline", {"STAND_IN_WORDS_PER_SECOND": "60"}, apps) as server:
        yield server


@pytest.fixture(scope="package")
def provider() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="package")
def online(browser: Browser, apps: Path, provider: Upstream) -> Iterator[Server]:
    """The service with a model that says what a test scripts."""
    model = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "sk-page"}
    with Server(apps.parent / "online", model, apps) as server:
        yield server


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Makes visitors of a server; at the end nothing that a page must not do has happened."""
    visitors: list[Visitor] = []

    def visit(server: Server, *, others: tuple[str, ...] = (), **options: Any) -> Visitor:
        context = browser.new_context(
            **{"reduced_motion": "reduce", "viewport": {"width": 1280, "height": 800}, **options}
        )
        context.set_default_timeout(PATIENCE)
        watch = Watch(server.url, others=others)
        watch.over(context)
        visitors.append(Visitor(context, server.url, watch))
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.context.close()
        assert visitor.watch.seen == []


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A user of this test alone."""
    return hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
