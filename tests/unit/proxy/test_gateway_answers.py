"""What the gateway answers by itself: no route, no instance, not gRPC, too much metadata; and the drain."""

import pytest
from helpers import frames
from helpers.mesh import CALL, First, Mesh, Raw

from gateway.errors import DEADLINE_EXCEEDED, FROM_GATEWAY, RESOURCE_EXHAUSTED, UNAVAILABLE, UNIMPLEMENTED
from gateway.model import CallTrace, Field
from gateway.proxy.snapshot import Snapshot
from gateway.routing.table import RouteTable


def with_(name: bytes, value: bytes | None):
    fields = [(key, value if key == name else old) for key, old in CALL]
    return [(key, value) for key, value in fields if value is not None]


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        (b"/no.Such/Method", UNIMPLEMENTED, "no route and no service for method /no.Such/Method"),
        (b"/", UNIMPLEMENTED, "/"),
        (b"/test.Echo", UNIMPLEMENTED, "/test.Echo"),
        (b"//test.Echo/Call", UNIMPLEMENTED, "//test.Echo/Call"),
        (b"/test.Echo%2fCall", UNIMPLEMENTED, "%2fCall"),
        (b"/test.Gone/Call", UNAVAILABLE, "service gone has no live instance"),
        (b"/test.Both/Call", UNIMPLEMENTED, "one, two"),
    ],
)
@pytest.mark.parametrize("end", [True, False])
def test_calls_that_go_nowhere(path, code, words, end):
    mesh = Mesh()
    client = mesh.client()
    call = client.call(fields=with_(b":path", path), body=None if end else b"x", end=end)
    mesh.run()
    assert call.header(b":status") == b"200"
    assert call.header(b"content-type") == b"application/grpc"
    assert call.status == code
    assert words.replace("%", "%25") in call.message
    kinds = [frame.kind for frame in client.frames if frame.stream_id == 1]
    assert kinds == [frames.HEADERS] + ([] if end else [frames.RST_STREAM])
    assert call.reset == (None if end else frames.NO_ERROR)
    assert mesh.outcome.source == FROM_GATEWAY
    assert mesh.outcome.endpoint is None
    assert mesh.dialer.dials == []
    mesh.assert_idle()


def test_before_the_first_view_of_the_mesh():
    mesh = Mesh()
    mesh.proxy.use(Snapshot(0, RouteTable([]), {}, {}, {}, False), [], mesh.now)
    call = mesh.client().call(body=b"x")
    mesh.run()
    assert call.status == UNAVAILABLE
    assert "registry" in call.message
    mesh.assert_idle()


def test_a_service_without_instances():
    mesh = Mesh()
    mesh.proxy.use(mesh.snapshot([], First([])), [], mesh.now)
    call = mesh.client().call(body=b"x")
    mesh.run()
    assert call.status == UNAVAILABLE
    assert "service echo has no live instance" in call.message
    mesh.assert_idle()


@pytest.mark.parametrize(
    ("fields", "status", "allow"),
    [
        (with_(b":method", b"GET"), b"405", b"POST"),
        (with_(b":method", b"PUT"), b"405", b"POST"),
        (with_(b"content-type", None), b"415", None),
        (with_(b"content-type", b"application/json"), b"415", None),
        (with_(b"content-type", b"application/grpc-web"), b"415", None),
        (with_(b"content-type", b"application/grpcish"), b"415", None),
    ],
)
@pytest.mark.parametrize("end", [True, False])
def test_what_is_not_grpc_gets_an_http_answer_with_a_sentence(fields, status, allow, end):
    mesh = Mesh()
    client = mesh.client()
    answer = client.call(fields=fields, body=None if end else b"x" * 1000, end=bool(end))
    mesh.run()
    assert answer.header(b":status") == status
    assert answer.header(b"allow") == allow
    assert answer.header(b"content-type") == b"text/plain; charset=utf-8"
    assert int(answer.header(b"content-length") or 0) == len(answer.data) > 5
    assert answer.ended
    assert answer.reset is None
    assert mesh.ledger.begun == 0
    if not end:  # the stream stays under HTTP/2's rules, and its bytes are credited
        client.data(1, bytes(500_000))
        mesh.run()
        assert client.sent[1] == 501_000
        client.end(1)
        mesh.run()
    mesh.assert_idle()


@pytest.mark.parametrize(
    "content_type", [b"application/grpc", b"application/grpc+proto", b"application/grpc;charset=utf-8"]
)
def test_what_is_grpc(content_type):
    mesh = Mesh()
    call = mesh.client().call(fields=with_(b"content-type", content_type), body=b"x")
    mesh.run()
    assert mesh.server().seen[1].header(b"content-type") == content_type
    mesh.server().answer(1)
    mesh.run()
    assert call.status == 0
    mesh.assert_idle()


def test_a_stream_answered_with_an_http_error_is_still_policed():
    mesh = Mesh()
    client = mesh.client()
    client.call(fields=with_(b":method", b"GET"), body=b"", end=False)
    mesh.run()
    client.inject(frames.headers(1, [(b"a", b"b")]))
    mesh.run()
    assert client.frames[-1].kind == frames.RST_STREAM
    assert client.frames[-1].code == frames.PROTOCOL_ERROR
    mesh.assert_idle()


def test_metadata_above_the_limit():
    mesh = Mesh()
    client = mesh.client()
    big = [(b"x-%d" % number, b"y" * 8000) for number in range(9)]
    call = client.call(*big, body=b"x" * 1000, end=False)
    mesh.run()
    assert call.status == RESOURCE_EXHAUSTED
    assert "metadata" in call.message
    assert call.reset == frames.NO_ERROR
    fine = client.call(*big[:7], body=b"x")
    mesh.run()
    mesh.server().answer(1)
    mesh.run()
    assert fine.status == 0
    mesh.assert_idle()


def test_the_trace_context_is_replaced():
    mesh = Mesh()
    mesh.ledger.replaced = frozenset([b"traceparent"])
    added = [Field(b"traceparent", b"new")]
    mesh.ledger.continues = CallTrace(b"t" * 16, b"p" * 8, b"s" * 8, b"c" * 8, True, "", added)
    mesh.client().call((b"traceparent", b"old"), (b"tracestate", b"a=b"), body=b"x")
    mesh.run()
    fields = mesh.server().seen[1].headers or []
    assert [value for name, value in fields if name == b"traceparent"] == [b"new"]
    assert (b"tracestate", b"a=b") in fields
    mesh.server().answer(1)
    mesh.run()
    mesh.assert_idle()


def test_without_a_trace_the_callers_context_passes():
    mesh = Mesh()
    mesh.ledger.replaced = frozenset([b"traceparent"])
    mesh.client().call((b"traceparent", b"old"), body=b"x")
    mesh.run()
    assert (b"traceparent", b"old") in (mesh.server().seen[1].headers or [])
    mesh.server().answer(1)
    mesh.run()
    mesh.assert_idle()


# --- drain ---


def test_drain_ends_an_idle_connection_at_once():
    mesh = Mesh()
    client = mesh.client()
    client.call(fields=with_(b":path", b"/no/Such"))
    mesh.run()
    mesh.proxy.drain(mesh.now)
    mesh.run()
    assert client.closed
    assert [frame.number for frame in client.goaways] == [0x7FFFFFFF, 1, 1]
    assert {frame.code for frame in client.goaways} == {frames.NO_ERROR}
    mesh.assert_idle()


@pytest.mark.parametrize("requests_ended", [True, False])
def test_drain_lets_calls_finish(requests_ended):
    mesh = Mesh()
    client, other = mesh.client(), mesh.client()
    first = client.call(body=b"x", end=requests_ended)
    second = client.call(body=b"y", end=requests_ended)
    third = other.call(body=b"z", end=requests_ended)
    mesh.run()
    mesh.proxy.drain(mesh.now)
    mesh.run()
    assert not client.closed
    server = mesh.server()
    server.answer(1, b"1")
    mesh.run()
    assert (first.data, first.status) == (b"1", 0)
    assert not client.closed
    server.answer(3, b"2")
    mesh.run()
    assert (second.data, second.status) == (b"2", 0)
    assert client.closed
    assert not other.closed
    server.answer(5, b"3")
    mesh.run()
    assert (third.data, third.status) == (b"3", 0)
    assert other.closed
    assert mesh.proxy.downstreams == {}
    mesh.assert_idle()


def test_a_call_that_was_on_its_way_when_the_drain_began_is_served():
    mesh = Mesh()
    client = mesh.client()
    mesh.run()
    call = client.call(body=b"x")
    mesh.proxy.drain(mesh.now)
    mesh.run()
    mesh.server().answer(1, b"served")
    mesh.run()
    assert (call.data, call.status) == (b"served", 0)
    assert client.closed
    mesh.assert_idle()


def test_a_client_that_connects_during_the_drain():
    mesh = Mesh()
    mesh.proxy.drain(mesh.now)
    client = mesh.client()
    call = client.call(body=b"x")
    mesh.run()
    assert client.goaways, "it is told as well"
    mesh.server().answer(1)
    mesh.run()
    assert call.status == 0
    assert client.closed
    mesh.assert_idle()


def test_drain_with_a_reader_that_is_slow():
    mesh = Mesh()
    client = mesh.client()
    client.reading = False
    call = client.call((b"grpc-timeout", b"9S"), body=b"x")
    mesh.run()
    mesh.server().answer(1, bytes(100_000))
    mesh.run()
    mesh.proxy.drain(mesh.now)
    mesh.run()
    assert not client.closed
    client.read_on()
    mesh.run()
    assert len(call.data) == 100_000
    assert call.status == 0
    assert client.closed
    mesh.assert_idle()


def test_drain_and_a_deadline():
    mesh = Mesh()
    client = mesh.client()
    call = client.call((b"grpc-timeout", b"1S"), body=b"x")
    mesh.run()
    mesh.proxy.drain(mesh.now)
    mesh.run()
    mesh.advance(1.5)
    assert call.status == DEADLINE_EXCEEDED
    assert client.closed
    mesh.assert_idle()


def test_drain_does_not_wait_for_clients_that_never_answer():
    mesh = Mesh()
    client, busy = Raw(), Raw()
    for raw in (client, busy):
        mesh.attach(raw)
        raw.to_say += frames.PREFACE + frames.settings()
    busy.to_say += frames.headers(1, CALL)
    mesh.run()
    mesh.proxy.drain(mesh.now)
    mesh.run()
    mesh.advance(1.9)
    assert len(mesh.proxy.downstreams) == 2
    mesh.advance(0.2)
    assert len(mesh.proxy.downstreams) == 1
    mesh.server().answer(1, b"late")
    mesh.run()
    assert mesh.proxy.downstreams == {}
    mesh.assert_idle()
