"""Vertex AI Vector Search on two sockets: real gRPC with the messages that Google ships, and faults to order.

As with the real service, changes and the endpoint's description are had at one address and searches at another, which the
description names.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

import grpc
from google.cloud.aiplatform_v1 import types

from service.config import Settings
from service.proof.process import free_port
from tests.kit.vertex.index import Found, Index, Point, Refused

PACKAGE = "google.cloud.aiplatform.v1"
PLACE = "projects/demo-brainstem/locations/us-central1"
OPTIONS = [("grpc.max_receive_message_length", 10_000_000), ("grpc.so_reuseport", 0)]
INDEX, ENDPOINT, DEPLOYED = f"{PLACE}/indexes/111", f"{PLACE}/indexEndpoints/222", "brainstem_deployed"


class Missing(Exception):
    """The request is refused as NOT_FOUND."""


@dataclass
class Faults:
    """How the server misbehaves; `fired` counts the answers that were made wrong, by the fault's name."""

    unfiltered: Sequence[str] = ()
    keep_deleted: bool = False
    duplicates: bool = False
    strangers: Sequence[Any] = ()
    one_answer_less: bool = False
    unknown_ids_are_an_error: bool = False
    delay: float = 0.0
    failures: list[tuple[str, grpc.StatusCode, bool]] = field(default_factory=list)
    """(method, status, whether the call takes effect before it fails), each for one call."""
    fired: dict[str, int] = field(default_factory=dict)

    def fire(self, name: str) -> None:
        self.fired[name] = self.fired.get(name, 0) + 1


class VertexServer:
    """One index, deployed to one endpoint; `requests` are all calls: method, message, metadata."""

    def __init__(self, dimensions: int = 0, lag: float = 0.0, tls: grpc.ServerCredentials | None = None) -> None:
        self.index = Index(dimensions, lag)
        self._tls = tls
        self.faults = Faults()
        self.requests: list[tuple[str, Any, dict[str, str]]] = []
        self.endpoint = types.IndexEndpoint(
            name=ENDPOINT, deployed_indexes=[types.DeployedIndex(id=DEPLOYED, index=INDEX)]
        )
        self._removed: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._servers: list[grpc.Server] = []

    @property
    def settings(self) -> Settings:
        return Settings(
            vertex_index="111",
            vertex_index_endpoint="222",
            vertex_deployed_index=DEPLOYED,
            vertex_emulator_host=self.host,
        )

    def __enter__(self) -> Self:
        self.host, self.domain = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.endpoint.public_endpoint_domain_name = self.domain
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, after `stop` at the same addresses again."""
        for address, services in (
            (self.host, {"IndexService": ("Upsert", "Remove"), "IndexEndpointService": ("Get",)}),
            (self.domain, {"MatchService": ("Find", "Read")}),
        ):
            server = grpc.server(ThreadPoolExecutor(8), options=OPTIONS)
            for service, prefixes in services.items():
                methods = {name: self._handler(name) for name in METHODS if name.startswith(prefixes)}
                server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(f"{PACKAGE}.{service}", methods)])
            if not (server.add_secure_port(address, self._tls) if self._tls else server.add_insecure_port(address)):
                raise OSError(address)
            server.start()
            self._servers.append(server)

    def stop(self) -> None:
        for server in self._servers:
            server.stop(None).wait()
        self._servers.clear()

    def calls(self, method: str) -> list[Any]:
        """The messages of all calls of a method, oldest first."""
        return [message for name, message, _ in self.requests if name == method]

    def _handler(self, method: str) -> grpc.RpcMethodHandler:
        asked, answered, answer = METHODS[method]

        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            metadata = {key: str(value) for key, value in context.invocation_metadata()} | {"peer": context.peer()}
            with self._lock:
                self.requests.append((method, request, metadata))
                failure = next((one for one in self.faults.failures if one[0] == method), None)
                if failure:
                    self.faults.failures.remove(failure)
                    self.faults.fire("failures")
            if self.faults.delay:
                self.faults.fire("delay")
                time.sleep(self.faults.delay)
            if failure and not failure[2]:
                context.abort(failure[1], "canary-of-google")
            named = str(request.ListFields()[0][1])
            if unquote(metadata.get("x-goog-request-params", "").partition("=")[2]) != named:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the routing header does not name the resource")
            if named not in (INDEX, ENDPOINT) or getattr(request, "deployed_index_id", DEPLOYED) != DEPLOYED:
                context.abort(grpc.StatusCode.NOT_FOUND, "canary-of-google")
            try:
                reply = answer(self, request)
            except Refused as refused:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(refused))
            except Missing:
                context.abort(grpc.StatusCode.NOT_FOUND, "canary-of-google")
            if failure:
                context.abort(failure[1], "canary-of-google")
            return reply

        return grpc.unary_unary_rpc_method_handler(
            handle, asked.pb().FromString, lambda reply: answered.pb(reply).SerializeToString()
        )

    def _get(self, request: Any) -> Any:
        return self.endpoint

    def _upsert(self, request: Any) -> Any:
        self.index.upsert(request.datapoints)
        return types.UpsertDatapointsResponse()

    def _remove(self, request: Any) -> Any:
        if self.faults.keep_deleted:
            self._removed.update(
                {point.message.datapoint_id: point for point in self.index.read(request.datapoint_ids)}
            )
        self.index.remove(request.datapoint_ids)
        return types.RemoveDatapointsResponse()

    def _read(self, request: Any) -> Any:
        if self.faults.unknown_ids_are_an_error and len(self.index.read(request.ids)) < len(request.ids):
            self.faults.fire("unknown_ids_are_an_error")
            raise Missing
        reply = types.ReadIndexDatapointsResponse.pb()()
        reply.datapoints.extend(point.message for point in self.index.read(request.ids))
        return types.ReadIndexDatapointsResponse.wrap(reply)

    def _find(self, request: Any) -> Any:
        reply = types.FindNeighborsResponse.pb()()
        for query in request.queries:
            found = self._misled(self.index.find(query, unfiltered=self.faults.unfiltered), query)
            neighbours = reply.nearest_neighbors.add(id=query.datapoint.datapoint_id).neighbors
            for one in found:
                neighbour = neighbours.add(distance=one.dense, sparse_distance=one.sparse)
                neighbour.datapoint.datapoint_id = one.point.message.datapoint_id
                if request.return_full_datapoint:
                    neighbour.datapoint.CopyFrom(one.point.message)
        if self.faults.one_answer_less:
            self.faults.fire("one_answer_less")
            del reply.nearest_neighbors[-1]
        return types.FindNeighborsResponse.wrap(reply)

    def _misled(self, found: list[Found], query: Any) -> list[Found]:
        """Spoil an answer as the faults say."""
        if self.faults.unfiltered and len(found) != len(self.index.find(query)):
            self.faults.fire("unfiltered")
        if self.faults.keep_deleted and self._removed:
            self.faults.fire("keep_deleted")
            found = [*map(Found, self._removed.values()), *found]
        if self.faults.strangers:
            self.faults.fire("strangers")
            found = [*(Found(Point.of(one, len(one.feature_vector))) for one in self.faults.strangers), *found]
        if self.faults.duplicates:
            self.faults.fire("duplicates")
            found = [one for one in found for _ in range(3)]
        return found


METHODS: dict[str, tuple[Any, Any, Callable[[VertexServer, Any], Any]]] = {
    "GetIndexEndpoint": (types.GetIndexEndpointRequest, types.IndexEndpoint, VertexServer._get),
    "UpsertDatapoints": (types.UpsertDatapointsRequest, types.UpsertDatapointsResponse, VertexServer._upsert),
    "RemoveDatapoints": (types.RemoveDatapointsRequest, types.RemoveDatapointsResponse, VertexServer._remove),
    "ReadIndexDatapoints": (types.ReadIndexDatapointsRequest, types.ReadIndexDatapointsResponse, VertexServer._read),
    "FindNeighbors": (types.FindNeighborsRequest, types.FindNeighborsResponse, VertexServer._find),
}
