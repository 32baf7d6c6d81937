"""The constants of HTTP/2's wire format (RFC 9113 sections 4 to 6) and the few frames that are built whole."""

from typing import Final

from mypy_extensions import i64

# Frame types (section 6).
DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

# Flags.
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY_FLAG: Final = 0x20

# Settings (section 6.5.2).
HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER_SIZE: Final = 9
DEFAULT_WINDOW: Final = 65_535
DEFAULT_MAX_FRAME_SIZE: Final = 16_384
LARGEST_MAX_FRAME_SIZE: Final = 16_777_215
LARGEST_WINDOW: Final = 2_147_483_647
LARGEST_STREAM_ID: Final = 2_147_483_647

# The middle of a frame header, type and flags, for the frames that are put together piece by piece.
DATA_KIND: Final = b"\x00\x00"
DATA_END_KIND: Final = b"\x00\x01"
HEADERS_KIND: Final = b"\x01\x04"
HEADERS_END_KIND: Final = b"\x01\x05"

# Lengths of up to one default frame, as the three bytes of a frame header: looked up, since building them costs more.
LENGTHS: Final[list[bytes]] = [length.to_bytes(3, "big") for length in range(DEFAULT_MAX_FRAME_SIZE + 1)]


def length_bytes(length: i64) -> bytes:
    """A payload length as the first three bytes of a frame header."""
    if length <= DEFAULT_MAX_FRAME_SIZE:
        return LENGTHS[length]
    return int(length).to_bytes(3, "big")


def u32(value: i64) -> bytes:
    """A 31-bit number as four bytes: a stream id, a window increment, an error code."""
    return int(value).to_bytes(4, "big")


def frame(kind: int, flags: int, stream_id: i64, payload: bytes) -> bytes:
    """One whole frame."""
    return length_bytes(len(payload)) + bytes((kind, flags)) + u32(stream_id) + payload


def settings_frame(values: list[tuple[int, int]]) -> bytes:
    """SETTINGS with (identifier, value) pairs, in order."""
    payload = b"".join([key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in values])
    return frame(SETTINGS, 0, 0, payload)


def rst_stream_frame(stream_id: i64, code: int) -> bytes:
    """RST_STREAM with an error code."""
    return frame(RST_STREAM, 0, stream_id, u32(code))


def window_update_frame(stream_id: i64, increment: i64) -> bytes:
    """WINDOW_UPDATE; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream_id, u32(increment))


def goaway_frame(last_stream_id: i64, code: int, debug: bytes) -> bytes:
    """GOAWAY with debug data for people."""
    return frame(GOAWAY, 0, 0, u32(last_stream_id) + u32(code) + debug)
