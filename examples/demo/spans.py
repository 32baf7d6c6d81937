"""Receives spans over OTLP/gRPC for the one trace that the demo shows, and prints it as a tree."""

import asyncio
from typing import Any

from grpc import aio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from rich.markup import escape
from rich.tree import Tree

# A checkout has eight spans: two for the call itself, and two for each of its three prices. More is a mistake.
MAX_KEPT_SPANS = 256
# The trace is complete when no span has come for this long, in seconds; the gateway sends them in batches.
QUIET_SECONDS = 1.0

_KIND_NAMES = {Span.SPAN_KIND_SERVER: "SERVER", Span.SPAN_KIND_CLIENT: "CLIENT"}


class SpanSink(TraceServiceServicer):
    """An OTLP endpoint that keeps the spans of one trace, and forgets all others."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._wanted = b""
        self._server: aio.Server | None = None  # made in ``start``: grpc.aio binds a server to the running loop
        self._arrived = asyncio.Event()

    async def start(self) -> str:
        """Listen on a free port; returns the value for OTEL_EXPORTER_OTLP_ENDPOINT."""
        server = self._server = aio.server()
        add_TraceServiceServicer_to_server(self, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._server:
            await self._server.stop(None)

    def want(self, trace_id: bytes) -> None:
        """Keep the spans of this trace from now on."""
        self._wanted = trace_id
        self.spans = []

    async def wait(self, seconds: float) -> list[Span]:
        """The spans of the wanted trace, once no more come; empty when none came in time."""
        patience = seconds
        while True:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), patience)
            except TimeoutError:
                return self.spans
            patience = QUIET_SECONDS

    async def Export(  # noqa: N802
        self, request: ExportTraceServiceRequest, context: aio.ServicerContext[Any, Any]
    ) -> ExportTraceServiceResponse:
        """Take a batch."""
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    if span.trace_id == self._wanted and len(self.spans) < MAX_KEPT_SPANS:
                        self.spans.append(span)
                        self._arrived.set()
        return ExportTraceServiceResponse()


def tree(spans: list[Span]) -> Tree:
    """The spans under their parents, siblings by start time; a span whose parent is unknown hangs from the root."""
    root = Tree(f"trace {spans[0].trace_id.hex()}")
    known = {span.span_id for span in spans}
    children: dict[bytes, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.start_time_unix_nano):
        parent = span.parent_span_id if span.parent_span_id in known else b""
        children.setdefault(parent, []).append(span)
    _grow(root, b"", children)
    return root


def _grow(branch: Tree, span_id: bytes, children: dict[bytes, list[Span]]) -> None:
    for span in children.get(span_id, ()):
        _grow(branch.add(_line(span)), span.span_id, children)


def _line(span: Span) -> str:
    values = {pair.key: pair.value.string_value for pair in span.attributes}
    milliseconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
    parts = [f"{_KIND_NAMES.get(span.kind, 'SPAN')} {span.name}", f"{milliseconds:.1f} ms"]
    parts.append(values.get("rpc.response.status_code", "no status"))
    if span.status.code == Status.STATUS_CODE_ERROR:
        parts.append(f"failed: {span.status.message}")
    if "meshway.route" in values:
        parts.append(f"route {values['meshway.route']}")
    if "meshway.instance" in values:
        parts.append(f"to {values['meshway.instance']}")
    return escape("  ".join(parts))
