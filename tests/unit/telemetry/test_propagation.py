"""Trace context in and out, with the OpenTelemetry propagator and the W3C specification as judges."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.model import Field
from gateway.telemetry.propagation import (
    MAX_TRACESTATE_MEMBERS,
    CompositePropagation,
    ForeignPropagation,
    Propagation,
    W3CPropagation,
    format_trace_bin,
    parse_trace_bin,
    parse_traceparent,
    parse_tracestate,
)

TRACE = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")
SPAN = bytes.fromhex("00f067aa0ba902b7")
VALID = b"00-" + TRACE.hex().encode() + b"-" + SPAN.hex().encode() + b"-01"
BIN = b"\0\0" + TRACE + b"\1" + SPAN + b"\2\1"


def fields(*pairs: tuple[bytes, bytes]) -> list[Field]:
    return [Field(name, value) for name, value in pairs]


def pairs(of: list[Field]) -> dict[bytes, bytes]:
    return {field.name: field.value for field in of}


def test_valid_traceparent() -> None:
    remote = parse_traceparent(VALID)
    assert remote is not None
    assert (remote.trace_id, remote.span_id, remote.sampled) == (TRACE, SPAN, True)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        VALID[:-1],
        VALID + b"0",
        VALID + b"-",
        VALID + b"-more",
        b"ff" + VALID[2:],
        VALID.replace(TRACE.hex().encode(), b"0" * 32),
        VALID.replace(SPAN.hex().encode(), b"0" * 16),
        VALID.upper(),
        VALID.replace(b"4bf9", b"4bg9"),
        VALID[:-2] + b"0x",
        b" " + VALID,
        VALID + b"\n",
        b"cc" + VALID[2:] + b".what",
        b"cc" + VALID[2:] + b"-" + b"x" * 500,
    ],
)
def test_invalid_traceparent(value: bytes) -> None:
    assert parse_traceparent(value) is None


def test_future_version_may_carry_more() -> None:
    remote = parse_traceparent(b"cc" + VALID[2:-2] + b"03-what-the-future-brings")
    assert remote is not None
    assert remote.sampled


def oracle(value: str) -> tuple[bytes, bytes, bool] | None:
    context = TraceContextTextMapPropagator().extract({"traceparent": [value]}, Context())
    found = trace.get_current_span(context).get_span_context()
    if not found.is_valid:
        return None
    return found.trace_id.to_bytes(16, "big"), found.span_id.to_bytes(8, "big"), found.trace_flags.sampled


HEX = "0123456789abcdef"
almost = st.tuples(
    st.sampled_from(["00", "01", "cc", "ff", "0", "000"]) | st.text(HEX, min_size=2, max_size=2),
    st.just("0" * 32) | st.text(HEX, min_size=31, max_size=33) | st.text(HEX + "AG", min_size=32, max_size=32),
    st.just("0" * 16) | st.text(HEX, min_size=16, max_size=16),
    st.text(HEX, min_size=2, max_size=2) | st.just("0g"),
).map("-".join)
printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)


@given(
    st.one_of(almost, st.tuples(almost, printable).map("".join), st.tuples(almost, printable).map("-".join), printable)
)
def test_traceparent_agrees_with_the_sdk(value: str) -> None:
    remote = parse_traceparent(value.encode())
    assert (None if remote is None else (remote.trace_id, remote.span_id, remote.sampled)) == oracle(value)


@given(st.binary(max_size=600))
def test_no_traceparent_raises(value: bytes) -> None:
    parse_traceparent(value)
    parse_tracestate([value])
    parse_trace_bin(value)


@given(st.binary(min_size=16, max_size=16).filter(any), st.binary(min_size=8, max_size=8).filter(any), st.booleans())
def test_what_is_injected_is_extracted(trace_id: bytes, span_id: bytes, sampled: bool) -> None:
    wire = W3CPropagation().inject(None, trace_id, span_id, sampled)
    remote = W3CPropagation().extract(wire)
    assert remote is not None
    assert (remote.trace_id, remote.span_id, remote.sampled) == (trace_id, span_id, sampled)
    assert oracle(wire[0].value.decode()) == (trace_id, span_id, sampled)
    again = parse_trace_bin(format_trace_bin(trace_id, span_id, sampled))
    assert again is not None
    assert (again.trace_id, again.span_id, again.sampled) == (trace_id, span_id, sampled)


def test_tracestate_is_joined_in_order_and_bounded() -> None:
    assert parse_tracestate([b"b=1 ,\ta=2", b"", b",c=3,"]) == "b=1,a=2,c=3"
    many = ",".join(f"k{number}=v" for number in range(40))
    kept = parse_tracestate([many.encode()]).split(",")
    assert kept == many.split(",")[:MAX_TRACESTATE_MEMBERS]


@pytest.mark.parametrize(
    "value", [b"a", b"A=1", b"a=1,a=2", b"a=1=2", b"a=\xc3\xa9", b"a=" + b"x" * 257, b"a=1," + b"x" * 9000]
)
def test_bad_tracestate_is_discarded_whole(value: bytes) -> None:
    assert parse_tracestate([b"ok=1", value]) == ""


def test_tracestate_travels_and_baggage_is_not_ours() -> None:
    propagation = W3CPropagation()
    remote = propagation.extract(
        fields((b"traceparent", VALID), (b"tracestate", b"a=1"), (b"tracestate", b"b=2"), (b"baggage", b"x=y"))
    )
    assert remote is not None
    sent = pairs(propagation.inject(remote, remote.trace_id, b"12345678", True))
    assert sent == {b"traceparent": VALID.replace(SPAN.hex().encode(), b"3132333435363738"), b"tracestate": b"a=1,b=2"}
    assert b"baggage" not in propagation.names


def test_without_a_valid_traceparent_the_tracestate_means_nothing() -> None:
    assert W3CPropagation().extract(fields((b"traceparent", b"junk"), (b"tracestate", b"a=1"))) is None
    assert W3CPropagation().extract(fields((b"tracestate", b"a=1"))) is None


def test_two_traceparents_are_none() -> None:
    assert W3CPropagation().extract(fields((b"traceparent", VALID), (b"traceparent", VALID))) is None


@pytest.mark.parametrize("encode", [base64.b64encode, lambda raw: base64.b64encode(raw).rstrip(b"=")])
def test_trace_bin_is_read_without_a_traceparent_and_rewritten(encode) -> None:  # type: ignore[no-untyped-def]
    propagation = W3CPropagation()
    remote = propagation.extract(fields((b"grpc-trace-bin", encode(BIN))))
    assert remote is not None
    assert (remote.trace_id, remote.span_id, remote.sampled) == (TRACE, SPAN, True)
    sent = pairs(propagation.inject(remote, TRACE, b"12345678", False))
    again = parse_trace_bin(sent[b"grpc-trace-bin"])
    assert again is not None
    assert (again.trace_id, again.span_id, again.sampled) == (TRACE, b"12345678", False)
    assert sent[b"traceparent"].endswith(b"-00")


def test_traceparent_outranks_trace_bin() -> None:
    other = base64.b64encode(b"\0\0" + b"x" * 16 + b"\1" + b"y" * 8 + b"\2\0")
    remote = W3CPropagation().extract(fields((b"grpc-trace-bin", other), (b"traceparent", VALID)))
    assert remote is not None
    assert remote.trace_id == TRACE
    assert remote.binary


@pytest.mark.parametrize(
    "raw", [b"", BIN[:-1], BIN + b"\0", b"\1" + BIN[1:], BIN[:2] + bytes(16) + BIN[18:], BIN[:18] + b"\7" + BIN[19:]]
)
def test_bad_trace_bin_is_none(raw: bytes) -> None:
    assert parse_trace_bin(base64.b64encode(raw)) is None
    assert parse_trace_bin(b"!" + base64.b64encode(raw)) is None


class DotPropagator(TextMapPropagator):
    """One field, ``x-dot: trace.span.flag``: stands for B3 and its like."""

    def extract(self, carrier, context=None, getter=None):  # type: ignore[no-untyped-def]
        match = re.fullmatch(r"(\w{32})\.(\w{16})\.([01])", carrier["x-dot"][0])
        if match is None:
            return context
        span = trace.SpanContext(
            int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=trace.TraceFlags(int(match[3]))
        )
        return trace.set_span_in_context(trace.NonRecordingSpan(span), context)

    def inject(self, carrier, context=None, setter=None):  # type: ignore[no-untyped-def]
        span = trace.get_current_span(context).get_span_context()
        carrier["X-Dot"] = f"{span.trace_id:032x}.{span.span_id:016x}.{span.trace_flags:d}"

    @property
    def fields(self) -> set[str]:
        return {"X-Dot"}


def test_foreign_propagator() -> None:
    propagation = ForeignPropagation(DotPropagator())
    assert propagation.names == {b"x-dot"}
    assert propagation.extract(fields((b"te", b"trailers"))) is None
    assert propagation.extract(fields((b"x-dot", b"junk"))) is None
    remote = propagation.extract(fields((b"x-dot", f"{TRACE.hex()}.{SPAN.hex()}.1".encode())))
    assert remote is not None
    assert (remote.trace_id, remote.span_id, remote.sampled) == (TRACE, SPAN, True)
    assert pairs(propagation.inject(remote, TRACE, b"12345678", True)) == {
        b"x-dot": f"{TRACE.hex()}.3132333435363738.1".encode()
    }


def test_composite_reads_the_first_and_writes_all() -> None:
    propagation = CompositePropagation([W3CPropagation(), ForeignPropagation(DotPropagator())])
    assert {b"traceparent", b"x-dot"} < propagation.names
    remote = propagation.extract(fields((b"x-dot", f"{TRACE.hex()}.{SPAN.hex()}.0".encode())))
    assert remote is not None
    assert not remote.sampled
    assert set(pairs(propagation.inject(remote, TRACE, SPAN, False))) == {b"traceparent", b"x-dot"}


def test_no_propagation_leaves_everything() -> None:
    assert Propagation().names == frozenset()
    assert Propagation().extract(fields((b"traceparent", VALID))) is None
    assert Propagation().inject(None, TRACE, SPAN, True) == []
