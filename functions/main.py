"""Firebase triggers: each tells the service what happened, and the service does the rest. They import nothing of it."""

from __future__ import annotations

import json
import logging
import os
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import membership
import scoped
from firebase_functions import firestore_fn, identity_fn, options, params, scheduler_fn, storage_fn, tasks_fn

# brainstem functions new: its imports stand here

SWEEP_AFTER_MINUTES = params.IntParam(
    "SWEEP_AFTER_MINUTES", default=15, description="Age at which an upload counts as lost"
)
LOOKED_AT, SENT_AGAIN = 5000, 100
SWEEP_SECONDS = 30

membership.table()  # one that does not hold must not be deployed: it would keep everyone from signing in


@identity_fn.before_user_created()
def give_roles(event: identity_fn.AuthBlockingEvent) -> identity_fn.BeforeCreateResponse | None:
    """Make a new user a member of the apps that membership.toml says."""
    claims = membership.claims(event.data)
    return identity_fn.BeforeCreateResponse(custom_claims=claims) if claims else None


@identity_fn.before_user_signed_in()
def give_roles_again(event: identity_fn.AuthBlockingEvent) -> identity_fn.BeforeSignInResponse | None:
    """The same for who verified their address, or was given a role, since they signed up."""
    claims = membership.claims(event.data)
    return identity_fn.BeforeSignInResponse(custom_claims=claims) if claims else None


@scoped.retried
@storage_fn.on_object_finalized()
def ingest_upload(event: storage_fn.CloudEvent[storage_fn.StorageObjectData]) -> None:
    """Have the service ingest what a client uploaded to its own path."""
    if scoped.upload(event.data.name):
        scoped.post("/internal/events/object-finalized", {"name": event.data.name})


@scoped.retried
@firestore_fn.on_document_written(document="apps/{app}/users/{user}/data/{document}")
def refresh_data(event: firestore_fn.Event[Any]) -> None:
    """Have the service search what a client's data says now, if its app marks it searchable."""
    scoped.post("/internal/events/data-written", scoped.ids(event.params))


@scheduler_fn.on_schedule(schedule="every 15 minutes")
def sweep_uploads(event: scheduler_fn.ScheduledEvent) -> None:
    """Send again what lies in uploads for long, for its event was lost or ended in vain."""
    from google.cloud.storage import Client  # type: ignore[attr-defined]

    oldest = datetime.now(UTC) - timedelta(minutes=SWEEP_AFTER_MINUTES.value)
    found = Client().list_blobs(
        storage_bucket(), prefix="apps/", match_glob="apps/*/users/*/uploads/*", max_results=LOOKED_AT
    )
    lost = [blob.name for blob in found if scoped.upload(blob.name) and blob.time_created < oldest]
    started, failed = time.monotonic(), 0
    # In an order of chance, and each for itself, so that some which fail forever do not keep the others waiting.
    for name in random.sample(lost, min(len(lost), SENT_AGAIN)):
        if time.monotonic() - started > SWEEP_SECONDS:
            break
        try:
            scoped.post("/internal/events/object-finalized", {"name": name})
        except (OSError, RuntimeError):
            failed += 1
    logging.info("%d uploads were waiting, %d of them failed again", len(lost), failed)


@tasks_fn.on_task_dispatched(
    retry_config=options.RetryConfig(max_attempts=8, min_backoff_seconds=1, max_backoff_seconds=60),
    rate_limits=options.RateLimits(max_concurrent_dispatches=10),
)
def runjob(request: tasks_fn.CallableRequest[Any]) -> None:
    """Have the service run a job: `{"app", "user", "job"}`. A queue is named like its function, and has no underscore."""
    job = request.data
    scoped.post("/internal/jobs/run", {name: job[name] for name in ("app", "user", "job")})


def storage_bucket() -> str:
    """The project's default bucket."""
    name: str = json.loads(os.environ["FIREBASE_CONFIG"])["storageBucket"]
    return name
