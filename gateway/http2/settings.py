"""What we announce to peers, and the checks on what they announce (RFC 9113 section 6.5)."""

from typing import Final

from gateway.http2 import frames
from gateway.http2.frames import settings_frame

# A stream's receive window: how much of a message may wait in memory for a slow receiver. Large enough for gigabits
# within a data centre's round trip, small enough that a thousand stalled streams stay within 128 MiB.
STREAM_WINDOW: Final = 131_072
# The connection's receive window is credited on receipt, so that a stalled stream never stalls its neighbours; it only
# bounds what can arrive between two turns of the loop.
CONNECTION_WINDOW: Final = 1_048_576
# Streams a client may have open on one connection. Envoy's number; clients that need more open another connection.
MAX_STREAMS: Final = 1024
# The size of a decoded header list (names, values and 32 for each field). Envoy allows 60 KiB, gRPC suggests 8 KiB.
MAX_HEADER_LIST: Final = 65_536
# The decoder's table; the protocol's default, and what every anchor uses.
HEADER_TABLE: Final = 4096
# Entries in one SETTINGS frame; more is a way to make us work (nghttp2's limit).
MAX_SETTINGS: Final = 32


class PeerSettings:
    """The values that a peer announced; the protocol's defaults until then."""

    def __init__(self) -> None:
        self.header_table = 4096
        self.max_streams = frames.LARGEST_STREAM_ID
        self.initial_window = frames.DEFAULT_WINDOW
        self.max_frame = frames.DEFAULT_MAX_FRAME_SIZE


def announcement(is_server: bool) -> bytes:
    """The SETTINGS frame that opens our side."""
    values = [
        (frames.INITIAL_WINDOW_SIZE, STREAM_WINDOW),
        (frames.MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST),
    ]
    if is_server:
        values.append((frames.MAX_CONCURRENT_STREAMS, MAX_STREAMS))
    else:
        values.append((frames.ENABLE_PUSH, 0))
    return settings_frame(values)


class SettingsError:
    """An error code and a sentence about a SETTINGS frame that breaks a rule."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason


def apply_settings(peer: PeerSettings, payload: bytes, from_server: bool) -> SettingsError | None:
    """Take a SETTINGS payload, whose length is a multiple of six; unknown settings are ignored (section 6.5.2)."""
    if len(payload) > MAX_SETTINGS * 6:
        return SettingsError(0xB, "too many settings in one frame")
    for start in range(0, len(payload), 6):
        key = payload[start] << 8 | payload[start + 1]
        value = payload[start + 2] << 24 | payload[start + 3] << 16 | payload[start + 4] << 8 | payload[start + 5]
        if key == frames.INITIAL_WINDOW_SIZE:
            if value > frames.LARGEST_WINDOW:
                return SettingsError(0x3, "INITIAL_WINDOW_SIZE above 2^31-1")
            peer.initial_window = value
        elif key == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_MAX_FRAME_SIZE <= value <= frames.LARGEST_MAX_FRAME_SIZE:
                return SettingsError(0x1, "MAX_FRAME_SIZE out of range")
            peer.max_frame = value
        elif key == frames.MAX_CONCURRENT_STREAMS:
            peer.max_streams = value
        elif key == frames.HEADER_TABLE_SIZE:
            peer.header_table = value
        elif key == frames.ENABLE_PUSH and (value > 1 or (value == 1 and from_server)):
            return SettingsError(0x1, "ENABLE_PUSH is neither 0 nor 1, or 1 from a server")
    return None
