"""What the triggers stand on: names that tell whose an object is, and calls to the service, signed and bounded in time."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

import requests
from firebase_functions import options
from firebase_functions.params import StringParam
from google.auth.transport.requests import Request
from google.oauth2.id_token import fetch_id_token

# An account of their own, which the service lists in INTERNAL_CALLERS: the default one is also that of other programs.
options.set_global_options(
    region="us-central1",
    memory=options.MemoryOption.MB_256,
    timeout_sec=60,
    max_instances=10,
    service_account="brainstem-functions@",
)

SERVICE_URL = StringParam("SERVICE_URL", description="URL of the Brainstem service on Cloud Run, without a path")
CONNECT_SECONDS, ANSWER_SECONDS = 5, 50
HOPELESS = (400, 413, 415, 422)
"""Refusals that no repetition changes: the event ends, and the log tells of it."""

Trigger = TypeVar("Trigger")

UPLOAD = re.compile(r"apps/([^/]+)/users/([^/]+)/uploads/([^/]+)")


class Upload(NamedTuple):
    """A file that a user put under their own path of an app."""

    app: str
    user: str
    file: str


def upload(name: str) -> Upload | None:
    """Whose upload an object is; None if it is none."""
    found = UPLOAD.fullmatch(name)
    return Upload(*found.groups()) if found else None


def ids(params: Mapping[str, str]) -> dict[str, str]:
    """The ids in a Firestore path, which the service stores encoded."""
    return {name: unquote(segment) for name, segment in params.items()}


def post(path: str, body: Mapping[str, object]) -> None:
    """Call the service as this project's functions; raises if the event should come again.

    The token is Google's word on whose call it is, for this service alone.
    """
    service = SERVICE_URL.value.rstrip("/")
    token = fetch_id_token(Request(), service)
    answer = requests.post(
        service + path,
        json=body,
        headers={"Authorization": f"Bearer {token}"},
        timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
        allow_redirects=False,
    )
    if answer.status_code in HOPELESS:
        logging.error("%s refused for good: %d", path, answer.status_code)
    elif not answer.ok or answer.is_redirect:
        raise RuntimeError(f"{path} answered {answer.status_code}; the event comes again.")


def retried(trigger: Trigger) -> Trigger:
    """Have an event come again, for a day, when its function raises; the SDK has no option for it but with custom events."""
    endpoint: Any = vars(trigger)["__firebase_endpoint__"]
    endpoint.eventTrigger["retry"] = True
    return trigger
