"""Calls through the gateway in memory: the four shapes, both half-closes, one-frame answers, cancels."""

import pytest
from helpers import frames
from helpers.mesh import Client, Mesh, Seen, Server

from gateway.errors import CANCELLED, FROM_DOWNSTREAM, FROM_UPSTREAM


def kinds(side, stream_id: int) -> list[int]:
    return [frame.kind for frame in side.frames if frame.stream_id == stream_id]


def begun(**options) -> tuple[Mesh, Client, Seen, Server]:
    """A call with an open body that has reached the server."""
    mesh = Mesh()
    client = mesh.client()
    seen = client.call(body=b"", end=False, **options)
    mesh.run()
    return mesh, client, seen, mesh.server()


def test_unary():
    mesh = Mesh()
    client = mesh.client()
    call = client.call((b"k-bin", b"AAE"), (b"k-bin", b"AgM"), (b"user-agent", b"t/1"), body=b"question")
    mesh.run()
    server = mesh.server()
    request = server.seen[1]
    assert request.headers == [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/test.Echo/Call"),
        (b":authority", b"mesh.test"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"k-bin", b"AAE"),
        (b"k-bin", b"AgM"),
        (b"user-agent", b"t/1"),
    ]
    assert request.data == b"question"
    assert request.ended
    server.respond(1, (b"early", b"1"))
    mesh.run()
    assert call.headers == [(b":status", b"200"), (b"content-type", b"application/grpc"), (b"early", b"1")]
    server.data(1, b"answer")
    details = [
        (b"grpc-message", b"%E2%98%BA ok"),
        (b"grpc-status-details-bin", b"CAU"),
        (b"t-bin", b"AA"),
        (b"t-bin", b"AQ"),
    ]
    server.finish(1, 5, *details)
    mesh.run()
    assert call.data == b"answer"
    assert call.trailers == [(b"grpc-status", b"5"), *details]
    assert call.ended
    assert call.reset is None
    outcome = mesh.outcome
    assert (outcome.code, outcome.source, outcome.message) == (5, FROM_UPSTREAM, b"%E2%98%BA ok")
    assert (outcome.request_bytes, outcome.response_bytes, outcome.attempts) == (8, 6, 1)
    assert (outcome.service, outcome.endpoint, outcome.peer_host) == ("echo", mesh.endpoints[0], "192.0.2.7")
    mesh.assert_idle()


def test_client_streaming():
    mesh, client, call, server = begun()
    for number in range(20):
        client.data(1, b"%02d" % number)
        mesh.run()
    assert server.seen[1].data == b"".join(b"%02d" % number for number in range(20))
    assert not server.seen[1].ended
    client.end(1)
    mesh.run()
    assert server.seen[1].ended
    server.answer(1, b"sum")
    mesh.run()
    assert (call.data, call.status) == (b"sum", 0)
    mesh.assert_idle()


def test_server_streaming():
    mesh = Mesh()
    client = mesh.client()
    call = client.call(body=b"go")
    mesh.run()
    server = mesh.server()
    server.respond(1)
    for number in range(20):
        server.data(1, b"%02d" % number)
        mesh.run()
        assert len(call.data) == 2 * (number + 1), "each message passes at once"
    server.finish(1)
    mesh.run()
    assert call.status == 0
    mesh.assert_idle()


def test_bidi_streaming():
    mesh, client, call, server = begun()
    server.respond(1)
    for number in range(10):
        client.data(1, b"q%d" % number)
        mesh.run()
        assert server.seen[1].data.endswith(b"q%d" % number)
        server.data(1, b"a%d" % number)
        mesh.run()
        assert call.data.endswith(b"a%d" % number)
    client.end(1)
    mesh.run()
    assert server.seen[1].ended
    server.data(1, b"last words after the client's end")
    server.finish(1)
    mesh.run()
    assert call.data.endswith(b"last words after the client's end")
    assert call.status == 0
    mesh.assert_idle()


def test_a_call_without_any_message():
    mesh = Mesh()
    call = mesh.client().call()
    mesh.run()
    server = mesh.server()
    assert server.seen[1].ended
    assert frames.DATA not in kinds(server, 1)
    server.respond(1)
    server.finish(1)
    mesh.run()
    assert (call.data, call.status) == (b"", 0)
    mesh.assert_idle()


def test_trailers_only_stays_one_frame():
    mesh = Mesh()
    client = mesh.client()
    call = client.call(body=b"x")
    mesh.run()
    mesh.server().only_trailers(1, 7, (b"grpc-message", b"no"), (b"retry-pushback", b"1"))
    mesh.run()
    assert kinds(client, 1) == [frames.HEADERS]
    assert call.ended
    assert call.headers == [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"7"),
        (b"grpc-message", b"no"),
        (b"retry-pushback", b"1"),
    ]
    assert call.trailers is None
    assert mesh.outcome.code == 7
    mesh.assert_idle()


@pytest.mark.parametrize("one_frame", [True, False])
def test_an_early_end_by_the_server_is_trailers_and_then_no_error(one_frame):
    """The answer first, whole; only then is the rest of the request called off (RFC 9113 section 8.1)."""
    mesh, client, call, server = begun()
    client.data(1, b"part of it")
    mesh.run()
    if one_frame:
        server.only_trailers(1, 8)
    else:
        server.answer(1, b"enough", 8)
    mesh.run()
    assert call.status == 8
    assert call.reset == frames.NO_ERROR
    assert kinds(client, 1)[-1] == frames.RST_STREAM
    assert call.ended, "END_STREAM came before the reset"
    assert server.seen[1].reset == frames.NO_ERROR, "and the server need not wait for more"
    mesh.assert_idle()


def test_trailers_outrank_a_reset_that_follows_in_the_same_bytes():
    """A megabyte, trailers and RST_STREAM(NO_ERROR) from a server; a client with a small window (security row 45)."""
    mesh = Mesh()
    client = mesh.client()
    call = client.call(body=b"", end=False)
    mesh.run()
    client.reading = False
    server = mesh.server()
    body = bytes(range(256)) * 500
    server.respond(1)
    server.data(1, body)
    mesh.run()
    assert server.queued(1) == 0, "window and queue hold it all"
    server.finish(1)
    server.push()
    server.reset(1, frames.NO_ERROR)
    mesh.run()
    assert len(call.data) == 65_535
    assert not call.ended
    client.read_on()
    mesh.run()
    assert call.data == body
    assert call.status == 0
    mesh.assert_idle()


def test_both_directions_end_on_their_own():
    mesh, client, call, server = begun()
    server.respond(1)
    server.data(1, b"a")
    client.data(1, b"q", end=True)
    mesh.run()
    assert server.seen[1].ended
    assert not call.ended
    server.data(1, b"b")
    mesh.run()
    assert call.data == b"ab"
    server.finish(1)
    mesh.run()
    assert call.status == 0
    mesh.assert_idle()


@pytest.mark.parametrize("phase", ["parked", "before headers", "after headers", "mid-body", "after half-close"])
def test_cancel_by_the_client_reaches_the_server(phase):
    mesh = Mesh()
    if phase == "parked":
        mesh.dialer.hang.add("a:1")
    client = mesh.client()
    call = client.call(body=b"some", end=phase == "after half-close")
    mesh.run()
    if phase != "parked":
        server = mesh.server()
        if phase in ("after headers", "mid-body"):
            server.respond(1)
        if phase == "mid-body":
            server.data(1, bytes(300_000))
            client.reading = False
        mesh.run()
    client.reset(1, frames.CANCEL)
    mesh.run()
    if phase != "parked":
        assert server.seen[1].reset == frames.CANCEL
    assert call.status is None
    outcome = mesh.outcome
    assert (outcome.code, outcome.source) == (CANCELLED, FROM_DOWNSTREAM)
    assert "CANCEL" in outcome.reason
    if phase == "parked":
        assert mesh.proxy.counters()["waiting_for_a_link"] == 0
        mesh.dialer.hang.clear()
        mesh.run()
        assert mesh.server().seen == {}
    mesh.assert_idle()


def test_a_client_that_vanishes_cancels_all_its_calls_and_no_others():
    mesh = Mesh()
    first, second = mesh.client(), mesh.client()
    for _time in range(80):
        first.call(body=b"x", end=False)
    other = second.call(body=b"y")
    mesh.run()
    server = mesh.server()
    assert len(mesh.servers) == 1, "calls of all clients share a connection"
    ours = [stream_id for stream_id, seen in server.seen.items() if seen.data == b"y"]
    for stream_id in server.seen:  # answers that cross the resets on their way
        if stream_id not in ours:
            server.answer(stream_id, b"too late")
    mesh.cut(first)
    for stream_id, seen in server.seen.items():
        assert seen.reset == (None if stream_id in ours else frames.CANCEL)
    assert not server.closed
    server.answer(ours[0], b"fine")
    mesh.run()
    assert (other.data, other.status) == (b"fine", 0)
    assert [outcome.source for outcome in mesh.ledger.outcomes[:80]] == [FROM_DOWNSTREAM] * 80
    mesh.assert_idle()


def test_a_client_that_breaks_http2_on_a_stream():
    mesh, client, call, server = begun()
    client.inject(frames.window_update(1, 0))
    mesh.run()
    assert call.reset == frames.PROTOCOL_ERROR
    assert server.seen[1].reset == frames.CANCEL
    assert "broke HTTP/2" in mesh.outcome.reason
    mesh.assert_idle()


def test_request_trailers_pass():
    mesh, client, call, server = begun()
    client.data(1, b"x")
    client.headers(1, [(b"checksum", b"1")], end=True)
    mesh.run()
    assert server.seen[1].trailers == [(b"checksum", b"1")]
    server.answer(1)
    mesh.run()
    assert call.status == 0
    mesh.assert_idle()


def test_metadata_larger_than_a_frame_both_ways():
    mesh = Mesh()
    client = mesh.client()
    big = [(b"big-%d" % number, b"v" * 7000) for number in range(8)]
    call = client.call(*big, body=b"x")
    mesh.run()
    server = mesh.server()
    assert [field for field in server.seen[1].headers or [] if field[0].startswith(b"big")] == big
    server.respond(1, *big)
    server.finish(1, 0, *big)
    mesh.run()
    assert [field for field in call.headers or [] if field[0].startswith(b"big")] == big
    assert (call.trailers or [])[1:] == big
    assert call.status == 0
    mesh.assert_idle()


def test_hundred_calls_at_once_on_one_connection():
    mesh = Mesh()
    client = mesh.client()
    calls = [client.call(body=b"%d" % number) for number in range(100)]
    mesh.run()
    server = mesh.server()
    for stream_id, seen in reversed(server.seen.items()):
        server.answer(stream_id, bytes(seen.data) * 2)
    mesh.run()
    assert [bytes(call.data) for call in calls] == [b"%d%d" % (number, number) for number in range(100)]
    assert len(mesh.servers) == 1
    mesh.assert_idle()
