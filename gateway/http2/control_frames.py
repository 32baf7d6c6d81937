"""The frames that carry no content: settings, windows, pings, resets and farewells (RFC 9113 section 6).

With them come the ends that a connection or a stream can have. Every violation has one of two: ``fail`` closes the
connection with a GOAWAY, ``_violate`` resets one stream.
"""

from typing import Final

from mypy_extensions import i64

from gateway.errors import (
    H2_FLOW_CONTROL_ERROR,
    H2_FRAME_SIZE_ERROR,
    H2_NO_ERROR,
    H2_PROTOCOL_ERROR,
    h2_name,
)
from gateway.http2.frames import (
    ACK,
    DEFAULT_WINDOW,
    LARGEST_STREAM_ID,
    LARGEST_WINDOW,
    PING,
    SETTINGS,
    frame,
    goaway_frame,
    window_update_frame,
)
from gateway.http2.handler import ConnectionHandler, OutputQueue, Wire
from gateway.http2.outbound import Outbound
from gateway.http2.settings import CONNECTION_WINDOW, STREAM_WINDOW, PeerSettings, announcement, apply_settings
from gateway.http2.stream import Stream

# Opaque data of the PING between the two GOAWAYs of a graceful shutdown (RFC 9113 section 6.8).
SHUTDOWN_PING: Final = b"shutdown"


class ControlFrames(Outbound):
    """What both ends tell each other about the connection itself, and how it ends."""

    def __init__(self, is_server: bool, handler: ConnectionHandler, output: OutputQueue, wire: Wire) -> None:
        super().__init__(handler, output, wire, STREAM_WINDOW)
        self.is_server: Final = is_server
        self.peer: Final = PeerSettings()
        self.settings_received = False
        self.goaway_received = False  # the peer takes no new streams
        self.goaway_sent = False  # we asked the peer to open no new streams
        self.shutdown_acked = False  # and it knows
        self.failure = ""  # why the connection ended, once it has
        self._preface_pending = is_server
        self._last_peer_id: i64 = 0  # the highest stream the client opened (server side)
        self._next_id: i64 = 1  # the stream we open next (client side)

    def _introduce(self) -> None:
        """Our SETTINGS, and the connection's whole window."""
        self._emit(announcement(self.is_server))
        self._emit(window_update_frame(0, CONNECTION_WINDOW - DEFAULT_WINDOW))
        if self.goaway_sent:
            self._say_shutdown()

    # --- the end of the connection, or of a stream ---

    def announce_shutdown(self) -> None:
        """First step of a graceful end: no stream is refused that the client opened before it can know."""
        if not self.goaway_sent and not self.closed:
            self.goaway_sent = True
            if not self._preface_pending:  # else SETTINGS must come first
                self._say_shutdown()

    def _say_shutdown(self) -> None:
        self._emit(goaway_frame(LARGEST_STREAM_ID if self.is_server else 0, H2_NO_ERROR, b"shutting down"))
        self._emit(frame(PING, 0, 0, SHUTDOWN_PING))

    def fail(self, code: int, reason: str, now: float) -> None:
        """End the connection because its peer broke a rule."""
        if not self.closed:
            self._emit(goaway_frame(self._last_peer_id, code, reason.encode()))
            self.lost(f"{h2_name(code)}: {reason}", now)

    def close(self, reason: str, now: float) -> None:
        """End the connection from our side, streams and all, with a GOAWAY that blames nobody."""
        if not self.closed:
            self._emit(goaway_frame(self._last_peer_id, H2_NO_ERROR, reason.encode()))
            self.lost(reason, now)

    def lost(self, reason: str, now: float) -> None:
        """The connection is over. Every stream hears it once; output that is left may still be written."""
        if self.closed:
            return
        self.closed = True
        self.failure = reason
        self._touch()
        self.handler.on_connection_lost(reason, now)
        for stream in list(self.streams.values()):
            if self.streams.get(int(stream.id)) is stream:
                stream.local_closed = True
                stream.remote_closed = True
                self._retire(stream, now)
                stream.handler.on_lost(stream, reason, now)

    def _violate(self, stream: Stream, code: int, reason: str, now: float) -> None:
        """The peer broke a rule on a stream: reset it, and tell whoever uses it."""
        self.reset(stream, code, now)
        stream.handler.on_violation(stream, code, reason, now)

    def _is_idle(self, stream_id: i64) -> bool:
        """Whether this stream has not been opened yet; the stream 0 counts as that, too (section 5.1.1)."""
        if stream_id == 0 or stream_id & 1 == 0:
            return True
        return stream_id > self._last_peer_id if self.is_server else stream_id >= self._next_id

    # --- frames of the peer ---

    def _on_rst_stream(self, stream_id: i64, payload: bytes, now: float) -> None:
        if len(payload) != 4:
            self.fail(H2_FRAME_SIZE_ERROR, "RST_STREAM of a wrong size", now)
        elif self._is_idle(stream_id):
            self.fail(H2_PROTOCOL_ERROR, "RST_STREAM on an idle stream", now)
        else:
            stream = self.streams.get(int(stream_id))
            if stream is not None:
                stream.local_closed = True
                stream.remote_closed = True
                self._retire(stream, now)
                stream.handler.on_reset(stream, number(payload, 0), now)

    def _on_window_update(self, stream_id: i64, payload: bytes, now: float) -> None:
        if len(payload) != 4:
            self.fail(H2_FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size", now)
            return
        increment: i64 = number(payload, 0) & LARGEST_WINDOW
        if stream_id == 0:
            if increment == 0:
                self.fail(H2_PROTOCOL_ERROR, "a window increment of 0", now)
            elif self.send_window + increment > LARGEST_WINDOW:
                self.fail(H2_FLOW_CONTROL_ERROR, "the connection's window above 2^31-1", now)
            else:
                self.send_window += increment
                self.pump(now)
            return
        if self._is_idle(stream_id):
            self.fail(H2_PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream", now)
            return
        stream = self.streams.get(int(stream_id))
        if stream is None:
            return
        if increment == 0:
            self._violate(stream, H2_PROTOCOL_ERROR, "a window increment of 0", now)
        elif stream.send_window + increment > LARGEST_WINDOW:
            self._violate(stream, H2_FLOW_CONTROL_ERROR, "the stream's window above 2^31-1", now)
        else:
            self._widen(stream, increment)
            self.pump(now)

    def _widen(self, stream: Stream, increment: i64) -> None:
        stream.send_window += increment
        if stream.queued_bytes > 0 and stream.send_window > 0:
            self._backlog[int(stream.id)] = stream

    def _on_settings(self, flags: int, stream_id: i64, payload: bytes, now: float) -> None:
        if stream_id != 0:
            self.fail(H2_PROTOCOL_ERROR, "SETTINGS on a stream", now)
        elif len(payload) % 6 != 0 or (flags & ACK and payload):
            self.fail(H2_FRAME_SIZE_ERROR, "SETTINGS of a wrong size", now)
        elif not flags & ACK:
            error = apply_settings(self.peer, payload, not self.is_server)
            if error is not None:
                self.fail(error.code, error.reason, now)
                return
            self.settings_received = True
            self._emit(frame(SETTINGS, ACK, 0, b""))
            self._use_settings(now)
            self.handler.on_settings(now)

    def _use_settings(self, now: float) -> None:
        """Settings act on what is open, too: a window change applies to every stream (section 6.9.2)."""
        self.encoder.set_max_table_size(self.peer.header_table)
        self.peer_max_frame = self.peer.max_frame
        change: i64 = self.peer.initial_window - self.peer_initial_window
        self.peer_initial_window = self.peer.initial_window
        if change == 0:
            return
        for stream in list(self.streams.values()):
            if stream.send_window + change > LARGEST_WINDOW:
                self.fail(H2_FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE takes a window above 2^31-1", now)
                return
            self._widen(stream, change)
        self.pump(now)

    def _on_ping(self, flags: int, stream_id: i64, payload: bytes, now: float) -> None:
        if stream_id != 0:
            self.fail(H2_PROTOCOL_ERROR, "PING on a stream", now)
        elif len(payload) != 8:
            self.fail(H2_FRAME_SIZE_ERROR, "PING of a wrong size", now)
        elif not flags & ACK:
            self._emit(frame(PING, ACK, 0, payload))
        elif payload == SHUTDOWN_PING and self.goaway_sent and self.is_server and not self.shutdown_acked:
            # Every stream opened before the client saw the first GOAWAY is here: now say which was the last.
            self.shutdown_acked = True
            self._emit(goaway_frame(self._last_peer_id, H2_NO_ERROR, b"shutting down"))
            self.handler.on_shutdown_acked(now)

    def _on_goaway(self, stream_id: i64, payload: bytes, now: float) -> None:
        if stream_id != 0:
            self.fail(H2_PROTOCOL_ERROR, "GOAWAY on a stream", now)
        elif len(payload) < 8:
            self.fail(H2_FRAME_SIZE_ERROR, "GOAWAY of a wrong size", now)
        else:
            self.goaway_received = True
            last_id: i64 = number(payload, 0) & LARGEST_STREAM_ID
            code = number(payload, 4)
            self.handler.on_goaway(code, payload[8:].decode("utf-8", "replace"), now)
            if not self.is_server:
                self._drop_unprocessed(last_id, now)

    def _drop_unprocessed(self, last_id: i64, now: float) -> None:
        """Streams beyond a GOAWAY's last id were never looked at: safe to try elsewhere (section 6.8)."""
        for stream in list(self.streams.values()):
            if stream.id > last_id and self.streams.get(int(stream.id)) is stream:
                stream.local_closed = True
                stream.remote_closed = True
                self._retire(stream, now)
                stream.handler.on_unprocessed(stream, now)

    def _on_priority(self, stream_id: i64, payload: bytes, now: float) -> None:
        """Deprecated by RFC 9113; only its form is checked."""
        if stream_id == 0:
            self.fail(H2_PROTOCOL_ERROR, "PRIORITY on stream 0", now)
        elif len(payload) != 5:
            stream = self.streams.get(int(stream_id))
            if stream is not None:
                self._violate(stream, H2_FRAME_SIZE_ERROR, "PRIORITY of a wrong size", now)
            else:  # where no stream is, none can be reset
                self.fail(H2_FRAME_SIZE_ERROR, "PRIORITY of a wrong size", now)


def number(payload: bytes, start: i64) -> int:
    """Four bytes as an unsigned number."""
    return payload[start] << 24 | payload[start + 1] << 16 | payload[start + 2] << 8 | payload[start + 3]
