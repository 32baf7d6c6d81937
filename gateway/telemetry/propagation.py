"""Trace context in request metadata: read from the caller, written for the upstream. Knows nothing of spans or export.

W3C trace context (https://www.w3.org/TR/trace-context/) and gRPC's older binary form, by hand because every call pays
for them; whatever else OTEL_PROPAGATORS names goes through the propagator that its package installs.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from gateway.model import Field

TRACEPARENT: Final = b"traceparent"
TRACESTATE: Final = b"tracestate"
TRACE_BIN: Final = b"grpc-trace-bin"

# The list-member limit of the specification, section 3.3.1.1; those on the right are the oldest and go first.
MAX_TRACESTATE_MEMBERS: Final = 32
# 32 members of 512 characters could be 16 KiB; nobody needs that, and every hop pays for it (the SDK's own bound).
MAX_TRACESTATE_LENGTH: Final = 8192
# A future version may append fields; more than this is not a trace context.
MAX_TRACEPARENT_LENGTH: Final = 512

_TRACEPARENT: Final = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_KEY: Final = r"(?:[a-z][_0-9a-z\-*/]{0,255}|[a-z0-9][_0-9a-z\-*/]{0,240}@[a-z][_0-9a-z\-*/]{0,13})"
_VALUE: Final = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER: Final = re.compile(f"({_KEY})={_VALUE}")

_NO_TRACE: Final = bytes(16)
_NO_SPAN: Final = bytes(8)


class Remote:
    """The caller's trace context. Ids are raw bytes (16 and 8), never all zero.

    ``binary`` says that the caller sent grpc-trace-bin, which must then be rewritten, or it would point past the
    gateway.
    """

    __slots__ = ("binary", "sampled", "span_id", "trace_id", "tracestate")

    def __init__(
        self, trace_id: bytes, span_id: bytes, sampled: bool, tracestate: str = "", binary: bool = False
    ) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.sampled = sampled
        self.tracestate = tracestate
        self.binary = binary


class Propagation:
    """One way of carrying trace context; this one carries nothing. ``names`` are the fields that it speaks for."""

    names: frozenset[bytes] = frozenset()

    def extract(self, fields: Sequence[Field]) -> Remote | None:
        """The caller's context, or None when there is none that is valid."""
        return None

    def inject(self, caller: Remote | None, trace_id: bytes, span_id: bytes, sampled: bool) -> list[Field]:
        """The fields that tell the upstream its parent. ``caller`` is what ``extract`` gave for this call."""
        return []


class W3CPropagation(Propagation):
    """traceparent and tracestate; grpc-trace-bin is read when traceparent gives nothing, rewritten when it was sent."""

    names = frozenset({TRACEPARENT, TRACESTATE, TRACE_BIN})

    def extract(self, fields: Sequence[Field]) -> Remote | None:
        """The context of a single valid traceparent, else of a valid grpc-trace-bin, else None (a new root)."""
        names = self.names
        parents: list[bytes] = []
        states: list[bytes] = []
        binary: list[bytes] = []
        for field in fields:
            name = field.name
            if name in names:
                if name == TRACEPARENT:
                    parents.append(field.value)
                elif name == TRACESTATE:
                    states.append(field.value)
                else:
                    binary.append(field.value)
        remote = parse_traceparent(parents[0]) if len(parents) == 1 else None
        if remote is not None:
            # Without a valid traceparent the tracestate means nothing (section 4.3 of the specification).
            if states:
                remote.tracestate = parse_tracestate(states)
        elif len(binary) == 1:
            remote = parse_trace_bin(binary[0])
        if remote is not None and binary:
            remote.binary = True
        return remote

    def inject(self, caller: Remote | None, trace_id: bytes, span_id: bytes, sampled: bool) -> list[Field]:
        """A traceparent of version 00, the caller's tracestate, and grpc-trace-bin if the caller sent one."""
        flags = b"-01" if sampled else b"-00"
        value = b"00-" + binascii.hexlify(trace_id) + b"-" + binascii.hexlify(span_id) + flags
        fields = [Field(TRACEPARENT, value)]
        if caller is not None:
            if caller.tracestate:
                fields.append(Field(TRACESTATE, caller.tracestate.encode("ascii")))
            if caller.binary:
                fields.append(Field(TRACE_BIN, format_trace_bin(trace_id, span_id, sampled)))
        return fields


class ForeignPropagation(Propagation):
    """A propagator of OpenTelemetry's text-map kind (B3 and its like), from the package that a user installed."""

    def __init__(self, propagator: Any) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context

        self._propagator = propagator
        self._trace = trace
        self._context = Context
        self.names = frozenset(name.lower().encode() for name in propagator.fields)

    def extract(self, fields: Sequence[Field]) -> Remote | None:
        """What the propagator finds in the fields that it names."""
        carrier: dict[str, list[str]] = {}
        for field in fields:
            if field.name in self.names:
                carrier.setdefault(field.name.decode("latin-1"), []).append(field.value.decode("latin-1"))
        if not carrier:
            return None
        context = self._propagator.extract(carrier, self._context())
        found = self._trace.get_current_span(context).get_span_context()
        if not found.is_valid:
            return None
        return Remote(
            found.trace_id.to_bytes(16, "big"),
            found.span_id.to_bytes(8, "big"),
            found.trace_flags.sampled,
            found.trace_state.to_header(),
        )

    def inject(self, caller: Remote | None, trace_id: bytes, span_id: bytes, sampled: bool) -> list[Field]:
        """What the propagator writes for this span."""
        trace = self._trace
        span = trace.NonRecordingSpan(
            trace.SpanContext(
                int.from_bytes(trace_id, "big"),
                int.from_bytes(span_id, "big"),
                is_remote=False,
                trace_flags=trace.TraceFlags(1 if sampled else 0),
            )
        )
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, trace.set_span_in_context(span, self._context()))
        return [Field(name.lower().encode(), value.encode("latin-1")) for name, value in carrier.items()]


class CompositePropagation(Propagation):
    """Several at once: the first valid context wins, all are written."""

    def __init__(self, parts: Sequence[Propagation]) -> None:
        self._parts = tuple(parts)
        self.names = frozenset().union(*(part.names for part in parts))

    def extract(self, fields: Sequence[Field]) -> Remote | None:
        """The first context that any part finds."""
        for part in self._parts:
            remote = part.extract(fields)
            if remote is not None:
                return remote
        return None

    def inject(self, caller: Remote | None, trace_id: bytes, span_id: bytes, sampled: bool) -> list[Field]:
        """The fields of every part."""
        return [field for part in self._parts for field in part.inject(caller, trace_id, span_id, sampled)]


def parse_traceparent(value: bytes) -> Remote | None:
    """The context in one traceparent value, or None for one that the specification (section 3.2) calls invalid."""
    if not 55 <= len(value) <= MAX_TRACEPARENT_LENGTH:
        return None
    match = _TRACEPARENT.fullmatch(value)
    if match is None:
        return None
    version, trace_hex, span_hex, flags, rest = match.groups()
    # Only versions to come may carry more than the four fields.
    if rest is not None and version == b"00":
        return None
    trace_id = binascii.unhexlify(trace_hex)
    span_id = binascii.unhexlify(span_hex)
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return Remote(trace_id, span_id, bool(int(flags, 16) & 1))


def parse_tracestate(values: Iterable[bytes]) -> str:
    """All tracestate fields as one list of at most 32 members; empty when a member is invalid or repeated."""
    text = b",".join(values).decode("latin-1")
    if len(text) > MAX_TRACESTATE_LENGTH:
        return ""
    members: list[str] = []
    keys: set[str] = set()
    for part in text.split(","):
        member = part.strip(" \t")
        if not member:
            continue
        match = _MEMBER.fullmatch(member)
        if match is None or match.group(1) in keys:
            return ""
        keys.add(match.group(1))
        members.append(member)
    return ",".join(members[:MAX_TRACESTATE_MEMBERS])


def parse_trace_bin(value: bytes) -> Remote | None:
    """The context in a grpc-trace-bin field (base64, padded or not): version 0, then fields 0, 1 and 2, 29 bytes."""
    if len(value) > 40:
        return None
    try:
        raw = base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return None
    if len(raw) != 29 or raw[0:2] != b"\0\0" or raw[18] != 1 or raw[27] != 2:
        return None
    trace_id = raw[2:18]
    span_id = raw[19:27]
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return Remote(trace_id, span_id, bool(raw[28] & 1))


def format_trace_bin(trace_id: bytes, span_id: bytes, sampled: bool) -> bytes:
    """The base64 text of a grpc-trace-bin field, unpadded as gRPC prefers it (PROTOCOL-HTTP2.md)."""
    raw = b"\0\0" + trace_id + b"\1" + span_id + (b"\2\1" if sampled else b"\2\0")
    return base64.b64encode(raw).rstrip(b"=")
