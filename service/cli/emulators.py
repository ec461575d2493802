"""`make emulators`: the Firebase emulators and the service on them, until Ctrl-C."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click

from service.cli.firebase import FIREBASE, HOST, PROJECT, functions_call
from service.cli.firebase import emulators as firebase_emulators
from service.errors import BrainstemError, ConfigError

TOOLS = {"node": ("Node.js", 20, "https://nodejs.org"), "java": ("Java", 21, "https://adoptium.net")}


@click.command()
@click.option("--port", type=int, default=8080, envvar="PORT", show_default=True, help="Port of the page.")
def emulators(port: int) -> None:
    """Run the service, with its page, on the Firebase emulators until Ctrl-C.

    Users, documents, passages and files are the emulators', and are gone with them. What has no emulator is local: the embedder,
    the stand-in model (unless OPENAI_API_KEY or OPENAI_BASE_URL names a real one), the queue and the secrets.
    """
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, end)
    try:
        check_tools()
        sys.exit(run(port))
    except BrainstemError as error:
        raise click.ClickException(error.detail) from error


def end(number: int, frame: object) -> NoReturn:
    """End as by Ctrl-C: what was started is ended too."""
    sys.exit(128 + number)


def check_tools() -> None:
    """Raise `ConfigError` for what is missing, before anything starts."""
    for tool, (name, oldest, where) in TOOLS.items():
        found = version(tool)
        if found is None or found < oldest:
            here = ", and there is none here" if found is None else f"; this is {found}"
            raise ConfigError(f"The Firebase emulators need {name} {oldest} or newer{here}. Get it from {where}.")
    if not FIREBASE.exists():
        raise ConfigError("firebase-tools is not installed here. `npm ci` installs it, in the folder of the Makefile.")


def version(tool: str) -> int | None:
    """The first number of a tool's version, or None if the tool is not there or does not start."""
    path = shutil.which(tool)
    if path is None:
        return None
    option = {"node": "--version", "java": "-version"}[tool]
    said = subprocess.run([path, option], capture_output=True, text=True, check=False)  # noqa: S603  # no shell
    number = re.search(r"\d+", said.stdout + said.stderr)
    return int(number[0]) if number and said.returncode == 0 else None


def run(port: int) -> int:
    """Run everything until the service ends, and return its exit code."""
    from service.backends.local.metadata import LocalMetadata
    from service.backends.local.secrets import EnvironmentSecrets
    from service.config import Settings

    url = f"http://{HOST}:{port}"
    with tempfile.TemporaryDirectory(prefix="brainstem-emulators-") as name, functions_call(port):
        folder = Path(name)
        own = Settings(data_dir=folder / "metadata", google_cloud_project=PROJECT)
        with LocalMetadata(own, EnvironmentSecrets(own)) as metadata:
            google = {"GCE_METADATA_HOST": metadata.host, "GCE_METADATA_IP": metadata.host}
            with firebase_emulators(folder, google) as ports:
                click.echo(f"They run: {', '.join(f'{emulator} on {at}' for emulator, at in ports.items())}.\n")
                environ = {
                    **os.environ,
                    **places(ports),
                    # The queue's jobs are of no use without the documents that they are about.
                    "DATA_DIR": str(folder / "data"),
                    "SERVICE_URL": url,
                    "INTERNAL_CALLERS": metadata.email,
                    "GOOGLE_KEYS_EMULATOR_HOST": metadata.host,
                }
                return serve([sys.executable, "-m", "service", "serve", "--port", str(port)], environ)


def places(ports: Mapping[str, int]) -> dict[str, str]:
    """The settings of a service that keeps in the emulators all that they can keep."""
    return {
        "BACKENDS": "local",
        **{f"BACKEND_{seam}": "google" for seam in ("TOKENS", "DOCUMENTS", "VECTORS", "BLOBS")},
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "STORAGE_BUCKET": f"{PROJECT}.appspot.com",
        "FIREBASE_AUTH_EMULATOR_HOST": f"{HOST}:{ports['auth']}",
        "FIRESTORE_EMULATOR_HOST": f"{HOST}:{ports['firestore']}",
        "STORAGE_EMULATOR_HOST": f"http://{HOST}:{ports['storage']}",
    }


def serve(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the service until it ends. Ctrl-C reaches it as it reaches us, and it ends in its own time."""
    service = subprocess.Popen(command, env=environ)  # noqa: S603  # our own program, and no shell
    try:
        while True:
            with suppress(KeyboardInterrupt):
                return service.wait()
    finally:
        service.terminate()
        service.wait()


if __name__ == "__main__":
    emulators()
