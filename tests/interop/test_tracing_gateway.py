"""Spans of real calls through a real gateway process, as an OTLP collector receives them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from mesh import Gateway, Registry, wait_for
from otlp_sink import OtlpSink, Received

from registry.client import Registration

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
CONFIG = """
routes:
  - name: the-traced
    matches: [{method: {service: traced.Echo, method: Routed}}]
    backends: [{service: traced}]
"""


class Server(grpc.GenericRpcHandler):
    """Keeps the metadata of what it is asked, and fails on request."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str | bytes]] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, request: bytes, context: aio.ServicerContext[Any, Any]) -> bytes:
        self.seen.append(dict(context.invocation_metadata()))
        if request == b"fail":
            await context.abort(grpc.StatusCode.DATA_LOSS, "the disk ☹ is gone")
        if request == b"not found":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        return request


@pytest.fixture
async def server(process: Callable[[Any], Any]) -> AsyncIterator[tuple[Server, str, str]]:
    """A registered server; its recorder of metadata, its address, the registry's address."""
    registry = process(Registry())
    handler = Server()
    served = aio.server()
    served.add_generic_rpc_handlers((handler,))
    address = f"127.0.0.1:{served.add_insecure_port('127.0.0.1:0')}"
    await served.start()
    async with Registration(
        registry=registry.address, service="traced", address=address, instance_id="one", grpc_services=["traced.Echo"]
    ):
        yield handler, address, registry.address
    await served.stop(None)


def traced_gateway(registry: str, sink: OtlpSink, tmp_path: Path, **env: str) -> Gateway:
    """A gateway that exports to the sink at once."""
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG)
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50", **env}
    gateway = Gateway(registry, "--config", str(config), env=settings)
    gateway.await_instances("one")
    return gateway


async def call(gateway: Gateway, method: str, request: bytes, *metadata: tuple[str, str]) -> grpc.StatusCode:
    """The status of one call."""
    async with aio.insecure_channel(gateway.address) as channel:
        unary = channel.unary_unary(method)
        made = unary(request, metadata=metadata, timeout=20.0)
        return await made.code()


def pair(spans: list[Received]) -> tuple[Received, Received]:
    """The SERVER and the CLIENT span of one call."""
    by_kind = {span.kind: span for span in spans}
    assert len(spans) == 2
    return by_kind["SERVER"], by_kind["CLIENT"]


async def test_a_call_is_two_spans_of_the_callers_trace(
    server: tuple[Server, str, str], process: Callable[[Any], Any], tmp_path: Path
) -> None:
    handler, address, registry = server
    with OtlpSink() as sink:
        gateway = process(traced_gateway(registry, sink, tmp_path, OTEL_SERVICE_NAME="edge"))
        propagation = (
            ("traceparent", f"00-{TRACE}-{PARENT}-01"),
            ("tracestate", "vendor=a,other=b"),
            ("baggage", "user=7"),
        )
        assert await call(gateway, "/traced.Echo/Routed", b"hello", *propagation) is grpc.StatusCode.OK
        inbound, outbound = pair(sink.wait_for(2))

    for span in (inbound, outbound):
        assert span.span.name == "traced.Echo/Routed"
        assert span.span.trace_id.hex() == TRACE
        assert span.span.trace_state == "vendor=a,other=b"
        assert span.resource["service.name"] == "edge"
        assert span.attributes["rpc.system.name"] == "grpc"
        assert span.attributes["rpc.method"] == "traced.Echo/Routed"
        assert span.attributes["rpc.response.status_code"] == "OK"
        assert span.attributes["meshway.route"] == "the-traced"
        assert "error.type" not in span.attributes
        assert not span.failed
    assert inbound.span.parent_span_id.hex() == PARENT
    assert outbound.span.parent_span_id == inbound.span.span_id
    assert outbound.attributes["server.address"] == "traced"
    assert outbound.attributes["meshway.instance"] == "one"
    host, port = address.split(":")
    assert (outbound.attributes["network.peer.address"], outbound.attributes["network.peer.port"]) == (host, int(port))
    assert inbound.attributes["network.peer.address"] == "127.0.0.1"
    assert inbound.span.start_time_unix_nano <= outbound.span.start_time_unix_nano
    assert outbound.span.end_time_unix_nano <= inbound.span.end_time_unix_nano

    # The server goes on from the gateway's client span, with the caller's tracestate and baggage.
    seen = handler.seen[-1]
    assert seen["traceparent"] == f"00-{TRACE}-{outbound.span.span_id.hex()}-01"
    assert seen["tracestate"] == "vendor=a,other=b"
    assert seen["baggage"] == "user=7"


async def test_a_call_without_a_trace_starts_one(
    server: tuple[Server, str, str], process: Callable[[Any], Any], tmp_path: Path
) -> None:
    handler, _, registry = server
    with OtlpSink() as sink:
        gateway = process(traced_gateway(registry, sink, tmp_path))
        assert await call(gateway, "/traced.Echo/Plain", b"hello") is grpc.StatusCode.OK
        inbound, outbound = pair(sink.wait_for(2))
    assert inbound.span.parent_span_id == b""
    assert inbound.resource["service.name"] == "meshway-gateway"
    assert "meshway.route" not in outbound.attributes
    assert handler.seen[-1]["traceparent"] == (f"00-{inbound.span.trace_id.hex()}-{outbound.span.span_id.hex()}-01")


@pytest.mark.parametrize(
    ("request_body", "code", "server_failed"),
    [(b"fail", grpc.StatusCode.DATA_LOSS, True), (b"not found", grpc.StatusCode.NOT_FOUND, False)],
)
async def test_status_comes_from_the_trailers(
    server: tuple[Server, str, str],
    process: Callable[[Any], Any],
    tmp_path: Path,
    request_body: bytes,
    code: grpc.StatusCode,
    server_failed: bool,
) -> None:
    _, _, registry = server
    with OtlpSink() as sink:
        gateway = process(traced_gateway(registry, sink, tmp_path))
        assert await call(gateway, "/traced.Echo/Plain", request_body) is code
        inbound, outbound = pair(sink.wait_for(2))
    assert outbound.failed
    assert inbound.failed is server_failed
    for span in (inbound, outbound):
        assert span.attributes["rpc.response.status_code"] == code.name
    assert outbound.attributes["error.type"] == code.name
    assert inbound.attributes.get("error.type") == (code.name if server_failed else None)
    wanted = {b"fail": "the disk ☹ is gone", b"not found": "no such thing"}[request_body]
    assert outbound.span.status.message == wanted


async def test_the_gateways_own_failures_say_why(
    server: tuple[Server, str, str], process: Callable[[Any], Any], tmp_path: Path
) -> None:
    _, _, registry = server
    with OtlpSink() as sink:
        gateway = process(traced_gateway(registry, sink, tmp_path))
        assert await call(gateway, "/nobody.Knows/This", b"") is grpc.StatusCode.UNIMPLEMENTED
        (only,) = sink.wait_for(1)
    assert only.kind == "SERVER"
    assert only.failed
    assert "/nobody.Knows/This" in only.span.status.message


async def test_an_unsampled_call_sends_nothing_and_goes_on_unsampled(
    server: tuple[Server, str, str], process: Callable[[Any], Any], tmp_path: Path
) -> None:
    handler, _, registry = server
    with OtlpSink() as sink:
        gateway = process(traced_gateway(registry, sink, tmp_path))
        unsampled = ("traceparent", f"00-{TRACE}-{PARENT}-00")
        assert await call(gateway, "/traced.Echo/Plain", b"", unsampled) is grpc.StatusCode.OK
        passed = re.fullmatch(f"00-{TRACE}-([0-9a-f]{{16}})-00", str(handler.seen[-1]["traceparent"]))
        assert passed
        assert passed[1] != PARENT
        # The sampled call after it is the first that arrives.
        assert await call(gateway, "/traced.Echo/Plain", b"") is grpc.StatusCode.OK
        assert all(span.span.trace_id.hex() != TRACE for span in sink.wait_for(2))


async def test_without_an_endpoint_the_callers_trace_passes_untouched(
    server: tuple[Server, str, str], process: Callable[[Any], Any]
) -> None:
    handler, _, registry = server
    gateway = process(Gateway(registry))
    gateway.await_instances("one")
    parent = f"00-{TRACE}-{PARENT}-01"
    assert await call(gateway, "/traced.Echo/Plain", b"", ("traceparent", parent)) is grpc.StatusCode.OK
    assert handler.seen[-1]["traceparent"] == parent
    assert gateway.err == ""


async def test_a_stuck_collector_never_slows_calls_and_is_counted(
    server: tuple[Server, str, str], process: Callable[[Any], Any], tmp_path: Path
) -> None:
    _, _, registry = server
    with OtlpSink() as sink:
        sink.gate.clear()
        gateway = process(traced_gateway(registry, sink, tmp_path, OTEL_BSP_MAX_QUEUE_SIZE="20"))
        async with aio.insecure_channel(gateway.address) as channel:
            unary = channel.unary_unary("/traced.Echo/Plain")
            for _ in range(600):
                assert await unary(b"x", timeout=20.0) == b"x"
        dropped = wait_for("dropped spans", lambda: gateway.counters()["traced_calls_dropped"])
        assert dropped > 0
        assert gateway.err.count("Traces are dropped") == 1
        sink.gate.set()


def test_a_setting_that_cannot_work_is_one_sentence_and_exit_code_2(process: Callable[[Any], Any]) -> None:
    from mesh import MESHWAY, Child

    child = process(
        Child(
            "gateway",
            [MESHWAY, "gateway", "--listen", "127.0.0.1:0", "--registry", "127.0.0.1:1"],
            {"OTEL_PROPAGATORS": "nonsense", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        )
    )
    assert child.wait() == 2
    assert "nonsense" in child.err
    assert "Traceback" not in child.err
