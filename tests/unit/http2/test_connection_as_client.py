"""The Connection as a client, with h2 as its server: fed whole, byte by byte, and with the start of what follows."""

import h2.events
import h2.settings
import pytest
from helpers import frames
from helpers.frames import REQUEST, RESPONSE, TRAILERS
from helpers.peers import FEEDS, Ours, exchange, h2_peer

from gateway.http2.settings import STREAM_WINDOW


@pytest.fixture(params=FEEDS)
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def connected(how: str = "whole", values: dict[int, int] | None = None):
    ours, peer = Ours(is_server=False), h2_peer(client=False, values=values)
    exchange(ours, peer, how)
    return ours, peer


def alone() -> Ours:
    """A client whose server is the test itself."""
    ours = Ours(is_server=False)
    ours.receive(frames.settings())
    ours.take()
    return ours


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def test_the_preface_and_our_settings():
    ours = Ours(is_server=False)
    data = ours.take()
    assert data.startswith(frames.PREFACE)
    settings, update = frames.parse(data)
    assert settings.kind == frames.SETTINGS
    assert settings.payload[-6:] == b"\x00\x02\x00\x00\x00\x00", "no server push"
    assert (update.kind, update.stream_id) == (frames.WINDOW_UPDATE, 0)


def test_request_and_response(how):
    ours, peer = connected(how)
    assert ours.events == [("settings",)]
    stream = ours.open(REQUEST)
    assert ours.send_data(stream, b"ping", end=True) == 4
    events = exchange(ours, peer, how)
    (request,) = of_kind(events, h2.events.RequestReceived)
    assert [tuple(field) for field in request.headers] == REQUEST
    assert of_kind(events, h2.events.DataReceived)[0].data == b"ping"
    assert of_kind(events, h2.events.StreamEnded)
    peer.send_headers(1, RESPONSE)
    peer.send_data(1, b"pong")
    peer.send_headers(1, TRAILERS, end_stream=True)
    exchange(ours, peer, how)
    assert ours.log.of(1) == [
        ("response", 200, [(b"content-type", b"application/grpc")], False),
        ("data", b"pong", False),
        ("trailers", TRAILERS),
        ("closed",),
    ]
    assert ours.connection.streams == {}


def test_a_response_of_one_frame_and_early_hints(how):
    ours, peer = connected(how)
    ours.open(REQUEST, end=True)
    exchange(ours, peer, how)
    peer.send_headers(1, [(b":status", b"103"), (b"link", b"x")])
    peer.send_headers(1, [(b":status", b"100")])
    peer.send_headers(1, [*RESPONSE, *TRAILERS], end_stream=True)
    exchange(ours, peer, how)
    assert ours.log.of(1) == [
        ("response", 200, [(b"content-type", b"application/grpc"), (b"grpc-status", b"0")], True),
        ("closed",),
    ]


def test_the_server_ends_first_and_the_request_goes_on(how):
    """Half-closes are independent: an early answer does not end what we send."""
    ours, peer = connected(how)
    stream = ours.open(REQUEST)
    exchange(ours, peer, how)
    peer.send_headers(1, [*RESPONSE, *TRAILERS], end_stream=True)
    exchange(ours, peer, how)
    assert stream.remote_closed
    assert 1 in ours.connection.streams
    assert ours.send_data(stream, b"more", end=True) == 4
    events = exchange(ours, peer, how)
    assert of_kind(events, h2.events.DataReceived)[0].data == b"more"
    assert ours.connection.streams == {}


def test_uploads_of_many_streams_end_with_all_their_bytes(how):
    ours, peer = connected(how)
    bodies = {}
    for number in range(5):
        stream = ours.open(REQUEST)
        bodies[int(stream.id)] = bytes([number]) * (100_000 + number)
        ours.send_data(stream, bodies[int(stream.id)], end=True)
    got: dict[int, bytes] = dict.fromkeys(bodies, b"")
    events = exchange(ours, peer, how)
    for event in of_kind(events, h2.events.DataReceived):
        got[event.stream_id] += event.data
    assert got == bodies
    assert sorted(event.stream_id for event in of_kind(events, h2.events.StreamEnded)) == sorted(bodies)


def test_a_large_download_passes_as_it_is_read(how):
    size = 300_000 if how != "bytes" else 150_000
    ours, peer = connected(how)
    ours.open(REQUEST, end=True)
    exchange(ours, peer, how)
    peer.send_headers(1, RESPONSE)
    body = bytes(range(250)) * (size // 250)
    sent = 0
    while sent < len(body):
        window = min(peer.local_flow_control_window(1), peer.max_outbound_frame_size)
        assert window > 0
        peer.send_data(1, body[sent : sent + window], pad_length=None)
        sent += window
        exchange(ours, peer, how)
    peer.send_headers(1, TRAILERS, end_stream=True)
    exchange(ours, peer, how)
    assert ours.log.body(1) == body


def test_a_response_that_is_not_read_is_bounded():
    ours, peer = connected()
    ours.log.credits = False
    ours.open(REQUEST, end=True)
    exchange(ours, peer)
    peer.send_headers(1, RESPONSE)
    sent = 0
    while (window := min(peer.local_flow_control_window(1), 16_384)) > 0:
        peer.send_data(1, bytes(window))
        sent += window
        exchange(ours, peer)
    assert sent == STREAM_WINDOW


def test_the_servers_limit_of_streams(how):
    ours, peer = connected(how, values={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 2})
    assert ours.connection.can_open()
    ours.open(REQUEST)
    last = ours.open(REQUEST)
    assert not ours.connection.can_open()
    ours.reset(last, frames.CANCEL)
    assert ours.connection.can_open()
    peer.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    exchange(ours, peer, how)
    assert not ours.connection.can_open()
    assert ours.events.count(("settings",)) == 2


def test_stream_ids_end(how):
    ours = alone()
    while int(ours.connection._next_id) < 5:
        ours.open(REQUEST, end=True)
    assert ours.connection.can_open()
    ours.connection._next_id = 0x7FFFFFFF
    assert ours.connection.can_open()
    stream = ours.open(REQUEST, end=True)
    assert int(stream.id) == 0x7FFFFFFF
    assert not ours.connection.can_open()


def test_reset_by_the_server_after_a_complete_answer(how):
    """Go servers do this when they need no more of the request: the answer must arrive whole (security row 45)."""
    ours, peer = connected(how)
    stream = ours.open(REQUEST)
    ours.send_data(stream, bytes(200_000))
    exchange(ours, peer, how, credit=False)
    peer.send_headers(1, RESPONSE)
    peer.send_data(1, b"answer")
    peer.send_headers(1, TRAILERS, end_stream=True)
    peer.reset_stream(1, frames.NO_ERROR)
    exchange(ours, peer, how)
    kinds = [event[0] for event in ours.log.of(1)]
    assert kinds == ["response", "data", "trailers", "closed", "reset"]
    assert ours.connection.streams == {}
    assert not ours.connection.has_ready_backlog()


@pytest.mark.parametrize("code", [frames.NO_ERROR, frames.REFUSED_STREAM, frames.CANCEL, 0xFFFFFFFF])
def test_reset_by_the_server(how, code):
    ours, _peer = connected(how)
    ours.open(REQUEST)
    ours.receive(frames.rst_stream(1, code))
    assert ours.log.of(1) == [("closed",), ("reset", code)]
    assert ours.connection.can_open()


def test_a_graceful_goaway(how):
    ours = alone()
    for _time in range(3):
        ours.open(REQUEST)
    ours.receive(frames.goaway(0x7FFFFFFF))
    assert not ours.connection.can_open()
    assert ours.log.of(1) == []
    ours.receive(frames.goaway(3, frames.NO_ERROR, b"max_age"))
    assert ours.log.of(5) == [("closed",), ("unprocessed",)]
    assert ("goaway", frames.NO_ERROR, "max_age") in ours.events
    for stream_id in (1, 3):
        ours.receive(frames.headers(stream_id, RESPONSE) + frames.data(stream_id, b"x"))
        ours.receive(frames.headers(stream_id, TRAILERS, end=True))
        assert [event[0] for event in ours.log.of(stream_id)] == ["response", "data", "trailers"]
        ours.send_data(ours.stream(stream_id), b"", end=True)
        assert ours.log.of(stream_id)[-1] == ("closed",)
    assert ours.connection.streams == {}
    assert ours.connection.failure == ""


def test_late_frames_of_streams_that_we_cancelled():
    """A client that leaves cancels all its calls at once: the shared upstream connection must survive it."""
    ours = alone()
    count = 3000
    for _time in range(count):
        ours.open(REQUEST, end=True)
    for stream_id in range(1, 2 * count, 2):
        ours.reset(ours.stream(stream_id), frames.CANCEL)
    ours.take()
    for stream_id in range(1, 2 * count, 2):
        ours.receive(frames.headers(stream_id, RESPONSE) + frames.data(stream_id, b"late"))
        ours.receive(frames.headers(stream_id, TRAILERS, end=True))
    assert ours.connection.failure == ""
    assert [frame for frame in ours.frames() if frame.kind != frames.WINDOW_UPDATE] == []
    ours.open(REQUEST, end=True)
    ours.receive(frames.headers(2 * count + 1, [*RESPONSE, *TRAILERS], end=True))
    assert ours.log.of(2 * count + 1)[0][0] == "response"


def test_the_table_stays_in_step_through_late_blocks(how):
    """A header block of a stream that we reset still moves the decoder's table (security row 17)."""
    ours, peer = connected(how)
    ours.open(REQUEST)
    ours.open(REQUEST)
    exchange(ours, peer, how)
    ours.reset(ours.stream(1), frames.CANCEL)
    peer.send_headers(1, [*RESPONSE, (b"x-new", b"value one"), (b"x-other", b"value two")])
    peer.send_headers(3, [*RESPONSE, (b"x-other", b"value two"), (b"x-new", b"value one")], end_stream=True)
    exchange(ours, peer, how)
    ((_kind, status, fields, _end), *_rest) = ours.log.of(3)
    assert status == 200
    assert fields[1:] == [(b"x-other", b"value two"), (b"x-new", b"value one")]


def test_a_pause_of_the_transport_holds_data_and_nothing_else():
    ours, _peer = connected()
    stream = ours.open(REQUEST)
    ours.connection.pause()
    assert ours.send_data(stream, b"waits") == 0
    ours.receive(frames.ping())
    assert frames.DATA not in {frame.kind for frame in frames.parse(ours.take())}
    assert not ours.connection.has_ready_backlog()
    ours.connection.resume(0.0)
    (data,) = ours.frames()
    assert data.payload == b"waits"
    assert ours.log.of(1) == [("sent", 5)]


def test_one_write_holds_a_bounded_amount_of_data():
    ours, peer = connected(values={0x4: 10_000_000})
    peer.increment_flow_control_window(10_000_000)
    exchange(ours, peer)
    stream = ours.open(REQUEST)
    ours.send_data(stream, bytes(5_000_000), end=True)
    writes = 0
    sizes = []
    while ours.output.dirty:
        ours.output.flush_all(0.0)
        sizes.append(len(ours.wire.written))
        peer.receive_data(bytes(ours.wire.written))
        ours.wire.written.clear()
        writes += 1
    assert max(sizes) < 300_000
    assert sum(sizes) > 5_000_000
    assert stream.local_closed


def test_the_first_frame_of_a_server_must_be_settings():
    for first in (frames.ping(), frames.goaway(0), frames.settings_ack(), b"HTTP/1.1 400 Bad Request\r\n\r\n"):
        ours = Ours(is_server=False)
        ours.take()
        ours.receive(first)
        assert ours.connection.closed
        assert ours.frames()[-1].kind == frames.GOAWAY


def test_lost_streams_may_not_come_back_on_the_same_connection():
    ours = alone()
    ours.open(REQUEST)
    ours.connection.lost("gone", 0.0)
    assert not ours.connection.can_open()
    assert ours.log.of(1) == [("closed",), ("lost",)]
