"""Every way to break a rule, and the one end that it has: RST_STREAM for a stream, GOAWAY for a connection.

After the RFC 9113 sections named beside each case, and h2spec's list. The states at the start of each case:
stream 1 open, 3 half-closed by the peer, 5 closed by both, 7 reset by us, 9 reset by the peer, 11 idle.
"""

import pytest
from helpers import frames
from helpers.frames import (
    CANCEL,
    COMPRESSION_ERROR,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PADDED,
    PRIORITY_FLAG,
    PROTOCOL_ERROR,
    REQUEST,
    RESPONSE,
    STREAM_CLOSED,
    TRAILERS,
    block,
    continuation,
    data,
    frame,
    goaway,
    headers,
    ping,
    priority,
    rst_stream,
    settings,
    window_update,
)
from helpers.peers import FEEDS, Ours, pieces

from gateway.http2.settings import CONNECTION_WINDOW, STREAM_WINDOW

OPEN, HALF_CLOSED, CLOSED, RESET_BY_US, RESET_BY_PEER, IDLE = 1, 3, 5, 7, 9, 11
LARGEST = 0x7FFFFFFF


def server() -> Ours:
    ours = Ours(is_server=True)
    ours.receive(frames.PREFACE + settings())
    for stream_id in (OPEN, HALF_CLOSED, CLOSED, RESET_BY_US, RESET_BY_PEER):
        ours.receive(headers(stream_id, REQUEST, end=stream_id in (HALF_CLOSED, CLOSED)))
    ours.send_headers(ours.stream(CLOSED), [*RESPONSE, *TRAILERS], end=True)
    ours.reset(ours.stream(RESET_BY_US), CANCEL)
    ours.receive(rst_stream(RESET_BY_PEER))
    ours.take()
    ours.events.clear()
    return ours


def client() -> Ours:
    ours = Ours(is_server=False)
    ours.receive(settings())
    for _time in range(5):
        ours.open(REQUEST)
    ours.receive(headers(OPEN, RESPONSE))
    ours.receive(headers(HALF_CLOSED, [*RESPONSE, *TRAILERS], end=True))
    ours.receive(headers(CLOSED, [*RESPONSE, *TRAILERS], end=True))
    ours.send_data(ours.stream(CLOSED), b"", end=True)
    ours.reset(ours.stream(RESET_BY_US), CANCEL)
    ours.receive(rst_stream(RESET_BY_PEER))
    ours.take()
    ours.events.clear()
    return ours


def without(fields, name):
    return [field for field in fields if field[0] != name]


def with_(fields, name, value):
    return [(key, value if key == name else old) for key, old in fields]


GET_A = (b":path", b"/a/b")

# What ends the connection, whoever sends it: (name, bytes, code).
CONNECTION_ERRORS = [
    ("DATA on stream 0 (6.1)", data(0, b"x"), PROTOCOL_ERROR),
    ("DATA on an idle stream (5.1)", data(IDLE, b"x"), PROTOCOL_ERROR),
    ("DATA on an even stream (5.1.1)", data(2, b"x"), PROTOCOL_ERROR),
    ("DATA on a closed stream (5.1)", data(CLOSED, b"x"), STREAM_CLOSED),
    ("DATA on a stream that the peer reset (5.1)", data(RESET_BY_PEER, b"x"), STREAM_CLOSED),
    ("DATA shorter than its padding (6.1)", frame(frames.DATA, PADDED, OPEN, b"\x05abcd"), PROTOCOL_ERROR),
    ("DATA with padding as long as itself (6.1)", frame(frames.DATA, PADDED, OPEN, b"\x01"), PROTOCOL_ERROR),
    ("DATA without its padding length (4.2)", frame(frames.DATA, PADDED, OPEN, b""), FRAME_SIZE_ERROR),
    ("HEADERS on stream 0 (6.2)", headers(0, REQUEST), PROTOCOL_ERROR),
    ("HEADERS on an even stream (5.1.1)", headers(2, REQUEST), PROTOCOL_ERROR),
    ("HEADERS on a closed stream (5.1)", headers(CLOSED, REQUEST, end=True), STREAM_CLOSED),
    (
        "HEADERS shorter than its padding (6.2)",
        headers(OPEN, b"\x09abc", flags=PADDED, end=True),
        PROTOCOL_ERROR,
    ),
    ("HEADERS without its padding length (4.2)", headers(OPEN, b"", flags=PADDED), FRAME_SIZE_ERROR),
    ("HEADERS shorter than its priority (4.2)", headers(OPEN, b"abcd", flags=PRIORITY_FLAG), FRAME_SIZE_ERROR),
    (
        "HEADERS with padding over its priority (6.2)",
        headers(OPEN, b"\x01abcde", flags=PADDED | PRIORITY_FLAG),
        PROTOCOL_ERROR,
    ),
    ("PRIORITY on stream 0 (6.3)", priority(0), PROTOCOL_ERROR),
    ("PRIORITY of a wrong size where no stream is (6.3)", priority(IDLE, payload=b"1234"), FRAME_SIZE_ERROR),
    ("RST_STREAM on stream 0 (6.4)", rst_stream(0), PROTOCOL_ERROR),
    ("RST_STREAM on an idle stream (6.4)", rst_stream(IDLE), PROTOCOL_ERROR),
    ("RST_STREAM of a wrong size (6.4)", frame(frames.RST_STREAM, 0, OPEN, b"\0\0\0"), FRAME_SIZE_ERROR),
    ("SETTINGS on a stream (6.5)", frame(frames.SETTINGS, 0, OPEN, b""), PROTOCOL_ERROR),
    ("SETTINGS of a wrong size (6.5)", frame(frames.SETTINGS, 0, 0, b"\0\0\0"), FRAME_SIZE_ERROR),
    ("SETTINGS ACK with a payload (6.5)", frame(frames.SETTINGS, frames.ACK, 0, b"\0" * 6), FRAME_SIZE_ERROR),
    ("ENABLE_PUSH of 2 (6.5.2)", settings((2, 2)), PROTOCOL_ERROR),
    ("INITIAL_WINDOW_SIZE of 2^31 (6.5.2)", settings((4, 1 << 31)), FLOW_CONTROL_ERROR),
    ("MAX_FRAME_SIZE of 16383 (6.5.2)", settings((5, 16_383)), PROTOCOL_ERROR),
    ("MAX_FRAME_SIZE of 2^24 (6.5.2)", settings((5, 1 << 24)), PROTOCOL_ERROR),
    ("33 settings", settings(*[(9, 9)] * 33), ENHANCE_YOUR_CALM),
    (
        "a window above 2^31-1 by SETTINGS (6.9.2)",
        window_update(OPEN, LARGEST - 65_535) + settings((4, 65_536)),
        FLOW_CONTROL_ERROR,
    ),
    (
        "PUSH_PROMISE (8.4)",
        frame(frames.PUSH_PROMISE, END_HEADERS, OPEN, b"\0\0\0\x02" + block(REQUEST)),
        PROTOCOL_ERROR,
    ),
    ("PING on a stream (6.7)", frame(frames.PING, 0, OPEN, b"12345678"), PROTOCOL_ERROR),
    ("PING of 7 bytes (6.7)", ping(b"1234567"), FRAME_SIZE_ERROR),
    ("PING of 9 bytes (6.7)", ping(b"123456789"), FRAME_SIZE_ERROR),
    ("GOAWAY on a stream (6.8)", frame(frames.GOAWAY, 0, OPEN, b"\0" * 8), PROTOCOL_ERROR),
    ("GOAWAY of 7 bytes (6.8)", frame(frames.GOAWAY, 0, 0, b"\0" * 7), FRAME_SIZE_ERROR),
    ("WINDOW_UPDATE of 3 bytes (6.9)", frame(frames.WINDOW_UPDATE, 0, 0, b"\0\0\1"), FRAME_SIZE_ERROR),
    ("WINDOW_UPDATE of 5 bytes (6.9)", frame(frames.WINDOW_UPDATE, 0, OPEN, b"\0\0\0\0\1"), FRAME_SIZE_ERROR),
    ("WINDOW_UPDATE on an idle stream (5.1)", window_update(IDLE, 1), PROTOCOL_ERROR),
    ("WINDOW_UPDATE of 0 on the connection (6.9)", window_update(0, 0), PROTOCOL_ERROR),
    ("a connection window above 2^31-1 (6.9.1)", window_update(0, LARGEST), FLOW_CONTROL_ERROR),
    ("CONTINUATION on its own (6.10)", continuation(OPEN, b""), PROTOCOL_ERROR),
    (
        "CONTINUATION after END_HEADERS (6.10)",
        headers(OPEN, TRAILERS, end=True) + continuation(OPEN, b""),
        PROTOCOL_ERROR,
    ),
    (
        "CONTINUATION of another stream (6.10)",
        headers(OPEN, TRAILERS, end=True, whole=False) + continuation(HALF_CLOSED, b""),
        PROTOCOL_ERROR,
    ),
    (
        "CONTINUATION on stream 0 (6.10)",
        headers(OPEN, TRAILERS, end=True, whole=False) + continuation(0, b""),
        PROTOCOL_ERROR,
    ),
    ("DATA in a header block (6.10)", headers(OPEN, TRAILERS, end=True, whole=False) + data(OPEN), PROTOCOL_ERROR),
    ("PING in a header block (6.10)", headers(OPEN, TRAILERS, end=True, whole=False) + ping(), PROTOCOL_ERROR),
    (
        "an unknown frame in a header block (5.5)",
        headers(OPEN, TRAILERS, end=True, whole=False) + frame(0xF0, 0, OPEN, b"x"),
        PROTOCOL_ERROR,
    ),
    ("a frame of 16385 bytes (4.2)", data(OPEN, bytes(16_385)), FRAME_SIZE_ERROR),
    ("an unknown frame of 2^24-1 bytes (4.2)", b"\xff\xff\xff\xfe\0\0\0\0\1", FRAME_SIZE_ERROR),
    (
        "a header block that HPACK cannot read (4.3)",
        headers(OPEN, b"\xff\xff\xff\xff\xff\xff\xff", end=True),
        COMPRESSION_ERROR,
    ),
    ("a reference beyond the table (4.3)", headers(OPEN, b"\xfe", end=True), COMPRESSION_ERROR),
    ("an index of 0 (4.3)", headers(OPEN, b"\x80", end=True), COMPRESSION_ERROR),
    ("a string cut short (4.3)", headers(OPEN, block(TRAILERS)[:-1], end=True), COMPRESSION_ERROR),
    ("a bad block for a stream that we reset (4.3)", headers(RESET_BY_US, b"\x80", end=True), COMPRESSION_ERROR),
    (
        "CONTINUATION without end, of many bytes",
        headers(OPEN, bytes(16_384), whole=False) + continuation(OPEN, bytes(16_384), whole=False) * 17,
        ENHANCE_YOUR_CALM,
    ),
    (
        "CONTINUATION without end, empty",
        headers(OPEN, b"", whole=False) + continuation(OPEN, b"", whole=False) * 17,
        ENHANCE_YOUR_CALM,
    ),
]

SERVER_CONNECTION_ERRORS = [
    ("a stream id lower than an earlier one (5.1.1)", headers(21, REQUEST) + headers(13, REQUEST), STREAM_CLOSED),
]

CLIENT_CONNECTION_ERRORS = [
    ("HEADERS on a stream that we did not open (5.1)", headers(IDLE, RESPONSE), PROTOCOL_ERROR),
    ("ENABLE_PUSH of 1 from a server (6.5.2)", settings((2, 1)), PROTOCOL_ERROR),
]

# What ends one stream: (name, stream, bytes, code).
STREAM_ERRORS = [
    ("DATA after END_STREAM (5.1)", HALF_CLOSED, data(HALF_CLOSED, b"x"), STREAM_CLOSED),
    ("HEADERS after END_STREAM (5.1)", HALF_CLOSED, headers(HALF_CLOSED, TRAILERS, end=True), STREAM_CLOSED),
    ("WINDOW_UPDATE of 0 (6.9)", OPEN, window_update(OPEN, 0), PROTOCOL_ERROR),
    ("a window above 2^31-1 (6.9.1)", OPEN, window_update(OPEN, LARGEST), FLOW_CONTROL_ERROR),
    ("a window above 2^31-1 in two steps", OPEN, window_update(OPEN, LARGEST - 65_535) + window_update(OPEN, 1), 3),
    ("PRIORITY of 4 bytes (6.3)", OPEN, priority(OPEN, payload=b"1234"), FRAME_SIZE_ERROR),
    ("DATA beyond the stream's window (6.9.1)", OPEN, data(OPEN, bytes(16_384)) * 8 + data(OPEN, b"x"), 3),
    (
        "DATA beyond the stream's window by its padding (6.9.1)",
        OPEN,
        data(OPEN, bytes(16_384)) * 8 + data(OPEN, b"", padding=0),
        FLOW_CONTROL_ERROR,
    ),
    ("a second block without END_STREAM (8.1)", OPEN, headers(OPEN, TRAILERS), PROTOCOL_ERROR),
    ("a pseudo-header in trailers (8.1)", OPEN, headers(OPEN, [GET_A], end=True), PROTOCOL_ERROR),
    ("a connection field in trailers (8.2.2)", OPEN, headers(OPEN, [(b"connection", b"x")], end=True), PROTOCOL_ERROR),
    ("te in trailers", OPEN, headers(OPEN, [(b"te", b"gzip")], end=True), PROTOCOL_ERROR),
    ("upper case in trailers (8.2.1)", OPEN, headers(OPEN, [(b"Grpc-Status", b"0")], end=True), PROTOCOL_ERROR),
    ("a line break in trailers (8.2.1)", OPEN, headers(OPEN, [(b"a", b"b\r\nc: d")], end=True), PROTOCOL_ERROR),
]

# Malformed requests (8.1 to 8.3, 8.1.1; security rows 25 to 34): all are reset with PROTOCOL_ERROR and never shown.
BAD_REQUESTS = [
    ("CR in a value", [*REQUEST, (b"a", b"b\rc")]),
    ("LF in a value", [*REQUEST, (b"a", b"b\nc")]),
    ("NUL in a value", [*REQUEST, (b"a", b"b\0c")]),
    ("NUL in :path", with_(REQUEST, b":path", b"/a\0b")),
    ("LF in :authority", with_(REQUEST, b":authority", b"a\nb")),
    ("a space before a value", [*REQUEST, (b"a", b" b")]),
    ("a tab after a value", [*REQUEST, (b"a", b"b\t")]),
    ("upper case", [*REQUEST, (b"Abc", b"d")]),
    ("a space in a name", [*REQUEST, (b"a b", b"c")]),
    ("a colon in a name", [*REQUEST, (b"a:b", b"c")]),
    ("an empty name", [*REQUEST, (b"", b"c")]),
    ("a name beyond ASCII", [*REQUEST, (b"\xe4", b"c")]),
    ("connection", [*REQUEST, (b"connection", b"close")]),
    ("transfer-encoding", [*REQUEST, (b"transfer-encoding", b"chunked")]),
    ("upgrade", [*REQUEST, (b"upgrade", b"websocket")]),
    ("keep-alive", [*REQUEST, (b"keep-alive", b"5")]),
    ("proxy-connection", [*REQUEST, (b"proxy-connection", b"x")]),
    ("te with more than trailers", with_(REQUEST, b"te", b"trailers, deflate")),
    ("two te, one of them bad", [*REQUEST, (b"te", b"gzip")]),
    ("no :method", without(REQUEST, b":method")),
    ("no :scheme", without(REQUEST, b":scheme")),
    ("no :path", without(REQUEST, b":path")),
    ("empty :path", with_(REQUEST, b":path", b"")),
    (":path without a slash", with_(REQUEST, b":path", b"a/b")),
    (":path as a whole address", with_(REQUEST, b":path", b"http://a/b")),
    (":path with a space", with_(REQUEST, b":path", b"/a b")),
    (":path with a fragment", with_(REQUEST, b":path", b"/a#b")),
    (":path with a backslash", with_(REQUEST, b":path", b"/a\\b")),
    (":path beyond ASCII", with_(REQUEST, b":path", b"/\xc3\xa4")),
    ("two :method", [REQUEST[0], *REQUEST]),
    ("two :path", [REQUEST[2], *REQUEST]),
    ("two :scheme", [REQUEST[1], *REQUEST]),
    ("two :authority", [REQUEST[3], *REQUEST]),
    (":status in a request", [(b":status", b"200"), *REQUEST]),
    ("an unknown pseudo-header", [(b":protocol", b"websocket"), *REQUEST]),
    ("a late pseudo-header", [*without(REQUEST, b":path"), GET_A]),
    ("a pseudo-header after host", [(b"host", b"mesh.test"), *REQUEST]),
    ("CONNECT", [(b":method", b"CONNECT"), (b":authority", b"a:1")]),
    ("two host", [*without(REQUEST, b":authority"), (b"host", b"a"), (b"host", b"a")]),
    ("host that differs from :authority", [*REQUEST, (b"host", b"other.test")]),
    ("userinfo in :authority", with_(REQUEST, b":authority", b"user@mesh.test")),
    ("userinfo in host", [*without(REQUEST, b":authority"), (b"host", b"user:pw@mesh.test")]),
    ("neither :authority nor host", without(REQUEST, b":authority")),
    ("an empty :authority", with_(REQUEST, b":authority", b"")),
    ("two content-length", [*REQUEST, (b"content-length", b"1"), (b"content-length", b"1")]),
    ("content-length with a sign", [*REQUEST, (b"content-length", b"+5")]),
    ("content-length below zero", [*REQUEST, (b"content-length", b"-1")]),
    ("an empty content-length", [*REQUEST, (b"content-length", b"")]),
    ("content-length beyond 64 bits", [*REQUEST, (b"content-length", b"9" * 19)]),
]

BAD_RESPONSES = [
    ("no :status", without(RESPONSE, b":status")),
    ("two :status", [RESPONSE[0], *RESPONSE]),
    ("a late :status", [*without(RESPONSE, b":status"), (b":status", b"200")]),
    (":status of two digits", with_(RESPONSE, b":status", b"20")),
    (":status that is no number", with_(RESPONSE, b":status", b"2x0")),
    (":status below 100", with_(RESPONSE, b":status", b"099")),
    (":path in a response", [*RESPONSE[:1], GET_A]),
    ("101", with_(RESPONSE, b":status", b"101")),
    ("LF in a value", [*RESPONSE, (b"a", b"b\nc")]),
    ("upper case", [*RESPONSE, (b"Abc", b"d")]),
    ("connection", [*RESPONSE, (b"connection", b"close")]),
    ("transfer-encoding", [*RESPONSE, (b"transfer-encoding", b"chunked")]),
    ("te", [*RESPONSE, (b"te", b"trailers, gzip")]),
    ("two content-length", [*RESPONSE, (b"content-length", b"1"), (b"content-length", b"1")]),
    ("a bad content-length", [*RESPONSE, (b"content-length", b"1e3")]),
]


def named(cases):
    return [pytest.param(*case[1:], id=case[0]) for case in cases]


def feed(ours: Ours, sent: bytes, how: str) -> None:
    step = 997 if how == "bytes" and len(sent) > 20_000 else 1
    for piece in pieces(sent, how) if step == 1 else [sent[i : i + step] for i in range(0, len(sent), step)]:
        ours.receive(piece)


def assert_connection_error(ours: Ours, code: int) -> None:
    last = ours.frames()[-1]
    assert (last.kind, last.code) == (frames.GOAWAY, code)
    assert last.number == int(ours.connection._last_peer_id)
    assert last.payload[8:], "a sentence for people"
    assert ours.connection.closed
    assert ours.connection.failure
    assert ours.connection.streams == {}
    assert ours.events.count(("connection lost",)) == 1
    for stream_id in (OPEN, HALF_CLOSED):
        ends = [event for event in ours.log.of(stream_id) if event[0] in ("lost", "violation", "reset")]
        assert len(ends) == 1, "each stream hears of its end once"
    ours.receive(ping())
    assert ours.take() == b"", "nothing is said after the GOAWAY"


def assert_stream_error(ours: Ours, stream_id: int, code: int) -> None:
    resets = [frame for frame in ours.frames() if frame.kind == frames.RST_STREAM]
    assert [(frame.stream_id, frame.code) for frame in resets] == [(stream_id, code)]
    assert stream_id not in ours.connection.streams
    assert ours.log.of(stream_id)[-2:] == [("closed",), ("violation", code)]
    assert_usable(ours)


def assert_usable(ours: Ours) -> None:
    """The connection goes on: PING is answered, and another stream works to its end."""
    ours.receive(ping(b"usable??"))
    assert [frame.payload for frame in ours.frames()] == [b"usable??"]
    assert not ours.connection.closed
    if ours.connection.is_server:
        ours.receive(headers(99, REQUEST, end=True))
        ours.send_headers(ours.stream(99), [*RESPONSE, *TRAILERS], end=True)
        assert ours.log.of(99)[-1] == ("closed",)
    else:
        stream = ours.open(REQUEST, end=True)
        ours.receive(headers(int(stream.id), [*RESPONSE, *TRAILERS], end=True))
        assert ours.log.of(int(stream.id))[-1] == ("closed",)


@pytest.mark.parametrize("how", FEEDS)
@pytest.mark.parametrize("role", [server, client])
@pytest.mark.parametrize(("sent", "code"), named(CONNECTION_ERRORS))
def test_what_ends_the_connection(role, sent, code, how):
    ours = role()
    feed(ours, sent, how)
    assert_connection_error(ours, code)


@pytest.mark.parametrize(("sent", "code"), named(SERVER_CONNECTION_ERRORS))
def test_what_ends_a_servers_connection(sent, code):
    ours = server()
    ours.receive(sent)
    assert_connection_error(ours, code)


@pytest.mark.parametrize(("sent", "code"), named(CLIENT_CONNECTION_ERRORS))
def test_what_ends_a_clients_connection(sent, code):
    ours = client()
    ours.receive(sent)
    assert_connection_error(ours, code)


@pytest.mark.parametrize("role", [server, client])
def test_data_beyond_the_connections_window(role):
    """Whatever the streams allow. The window is given back at half of it, so it takes that much unread at once."""
    ours = role()
    ours.connection.receive_window = 20_000
    ours.receive(data(OPEN, bytes(16_384)))
    assert ours.frames() == []
    ours.receive(data(OPEN, bytes(16_384)))
    assert_connection_error(ours, FLOW_CONTROL_ERROR)


@pytest.mark.parametrize("how", FEEDS)
@pytest.mark.parametrize("role", [server, client])
@pytest.mark.parametrize(("stream_id", "sent", "code"), named(STREAM_ERRORS))
def test_what_ends_a_stream(role, stream_id, sent, code, how):
    ours = role()
    ours.log.credits = False
    feed(ours, sent, how)
    assert_stream_error(ours, stream_id, code)


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("fields", named(BAD_REQUESTS))
def test_malformed_requests(fields, end):
    ours = server()
    ours.receive(headers(IDLE, fields, end=end))
    if not end:  # what comes after the refusal was on its way
        ours.receive(data(IDLE, b"body") + headers(IDLE, TRAILERS, end=True))
    (reset,) = ours.frames()
    assert (reset.kind, reset.stream_id, reset.code) == (frames.RST_STREAM, IDLE, PROTOCOL_ERROR)
    assert ours.log.of(IDLE) == [], "nothing of it is shown"
    assert_usable(ours)


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("fields", named(BAD_RESPONSES))
def test_malformed_responses(fields, end):
    ours = client()
    stream = ours.open(REQUEST)
    ours.take()
    ours.receive(headers(int(stream.id), fields, end=end))
    assert_stream_error(ours, int(stream.id), PROTOCOL_ERROR)
    assert not [event for event in ours.log.of(int(stream.id)) if event[0] == "response"]


def test_an_interim_response_may_not_end_the_stream():
    ours = client()
    stream = ours.open(REQUEST)
    ours.take()
    ours.receive(headers(int(stream.id), [(b":status", b"103")], end=True))
    assert_stream_error(ours, int(stream.id), PROTOCOL_ERROR)


def test_data_before_the_response():
    ours = client()
    stream = ours.open(REQUEST)
    ours.take()
    ours.receive(data(int(stream.id), b"x"))
    assert_stream_error(ours, int(stream.id), PROTOCOL_ERROR)


@pytest.mark.parametrize(
    ("length", "sent"),
    [
        (0, [data(IDLE, b"x")]),
        (5, [data(IDLE, b"123"), data(IDLE, b"456")]),
        (5, [data(IDLE, b"1234", end=True)]),
        (5, [data(IDLE, b"", end=True)]),
        (5, [data(IDLE, b"12", padding=3), data(IDLE, b"", end=True)]),
        (5, [data(IDLE, b"1234"), headers(IDLE, TRAILERS, end=True)]),
    ],
)
@pytest.mark.parametrize("is_server", [True, False])
def test_content_that_is_not_as_long_as_it_said(is_server, length, sent):
    ours = server() if is_server else client()
    extra = (b"content-length", b"%d" % length)
    if is_server:
        ours.receive(headers(IDLE, [*REQUEST, extra]))
    else:
        ours.open(REQUEST)
        ours.take()
        ours.receive(headers(IDLE, [*RESPONSE, extra]))
    for piece in sent:
        ours.receive(piece)
    assert_stream_error(ours, IDLE, PROTOCOL_ERROR)


def test_content_length_without_content():
    ours = server()
    ours.receive(headers(IDLE, [*REQUEST, (b"content-length", b"5")], end=True))
    (reset,) = ours.frames()
    assert (reset.stream_id, reset.code) == (IDLE, PROTOCOL_ERROR)
    ours = client()
    ours.open(REQUEST)
    ours.take()
    ours.receive(headers(IDLE, [*RESPONSE, (b"content-length", b"5")], end=True))
    assert_stream_error(ours, IDLE, PROTOCOL_ERROR)


def test_content_as_long_as_it_said():
    ours = server()
    ours.receive(headers(IDLE, [*REQUEST, (b"content-length", b"005")]))
    ours.receive(data(IDLE, b"12", padding=9) + data(IDLE, b"345", end=True))
    ours.receive(headers(IDLE + 2, [*REQUEST, (b"content-length", b"0")], end=True))
    assert [event[0] for event in ours.log.of(IDLE)] == ["request", "data", "data"]
    assert [event[0] for event in ours.log.of(IDLE + 2)] == ["request"]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(data(RESET_BY_US, b"x"), id="DATA"),
        pytest.param(headers(RESET_BY_US, TRAILERS, end=True), id="HEADERS"),
        pytest.param(rst_stream(RESET_BY_US), id="RST_STREAM"),
        pytest.param(window_update(RESET_BY_US, 1), id="WINDOW_UPDATE"),
        pytest.param(window_update(RESET_BY_PEER, 1), id="WINDOW_UPDATE after their reset"),
        pytest.param(window_update(CLOSED, 1), id="WINDOW_UPDATE after the end"),
        pytest.param(rst_stream(CLOSED), id="RST_STREAM after the end"),
        pytest.param(rst_stream(RESET_BY_PEER), id="RST_STREAM twice"),
        pytest.param(priority(CLOSED) + priority(RESET_BY_US) + priority(IDLE, IDLE), id="PRIORITY anywhere"),
        pytest.param(window_update(HALF_CLOSED, 5), id="WINDOW_UPDATE after END_STREAM"),
        pytest.param(settings() + settings(), id="SETTINGS again"),
        pytest.param(frame(0x77, 0xFF, IDLE, b"?"), id="an unknown frame on an idle stream"),
        pytest.param(frames.settings_ack(), id="SETTINGS ACK unasked"),
        pytest.param(window_update(0, LARGEST - 65_535), id="the largest connection window"),
        pytest.param(window_update(OPEN, LARGEST - 65_535), id="the largest stream window"),
    ],
)
@pytest.mark.parametrize("role", [server, client])
def test_what_breaks_no_rule(role, sent):
    ours = role()
    ours.receive(sent)
    assert all(frame == (frames.SETTINGS, frames.ACK, 0, b"") for frame in ours.frames())
    assert_usable(ours)


def test_resets_end_a_stream_with_work_in_flight():
    ours = server()
    ours.receive(rst_stream(OPEN) + rst_stream(HALF_CLOSED, STREAM_CLOSED))
    assert ours.log.of(OPEN) == [("closed",), ("reset", CANCEL)]
    assert ours.log.of(HALF_CLOSED) == [("closed",), ("reset", STREAM_CLOSED)]
    assert ours.take() == b"", "a reset is never answered with a reset"


def test_padded_data_to_reset_streams_comes_back_to_the_connections_window():
    """Or the connection stalls after a while (security section 7, trap 12)."""
    ours = server()
    total = 0
    credited = 0
    for _time in range(400):
        sent = data(RESET_BY_US, bytes(8000), padding=200)
        ours.receive(sent)
        total += len(sent) - 9
        credited += sum(frame.number for frame in ours.frames() if frame.stream_id == 0)
    assert not ours.connection.closed
    assert total > CONNECTION_WINDOW > STREAM_WINDOW
    assert total - credited < CONNECTION_WINDOW // 2 + 8201


def test_a_block_of_a_refused_request_still_moves_the_table():
    """Security row 17: one client's fields must never be read as another's."""
    ours = server()
    literal = b"\x40" + frames.text(b"x-a") + frames.text(b"1")  # enters the table
    ours.receive(headers(IDLE, block([*REQUEST, (b"Bad", b"x")]) + literal, end=True))
    ours.receive(headers(IDLE + 2, block(REQUEST) + b"\xbe", end=True))
    assert ours.log.of(IDLE + 2)[0][2][-1] == (b"x-a", b"1")


def test_a_request_above_the_limit_is_shown_as_such():
    """The gateway answers it; the connection goes on (security row 36)."""
    ours = server()
    ours.receive(headers(IDLE, block([*REQUEST, (b"x", b"y" * 8000)]) + b"\x80" * 0, whole=False))
    for _time in range(7):
        ours.receive(continuation(IDLE, block([(b"x", b"y" * 8000)]), whole=False))
    ours.receive(continuation(IDLE, block([(b"x", b"y" * 8000)])))
    assert ours.log.heads[IDLE].oversized
    assert ours.frames() == []
    assert_usable(ours)


@pytest.mark.parametrize("part", ["response", "trailers"])
def test_a_response_above_the_limit(part):
    ours = client()
    ours.open(REQUEST)
    ours.take()
    big = [(b"x", b"y" * 8000)] * 9
    if part == "trailers":
        ours.receive(headers(IDLE, RESPONSE))
    sent = block([*(RESPONSE if part == "response" else TRAILERS), *big])
    ours.receive(headers(IDLE, sent[:16_000], whole=False, end=True))
    rest = sent[16_000:]
    while rest:
        ours.receive(continuation(IDLE, rest[:16_000], whole=len(rest) <= 16_000))
        rest = rest[16_000:]
    assert_stream_error(ours, IDLE, ENHANCE_YOUR_CALM)


def test_goaway_errors_from_a_server_end_only_what_it_left_out():
    ours = client()
    ours.receive(goaway(OPEN, ENHANCE_YOUR_CALM, b"too_many_pings"))
    assert ours.log.of(HALF_CLOSED) == [("closed",), ("unprocessed",)]
    assert ours.log.of(OPEN) == []
    assert not ours.connection.closed
