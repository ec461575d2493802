"""What a page needs to sign in at a Firebase project, and the hosts that it talks to for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.api.schemas import EmulatorsAnswer, FirebaseAnswer
from service.services import Services

GOOGLE = "google"
IDENTITY = ("https://identitytoolkit.googleapis.com", "https://securetoken.googleapis.com")
FIRESTORE = "https://firestore.googleapis.com"
APP_CHECK = ("https://content-firebaseappcheck.googleapis.com", "https://www.google.com/recaptcha/")
RECAPTCHA_SCRIPTS = ("https://www.google.com/recaptcha/", "https://www.gstatic.com/recaptcha/")
RECAPTCHA_FRAMES = ("https://www.google.com/recaptcha/", "https://recaptcha.google.com/recaptcha/")
EMULATED_KEY = "emulated"
"""The Auth emulator asks for a key, but takes any."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The origins and folders beside its own server that a page connects to, and takes scripts and frames from."""

    connect: Sequence[str] = ()
    scripts: Sequence[str] = ()
    frames: Sequence[str] = ()


def signs_in(services: Services) -> bool:
    """Whether the users are those of a Firebase project."""
    return services.backends.names["tokens"] == GOOGLE


def describe(services: Services) -> FirebaseAnswer | None:
    """The project for a page; None where users do not sign in at one, or where the key for it is missing."""
    settings = services.settings
    auth, firestore = settings.firebase_auth_emulator_host or None, settings.firestore_emulator_host or None
    api_key = settings.firebase_api_key or (EMULATED_KEY if auth else "")
    if not api_key or not signs_in(services):
        return None
    return FirebaseAnswer(
        api_key=api_key,
        auth_domain=settings.firebase_auth_domain or f"{settings.google_cloud_project}.firebaseapp.com",
        project_id=settings.google_cloud_project,
        app_id=settings.firebase_web_app or None,
        app_check_key=app_check_key(services) or None,
        database=settings.firestore_database if in_firestore(services) else None,
        anonymous=any(app.file.access.anonymous for app in services.apps.available()),
        emulators=EmulatorsAnswer(auth, firestore) if auth or firestore else None,
    )


def sources(services: Services) -> Sources:
    """Where a page goes beside this server: nowhere unless it signs in at Firebase."""
    if not signs_in(services):
        return Sources()
    settings = services.settings
    auth, firestore = settings.firebase_auth_emulator_host, settings.firestore_emulator_host
    connect = [f"http://{auth}"] if auth else [*IDENTITY]
    if in_firestore(services):
        connect.append(f"http://{firestore}" if firestore else FIRESTORE)
    if not app_check_key(services):
        return Sources(connect)
    return Sources([*connect, *APP_CHECK], RECAPTCHA_SCRIPTS, RECAPTCHA_FRAMES)


def in_firestore(services: Services) -> bool:
    return services.backends.names["documents"] == GOOGLE


def app_check_key(services: Services) -> str:
    """The site key that a page proves with which app it is; empty where it cannot, or need not."""
    settings = services.settings
    return settings.firebase_app_check_key if settings.firebase_web_app else ""
