"""An OTLP collector for tests: real gRPC on a free port; keeps the spans, and can be slow or refuse."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2


class Received:
    """One span with the resource and the scope that it came under."""

    def __init__(self, span: trace_pb2.Span, resource: dict[str, Any], scope: str, schema_url: str) -> None:
        self.span = span
        self.resource = resource
        self.scope = scope
        self.schema_url = schema_url
        self.attributes = plain(span.attributes)

    @property
    def kind(self) -> str:
        return trace_pb2.Span.SpanKind.Name(self.span.kind).removeprefix("SPAN_KIND_")

    @property
    def failed(self) -> bool:
        return self.span.status.code == trace_pb2.Status.STATUS_CODE_ERROR


class OtlpSink(trace_service_pb2_grpc.TraceServiceServicer):
    """``with OtlpSink() as sink``: ``sink.endpoint`` for OTEL_EXPORTER_OTLP_ENDPOINT, ``sink.wait_for(n)`` for spans.

    ``sink.gate.clear()`` makes every export hang until ``sink.gate.set()``; ``sink.refuse`` is a status to answer.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.refuse: grpc.StatusCode | None = None
        self.requests = 0
        self.metadata: list[dict[str, Any]] = []
        self._spans: list[Received] = []
        self._changed = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(max_workers=4), options=[("grpc.so_reuseport", 0)])
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._changed:
            self.requests += 1
            self.metadata.append(dict(context.invocation_metadata()))
            self._changed.notify_all()
        self.gate.wait()
        if self.refuse is not None:
            context.abort(self.refuse, "the sink was told to refuse")
        received = []
        for resource_spans in request.resource_spans:
            resource = plain(resource_spans.resource.attributes)
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    received.append(Received(span, resource, scope_spans.scope.name, scope_spans.schema_url))
        with self._changed:
            self._spans.extend(received)
            self._changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self) -> list[Received]:
        with self._changed:
            return list(self._spans)

    def wait_for(self, count: int, timeout: float = 10.0) -> list[Received]:
        """All spans, once there are ``count``; fails the test when they do not come."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self._spans) >= count, timeout)
            assert came, f"{len(self._spans)} of {count} spans came within {timeout} s"
            return list(self._spans)

    def wait_for_requests(self, count: int, timeout: float = 10.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.requests >= count, timeout), "no export request came"

    def wait_for_trace(self, trace_id: str, count: int, timeout: float = 10.0) -> list[Received]:
        """The spans of one trace (hex id), once there are ``count``."""
        deadline = time.monotonic() + timeout
        wanted = bytes.fromhex(trace_id)
        with self._changed:
            while True:
                found = [received for received in self._spans if received.span.trace_id == wanted]
                if len(found) >= count:
                    return found
                left = deadline - time.monotonic()
                assert left > 0, f"{len(found)} of {count} spans of trace {trace_id} came within {timeout} s"
                self._changed.wait(left)

    def __enter__(self) -> OtlpSink:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.set()
        self._server.stop(0).wait()


def plain(attributes: Any) -> dict[str, Any]:
    """OTLP key-values as a dictionary."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}
