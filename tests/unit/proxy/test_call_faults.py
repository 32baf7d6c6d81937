"""Servers that break: whatever they do, the client gets a status with a reason, and never a raw reset."""

import pytest
from helpers import frames
from helpers.mesh import Mesh, Raw, Turns

from gateway.errors import FROM_GATEWAY, FROM_UPSTREAM, INTERNAL, RESOURCE_EXHAUSTED, UNAVAILABLE, UNKNOWN

GRPC = (b"content-type", b"application/grpc")
OK_HEAD = [(b":status", b"200"), GRPC]


def reached(mesh: Mesh | None = None, body: bytes = b"x", end: bool = True):
    mesh = mesh or Mesh()
    client = mesh.client()
    call = client.call(body=body, end=end)
    mesh.run()
    return mesh, client, call, mesh.server()


def assert_told(mesh, call, status, *words, reset=None) -> None:
    assert call.status == status
    for word in words:
        assert word in call.message
    assert call.reset == reset
    assert mesh.outcome.code == status
    mesh.assert_idle()


@pytest.mark.parametrize("phase", ["before headers", "after headers", "mid-body", "mid-upload", "after half-close"])
@pytest.mark.parametrize("how", ["cut", "goaway with an error"])
def test_the_death_of_a_server(phase, how):
    upload = phase in ("mid-upload", "mid-body")
    mesh, _client, call, server = reached(body=b"x" * 100_000, end=not upload)
    if phase in ("after headers", "mid-body"):
        server.respond(1)
    if phase == "mid-body":
        server.data(1, b"half")
    mesh.run()
    if how == "cut":
        mesh.cut(server)
    else:
        server.inject(frames.goaway(1, frames.INTERNAL_ERROR, b"dying"))
        mesh.run()
        assert call.status is None, "streams up to the GOAWAY's last one may still be answered"
        mesh.cut(server, "end of file")
    assert call.data == (b"half" if phase == "mid-body" else b"")
    assert_told(mesh, call, UNAVAILABLE, "connection to a:1 lost", reset=frames.NO_ERROR if upload else None)
    assert mesh.outcome.source == FROM_GATEWAY


def test_the_death_of_a_server_whose_last_bytes_wait_for_the_client():
    mesh, client, call, server = reached()
    client.reading = False
    server.respond(1)
    server.data(1, bytes(range(256)) * 300)
    mesh.run()
    mesh.cut(server)
    assert not call.ended
    client.read_on()
    mesh.run()
    assert call.data == bytes(range(256)) * 300, "what arrived is delivered"
    assert_told(mesh, call, UNAVAILABLE, "lost")


def test_a_death_takes_only_its_own_calls():
    mesh = Mesh(endpoints=2, picker=Turns)
    client = mesh.client()
    calls = [client.call(body=b"%d" % number) for number in range(10)]
    mesh.run()
    mesh.cut(mesh.server("a:1"))
    other = mesh.server("b:1")
    for stream_id in list(other.seen):
        other.answer(stream_id)
    mesh.run()
    assert sorted(call.status for call in calls) == [0] * 5 + [UNAVAILABLE] * 5
    assert {call.reset for call in calls} == {None}
    mesh.assert_idle()


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (frames.window_update(1, 0), "PROTOCOL_ERROR"),
        (frames.data(1, b"early"), "DATA before HEADERS"),
        (frames.headers(1, [(b":status", b"200"), (b"Bad", b"x")]), "forbidden"),
        (frames.headers(1, [GRPC], end=True), ":status is missing"),
        (frames.headers(1, [(b":status", b"103")], end=True), "interim"),
        (frames.headers(1, OK_HEAD) + frames.headers(1, [(b"grpc-status", b"0")]), "END_STREAM"),
        (frames.headers(1, OK_HEAD) + frames.headers(1, [(b"a", b"b\nc")], end=True), "forbidden"),
        (frames.headers(1, [*OK_HEAD, (b"content-length", b"3")]) + frames.data(1, b"abcd"), "content-length"),
        (frames.headers(1, OK_HEAD) + frames.data(1, bytes(16_384)) * 9, "window"),
    ],
)
def test_a_server_that_breaks_http2_on_a_stream(sent, words):
    """The stream is reset, the call told, and the connection's other calls go on."""
    mesh, client, call, server = reached()
    other = client.call(body=b"other")
    mesh.run()
    client.reading = False
    server.inject(sent)
    mesh.run()
    client.read_on()
    mesh.run()
    assert call.status == INTERNAL
    assert "a:1 broke HTTP/2" in call.message or words == "PROTOCOL_ERROR"
    assert server.seen[1].reset is not None
    server.answer(3, b"fine")
    mesh.run()
    assert (other.data, other.status) == (b"fine", 0)
    mesh.assert_idle()


@pytest.mark.parametrize(
    "sent",
    [
        frames.ping(b"short"),
        frames.data(0, b"x"),
        frames.headers(99, OK_HEAD),
        frames.frame(frames.PUSH_PROMISE, 4, 1, b"\0\0\0\x02"),
        frames.headers(1, b"\x80"),
        frames.settings((4, 1 << 31)),
        frames.window_update(0, 0x7FFFFFFF),
        b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
    ],
)
def test_a_server_that_breaks_http2_on_its_connection(sent):
    mesh, client, call, server = reached()
    second = client.call(body=b"y", end=False)
    mesh.run()
    server.inject(sent)
    mesh.run()
    assert server.goaways
    assert server.closed
    assert second.status == UNAVAILABLE
    assert second.reset == frames.NO_ERROR
    assert_told(mesh, call, UNAVAILABLE, "connection to a:1 lost", "_ERROR")
    again = client.call(body=b"z")
    mesh.run()
    mesh.server().answer(1, b"new connection")
    mesh.run()
    assert again.data == b"new connection"


@pytest.mark.parametrize(
    "first", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x16" + bytes(20), frames.ping()]
)
def test_a_server_that_does_not_speak_http2(first):
    mesh = Mesh()
    mesh.dialer.silent.add("a:1")
    call = mesh.client().call(body=b"x")
    mesh.run()
    (wire,) = [wire for wire in mesh.wires if isinstance(wire.side, Raw)]
    wire.side.to_say += first
    mesh.run()
    assert_told(mesh, call, UNAVAILABLE, "a:1")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, 13),
        (401, 16),
        (403, 7),
        (404, 12),
        (429, 14),
        (431, 13),
        (500, 2),
        (502, 14),
        (503, 14),
        (504, 14),
        (302, 2),
        (204, 2),
    ],
)
@pytest.mark.parametrize("end", [True, False])
def test_an_http_error_becomes_a_status(status, code, end):
    mesh, _client, call, server = reached()
    server.headers(1, [(b":status", b"%d" % status), (b"content-type", b"text/html")], end=end)
    if not end:
        server.data(1, b"<html>" * 100, end=True)
    mesh.run()
    assert call.header(b":status") == b"200"
    assert call.header(b"content-type") == b"application/grpc"
    assert call.data == b""
    assert_told(mesh, call, code, f"a:1 answered HTTP status {status}")
    assert mesh.outcome.source == FROM_UPSTREAM


def test_an_http_error_that_says_its_grpc_status():
    mesh, _client, call, server = reached()
    server.headers(1, [(b":status", b"503"), GRPC, (b"grpc-status", b"9")], end=True)
    mesh.run()
    assert_told(mesh, call, 9)


def test_an_answer_that_is_not_grpc():
    mesh, _client, call, server = reached()
    server.headers(1, [(b":status", b"200"), (b"content-type", b"application/json")])
    server.data(1, b"{}", end=True)
    mesh.run()
    assert call.data == b""
    assert_told(mesh, call, UNKNOWN, "a:1 answered with content-type application/json")


def test_an_answer_without_a_content_type():
    mesh, _client, call, server = reached()
    server.headers(1, [(b":status", b"200")])
    mesh.run()
    assert_told(mesh, call, UNKNOWN, "content-type nothing")


@pytest.mark.parametrize("value", [None, b"", b"OK", b"-1", b"9999"])
def test_a_whole_answer_without_a_status(value):
    mesh, _client, call, server = reached()
    server.headers(1, [*OK_HEAD, *([] if value is None else [(b"grpc-status", value)])], end=True)
    mesh.run()
    assert_told(mesh, call, UNKNOWN, "without a grpc-status")


@pytest.mark.parametrize("value", [None, b"", b"OK", b"-1", b"9999"])
def test_trailers_without_a_status(value):
    mesh, _client, call, server = reached()
    server.respond(1)
    server.data(1, b"body")
    server.headers(1, [(b"x", b"kept"), *([] if value is None else [(b"grpc-status", value)])], end=True)
    mesh.run()
    assert call.trailers == [(b"x", b"kept"), (b"grpc-status", b"2")]
    assert call.data == b"body"
    assert_told(mesh, call, UNKNOWN)


@pytest.mark.parametrize("value", [b"17", b"99", b"999"])
def test_statuses_that_nobody_defined_pass(value):
    mesh, _client, call, server = reached()
    server.respond(1)
    server.headers(1, [(b"grpc-status", value)], end=True)
    mesh.run()
    assert call.trailers == [(b"grpc-status", value)]
    assert_told(mesh, call, int(value))


@pytest.mark.parametrize("body", [b"", b"data"])
def test_a_response_that_ends_without_trailers(body):
    mesh, _client, call, server = reached()
    server.respond(1)
    server.data(1, body, end=True)
    mesh.run()
    assert call.data == body
    assert_told(mesh, call, INTERNAL, "without sending trailers")


@pytest.mark.parametrize("where", ["head", "trailers"])
def test_metadata_of_a_server_above_the_limit(where):
    mesh, _client, call, server = reached()
    big = [(b"x-%d" % number, b"y" * 8000) for number in range(9)]
    server.respond(1, *(big if where == "head" else []))
    if where == "trailers":
        server.finish(1, 0, *big)
    mesh.run()
    assert_told(mesh, call, RESOURCE_EXHAUSTED, "65536 bytes")
    assert [frame.code for frame in server.frames if frame.kind == frames.RST_STREAM] == [frames.ENHANCE_YOUR_CALM]


def test_early_hints_of_a_server_are_not_passed_on():
    mesh, client, call, server = reached()
    server.headers(1, [(b":status", b"103"), (b"link", b"x")])
    server.answer(1, b"ok")
    mesh.run()
    assert [frame.kind for frame in client.frames if frame.stream_id == 1] == [
        frames.HEADERS,
        frames.DATA,
        frames.HEADERS,
    ]
    assert (call.data, call.status) == (b"ok", 0)
    mesh.assert_idle()


def test_the_gateway_can_be_stopped_at_once():
    mesh, client, call, server = reached(end=False)
    mesh.dialer.hang.add("a:1")
    mesh.proxy.abort("the gateway is stopping", mesh.now)
    mesh.run()
    assert client.closed
    assert server.closed
    assert client.goaways[-1].payload[8:] == b"the gateway is stopping"
    assert server.seen[1].reset == frames.CANCEL
    assert call.status is None
    assert mesh.proxy.counters()["downstream_connections"] == 0
    assert mesh.proxy.counters()["upstream_connections"] == 0
    mesh.assert_idle()


def test_the_gateway_can_be_stopped_while_it_dials():
    mesh = Mesh()
    mesh.dialer.hang.add("a:1")
    client = mesh.client()
    client.call(body=b"x")
    mesh.run()
    mesh.proxy.abort("stop", mesh.now)
    mesh.run()
    assert client.closed
    assert mesh.dialer.pending == []
    assert len(mesh.timers) == 0
    mesh.assert_idle()
