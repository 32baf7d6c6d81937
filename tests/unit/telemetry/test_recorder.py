"""The recorder, its queue and its settings, with an exporter in memory and the SDK's samplers as judges."""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, sampling
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace.status import StatusCode

from gateway.errors import FROM_GATEWAY, UNAVAILABLE, UNIMPLEMENTED
from gateway.model import Field, Outcome, Recorder, Request
from gateway.telemetry.export import DROP_WARNING_PERIOD_S, ExportQueue
from gateway.telemetry.propagation import Remote, W3CPropagation
from gateway.telemetry.senders import SpanSender
from gateway.telemetry.setup import TelemetryError, build_recorder, sampling_of
from gateway.telemetry.spans import SpanBuilder
from gateway.telemetry.tracing import ALWAYS, NEVER, Sampling, TraceRecorder

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
REQUEST = Request(b"/a.B/C", b"gateway", [Field(b"traceparent", f"00-{TRACE}-00f067aa0ba902b7-01".encode())], "::1")
ROOT_REQUEST = Request(b"/a.B/C", b"gateway", [], "::1")


class MemoryExporter(SpanExporter):
    """Keeps batches; ``gate`` holds exports back, ``answers`` are what the next ones return or raise."""

    def __init__(self) -> None:
        self.batches: list[list[ReadableSpan]] = []
        self.answers: list[SpanExportResult | Exception] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.stopped = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.release()
        self.gate.wait(10)
        answer = self.answers.pop(0) if self.answers else SpanExportResult.SUCCESS
        if isinstance(answer, Exception):
            raise answer
        self.batches.append(list(spans))
        return answer

    def shutdown(self) -> None:
        self.stopped = True
        self.gate.set()


def outcome(ended: float = 2.0, attempts: int = 1) -> Outcome:
    result = Outcome(b"/a.B/C", b"gateway", "::1", 1, 1.0)
    result.ended = ended
    result.service = "a"
    result.attempts = attempts
    result.attempt_started = 1.5
    return result


Make = Callable[..., TraceRecorder]


@pytest.fixture
def exporter() -> MemoryExporter:
    return MemoryExporter()


@pytest.fixture
def make(exporter: MemoryExporter) -> Iterator[Make]:
    made: list[TraceRecorder] = []

    def factory(capacity: int = 100, batch: int = 10, delay: float = 30.0, sampled: int = ALWAYS) -> TraceRecorder:
        sender = SpanSender(exporter, SpanBuilder(Resource({}), "1", lambda: 1_000).build)
        queue = ExportQueue(sender, capacity, batch, delay)
        made.append(TraceRecorder(W3CPropagation(), Sampling(sampled, parent_based=True), queue))
        return made[-1]

    yield factory
    exporter.gate.set()
    for recorder in made:
        recorder.close(5.0)


def test_root_and_child(make: Make) -> None:
    recorder = make()
    child = recorder.begin(REQUEST)
    assert (child.trace_id.hex(), child.parent_span_id.hex()) == (TRACE, "00f067aa0ba902b7")
    root = recorder.begin(ROOT_REQUEST)
    assert root.parent_span_id == b""
    ids = {child.server_span_id, child.client_span_id, root.server_span_id, root.client_span_id}
    assert len(ids) == 4
    assert {len(span) for span in ids} == {8}
    assert len(root.trace_id) == 16
    assert root.trace_id != child.trace_id
    assert recorder.replaced == {b"traceparent", b"tracestate", b"grpc-trace-bin"}


def test_all_zero_ids_are_drawn_again(exporter: MemoryExporter) -> None:
    draws = [0, 1, 7 << 64 | 1, (5 << 128) | (7 << 64) | 9]
    queue = ExportQueue(SpanSender(exporter, SpanBuilder(Resource({}), "1", lambda: 0).build), 1, 1, 30.0)
    recorder = TraceRecorder(W3CPropagation(), Sampling(NEVER, True), queue, lambda bits: draws.pop(0))
    trace = recorder.begin(ROOT_REQUEST)
    assert (trace.trace_id[-1], trace.server_span_id[-1], trace.client_span_id[-1]) == (5, 7, 9)
    recorder.close(5.0)


def test_spans_of_a_call(make: Make, exporter: MemoryExporter) -> None:
    recorder = make()
    trace = recorder.begin(REQUEST)
    failed = outcome()
    failed.code = UNAVAILABLE
    failed.source = FROM_GATEWAY
    failed.reason = "No live instance of a."
    recorder.end(trace, failed)
    assert recorder.close(5.0)
    server, client = exporter.batches[0]
    assert (server.kind, client.kind) == (SpanKind.SERVER, SpanKind.CLIENT)
    assert server.parent is not None
    assert server.parent.is_remote
    assert client.parent == server.get_span_context()
    assert (server.start_time, server.end_time) == (1_000_001_000, 2_000_001_000)
    assert client.start_time == 1_500_001_000
    assert server.status.status_code is StatusCode.ERROR
    assert server.status.description == "No live instance of a."
    assert exporter.stopped


def test_a_call_that_was_never_forwarded_has_no_client_span(make: Make, exporter: MemoryExporter) -> None:
    recorder = make()
    unmatched = outcome(attempts=0)
    unmatched.service = ""
    unmatched.code = UNIMPLEMENTED
    recorder.end(recorder.begin(ROOT_REQUEST), unmatched)
    assert recorder.close(5.0)
    (server,) = exporter.batches[0]
    assert (server.name, server.parent) == ("grpc", None)


def test_a_full_batch_is_exported_before_its_delay(make: Make, exporter: MemoryExporter) -> None:
    recorder = make(batch=3)
    for _number in range(3):
        recorder.end(recorder.begin(REQUEST), outcome())
    assert exporter.entered.acquire(timeout=5)


def test_full_queue_drops_counts_and_warns_once_a_period(
    make: Make, exporter: MemoryExporter, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = make(capacity=2, batch=1)
    exporter.gate.clear()
    recorder.end(recorder.begin(REQUEST), outcome())
    assert exporter.entered.acquire(timeout=5)
    for _number in range(12):
        recorder.end(recorder.begin(REQUEST), outcome(ended=100.0))
    assert recorder.counters()["traced_calls_dropped"] == 10
    assert recorder.counters()["traced_calls_waiting"] == 2
    assert len(caplog.records) == 1
    recorder.end(recorder.begin(REQUEST), outcome(ended=100.0 + DROP_WARNING_PERIOD_S))
    assert len(caplog.records) == 2
    assert "11 calls so far" in caplog.records[1].getMessage()


def test_failures_are_told_once_an_outage(
    make: Make, exporter: MemoryExporter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    recorder = make(batch=1)
    ok, failure = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
    exporter.answers = [RuntimeError("no way"), failure, ok, ok, failure]
    for _number in range(5):
        recorder.end(recorder.begin(REQUEST), outcome())
        assert exporter.entered.acquire(timeout=5)
    recorder.close(5.0)
    said = [record.getMessage() for record in caplog.records]
    assert ["cannot" in line for line in said] == [True, False, True]
    assert "RuntimeError: no way" in said[0]
    assert "4 spans were lost" in said[1]
    assert "gave no reason" in said[2]
    assert recorder.counters()["spans_failed"] == 6
    assert recorder.counters()["spans_exported"] == 4


def test_close_is_bounded_and_idempotent(
    make: Make, exporter: MemoryExporter, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = make(batch=1)
    exporter.gate.clear()
    for _number in range(3):
        recorder.end(recorder.begin(REQUEST), outcome())
    assert exporter.entered.acquire(timeout=5)
    assert not recorder.close(0.05)
    assert not recorder.close(0.05)
    assert "2 traced calls were not exported" in caplog.text
    recorder.end(recorder.begin(REQUEST), outcome())
    assert recorder.counters()["traced_calls_dropped"] == 1


SAMPLERS = [
    sampling.ALWAYS_ON,
    sampling.ALWAYS_OFF,
    sampling.DEFAULT_ON,
    sampling.DEFAULT_OFF,
    sampling.TraceIdRatioBased(0.25),
    sampling.TraceIdRatioBased(0.0),
    sampling.TraceIdRatioBased(1.0),
    sampling.ParentBasedTraceIdRatio(0.5),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.get_description()[:40])
def test_sampling_decides_as_the_sdk_does(sampler: sampling.Sampler) -> None:
    ours = sampling_of(sampler)
    low = [0, 1, 1 << 62, (1 << 62) - 1, 1 << 63, (1 << 63) - 1, (1 << 64) - 1]
    for trace_id in [(3 << 64) | number for number in low]:
        for flag in (None, 0, 1):
            context, remote = None, None
            raw = trace_id.to_bytes(16, "big")
            if flag is not None:
                span = SpanContext(trace_id, 5, is_remote=True, trace_flags=TraceFlags(flag))
                context = set_span_in_context(NonRecordingSpan(span))
                remote = Remote(raw, b"12345678", bool(flag))
            decision = sampler.should_sample(context, trace_id, "name").decision
            assert ours.sampled(raw, remote) == decision.is_sampled()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"},
        {"OTEL_SDK_DISABLED": "True", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"},
        {"OTEL_PROPAGATORS": "tracecontext,baggage"},
    ],
)
def test_without_an_endpoint_nothing_is_recorded(environ: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    threads = threading.active_count()
    recorder = build_recorder(environ)
    assert type(recorder) is Recorder
    assert recorder.begin(REQUEST) is None
    assert threading.active_count() == threads
    assert not caplog.records


@pytest.mark.parametrize(
    ("environ", "word"),
    [
        ({"OTEL_PROPAGATORS": "tracecontext,b9"}, "'b9'"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "http/json"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_BSP_MAX_QUEUE_SIZE": "many"}, "OTEL_BSP_MAX_QUEUE_SIZE"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "OTEL_EXPORTER_OTLP_TIMEOUT"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_CERTIFICATE": "/no/such.pem"}, "/no/such.pem"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_COMPRESSION": "brotli"}, "brotli"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:port"}, "http://localhost:port"),
    ],
)
def test_settings_that_cannot_work_are_named(environ: dict[str, str], word: str) -> None:
    with pytest.raises(TelemetryError, match=word):
        build_recorder(environ)


def test_settings_reach_the_sdk_without_staying_in_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    recorder = build_recorder(
        {"OTEL_TRACES_EXPORTER": "console", "OTEL_TRACES_SAMPLER": "always_off", "OTEL_PROPAGATORS": "none"}
    )
    assert isinstance(recorder, TraceRecorder)
    try:
        trace = recorder.begin(REQUEST)
        assert (trace.sampled, trace.upstream_fields, recorder.replaced) == (False, [], frozenset())
    finally:
        recorder.close(5.0)
    assert {name: value for name, value in os.environ.items() if name.startswith("OTEL_")} == {
        "OTEL_TRACES_SAMPLER": "always_on"
    }
