"""How a batch of records leaves: through the SDK's exporters, which know the transports, retries and their settings.

The OTLP exporters are given packed bytes instead of spans. That reaches below their public surface, to
``_translate_data`` and ``_client`` (SDK 1.45), which the tests with a real collector hold on to.
"""

from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from gateway.telemetry.spans import Record

Pack = Callable[[Sequence[Record]], bytes]


class Sender:
    """Takes batches to where traces go; called in the export thread alone, except for ``shutdown``."""

    def send(self, records: Sequence[Record]) -> bool:
        """Whether the batch was taken. Blocks for as long as it must; may raise."""
        raise NotImplementedError

    def shutdown(self) -> None:
        """Send nothing more, and abort what is under way."""
        raise NotImplementedError


class SpanSender(Sender):
    """Any exporter of the SDK, with spans as it knows them."""

    def __init__(self, exporter: SpanExporter, build: Callable[[Sequence[Record]], list[ReadableSpan]]) -> None:
        self._exporter = exporter
        self._build = build

    def send(self, records: Sequence[Record]) -> bool:
        """Build the spans and export them."""
        return self._exporter.export(self._build(records)) is SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self._exporter.shutdown()


class _PackedGrpcExporter(GrpcExporter):
    def _translate_data(self, data: Any) -> ExportTraceServiceRequest:
        return ExportTraceServiceRequest.FromString(data)


class GrpcSender(Sender):
    """OTLP over gRPC, with the settings that the SDK's exporter reads from the environment."""

    def __init__(self, pack: Pack) -> None:
        self._exporter = _PackedGrpcExporter()
        self._pack = pack

    def send(self, records: Sequence[Record]) -> bool:
        """Pack the batch and export it, with the exporter's own retries."""
        packed: Any = self._pack(records)
        return self._exporter.export(packed) is SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the channel."""
        self._exporter.shutdown()


class HttpSender(Sender):
    """OTLP over HTTP with protobuf bodies, likewise."""

    def __init__(self, pack: Pack) -> None:
        # Here, because it brings an HTTP client that gRPC users need not load.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

        self._exporter: Any = HttpExporter()
        self._pack = pack

    def send(self, records: Sequence[Record]) -> bool:
        """Pack the batch and post it, with the exporter's own retries."""
        return bool(self._exporter._client.export(self._pack(records)).success)

    def shutdown(self) -> None:
        """End the retries and close the connections."""
        self._exporter.shutdown()
