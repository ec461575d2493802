"""What is logged says what happened and never what was said: no content, token, key or upstream's words."""

from __future__ import annotations

import io
import json
import logging

from flask import Flask

from service import logging as log
from tests.kit.client import User, events
from tests.kit.upstream import Close, Upstream, faults


def test_an_event_is_one_json_line_with_what_is_bound() -> None:
    record = logging.LogRecord("brainstem", logging.ERROR, "", 0, "failed", None, None)
    record.fields = {"app": "alpha", "text": "a\nb"}
    line = log.JSONFormatter().format(record)
    assert "\n" not in line
    assert {"severity": "ERROR", "message": "failed", "app": "alpha"}.items() <= json.loads(line).items()


def test_nothing_secret_is_logged_through_success_and_failure(flask: Flask, ada: User, upstream: Upstream) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(log.JSONFormatter())
    root = logging.getLogger()
    level = root.level, log.logger.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    log.logger.setLevel(logging.DEBUG)
    try:
        ada.add("canary-file.md", b"canary-document text", "text/markdown")
        ada.add("canary-broken.pdf", b"%PDF-canary-document", "application/pdf")
        upstream.enqueue("canary-reply")
        events(ada.stream("c1", "canary-question"))
        for fault in (faults.status(401), faults.status(500), faults.status(400)):
            upstream.script(fault, on="chat", times=3)
            ada.ask("c2", "canary-question")
        upstream.enqueue("canary-reply", Close(), finish=None)
        events(ada.stream("c3", "canary-question"))
        ada.get("chats", headers={"Authorization": "Bearer canary-token"})
        ada.post("search", json={"text": "canary-question"})
        ada.call("PUT", "data/profile", json={"x": "canary-data"})
        ada.get("chats/canary!bad")
    finally:
        root.removeHandler(handler)
        root.setLevel(level[0])
        log.logger.setLevel(level[1])
    logged = stream.getvalue()
    assert logged.count('"message": "request"') >= 8
    assert logged.count('"message": "model_call"') == 5
    for secret in ("canary", "sk-", ada.token[:40]):
        assert secret not in logged, next(line for line in logged.splitlines() if secret in line)
