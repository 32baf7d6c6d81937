"""Calls recorded through begin and end, as a collector receives them over real gRPC; and Jaeger, where there is one."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from otlp_sink import OtlpSink

from gateway.errors import FROM_UPSTREAM, NOT_FOUND, OK, UNAVAILABLE
from gateway.model import Endpoint, Field, Outcome, Request
from gateway.telemetry.setup import build_recorder
from gateway.telemetry.tracing import TraceRecorder

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
PATH = b"/shop.Cart/Checkout"
OFFSET_NS = 1_700_000_000_000_000_000


def recorder_for(environ: dict[str, str]) -> TraceRecorder:
    recorder = build_recorder(environ, lambda: OFFSET_NS)
    assert isinstance(recorder, TraceRecorder)
    return recorder


def request(traceparent: str = f"00-{TRACE}-{PARENT}-01") -> Request:
    fields = [Field(b"te", b"trailers"), Field(b"traceparent", traceparent.encode()), Field(b"tracestate", b"a=1,b=2")]
    return Request(PATH, b"gateway:8080", fields, "127.0.0.1")


def outcome(code: int = OK, started: float = 10.0) -> Outcome:
    ended = Outcome(PATH, b"gateway:8080", "127.0.0.1", 40001, started)
    ended.attempts = 1
    ended.attempt_started = started + 0.25
    ended.ended = started + 1.5
    ended.code = code
    ended.source = FROM_UPSTREAM
    ended.route = "canary"
    ended.service = "cart"
    ended.endpoint = Endpoint("cart", "cart-1", "10.1.2.3:7001", {})
    return ended


@pytest.fixture
def sink() -> Iterator[OtlpSink]:
    with OtlpSink() as running:
        yield running


def test_both_spans_arrive_with_parents_names_attributes_and_status(sink: OtlpSink) -> None:
    recorder = recorder_for(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-team=mesh",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "",
            "OTEL_BSP_SCHEDULE_DELAY": "20",
        }
    )
    trace = recorder.begin(request())
    failed = outcome(NOT_FOUND)
    failed.message = b"no%20such%20cart"
    recorder.end(trace, failed)
    server, client = sink.wait_for(2)
    recorder.close(5.0)

    assert (server.kind, client.kind) == ("SERVER", "CLIENT")
    assert server.span.name == client.span.name == "shop.Cart/Checkout"
    assert server.span.trace_id.hex() == client.span.trace_id.hex() == TRACE
    assert server.span.parent_span_id.hex() == PARENT
    assert client.span.parent_span_id == server.span.span_id == trace.server_span_id
    assert client.span.span_id == trace.client_span_id
    assert trace.upstream_fields[0].value == f"00-{TRACE}-{client.span.span_id.hex()}-01".encode()
    assert server.span.trace_state == client.span.trace_state == "a=1,b=2"
    assert (server.span.start_time_unix_nano, server.span.end_time_unix_nano) == (
        OFFSET_NS + 10_000_000_000,
        OFFSET_NS + 11_500_000_000,
    )
    assert client.span.start_time_unix_nano == OFFSET_NS + 10_250_000_000
    # Bits 8 and 9 of the flags: the parent's place is known, and it was remote for the server span alone.
    assert (server.span.flags & 0x300, client.span.flags & 0x300) == (0x300, 0x100)

    common = {
        "rpc.system.name": "grpc",
        "rpc.method": "shop.Cart/Checkout",
        "rpc.response.status_code": "NOT_FOUND",
        "meshway.service": "cart",
        "meshway.route": "canary",
    }
    assert server.attributes == {**common, "network.peer.address": "127.0.0.1", "network.peer.port": 40001}
    assert client.attributes == {
        **common,
        "server.address": "cart",
        "network.peer.address": "10.1.2.3",
        "network.peer.port": 7001,
        "meshway.instance": "cart-1",
        "error.type": "NOT_FOUND",
        "meshway.error.source": "upstream",
    }
    assert not server.failed
    assert client.failed
    assert client.span.status.message == "no such cart"
    assert server.resource["service.name"] == "meshway-gateway"
    assert server.resource["deployment.environment.name"] == "test"
    assert (server.scope, server.schema_url) == ("meshway.gateway", "https://opentelemetry.io/schemas/1.44.0")
    assert sink.metadata[0]["x-team"] == "mesh"


def test_unsampled_calls_are_continued_and_not_exported(sink: OtlpSink) -> None:
    recorder = recorder_for({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": sink.endpoint})
    trace = recorder.begin(request(f"00-{TRACE}-{PARENT}-00"))
    recorder.end(trace, outcome())
    assert trace.upstream_fields[0].value == f"00-{TRACE}-{trace.client_span_id.hex()}-00".encode()
    recorder.end(recorder.begin(request()), outcome())
    assert recorder.close(5.0)
    assert len(sink.spans()) == 2


def test_close_exports_what_waits(sink: OtlpSink) -> None:
    recorder = recorder_for({"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, "OTEL_SERVICE_NAME": "edge"})
    for number in range(700):
        recorder.end(recorder.begin(request()), outcome(started=float(number)))
    assert recorder.close(10.0)
    spans = sink.spans()
    assert len(spans) == 1400
    assert spans[0].resource["service.name"] == "edge"
    assert recorder.counters() == {
        "spans_exported": 1400,
        "spans_failed": 0,
        "traced_calls_dropped": 0,
        "traced_calls_waiting": 0,
    }


def test_a_stalled_collector_costs_counted_drops_and_one_warning(
    sink: OtlpSink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sink.gate.clear()
    recorder = recorder_for(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_BSP_MAX_QUEUE_SIZE": "20",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4",
        }
    )
    for _number in range(2):
        recorder.end(recorder.begin(request()), outcome())
    sink.wait_for_requests(1)
    before = time.monotonic()
    for _number in range(50):
        recorder.end(recorder.begin(request()), outcome())
    assert time.monotonic() - before < 1.0
    assert recorder.counters()["traced_calls_dropped"] == 40
    warnings = [record for record in caplog.records if "dropped" in record.getMessage()]
    assert len(warnings) == 1
    sink.gate.set()
    assert recorder.close(10.0)
    assert len(sink.spans()) == 24


def test_a_collector_that_is_away_is_said_once_and_close_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    recorder = recorder_for(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "0.3",
            "OTEL_BSP_SCHEDULE_DELAY": "10",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2",
        }
    )
    for number in range(1, 4):
        recorder.end(recorder.begin(request()), outcome())
        until(lambda done=number * 2: recorder.counters()["spans_failed"] >= done)
    for _number in range(100):
        recorder.end(recorder.begin(request()), outcome())
    before = time.monotonic()
    assert not recorder.close(0.2)
    assert time.monotonic() - before < 2.0
    said = [record.getMessage() for record in caplog.records if record.name.startswith(("gateway", "opentelemetry"))]
    assert len([line for line in said if "cannot be exported" in line]) == 1
    assert "UNAVAILABLE" in said[0]
    assert all("cannot be exported" in line or "before the end" in line for line in said), said


def test_a_refusing_collector_that_recovers(sink: OtlpSink, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sink.refuse = grpc.StatusCode.INVALID_ARGUMENT
    recorder = recorder_for({"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "10"})
    recorder.end(recorder.begin(request()), outcome(UNAVAILABLE))
    until(lambda: recorder.counters()["spans_failed"] == 2)
    sink.refuse = None
    recorder.end(recorder.begin(request()), outcome())
    sink.wait_for(2)
    assert recorder.close(5.0)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("gateway.telemetry")]
    assert len(said) == 2
    assert "the sink was told to refuse" in said[0]
    assert "again" in said[1]


def test_http_protobuf_is_chosen_by_name() -> None:
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        recorder = recorder_for(
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            }
        )
        recorder.end(recorder.begin(request()), outcome())
        assert recorder.close(5.0)
    finally:
        server.shutdown()
        server.server_close()
    sent = trace_service_pb2.ExportTraceServiceRequest.FromString(bodies[0])
    assert [span.name for span in sent.resource_spans[0].scope_spans[0].spans] == ["shop.Cart/Checkout"] * 2


@pytest.mark.skipif(
    not (shutil.which("jaeger") or shutil.which("jaeger-all-in-one")),
    reason="no jaeger on PATH: put the binary of github.com/jaegertracing/jaeger/releases there to run this",
)
def test_jaeger_shows_the_trace(tmp_path: Path) -> None:
    binary = shutil.which("jaeger") or shutil.which("jaeger-all-in-one")
    assert binary is not None
    log = (tmp_path / "jaeger.log").open("wb")
    process = subprocess.Popen([binary], stdout=log, stderr=subprocess.STDOUT, env={**os.environ})
    try:
        until(lambda: _accepts(16686) and _accepts(4317), 30.0)
        recorder = build_recorder({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"})
        assert isinstance(recorder, TraceRecorder)
        trace = recorder.begin(Request(PATH, b"gateway", [], "127.0.0.1"))
        recorder.end(trace, outcome(UNAVAILABLE, started=time.monotonic()))
        assert recorder.close(10.0)
        spans = _jaeger_spans(trace.trace_id.hex())
        assert sorted(spans) == [("shop.Cart/Checkout", "client", True), ("shop.Cart/Checkout", "server", True)]
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def _jaeger_spans(trace_id: str) -> list[tuple[str, str, bool]]:
    """(name, kind, failed) of each span: from API v3 (2.x), else from the older one that version 1 answers."""
    base = "http://127.0.0.1:16686/api"
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        found = _get_json(f"{base}/v3/traces/{trace_id}")
        if found and found.get("result", {}).get("resourceSpans"):
            spans = [
                span
                for resource in found["result"]["resourceSpans"]
                for scope in resource["scopeSpans"]
                for span in scope["spans"]
            ]
            return [(s["name"], {2: "server", 3: "client"}[s["kind"]], s["status"].get("code") == 2) for s in spans]
        found = _get_json(f"{base}/traces/{trace_id}")
        if found and found.get("data"):
            older = [(s["operationName"], {t["key"]: t["value"] for t in s["tags"]}) for s in found["data"][0]["spans"]]
            return [(name, str(tags["span.kind"]), bool(tags.get("error"))) for name, tags in older]
        time.sleep(0.2)
    raise AssertionError(f"Jaeger does not know trace {trace_id}")


def _get_json(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)
    except (urllib.error.URLError, ValueError):
        return None


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Any, timeout: float = 10.0) -> None:
    """Wait for what the export thread does: it reports to nobody."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)
