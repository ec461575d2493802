"""The calls to Vertex AI: two channels, made on first use and shared by all threads, each call bounded in time and attempts.

Changes go to the API of the region. Searches go to an address that only the index endpoint knows, asked of it once.
"""

from __future__ import annotations

import random
import threading
import time
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from service.backends.google.vertex.wire import PACKAGE, message
from service.config import Settings
from service.errors import Unavailable

if TYPE_CHECKING:
    import grpc

INDEXES, ENDPOINTS, MATCHES = "IndexService", "IndexEndpointService", "MatchService"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
MOST_ATTEMPTS = 4
OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A connection that died while the processor was taken away is noticed, not waited for.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


class Deadline:
    """The time that one method of ours may take in all, however many calls it makes."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def pause(self, seconds: float) -> bool:
        """Sleep, or say that there is no time to."""
        if seconds >= self.left:
            return False
        time.sleep(seconds)
        return True


class Calls:
    """What the adapter asks of one index and the endpoint that it is deployed to; raises `Unavailable` alone."""

    def __init__(self, settings: Settings) -> None:
        self._emulator = settings.vertex_emulator_host
        self._region = f"{settings.google_cloud_region}-aiplatform.googleapis.com"
        place = f"projects/{settings.google_cloud_project}/locations/{settings.google_cloud_region}"
        self._index = f"{place}/indexes/{settings.vertex_index}"
        self._endpoint = f"{place}/indexEndpoints/{settings.vertex_index_endpoint}"
        self._deployed = settings.vertex_deployed_index
        self._lock = threading.Lock()
        self._channels: dict[str, grpc.Channel] = {}
        self._domain = ""

    def upsert(self, datapoints: Sequence[Any], deadline: Deadline) -> None:
        request = message("UpsertDatapointsRequest")(index=self._index, datapoints=datapoints)
        self._call(self._region, INDEXES, "UpsertDatapoints", request, deadline)

    def remove(self, ids: Sequence[str], deadline: Deadline) -> None:
        request = message("RemoveDatapointsRequest")(index=self._index, datapoint_ids=ids)
        self._call(self._region, INDEXES, "RemoveDatapoints", request, deadline)

    def read(self, ids: Sequence[str], deadline: Deadline) -> Sequence[Any]:
        """Return those of the datapoints that a search would meet now.

        Whether ids that are not there are left out or are an error is not documented, so both mean the same here.
        """
        request = message("ReadIndexDatapointsRequest")(
            index_endpoint=self._endpoint, deployed_index_id=self._deployed, ids=ids
        )
        nothing = message("ReadIndexDatapointsResponse")()
        answer = self._call(self.domain(deadline), MATCHES, "ReadIndexDatapoints", request, deadline, missing=nothing)
        return list(answer.datapoints)

    def find(self, queries: Sequence[Any], deadline: Deadline) -> list[Sequence[Any]]:
        """Return the neighbours that each query finds, nearest first, with all that the index has stored of them."""
        request = message("FindNeighborsRequest")(
            index_endpoint=self._endpoint,
            deployed_index_id=self._deployed,
            queries=queries,
            return_full_datapoint=True,
        )
        answer = self._call(self.domain(deadline), MATCHES, "FindNeighbors", request, deadline)
        if len(answer.nearest_neighbors) != len(queries):
            raise Unavailable("The search index gave another number of answers than there were questions.")
        return [list(found.neighbors) for found in answer.nearest_neighbors]

    def domain(self, deadline: Deadline) -> str:
        return self._domain or self.look_up(deadline)

    def look_up(self, deadline: Deadline) -> str:
        """Ask the endpoint where it answers searches, and whether the index is deployed there."""
        request = message("GetIndexEndpointRequest")(name=self._endpoint)
        endpoint = self._call(self._region, ENDPOINTS, "GetIndexEndpoint", request, deadline)
        if self._deployed not in {deployed.id for deployed in endpoint.deployed_indexes}:
            raise Unavailable("The index endpoint has no such deployed index: check VERTEX_DEPLOYED_INDEX.")
        if not endpoint.public_endpoint_domain_name:
            raise Unavailable("The index endpoint has no public address: make one with `publicEndpointEnabled`.")
        self._domain = str(endpoint.public_endpoint_domain_name)
        return self._domain

    def _call(self, host: str, service: str, method: str, request: Any, deadline: Deadline, missing: Any = None) -> Any:
        """Make a call until it is answered or no attempt may help; every call here may be made twice without harm.

        `missing` is the answer where Vertex AI knows nothing by that name.
        """
        from service.backends.google.vertex.failures import FAILURES, is_missing, mapped, may_pass

        attempt = 0
        while True:
            try:
                return self._stub(host, service, method)(
                    request, timeout=deadline.left, metadata=routing(request.ListFields()[0])
                )
            except FAILURES as exc:
                if missing is not None and is_missing(exc):
                    return missing
                attempt += 1
                # Chance spreads the attempts of many calls; it guards nothing.
                pause = random.uniform(0.05, 0.15) * 2**attempt  # noqa: S311
                if not may_pass(exc) or attempt == MOST_ATTEMPTS or not deadline.pause(pause):
                    if host == self._domain:
                        # An endpoint that was made anew has another address.
                        self._domain = ""
                    raise mapped(exc) from None

    def _stub(self, host: str, service: str, method: str) -> grpc.UnaryUnaryMultiCallable:
        answer = "IndexEndpoint" if service == ENDPOINTS else f"{method}Response"
        return self._channel(host).unary_unary(
            f"/{PACKAGE}.{service}/{method}",
            request_serializer=message(f"{method}Request").SerializeToString,
            response_deserializer=message(answer).FromString,
        )

    def open(self) -> None:
        """Load what the first call needs, and sign in, so that it does not count against a call's deadline."""
        message("GetIndexEndpointRequest")
        self._channel(self._region)

    def _channel(self, host: str) -> grpc.Channel:
        with self._lock:
            if host not in self._channels:
                self._channels[host] = self._open(host)
                # Nothing closes an adapter, so its connections end with it.
                weakref.finalize(self, self._channels[host].close)
            return self._channels[host]

    def _open(self, host: str) -> grpc.Channel:
        import grpc

        if self._emulator:
            return grpc.insecure_channel(self._emulator if host == self._region else host, OPTIONS)
        import google.auth
        from google.auth.transport.grpc import secure_authorized_channel
        from google.auth.transport.requests import Request

        credentials, _ = google.auth.default(scopes=[SCOPE])
        channel = secure_authorized_channel(credentials, Request(), host, options=OPTIONS)  # type: ignore[no-untyped-call]
        return cast("grpc.Channel", channel)


def routing(field: tuple[Any, str]) -> list[tuple[str, str]]:
    """Return the header by which Google finds the region of a request, made of its first field: the resource's name."""
    described, name = field
    return [("x-goog-request-params", f"{described.name}={quote(name)}")]
