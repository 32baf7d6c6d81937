"""Credit passes end to end: whoever does not read stops whoever sends, and nobody else; nothing piles up between."""

import pytest
from helpers import frames
from helpers.mesh import Mesh

from gateway.http2.settings import STREAM_WINDOW

BIG = 4_000_000
PATTERN = bytes(range(251)) * (BIG // 251)


def between(mesh: Mesh) -> int:
    """Bytes that the gateway keeps in its queues."""
    total = 0
    for wire in mesh.wires:
        assert wire.connection is not None
        total += sum(int(stream.queued_bytes) for stream in wire.connection.streams.values())
    return total


def test_a_client_that_does_not_read_stops_the_server():
    mesh = Mesh()
    client = mesh.client()
    call = client.call(body=b"x")
    mesh.run()
    client.reading = False
    server = mesh.server()
    server.respond(1)
    server.data(1, PATTERN)
    mesh.run()
    assert len(call.data) == 65_535
    assert between(mesh) <= STREAM_WINDOW
    assert server.sent[1] <= 65_535 + STREAM_WINDOW
    assert server.credits.get(1, 0) <= 65_535, "the server is credited for what the client took"
    client.read_on()
    mesh.run()
    server.finish(1)
    mesh.run()
    assert call.data == PATTERN
    assert call.status == 0
    mesh.assert_idle()


def test_a_server_that_does_not_read_stops_the_client():
    mesh = Mesh()
    mesh.on_server = lambda server: setattr(server, "reading", False)
    client = mesh.client()
    call = client.call(body=PATTERN)
    mesh.run()
    server = mesh.server()
    assert len(server.seen[1].data) == 65_535
    assert between(mesh) <= STREAM_WINDOW
    assert client.sent[1] <= 65_535 + STREAM_WINDOW
    server.read_on()
    mesh.run()
    assert server.seen[1].data == PATTERN
    assert server.seen[1].ended
    server.answer(1)
    mesh.run()
    assert call.status == 0
    mesh.assert_idle()


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_socket_that_takes_nothing_is_like_a_reader_that_does_not_read(direction):
    mesh = Mesh()
    client = mesh.client({0x4: 10_000_000})
    client.h2.increment_flow_control_window(10_000_000)
    mesh.server_values = {0x4: 10_000_000}
    mesh.on_server = lambda server: server.h2.increment_flow_control_window(10_000_000)
    call = client.call(body=b"", end=False)
    mesh.run()
    server = mesh.server()
    server.respond(1)
    mesh.run()
    sender, receiver = (client, server) if direction == "up" else (server, client)
    wire = mesh.wire_of(receiver)
    wire.block()
    sender.data(1, PATTERN)
    mesh.run()
    assert len(wire.to_side) < 1000, "no DATA for a socket that is full"
    assert between(mesh) <= STREAM_WINDOW
    assert sender.sent[1] <= STREAM_WINDOW
    wire.unblock()
    mesh.run()
    assert receiver.seen[1].data == PATTERN
    client.end(1)
    server.finish(1)
    mesh.run()
    assert call.status == 0
    mesh.assert_idle()


def test_one_reader_that_stalls_delays_no_other_call():
    mesh = Mesh()
    client = mesh.client()
    client.reading = True
    slow = client.call(body=b"x")
    mesh.run()
    server = mesh.server()
    server.respond(1)
    client.h2.increment_flow_control_window(1_000_000)  # the connection's; the stream's stays as it is
    client.reading = False
    server.data(1, PATTERN)
    mesh.run()
    client._unread, held = [], client._unread
    client.reading = True
    for number in range(30):
        call = client.call(body=bytes(20_000))
        mesh.run()
        server.answer(3 + 2 * number, bytes(20_000))
        mesh.run()
        assert call.status == 0
        assert len(call.data) == 20_000
    client._unread = held
    client.read_on()
    server.finish(1)
    mesh.run()
    assert slow.data == PATTERN
    mesh.assert_idle()


def test_tiny_windows_deliver_everything():
    mesh = Mesh()
    mesh.server_values = {0x4: 1}
    client = mesh.client({0x4: 3})
    body = PATTERN[:2000]
    call = client.call(body=body)
    mesh.run()
    server = mesh.server()
    assert server.seen[1].data == body
    server.answer(1, body[::-1])
    mesh.run()
    assert call.data == body[::-1]
    assert call.status == 0
    mesh.assert_idle()


def test_a_window_of_nothing_that_opens_later():
    mesh = Mesh()
    mesh.server_values = {0x4: 0}
    client = mesh.client({0x4: 0})
    call = client.call(body=b"question")
    mesh.run()
    server = mesh.server()
    assert server.seen[1].data == b""
    server.h2.update_settings({0x4: 100})
    mesh.run()
    assert server.seen[1].data == b"question"
    server.answer(1, b"answer")
    mesh.run()
    assert call.headers is not None
    assert not call.ended
    client.h2.update_settings({0x4: 100})
    mesh.run()
    assert (call.data, call.status) == (b"answer", 0)
    mesh.assert_idle()


def test_while_parked_a_client_may_fill_its_window_and_no_more():
    mesh = Mesh()
    mesh.dialer.hang.add("a:1")
    client = mesh.client()
    call = client.call(body=PATTERN)
    mesh.run()
    assert client.sent[1] == STREAM_WINDOW
    assert client.credits.get(1, 0) == 0
    mesh.dialer.hang.clear()
    mesh.run()
    assert mesh.server().seen[1].data == PATTERN
    mesh.server().answer(1)
    mesh.run()
    assert call.status == 0
    mesh.assert_idle()


def test_a_parked_request_in_tiny_frames_is_held_in_large_pieces():
    mesh = Mesh()
    mesh.dialer.hang.add("a:1")
    client = mesh.client()
    call = client.call(body=b"", end=False)
    mesh.run()
    body = PATTERN[:20_000]
    for number in range(len(body)):
        client.inject(frames.data(1, body[number : number + 1]))
    mesh.run()
    connection = mesh.wire_of(client).connection
    assert connection is not None
    assert len(connection.streams[1].handler._held) < 50
    client.inject(frames.data(1, b"", end=True))
    mesh.dialer.hang.clear()
    mesh.run()
    assert mesh.server().seen[1].data == body
    assert mesh.server().seen[1].ended
    mesh.server().answer(1)
    mesh.run()
    assert call.header(b":status") == b"200"
    mesh.assert_idle()


def test_credit_is_never_more_than_what_came():
    mesh = Mesh()
    client = mesh.client()
    client.call(body=b"", end=False)
    mesh.run()
    server = mesh.server()
    server.respond(1)
    sent = 0
    for size in (1, 65_535, 65_536, 100_000, 16_384, 3):
        client.data(1, bytes(size))
        server.data(1, bytes(size))
        mesh.run()
        sent += size
        for side in (client, server):
            assert side.sent[1] == sent
            assert sent - STREAM_WINDOW // 2 < side.credits.get(1, 0) <= sent
    client.end(1)
    server.finish(1)
    mesh.run()
    mesh.assert_idle()


def test_an_early_answer_lets_the_rest_of_an_upload_go():
    """The rest of it is on its way and counts against nothing that others need."""
    mesh = Mesh()
    client = mesh.client()
    for number in range(40):
        call = client.call(body=bytes(120_000), end=False)
        mesh.run()
        mesh.server().only_trailers(1 + 2 * number, 8)
        client.data(client.last, bytes(5000))  # crosses the end
        mesh.run()
        assert call.status == 8
        assert call.reset == frames.NO_ERROR
    mesh.assert_idle()


def test_data_is_passed_on_as_it_comes_in_one_write():
    mesh = Mesh()
    client = mesh.client()
    call = client.call(body=b"", end=False)
    mesh.run()
    server = mesh.server()
    server.respond(1)
    for number in range(50):
        server.data(1, b"%02d" % number)
    wire = mesh.wire_of(client)
    before = len(wire.to_side)
    mesh.wire_of(server).carry()
    assert len(wire.to_side) == before, "nothing is written before the turn ends"
    assert len(mesh.output.dirty) == len(set(mesh.output.dirty)), "a wire is on the list once"
    mesh.run()
    assert len(call.data) == 100
    server.finish(1)
    mesh.run()
    mesh.assert_idle()
