"""Hand-packed OTLP against the SDK's encoder: the same request, whatever the call was."""

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource

from gateway.model import CallTrace, Endpoint, Outcome
from gateway.telemetry.pack import CALLS_BEFORE_YIELD, SpanPacker
from gateway.telemetry.propagation import parse_tracestate
from gateway.telemetry.spans import Record, SpanBuilder

RESOURCE = Resource({"service.name": "edge", "replicas": 3}, "https://opentelemetry.io/schemas/1.21.0")
OFFSET = 1_700_000_000_000_000_000

ids = st.binary(min_size=8, max_size=8).filter(any)
text = st.text(st.characters(blacklist_categories=["Cs"]), max_size=200)
times = st.floats(0, 1e7)


@st.composite
def records(draw: st.DrawFn) -> Record:
    state = parse_tracestate([draw(st.sampled_from([b"", b"a=1", b"vendor@x=y z,b=2"]))])
    parent = draw(st.just(b"") | ids)
    trace = CallTrace(draw(ids) + draw(ids), parent, draw(ids), draw(ids), True, state, [])
    outcome = Outcome(draw(st.binary(max_size=300)), b"gw", draw(text), draw(st.integers(0, 65535)), draw(times))
    outcome.ended = outcome.started + draw(times)
    outcome.attempt_started = draw(times)
    outcome.attempts = draw(st.integers(0, 300))
    outcome.code = draw(st.integers(-1, 20))
    outcome.source = draw(st.integers(0, 2))
    outcome.reason = draw(text)
    outcome.message = draw(st.binary(max_size=300))
    outcome.route = draw(text)
    outcome.service = draw(text)
    address = draw(st.sampled_from(["10.0.0.1:80", "[::1]:65535", "unix:/run/x.sock"]))
    outcome.endpoint = draw(st.none() | st.just(Endpoint("cart", draw(text), address, {})))
    return trace, outcome


@given(st.lists(records(), min_size=1, max_size=4))
def test_packed_is_what_the_sdk_encodes(batch: list[Record]) -> None:
    packed = SpanPacker(RESOURCE, "1.2", lambda: OFFSET).pack(batch)
    encoded = encode_spans(SpanBuilder(RESOURCE, "1.2", lambda: OFFSET).build(batch))
    assert ExportTraceServiceRequest.FromString(packed) == encoded


def test_batches_of_any_size() -> None:
    trace = CallTrace(b"t" * 16, b"", b"s" * 8, b"c" * 8, True, "", [])
    outcome = Outcome(b"/a.B/C", b"gw", "::1", 1, 1.0)
    outcome.attempts = 1
    packer = SpanPacker(Resource({}), "1", lambda: 0)
    for size in (0, 1, CALLS_BEFORE_YIELD, 1000):
        request = ExportTraceServiceRequest.FromString(packer.pack([(trace, outcome)] * size))
        assert len(request.resource_spans[0].scope_spans[0].spans) == size * 2
