"""Where Vertex AI is, and who we are to it: what the adapters for its models share. Google's SDK is imported with the first call."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from service.config import Settings

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
MULTI_REGIONS = ("us", "eu")


def server(settings: Settings) -> str:
    """Return the address of a region's server; `global`, `us` and `eu` have names of other kinds."""
    if settings.vertex_emulator_host:
        return f"http://{settings.vertex_emulator_host}"
    region = settings.google_cloud_region
    if region == "global":
        return "https://aiplatform.googleapis.com"
    if region in MULTI_REGIONS:
        return f"https://aiplatform.{region}.rep.googleapis.com"
    return f"https://{region}-aiplatform.googleapis.com"


def location(settings: Settings) -> str:
    """Return the name of a project's region, which all names of models begin with."""
    project, region = (quote(name, safe="") for name in (settings.google_cloud_project, settings.google_cloud_region))
    return f"projects/{project}/locations/{region}"


def credentials(settings: Settings) -> Credentials:
    """Return Application Default Credentials, or none for an emulator; raises the SDK's `GoogleAuthError`."""
    import google.auth
    from google.auth.credentials import AnonymousCredentials

    if settings.vertex_emulator_host:
        return AnonymousCredentials()  # type: ignore[no-untyped-call]
    found, _ = google.auth.default(scopes=SCOPES)
    return found


def refresh(credentials: Credentials, seconds: float) -> None:
    """Fetch a token if there is none, or if it ends within minutes; raises the SDK's `GoogleAuthError`."""
    from google.auth.transport.requests import Request

    if not credentials.valid:
        request = Request()
        with closing(request.session):
            # Left to itself it would wait for two minutes.
            credentials.refresh(partial(request, timeout=seconds))  # type: ignore[no-untyped-call]
