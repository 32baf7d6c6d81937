"""The parts of the demo that need no process: the tally, the display, the tree of spans, the guard's reading."""

import asyncio
import io

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status
from rich.console import Console

from examples.demo.__main__ import jaeger_page
from examples.demo.display import Display
from examples.demo.guard import remaining
from examples.demo.mesh import Mesh
from examples.demo.processes import Child, Guard
from examples.demo.spans import SpanSink, tree
from examples.demo.tally import KEPT_FAILURES, Tally

TRACE = bytes(range(16))
OK = {"rpc.response.status_code": "OK"}


def span(number: int, parent: int, name: str, kind: "Span.SpanKind.ValueType", **attributes: str) -> Span:
    return Span(
        trace_id=TRACE,
        span_id=bytes([number] * 8),
        parent_span_id=bytes([parent] * 8),
        name=name,
        kind=kind,
        start_time_unix_nano=number * 1_000_000,
        end_time_unix_nano=number * 1_000_000 + 2_500_000,
        attributes=[KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in attributes.items()],
    )


def text(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_tally_counts_by_instance_and_by_kind():
    tally = Tally()
    tally.answered("unary", "a", "v1")
    tally.answered("unary", "b", "v2")
    tally.answered("bidi stream", "a", "v1")
    tally.refusals += 1
    assert (tally.of_instance("a"), tally.of_kind("unary"), tally.total) == (2, 2, 4)
    assert tally.versions == {"a": "v1", "b": "v2"}


def test_tally_keeps_a_few_failures_and_counts_all():
    tally = Tally()
    for number in range(KEPT_FAILURES + 5):
        tally.fail(f"reason {number}")
    assert tally.failed == KEPT_FAILURES + 5
    assert len(tally.failures) == KEPT_FAILURES


def test_spans_hang_under_their_parents_in_order_of_time():
    error = span(4, 3, "shop.Catalog/GetProduct", Span.SPAN_KIND_CLIENT)
    error.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message="nobody is there"))
    shown = text(
        tree(
            [
                error,
                span(
                    2,
                    1,
                    "shop.Cart/Checkout",
                    Span.SPAN_KIND_CLIENT,
                    **OK | {"meshway.instance": "cart-1", "meshway.route": "canary"},
                ),
                span(3, 2, "shop.Catalog/GetProduct", Span.SPAN_KIND_SERVER, **OK),
                span(1, 9, "shop.Cart/Checkout", Span.SPAN_KIND_SERVER, **OK),
            ]
        )
    )
    lines = [line.rstrip() for line in shown.splitlines()]
    assert lines == [
        f"trace {TRACE.hex()}",
        "└── SERVER shop.Cart/Checkout  2.5 ms  OK",
        "    └── CLIENT shop.Cart/Checkout  2.5 ms  OK  route canary  to cart-1",
        "        └── SERVER shop.Catalog/GetProduct  2.5 ms  OK",
        "            └── CLIENT shop.Catalog/GetProduct  2.5 ms  no status  failed: nobody is there",
    ]


async def test_sink_keeps_the_wanted_trace_only():
    sink = SpanSink()
    sink.want(TRACE)
    waiting = asyncio.create_task(sink.wait(5))
    await asyncio.sleep(0)
    other = span(7, 0, "other", Span.SPAN_KIND_SERVER)
    other.trace_id = bytes(16)
    batch = ScopeSpans(spans=[other, span(1, 0, "wanted", Span.SPAN_KIND_SERVER)])
    await sink.Export(ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[batch])]), None)
    assert [kept.name for kept in await waiting] == ["wanted"]


def test_display_shows_each_instance_on_a_terminal_and_elsewhere():
    mesh, tally = Mesh(), Tally()
    mesh.instances = {name: Child(Guard(), name, []) for name in ("catalog-2", "catalog-1")}
    mesh.killed = "catalog-2"
    tally.answered("server stream", "catalog-1", "v1")
    console = Console(file=io.StringIO(), force_terminal=False, width=120)
    display = Display(console, mesh, tally)
    assert display.line(2.0) == "  2.0 s  1 calls, 0 failed: catalog-1 v1 1, catalog-2 ? 0 (killed)"
    rows = text(display.table(2.0))
    assert "1 calls in 2 s, 0 failed" in rows
    assert rows.index("catalog-1") < rows.index("catalog-2")
    assert "killed" in rows


def test_jaeger_page_is_on_the_collectors_host():
    page = jaeger_page("http://collector.example:4317", TRACE)
    assert page == f"http://collector.example:16686/trace/{TRACE.hex()}"


def test_guard_ends_what_has_not_ended():
    assert remaining(["+12\n", "+13\n", "-12\n"]) == {13}
    assert remaining([]) == set()
