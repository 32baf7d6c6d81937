"""From records of calls to the bytes of an OTLP request, without objects in between.

The export thread shares the interpreter with the forwarding of calls: what it computes, they wait for. The SDK's
encoder takes some 60 us a span; this takes under 10, and gives way to the event loop every few calls.
https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/trace/v1/trace.proto
"""

import struct
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from gateway.model import CallTrace, Outcome
from gateway.telemetry import attributes as table
from gateway.telemetry.spans import Record, scope_of, unix_ns

# Some 150 us of work: far less than the 5 ms after which the interpreter would force a switch of threads.
CALLS_BEFORE_YIELD: Final = 16
# Attributes whose values repeat: methods, services, routes, instances, statuses, callers' hosts.
MAX_CACHED_ATTRIBUTES: Final = 8192

# Span.kind as a whole field (6, varint).
_SERVER: Final = b"\x30\x02"
_CLIENT: Final = b"\x30\x03"
# Span.flags as a whole field (16, fixed32): sampled, the parent's place is known, it is (not) remote.
_REMOTE_PARENT: Final = b"\x85\x01" + struct.pack("<I", 0x300)
_LOCAL_PARENT: Final = b"\x85\x01" + struct.pack("<I", 0x100)
_UNSET: Final = b"\x7a\x00"
_TIMES: Final = struct.Struct("<BQBQ")


class SpanPacker:
    """Packs the spans of sampled calls as one ExportTraceServiceRequest.

    ``wall_offset_ns`` is as for SpanBuilder: asked once a request, added to the outcomes' clock.
    """

    def __init__(self, resource: Resource, version: str, wall_offset_ns: Callable[[], int]) -> None:
        self._wall_offset_ns = wall_offset_ns
        # The SDK packs what never changes: resource, scope and schema, around a span that is taken out again.
        span = ReadableSpan("", SpanContext(1, 1, False), resource=resource, instrumentation_scope=scope_of(version))
        request = encode_spans([span])
        (scope,) = request.resource_spans[0].scope_spans
        del scope.spans[:]
        self._scope = scope.SerializeToString()
        del request.resource_spans[0].scope_spans[:]
        self._resource = request.resource_spans[0].SerializeToString()

    def pack(self, records: Sequence[Record]) -> bytes:
        """The request with one or two spans a record, in order."""
        offset = self._wall_offset_ns()
        parts = [self._scope]
        for number, (trace, outcome) in enumerate(records, 1):
            parts.append(_field(0x12, _server_span(trace, outcome, offset)))
            if outcome.attempts > 0:
                parts.append(_field(0x12, _client_span(trace, outcome, offset)))
            if number % CALLS_BEFORE_YIELD == 0:
                time.sleep(0)
        return _field(0x0A, self._resource + _field(0x12, b"".join(parts)))


def _server_span(trace: CallTrace, outcome: Outcome, offset: int) -> bytes:
    return _span(
        trace,
        trace.server_span_id,
        trace.parent_span_id,
        table.span_name(outcome),
        _SERVER,
        _TIMES.pack(0x39, unix_ns(outcome.started, offset), 0x41, unix_ns(outcome.ended, offset)),
        table.server_attributes(outcome),
        _status(outcome) if table.server_failed(outcome.code) else _UNSET,
        _REMOTE_PARENT if trace.parent_span_id else _LOCAL_PARENT,
    )


def _client_span(trace: CallTrace, outcome: Outcome, offset: int) -> bytes:
    return _span(
        trace,
        trace.client_span_id,
        trace.server_span_id,
        table.span_name(outcome),
        _CLIENT,
        _TIMES.pack(0x39, unix_ns(outcome.attempt_started, offset), 0x41, unix_ns(outcome.ended, offset)),
        table.client_attributes(outcome),
        _status(outcome) if table.client_failed(outcome.code) else _UNSET,
        _LOCAL_PARENT,
    )


def _span(
    trace: CallTrace,
    span_id: bytes,
    parent_span_id: bytes,
    name: str,
    kind: bytes,
    times: bytes,
    attributes: table.Attributes,
    status: bytes,
    flags: bytes,
) -> bytes:
    parts = [b"\x0a\x10", trace.trace_id, b"\x12\x08", span_id]
    if trace.tracestate:
        parts.append(_field(0x1A, trace.tracestate.encode()))
    if parent_span_id:
        parts.append(b"\x22\x08" + parent_span_id)
    parts += [_field(0x2A, name.encode()), kind, times]
    for key, value in attributes.items():
        # Numbers are ports and counts, which hardly repeat: they would only push the rest out of the cache.
        parts.append(_text(key, value) if isinstance(value, str) else _number(key, value))
    parts += [status, flags]
    return b"".join(parts)


@lru_cache(MAX_CACHED_ATTRIBUTES)
def _text(key: str, value: str) -> bytes:
    """Span.attributes (9): a KeyValue with a string."""
    return _field(0x4A, _field(0x0A, key.encode()) + _field(0x12, _field(0x0A, value.encode("utf-8", "replace"))))


def _number(key: str, value: int) -> bytes:
    """Span.attributes (9): a KeyValue with an integer, which is not negative."""
    return _field(0x4A, _field(0x0A, key.encode()) + _field(0x12, b"\x18" + _varint(value)))


def _status(outcome: Outcome) -> bytes:
    """Span.status (15): the message, and the code ERROR."""
    message = table.description(outcome).encode("utf-8", "replace")
    return _field(0x7A, (_field(0x12, message) if message else b"") + b"\x18\x02")


def _field(tag: int, content: bytes) -> bytes:
    """A length-delimited field; ``tag`` is its number and wire type in one byte."""
    size = len(content)
    if size < 128:
        return bytes((tag, size)) + content
    return bytes((tag,)) + _varint(size) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
