"""A gRPC server between Brainstem and the Firestore emulator: it passes bytes through, counts calls, and fails as it is told."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import grpc

from service.config import Settings
from service.proof.process import free_port

THREADS = 64


def own_database(settings: Settings, host: str) -> Settings:
    """The settings of a Firestore that nobody else uses: the emulator at `host`, and a project of its own."""
    return replace(settings, google_cloud_project=f"demo-{uuid.uuid4().hex[:16]}", firestore_emulator_host=host)


@cache
def warm(host: str) -> None:
    """Have an emulator make its first commit, which takes a busy machine longer than the adapters wait."""
    database = f"projects/demo-{uuid.uuid4().hex[:16]}/databases/(default)".encode()
    with grpc.insecure_channel(host, [("grpc.enable_http_proxy", 0)]) as channel:
        commit = channel.unary_unary("/google.firestore.v1.Firestore/Commit")
        # Field 1 of a CommitRequest is the database.
        commit(b"\x0a" + bytes([len(database)]) + database, timeout=60, metadata=[("authorization", "Bearer owner")])


class Seen(NamedTuple):
    """A call that arrived: the method's short name (`Commit`), the monotonic time, and the connection that it came on."""

    method: str
    at: float
    peer: str


@dataclass
class Fault:
    """What befalls calls of one method: `fired` counts those that it befell."""

    method: str
    first: int
    times: int
    when: Literal["before", "after"]
    status: grpc.StatusCode
    details: str
    passed: int = 0
    fired: int = 0

    def befalls(self) -> bool:
        """Count a call, and say whether it is one that is to fail."""
        self.passed += 1
        found = self.first <= self.passed < self.first + self.times
        self.fired += found
        return found


class FirestoreProxy:
    """Serves on `host` while it is entered; its rules may change at any time, from any thread."""

    def __init__(self, emulator_host: str) -> None:
        self.host = f"127.0.0.1:{free_port()}"
        self.calls: list[Seen] = []
        self._emulator = emulator_host
        self._faults: list[Fault] = []
        self._delay = 0.0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        warm(self._emulator)
        unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(self._emulator, [*unlimited, ("grpc.enable_http_proxy", 0)])
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()
        self._channel.close()

    def up(self) -> None:
        """Listen, again after `down`."""
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        self._threads = ThreadPoolExecutor(THREADS)
        self._server = grpc.server(self._threads, options=options)
        self._server.add_generic_rpc_handlers([PassThrough(self)])
        assert self._server.add_insecure_port(self.host) == int(self.host.rpartition(":")[2])
        self._ended = threading.Event()
        self._server.start()

    def down(self) -> None:
        """Refuse every connection, and break those that there are."""
        self._ended.set()
        self._server.stop(grace=None).wait(5)
        self._threads.shutdown(cancel_futures=True)

    def fail(
        self,
        method: str,
        nth: int = 1,
        *,
        when: Literal["before", "after"] = "before",
        status: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE,
        details: str = "injected",
        times: int = 1,
    ) -> Fault:
        """Fail the `nth` call of a method from now on, and as many as `times` from there: before it reaches the emulator, or
        after it took effect there, so that only its reply is lost."""
        fault = Fault(method, nth, times, when, status, details)
        with self._lock:
            self._faults.append(fault)
        return fault

    def delay(self, seconds: float) -> None:
        """Let every call wait from now on before it is passed on."""
        self._delay = seconds

    def heal(self) -> None:
        """Forget all faults and delays."""
        with self._lock:
            self._faults.clear()
        self._delay = 0.0

    def counts(self) -> Counter[str]:
        """How many calls of each method have arrived."""
        with self._lock:
            return Counter(call.method for call in self.calls)

    def peers(self) -> int:
        """How many connections calls have come on."""
        with self._lock:
            return len({call.peer for call in self.calls})

    def serve(self, method: str, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Pass one call on, or let a fault befall it."""
        short = method.rpartition("/")[2]
        with self._lock:
            self.calls.append(Seen(short, time.monotonic(), context.peer()))
            fault = next((fault for fault in self._faults if fault.method == short and fault.befalls()), None)
        self._ended.wait(self._delay)
        if fault and fault.when == "before":
            context.abort(fault.status, fault.details)
        call = self._channel.stream_stream(method)(
            requests, timeout=context.time_remaining(), metadata=passed_on(context.invocation_metadata())
        )
        context.add_callback(call.cancel)
        try:
            if fault:
                for _ in call:
                    pass
                context.abort(fault.status, fault.details)
            yield from call
        except grpc.RpcError:
            context.abort(call.code(), call.details() or "")


class PassThrough(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Takes every method as a stream of bytes both ways, which on the wire a single message is too."""

    def __init__(self, proxy: FirestoreProxy) -> None:
        self._proxy = proxy

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method
        return grpc.stream_stream_rpc_method_handler(
            lambda requests, context: self._proxy.serve(method, requests, context)
        )


def passed_on(metadata: Any) -> list[tuple[str, str | bytes]]:
    return [(key, value) for key, value in metadata if key not in ("user-agent",) and not key.startswith("grpc-")]
