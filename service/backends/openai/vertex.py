"""Gemini, and whatever else Vertex AI answers with, at its OpenAI-compatible endpoint; Google's access token is the key.

Source: "Call Vertex AI models by using the OpenAI library" in the Vertex AI documentation.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from service.backends import vertex_ai
from service.backends.interfaces import ModelRequest, Secrets
from service.backends.openai.chat import OpenAIModel
from service.config import Settings
from service.errors import BrainstemError, Unavailable, UpstreamConfig

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

TOKEN_SECONDS = 3.0
REMEDIES = {
    "refuses our key": "refuses us",
    "OPENAI_API_KEY and OPENAI_BASE_URL": "GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_REGION",
    "OPENAI_API_KEY": "that the service account has the role roles/aiplatform.user",
    "OPENAI_BASE_URL": "GOOGLE_CLOUD_REGION",
}
"""What the compatible endpoint's failures tell to check, and what there is to check here."""


class VertexModel(OpenAIModel):
    """Streams the answers of `VERTEX_MODEL` or of what an app names, such as `gemini-2.5-pro`."""

    def __init__(
        self, settings: Settings, secrets: Secrets, *, url: str = "", credentials: Credentials | None = None
    ) -> None:
        settings.require("The Vertex AI model", "google_cloud_project", "google_cloud_region", "vertex_model")
        url = url or f"{vertex_ai.server(settings)}/v1/{vertex_ai.location(settings)}/endpoints/openapi"
        chosen = replace(settings, openai_base_url=url, chat_model=settings.vertex_model)
        super().__init__(chosen, secrets, key=AccessToken(settings, credentials))

    def arguments(self, request: ModelRequest) -> dict[str, Any]:
        """As for any endpoint; this one's models are named with their publisher."""
        arguments = super().arguments(request)
        model: str = arguments["model"]
        return arguments | {"model": model if "/" in model else f"google/{model}"}

    def told(self, error: BrainstemError) -> BrainstemError:
        """As it is, but for the settings that it tells to check."""
        if not isinstance(error, UpstreamConfig):
            return error
        detail = error.detail
        for said, meant in REMEDIES.items():
            detail = detail.replace(said, meant)
        return UpstreamConfig(detail)


class AccessToken:
    """The token of Google's Application Default Credentials, renewed some minutes before it ends."""

    def __init__(self, settings: Settings, credentials: Credentials | None) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._credentials = credentials

    def at_hand(self) -> str | None:
        """Return a token that holds, if there is one."""
        if self._settings.vertex_emulator_host:
            return "emulator"
        credentials = self._credentials
        return str(credentials.token) if credentials and credentials.valid else None

    def get(self) -> str:
        """Return a token that holds; raises `UpstreamConfig` if there are no credentials, `Unavailable` if none is had now."""
        if self._settings.vertex_emulator_host:
            return "emulator"
        from google.auth.exceptions import GoogleAuthError, TransportError

        try:
            with self._lock:
                return self._fresh()
        except GoogleAuthError as exc:
            if isinstance(exc, TransportError) or exc.retryable:
                raise Unavailable("Google's sign-in cannot be reached.") from None
            raise UpstreamConfig(
                "There are no credentials that Google accepts: run as a service account, or `gcloud auth application-default login`."
            ) from None

    def _fresh(self) -> str:
        if self._credentials is None:
            self._credentials = vertex_ai.credentials(self._settings)
        vertex_ai.refresh(self._credentials, TOKEN_SECONDS)
        return str(self._credentials.token)
