"""The Connection as a server, with h2 as its client: fed whole, byte by byte, and with the start of what follows."""

import h2.events
import pytest
from helpers import frames
from helpers.frames import REQUEST, RESPONSE, TRAILERS
from helpers.peers import FEEDS, Ours, exchange, h2_peer

from gateway.http2.settings import CONNECTION_WINDOW, MAX_STREAMS, STREAM_WINDOW


@pytest.fixture(params=FEEDS)
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def connected(how: str = "whole", values: dict[int, int] | None = None):
    ours, peer = Ours(is_server=True), h2_peer(client=True, values=values)
    exchange(ours, peer, how)
    return ours, peer


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def test_handshake_announces_our_limits(how):
    ours, peer = Ours(is_server=True), h2_peer(client=True)
    events = exchange(ours, peer, how)
    (settings,) = of_kind(events, h2.events.RemoteSettingsChanged)
    changed = {int(code): change.new_value for code, change in settings.changed_settings.items()}
    assert changed == {0x4: STREAM_WINDOW, 0x6: 65_536, 0x3: MAX_STREAMS}
    assert of_kind(events, h2.events.SettingsAcknowledged)
    assert peer.outbound_flow_control_window == CONNECTION_WINDOW
    assert ours.events == [("settings",)]


def test_a_server_is_silent_until_the_preface_is_complete():
    ours = Ours(is_server=True)
    ours.receive(frames.PREFACE[:-1])
    assert ours.take() == b""
    ours.receive(frames.PREFACE[-1:])
    assert [frame.kind for frame in ours.frames()] == [frames.SETTINGS, frames.WINDOW_UPDATE]


def test_request_response_and_trailers(how):
    ours, peer = connected(how)
    peer.send_headers(1, [*REQUEST, (b"k-bin", b"AAE"), (b"k-bin", b"AgM")])
    peer.send_data(1, b"hello ")
    peer.send_data(1, b"world", end_stream=True)
    exchange(ours, peer, how)
    assert ours.log.of(1) == [
        (
            "request",
            b"/test.Echo/Call",
            [
                (b"te", b"trailers"),
                (b"content-type", b"application/grpc"),
                (b"k-bin", b"AAE"),
                (b"k-bin", b"AgM"),
            ],
            False,
        ),
        ("data", b"hello ", False),
        ("data", b"world", True),
    ]
    assert ours.log.heads[1].authority == b"mesh.test"
    stream = ours.stream(1)
    ours.send_headers(stream, RESPONSE)
    assert ours.send_data(stream, b"bonjour") == 7
    ours.send_headers(stream, TRAILERS, end=True)
    events = exchange(ours, peer, how)
    (response,) = of_kind(events, h2.events.ResponseReceived)
    (data,) = of_kind(events, h2.events.DataReceived)
    (trailers,) = of_kind(events, h2.events.TrailersReceived)
    assert [tuple(field) for field in response.headers] == RESPONSE
    assert data.data == b"bonjour"
    assert [tuple(field) for field in trailers.headers] == TRAILERS
    assert of_kind(events, h2.events.StreamEnded)
    assert ours.log.of(1)[-1] == ("closed",)
    assert ours.connection.streams == {}


def test_request_without_a_body_and_a_response_of_one_frame(how):
    ours, peer = connected(how)
    peer.send_headers(1, REQUEST, end_stream=True)
    exchange(ours, peer, how)
    ours.send_headers(ours.stream(1), [*RESPONSE, *TRAILERS], end=True)
    (frame,) = ours.frames()
    assert frame.kind == frames.HEADERS
    assert frame.flags == frames.END_STREAM | frames.END_HEADERS
    assert ours.log.of(1)[0][0] == "request"
    assert ours.log.of(1)[0][-1] is True
    assert ours.connection.streams == {}


def test_request_trailers(how):
    ours, peer = connected(how)
    peer.send_headers(1, REQUEST)
    peer.send_data(1, b"x")
    peer.send_headers(1, [(b"checksum", b"7")], end_stream=True)
    exchange(ours, peer, how)
    assert ours.log.of(1)[1:] == [("data", b"x", False), ("trailers", [(b"checksum", b"7")])]


def test_many_streams_at_once(how):
    ours, peer = connected(how)
    ids = range(1, 101, 2)
    for stream_id in ids:
        peer.send_headers(stream_id, REQUEST)
    for stream_id in ids:
        peer.send_data(stream_id, b"%d" % stream_id, end_stream=True)
    exchange(ours, peer, how)
    for stream_id in ids:
        assert ours.log.body(stream_id) == b"%d" % stream_id
        ours.send_headers(ours.stream(stream_id), RESPONSE)
        ours.send_data(ours.stream(stream_id), b"%d" % -stream_id, end=True)
    events = exchange(ours, peer, how)
    answers = {event.stream_id: event.data for event in of_kind(events, h2.events.DataReceived)}
    assert answers == {stream_id: b"%d" % -stream_id for stream_id in ids}
    assert ours.connection.streams == {}


def test_long_header_blocks_both_ways(how):
    ours, peer = connected(how)
    long = [(b"x-long-%d" % number, bytes([97 + number]) * 9000) for number in range(6)]
    peer.send_headers(1, REQUEST + long, end_stream=True)
    assert [frame.kind for frame in frames.parse(peer._data_to_send)][:2] == [frames.HEADERS, frames.CONTINUATION]
    exchange(ours, peer, how)
    assert ours.log.of(1)[0][2][2:] == long
    ours.send_headers(ours.stream(1), RESPONSE + long, end=True)
    sent = ours.take()
    parsed = frames.parse(sent)
    assert [frame.kind for frame in parsed] == [frames.HEADERS] + [frames.CONTINUATION] * (len(parsed) - 1)
    assert len(parsed) > 3
    assert all(len(frame.payload) <= 16_384 for frame in parsed)
    (response,) = of_kind(peer.receive_data(sent), h2.events.ResponseReceived)
    assert [tuple(field) for field in response.headers] == RESPONSE + long


def test_a_block_in_many_continuations(how):
    """HEADERS with padding and priority, and the fields one a frame."""
    ours, _peer = connected(how)
    blocks = [frames.block([field]) for field in REQUEST]
    first = b"\x04" + b"\x80\x00\x00\x01\x10" + blocks[0] + b"pad!"
    request = frames.headers(1, first, whole=False, flags=frames.PADDED | frames.PRIORITY_FLAG)
    for piece in blocks[1:-1]:
        request += frames.continuation(1, piece, whole=False)
    request += frames.continuation(1, b"", whole=False) + frames.continuation(1, blocks[-1])
    for start in range(0, len(request), 7):
        ours.receive(request[start : start + 7])
    assert ours.log.of(1) == [("request", b"/test.Echo/Call", REQUEST[4:], False)]


def test_padding_is_dropped_and_credited(how):
    ours, peer = connected(how)
    peer.send_headers(1, REQUEST)
    for _time in range(600):  # twice the stream's window, almost all of it padding
        if peer.local_flow_control_window(1) < 500:
            exchange(ours, peer, how if how != "bytes" else "whole")
        peer.send_data(1, b"x", pad_length=255)
    peer.end_stream(1)
    exchange(ours, peer, how)
    assert ours.log.body(1) == b"x" * 600
    assert ours.connection.failure == ""


def test_all_padding_and_no_padding_at_all():
    ours, _peer = connected()
    ours.receive(frames.headers(1, REQUEST) + frames.data(1, b"", padding=9) + frames.data(1, b"a", padding=0))
    assert ours.log.of(1)[1:] == [("data", b"", False), ("data", b"a", False)]


def test_a_large_upload_passes_as_it_is_read(how):
    size = 64_000 if how == "bytes" else 3_000_000
    ours, peer = connected(how)
    peer.send_headers(1, REQUEST)
    body = bytes(range(256)) * (size // 256)
    sent = 0
    while sent < len(body):
        window = min(peer.local_flow_control_window(1), peer.max_outbound_frame_size)
        assert window > 0, "reading must open the window"
        peer.send_data(1, body[sent : sent + window])
        sent += window
        exchange(ours, peer, how)
    peer.end_stream(1)
    exchange(ours, peer, how)
    assert ours.log.body(1) == body


def test_what_is_not_read_is_bounded_by_the_streams_window_and_stalls_no_neighbour(how):
    ours, peer = connected()
    ours.log.credits = False
    for stream_id in (1, 3):
        peer.send_headers(stream_id, REQUEST)
        while (window := min(peer.local_flow_control_window(stream_id), 16_384)) > 0:
            peer.send_data(stream_id, bytes(window))
            exchange(ours, peer)
        assert len(ours.log.body(stream_id)) == STREAM_WINDOW
    assert peer.outbound_flow_control_window >= CONNECTION_WINDOW // 2, "the connection's window is given back at once"
    ours.log.credits = True
    peer.send_headers(5, REQUEST)
    peer.send_data(5, b"still here", end_stream=True)
    exchange(ours, peer, how)
    assert ours.log.body(5) == b"still here"


def test_credit_is_the_bytes_that_moved_on_and_no_more():
    ours, peer = connected()
    ours.log.credits = False
    peer.send_headers(1, REQUEST)
    for _time in range(8):
        peer.send_data(1, bytes(16_384))
    exchange(ours, peer)
    stream = ours.stream(1)
    ours.connection.credit(stream, STREAM_WINDOW // 2 - 1)
    assert ours.frames() == []
    ours.connection.credit(stream, 1)
    (update,) = ours.frames()
    assert (update.kind, update.stream_id, update.number) == (frames.WINDOW_UPDATE, 1, STREAM_WINDOW // 2)
    peer.receive_data(frames.window_update(1, STREAM_WINDOW // 2))
    assert peer.local_flow_control_window(1) == STREAM_WINDOW // 2


def test_no_credit_for_a_stream_that_has_ended():
    ours, peer = connected()
    ours.log.credits = False
    peer.send_headers(1, REQUEST)
    for _time in range(6):
        peer.send_data(1, bytes(16_384))
    peer.end_stream(1)
    exchange(ours, peer)
    ours.connection.credit(ours.stream(1), 6 * 16_384)
    assert ours.frames() == []


def test_a_large_response_waits_for_the_peers_windows(how):
    ours, peer = connected(how)
    peer.send_headers(1, REQUEST, end_stream=True)
    exchange(ours, peer, how)
    stream = ours.stream(1)
    body = bytes(range(256)) * 4000
    ours.send_headers(stream, RESPONSE)
    assert ours.send_data(stream, body) == 65_535
    ours.send_headers(stream, TRAILERS, end=True)
    assert not stream.local_closed
    assert stream.queued_bytes == len(body) - 65_535
    events = exchange(ours, peer, how)
    assert b"".join(event.data for event in of_kind(events, h2.events.DataReceived)) == body
    assert of_kind(events, h2.events.TrailersReceived)
    assert isinstance(events[-1], h2.events.StreamEnded)
    log = ours.log.of(1)
    assert sum(event[1] for event in log if event[0] == "sent") == len(body) - 65_535
    assert log[-2:] == [("local end",), ("closed",)]
    assert stream.queued_bytes == 0


def test_a_response_whose_last_data_frame_ends_it():
    ours, peer = connected()
    peer.send_headers(1, REQUEST, end_stream=True)
    exchange(ours, peer)
    stream = ours.stream(1)
    ours.send_headers(stream, RESPONSE)
    ours.send_data(stream, bytes(100_000))
    ours.send_data(stream, b"", end=True)
    ours.send_data(stream, b"too late")
    events = exchange(ours, peer)
    data = of_kind(events, h2.events.DataReceived)
    assert sum(len(event.data) for event in data) == 100_000
    assert data[-1].stream_ended is not None
    assert ours.log.of(1)[-2:] == [("local end",), ("closed",)]


@pytest.mark.parametrize("shrink_to", [0, 1, 1000])
def test_a_window_that_shrinks_below_zero_and_opens_again(shrink_to, how):
    ours, peer = connected(how)
    peer.send_headers(1, REQUEST, end_stream=True)
    exchange(ours, peer, how)
    stream = ours.stream(1)
    ours.send_headers(stream, RESPONSE)
    body = bytes(range(256)) * 600
    sent = ours.send_data(stream, body)
    assert sent == 65_535
    first = exchange(ours, peer, how, credit=False)
    peer.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: shrink_to})
    exchange(ours, peer, how, credit=False)
    assert int(stream.send_window) == shrink_to - 65_535
    peer.increment_flow_control_window(1_000_000)
    exchange(ours, peer, how, credit=False)
    peer.increment_flow_control_window(65_535 - shrink_to, 1)
    assert exchange(ours, peer, how, credit=False) == [], "the window is exactly 0 now"
    peer.increment_flow_control_window(len(body), 1)
    second = exchange(ours, peer, how, credit=False)
    got = b"".join(event.data for event in of_kind(first + second, h2.events.DataReceived))
    assert got == body


def test_settings_that_open_windows_let_every_waiting_stream_go():
    ours, peer = connected(values={0x4: 10})
    for stream_id in (1, 3, 5):
        peer.send_headers(stream_id, REQUEST, end_stream=True)
    exchange(ours, peer)
    for stream_id in (1, 3, 5):
        ours.send_headers(ours.stream(stream_id), RESPONSE)
        assert ours.send_data(ours.stream(stream_id), b"y" * 100, end=True) == 10
    exchange(ours, peer, credit=False)
    peer.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 100})
    events = exchange(ours, peer, credit=False)
    assert sorted(event.stream_id for event in of_kind(events, h2.events.StreamEnded)) == [1, 3, 5]


def test_the_peers_frame_size_is_kept_and_used():
    ours, peer = connected(values={0x5: 20_000, 0x4: 1_000_000})
    peer.increment_flow_control_window(1_000_000)
    peer.send_headers(1, REQUEST, end_stream=True)
    exchange(ours, peer)
    ours.send_headers(ours.stream(1), RESPONSE)
    ours.send_data(ours.stream(1), bytes(50_000), end=True)
    sizes = [len(frame.payload) for frame in ours.frames() if frame.kind == frames.DATA]
    assert sizes == [20_000, 20_000, 10_000]


def test_the_streams_of_one_connection_share_its_window_in_turn():
    """Each increment of one frame goes to another stream, not always to the oldest."""
    ours, peer = connected(values={0x4: 1_000_000})
    ids = (1, 3, 5)
    for stream_id in ids:
        peer.send_headers(stream_id, REQUEST, end_stream=True)
    exchange(ours, peer)
    for stream_id in ids:
        ours.send_headers(ours.stream(stream_id), RESPONSE)
        ours.send_data(ours.stream(stream_id), bytes(200_000), end=True)
    ours.take()
    served = []
    for _turn in range(9):
        ours.receive(frames.window_update(0, 16_384))
        served += [frame.stream_id for frame in ours.frames() if frame.kind == frames.DATA]
    assert {stream_id: served.count(stream_id) for stream_id in ids} == {1: 3, 3: 3, 5: 3}


def test_ping_is_answered_with_its_payload(how):
    ours, peer = connected(how)
    peer.ping(b"\x00\x01\x02\x03\x04\x05\x06\x07")
    events = exchange(ours, peer, how)
    (answer,) = of_kind(events, h2.events.PingAckReceived)
    assert answer.ping_data == b"\x00\x01\x02\x03\x04\x05\x06\x07"


def test_what_is_unknown_or_deprecated_is_ignored(how):
    ours, _peer = connected(how)
    sent = (
        frames.frame(0xFA, 0xFF, 0, b"grease")
        + frames.frame(0x0B, 0, 77, b"")
        + frames.priority(1, 1)  # a stream that depends on itself
        + frames.priority(9, 3)
        + frames.settings((0xF00, 5), (0x9, 1), (0x2, 0), (0x1, 0xFFFFFFFF))
        + frames.ping(ack=True)
        + frames.headers(1, REQUEST, end=True, flags=0x42)
    )
    for piece in [sent] if how == "whole" else [sent[i : i + 1] for i in range(len(sent))]:
        ours.receive(piece)
    assert [frame.kind for frame in ours.frames()] == [frames.SETTINGS]
    assert ours.log.of(1)[0][0] == "request"
    assert ours.connection.failure == ""


def test_reset_by_the_client(how):
    ours, peer = connected(how)
    peer.send_headers(1, REQUEST)
    exchange(ours, peer, how)
    ours.send_headers(ours.stream(1), RESPONSE)
    ours.send_data(ours.stream(1), bytes(100_000))
    exchange(ours, peer, how, credit=False)
    peer.reset_stream(1, error_code=frames.CANCEL)
    exchange(ours, peer, how)
    assert ours.log.of(1)[-2:] == [("closed",), ("reset", frames.CANCEL)]
    assert ours.connection.streams == {}
    assert not ours.connection.has_ready_backlog()
    assert ours.send_data(ours.stream(1), b"x") == 0
    ours.send_headers(ours.stream(1), TRAILERS, end=True)
    assert ours.take() == b""


def test_reset_by_us_and_frames_that_were_on_their_way(how):
    ours, peer = connected(how)
    peer.send_headers(1, REQUEST)
    exchange(ours, peer, how)
    before = int(ours.connection.receive_window)
    ours.reset(ours.stream(1), frames.CANCEL)
    ours.reset(ours.stream(1), frames.CANCEL)  # harmless
    peer.send_data(1, bytes(1000))
    peer.send_headers(1, [(b"late", b"1")], end_stream=True)
    for piece in [peer.data_to_send()]:
        ours.receive(piece)
    events = exchange(ours, peer, how)
    (reset,) = of_kind(events, h2.events.StreamReset)
    assert reset.error_code == frames.CANCEL
    assert ours.log.of(1)[1:] == [("closed",)], "whoever resets needs no event"
    assert int(ours.connection.receive_window) == before - 1000, "what comes late counts against the connection"
    assert ours.connection.failure == ""


def test_late_frames_of_more_resets_than_are_remembered():
    """A thousand streams that we reset together may all have DATA on its way: nobody broke a rule."""
    ours, _peer = connected()
    ids = range(1, 2 * MAX_STREAMS, 2)
    for stream_id in ids:
        ours.receive(frames.headers(stream_id, REQUEST))
    for stream_id in ids:
        ours.reset(ours.stream(stream_id), frames.CANCEL)
    for stream_id in ids:
        ours.receive(frames.data(stream_id, b"late") + frames.headers(stream_id, TRAILERS, end=True))
    assert ours.connection.failure == ""


def test_the_limit_of_streams(how):
    ours, _peer = connected(how)
    for stream_id in range(1, 2 * MAX_STREAMS, 2):
        ours.receive(frames.headers(stream_id, REQUEST))
    ours.take()
    over = 2 * MAX_STREAMS + 1
    ours.receive(frames.headers(over, REQUEST) + frames.data(over, b"on its way", end=True))
    (reset,) = ours.frames()
    assert (reset.kind, reset.stream_id, reset.code) == (frames.RST_STREAM, over, frames.REFUSED_STREAM)
    ours.receive(frames.rst_stream(1) + frames.headers(over + 2, REQUEST))
    assert ours.log.of(over + 2)[0][0] == "request"


def test_graceful_shutdown_refuses_no_stream_that_was_on_its_way(how):
    ours, _peer = connected(how)
    ours.receive(frames.headers(1, REQUEST))
    ours.connection.announce_shutdown()
    ours.connection.announce_shutdown()  # once is enough
    first, probe = ours.frames()
    assert (first.kind, first.number, first.code) == (frames.GOAWAY, 0x7FFFFFFF, frames.NO_ERROR)
    assert probe.kind == frames.PING
    ours.receive(frames.headers(3, REQUEST))  # sent before the client saw the GOAWAY
    assert ours.log.of(3)[0][0] == "request"
    ours.receive(frames.ping(b"another!", ack=True))
    assert ours.frames() == []
    ours.receive(frames.ping(probe.payload, ack=True))
    (second,) = ours.frames()
    assert (second.kind, second.number, second.code) == (frames.GOAWAY, 3, frames.NO_ERROR)
    assert ours.events.count(("shutdown acked",)) == 1
    ours.receive(frames.ping(probe.payload, ack=True))
    assert ours.frames() == [], "said once"
    ours.receive(frames.headers(5, REQUEST))
    (refusal,) = ours.frames()
    assert (refusal.stream_id, refusal.code) == (5, frames.REFUSED_STREAM)
    for stream_id in (1, 3):
        ours.receive(frames.data(stream_id, b"x", end=True))
        ours.send_headers(ours.stream(stream_id), [*RESPONSE, *TRAILERS], end=True)
    assert ours.connection.streams == {}
    assert ours.connection.failure == ""


def test_a_shutdown_before_the_preface_begins_with_settings_all_the_same(how):
    """The first frame of a server must be SETTINGS (RFC 9113 section 3.4), also when it is about to leave."""
    ours = Ours(is_server=True)
    ours.connection.announce_shutdown()
    assert ours.take() == b""
    peer = h2_peer(client=True)
    for byte in peer.data_to_send():
        ours.receive(bytes([byte]))
    kinds = [frame.kind for frame in ours.frames()]
    assert kinds[0] == frames.SETTINGS
    assert frames.GOAWAY in kinds
    assert frames.PING in kinds


def test_a_goaway_from_the_client_stops_nothing(how):
    ours, _peer = connected(how)
    ours.receive(frames.headers(1, REQUEST) + frames.goaway(0, frames.NO_ERROR, b"bye \xff") + frames.ping())
    assert ("goaway", 0, "bye \ufffd") in ours.events
    assert [frame.kind for frame in ours.frames()] == [frames.PING]
    ours.send_headers(ours.stream(1), [*RESPONSE, *TRAILERS], end=True)
    assert ours.connection.failure == ""


def test_the_end_of_the_connection_reaches_every_stream_once():
    ours, _peer = connected()
    ours.receive(frames.headers(1, REQUEST) + frames.headers(3, REQUEST, end=True))
    ours.connection.lost("cable cut", 0.0)
    ours.connection.lost("again", 0.0)
    assert ours.events[-5:] == [("connection lost",), ("closed", 1), ("lost", 1), ("closed", 3), ("lost", 3)]
    assert ours.connection.failure == "cable cut"
    ours.receive(frames.ping())
    ours.send_headers(ours.stream(1), RESPONSE)
    ours.reset(ours.stream(3), frames.CANCEL)
    ours.connection.announce_shutdown()
    ours.connection.close("no more", 0.0)
    assert ours.take() == b""


def test_close_says_goaway_and_ends_the_streams():
    ours, _peer = connected()
    ours.receive(frames.headers(1, REQUEST))
    ours.connection.close("done here", 0.0)
    (goaway,) = ours.frames()
    assert (goaway.kind, goaway.number, goaway.code) == (frames.GOAWAY, 1, frames.NO_ERROR)
    assert goaway.payload[8:] == b"done here"
    assert ours.log.of(1)[-1] == ("lost",)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 400 "),
        (b"POST /a HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
        (b"PUT /a HTTP/1.0\r\n\r\n", b"HTTP/1.1 400 "),
        (b"PATCH /a HTTP/1.0\r\n\r\n", b"HTTP/1.1 400 "),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b""),
        (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", b""),
        (b"INVALID CONNECTION PREFACE\r\n\r\n", b""),
    ],
)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_what_is_not_http2(sent: bytes, status: bytes, step: int):
    ours = Ours(is_server=True)
    for start in range(0, len(sent), step):
        ours.receive(sent[start : start + step])
    answer = ours.take()
    assert ours.connection.closed
    assert ours.events == [("connection lost",)]
    if status:
        head, body = answer.split(b"\r\n\r\n", 1)
        assert head.startswith(status)
        assert b"Content-Length: %d" % len(body) in head
        assert b"Connection: close" in head
        assert body.endswith(b"\n")
    else:
        (goaway,) = frames.parse(answer)
        assert (goaway.kind, goaway.code) == (frames.GOAWAY, frames.PROTOCOL_ERROR)
