"""The frames that are built whole, judged by hyperframe."""

import pytest
from hyperframe.frame import Frame, GoAwayFrame, PingFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from gateway.http2 import frames


def parsed(data: bytes) -> Frame:
    frame, length = Frame.parse_frame_header(memoryview(data[:9]))
    assert len(data) == 9 + length
    frame.parse_body(memoryview(data[9:]))
    return frame


def test_settings():
    frame = parsed(frames.settings_frame([(frames.INITIAL_WINDOW_SIZE, 2**31 - 1), (frames.ENABLE_PUSH, 0)]))
    assert isinstance(frame, SettingsFrame)
    assert frame.settings == {4: 2**31 - 1, 2: 0}


@pytest.mark.parametrize("code", [0, 8, 2**32 - 1])
def test_rst_stream(code):
    frame = parsed(frames.rst_stream_frame(2**31 - 1, code))
    assert isinstance(frame, RstStreamFrame)
    assert (frame.stream_id, frame.error_code) == (2**31 - 1, code)


def test_window_update():
    frame = parsed(frames.window_update_frame(3, 2**31 - 1))
    assert isinstance(frame, WindowUpdateFrame)
    assert (frame.stream_id, frame.window_increment) == (3, 2**31 - 1)


def test_goaway():
    frame = parsed(frames.goaway_frame(7, 11, b"calm down"))
    assert isinstance(frame, GoAwayFrame)
    assert (frame.last_stream_id, frame.error_code, frame.additional_data) == (7, 11, b"calm down")


def test_ping():
    frame = parsed(frames.frame(frames.PING, frames.ACK, 0, b"abcdefgh"))
    assert isinstance(frame, PingFrame)
    assert "ACK" in frame.flags
    assert frame.opaque_data == b"abcdefgh"


@pytest.mark.parametrize("length", [0, 1, 255, 256, 16_384, 16_385, 2**24 - 1])
def test_lengths(length):
    assert frames.length_bytes(length) == length.to_bytes(3, "big")


@pytest.mark.parametrize("value", [0, 1, 2**31 - 1, 2**32 - 1])
def test_numbers(value):
    assert frames.u32(value) == value.to_bytes(4, "big")


def test_the_headers_put_together_piece_by_piece():
    for kind, name, flags in [
        (frames.DATA_KIND, "DATA", set()),
        (frames.DATA_END_KIND, "DATA", {"END_STREAM"}),
        (frames.HEADERS_KIND, "HEADERS", {"END_HEADERS"}),
        (frames.HEADERS_END_KIND, "HEADERS", {"END_HEADERS", "END_STREAM"}),
    ]:
        frame, length = Frame.parse_frame_header(memoryview(frames.length_bytes(5) + kind + frames.u32(9)))
        assert type(frame).__name__.upper().startswith(name)
        assert (set(frame.flags), frame.stream_id, length) == (flags, 9, 5)
