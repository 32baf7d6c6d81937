"""From a record of a call to its spans: a SERVER span, and a CLIENT span if it was ever sent upstream.

As the SDK's ReadableSpan, for exporters other than OTLP; what goes to a collector is packed by ``pack``, to the same
content.
"""

from collections.abc import Callable, Sequence
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from gateway.model import CallTrace, Outcome
from gateway.telemetry import attributes as table

SCOPE_NAME: Final = "meshway.gateway"

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_UNSET: Final = Status(StatusCode.UNSET)
_NO_STATE: Final = TraceState()

Record = tuple[CallTrace, Outcome]


class SpanBuilder:
    """Builds the spans of sampled calls.

    ``wall_offset_ns`` tells, at the moment of asking, what to add to the monotonic clock of the outcomes (in
    nanoseconds) to get Unix time; it is asked once a batch, so that a corrected system clock is followed.
    """

    def __init__(self, resource: Resource, version: str, wall_offset_ns: Callable[[], int]) -> None:
        self._resource = resource
        self._scope = scope_of(version)
        self._wall_offset_ns = wall_offset_ns

    def build(self, records: Sequence[Record]) -> list[ReadableSpan]:
        """One or two spans a record, in order."""
        offset = self._wall_offset_ns()
        spans: list[ReadableSpan] = []
        for trace, outcome in records:
            state = TraceState.from_header([trace.tracestate]) if trace.tracestate else _NO_STATE
            server = _context(trace, trace.server_span_id, state)
            spans.append(self._server_span(trace, outcome, server, offset))
            if outcome.attempts > 0:
                spans.append(self._client_span(trace, outcome, server, offset))
        return spans

    def _server_span(self, trace: CallTrace, outcome: Outcome, context: SpanContext, offset: int) -> ReadableSpan:
        parent = None
        if trace.parent_span_id:
            parent = _context(trace, trace.parent_span_id, context.trace_state, is_remote=True)
        return ReadableSpan(
            name=table.span_name(outcome),
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=table.server_attributes(outcome),
            kind=SpanKind.SERVER,
            status=_status(outcome, table.server_failed(outcome.code)),
            start_time=unix_ns(outcome.started, offset),
            end_time=unix_ns(outcome.ended, offset),
            instrumentation_scope=self._scope,
        )

    def _client_span(self, trace: CallTrace, outcome: Outcome, server: SpanContext, offset: int) -> ReadableSpan:
        return ReadableSpan(
            name=table.span_name(outcome),
            context=_context(trace, trace.client_span_id, server.trace_state),
            parent=server,
            resource=self._resource,
            attributes=table.client_attributes(outcome),
            kind=SpanKind.CLIENT,
            status=_status(outcome, table.client_failed(outcome.code)),
            start_time=unix_ns(outcome.attempt_started, offset),
            end_time=unix_ns(outcome.ended, offset),
            instrumentation_scope=self._scope,
        )


def scope_of(version: str) -> InstrumentationScope:
    """The instrumentation scope of all the gateway's spans."""
    return InstrumentationScope(SCOPE_NAME, version, table.SCHEMA_URL)


def span_count(records: Sequence[Record]) -> int:
    """How many spans these records make."""
    return len(records) + sum(1 for _trace, outcome in records if outcome.attempts > 0)


def _context(trace: CallTrace, span_id: bytes, state: TraceState, is_remote: bool = False) -> SpanContext:
    return SpanContext(
        int.from_bytes(trace.trace_id, "big"), int.from_bytes(span_id, "big"), is_remote, _SAMPLED, state
    )


def _status(outcome: Outcome, failed: bool) -> Status:
    # Success stays UNSET: the conventions leave OK to the application.
    return Status(StatusCode.ERROR, table.description(outcome) or None) if failed else _UNSET


def unix_ns(seconds: float, offset: int) -> int:
    """Unix time in nanoseconds, from seconds of a clock that is ``offset`` nanoseconds behind it."""
    return int(seconds * 1e9) + offset
