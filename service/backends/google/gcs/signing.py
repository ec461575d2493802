"""URLs that serve one object as a download until they expire: V4 signatures, of a key file or of IAM.

On Cloud Run the service account has no key here, so IAM signs in its name (`signBlob`), which takes
`roles/iam.serviceAccountTokenCreator` on itself. Imported with the first call.
Sources: "V4 signing process" in the Cloud Storage documentation, RFC 6266 and RFC 8187 for the file name.
"""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

from google.api_core.exceptions import from_http_response
from google.auth.credentials import Signing
from google.auth.crypt import Signer
from google.oauth2.service_account import Credentials as KeyCredentials

from service.backends.google.gcs import failures
from service.backends.google.gcs.objects import SILENCE, Deadline, Objects

if TYPE_CHECKING:
    import requests
    from google.cloud.storage import Blob  # type: ignore[import-untyped]

NAME_SAFE = "!#$&+-.^_`|~"
"""What RFC 8187 lets stand in a name beside letters and digits."""

NO_ACCOUNT = "its credentials cannot sign URLs; run as a service account"


def signed_url(objects: Objects, iam: str, name: str, seconds: int, filename: str, deadline: Deadline) -> str:
    """Return the URL of an object. An emulator's is neither signed nor does it expire, for emulators check neither."""
    if objects.emulator:
        return f"{objects.emulator}/{quote(objects.name)}/{quote(name, safe='/~')}"
    blob: Blob = objects.blob(name)
    with failures.mapping():
        url: str = blob.generate_signed_url(
            version="v4",
            expiration=timedelta(seconds=seconds),
            method="GET",
            credentials=signing_credentials(objects, iam, deadline),
            api_access_endpoint=objects.server,
            response_disposition=disposition(filename),
            response_type="application/octet-stream",
        )
    return url


def disposition(filename: str) -> str:
    """Return the header that has a browser save a file under a name, of which what cannot be shown becomes `_`."""
    name = "".join(character if character.isprintable() else "_" for character in filename)
    return f"attachment; filename*=UTF-8''{quote(name, safe=NAME_SAFE)}"


def signing_credentials(objects: Objects, iam: str, deadline: Deadline) -> Signing:
    credentials = objects.credentials()
    if isinstance(credentials, Signing):
        return credentials
    account = getattr(credentials, "service_account_email", None)
    if not account:
        raise failures.unavailable(NO_ACCOUNT)
    return KeyCredentials(IAMSigner(objects, iam, account, deadline), account, token_uri="")  # type: ignore[no-untyped-call]


class IAMSigner(Signer):
    """Has IAM sign for a service account; bounded in time, unlike the SDK's own."""

    key_id = None

    def __init__(self, objects: Objects, iam: str, account: str, deadline: Deadline) -> None:
        self._session = objects.session()
        self._deadline = deadline
        self._url = f"{iam}/v1/projects/-/serviceAccounts/{quote(account)}:signBlob"

    def sign(self, message: bytes) -> bytes:
        body = {"payload": base64.b64encode(message).decode()}

        def ask() -> requests.Response:
            response = self._session.post(self._url, json=body, timeout=SILENCE)
            if response.status_code != 200:
                raise from_http_response(response)  # type: ignore[no-untyped-call]
            return response

        try:
            return base64.b64decode(failures.policy(self._deadline.trying)(ask)().json()["signedBlob"])
        except failures.FAILURES as exc:
            raise failures.unsigned(exc) from None
        except (KeyError, TypeError, ValueError):
            raise failures.unavailable("IAM answered what is no signature") from None
