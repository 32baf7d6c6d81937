"""The receiving half of an HTTP/2 connection: bytes in, events out (RFC 9113), for both roles.

Knows nothing of gRPC, routes or sockets. Every violation has one of two ends: ``fail`` closes the connection with a
GOAWAY, ``_violate`` resets one stream; neither ever raises towards the transport.
"""

from typing import Final

from mypy_extensions import i64

from gateway.errors import (
    H2_COMPRESSION_ERROR,
    H2_ENHANCE_YOUR_CALM,
    H2_FLOW_CONTROL_ERROR,
    H2_FRAME_SIZE_ERROR,
    H2_PROTOCOL_ERROR,
    H2_REFUSED_STREAM,
    H2_STREAM_CLOSED,
)
from gateway.http2.control_frames import ControlFrames
from gateway.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_MAX_FRAME_SIZE,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER_SIZE,
    GOAWAY,
    HEADERS,
    LARGEST_STREAM_ID,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PRIORITY_FLAG,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    goaway_frame,
    rst_stream_frame,
    window_update_frame,
)
from gateway.http2.handler import ConnectionHandler, OutputQueue, StreamHandler, Wire
from gateway.http2.heads import (
    NO_LENGTH,
    RequestHead,
    ResponseHead,
    check_trailers,
    parse_request,
    parse_response,
)
from gateway.http2.hpack import Decoder, HpackError
from gateway.http2.settings import (
    CONNECTION_WINDOW,
    HEADER_TABLE,
    MAX_HEADER_LIST,
    MAX_STREAMS,
)
from gateway.http2.stream import Stream
from gateway.model import Field

# Frames of one header block: enough for the largest list in default frames with room to spare; a flood needs more
# (CVE-2024-27316 and its family).
MAX_CONTINUATIONS: Final = 16
# Compressed bytes of one header block. Past it the decoder's state is lost, so the connection ends.
MAX_BLOCK: Final = 4 * MAX_HEADER_LIST
# How the methods of HTTP/1.1 begin (RFC 9110 section 9, RFC 5789): enough bytes to tell that protocol from others.
HTTP1_METHODS: Final = (b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI", b"DELE", b"PATC", b"CONN", b"TRAC")
METHOD_PREFIX: Final = 4
NOT_HTTP2: Final = b"This port speaks gRPC over HTTP/2 with prior knowledge, and nothing else.\n"


class Connection(ControlFrames):
    """One connection, as a server (towards a client) or as a client (towards a server)."""

    def __init__(self, is_server: bool, handler: ConnectionHandler, output: OutputQueue, wire: Wire) -> None:
        super().__init__(is_server, handler, output, wire)
        self.receive_window: i64 = CONNECTION_WINDOW
        self._uncredited: i64 = 0
        self._tail = b""
        self._decoder: Final = Decoder(HEADER_TABLE, MAX_HEADER_LIST)
        self._block: list[bytes] = []  # the header block that CONTINUATION frames go on with
        self._block_size: i64 = 0
        self._block_stream: i64 = 0  # 0: no block is open
        self._block_ends_stream = False

    def start(self) -> None:
        """Client side: send the preface. A server speaks once it knows that its peer speaks HTTP/2."""
        self._emit(PREFACE)
        self._introduce()

    # --- streams that we open ---

    def can_open(self) -> bool:
        """Whether the peer takes another stream from us now."""
        return (
            not self.closed
            and not self.goaway_received
            and len(self.streams) < self.peer.max_streams
            and self._next_id <= LARGEST_STREAM_ID
        )

    def unused(self) -> bool:
        """Whether no stream was ever opened by us."""
        return self._next_id == 1

    def used_up(self) -> bool:
        """Whether all stream ids were given out: no further stream can ever be opened here (section 5.1.1)."""
        return self._next_id > LARGEST_STREAM_ID

    def open(self, handler: StreamHandler, fields: list[Field], end_stream: bool, now: float) -> Stream:
        """Open a stream with a request. Only when ``can_open``."""
        stream = Stream(self._next_id, handler, self.peer_initial_window, self.stream_window)
        self.streams[int(self._next_id)] = stream
        self._next_id += 2
        self.send_headers(stream, fields, end_stream, now)
        return stream

    # --- bytes in ---

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes as they come, in pieces of any size."""
        if self.closed:
            return
        if self._tail:
            data = self._tail + data
        pos: i64 = 0
        end: i64 = len(data)
        if self._preface_pending:
            if not self._take_preface(data, now):
                return
            pos = len(PREFACE)
        while end - pos >= FRAME_HEADER_SIZE:
            length: i64 = data[pos] << 16 | data[pos + 1] << 8 | data[pos + 2]
            if length > DEFAULT_MAX_FRAME_SIZE:
                self.fail(H2_FRAME_SIZE_ERROR, "a frame is larger than SETTINGS_MAX_FRAME_SIZE", now)
                return
            if end - pos - FRAME_HEADER_SIZE < length:
                break
            stream_id: i64 = (data[pos + 5] & 0x7F) << 24 | data[pos + 6] << 16 | data[pos + 7] << 8 | data[pos + 8]
            start = pos + FRAME_HEADER_SIZE
            self._frame(data[pos + 3], data[pos + 4], stream_id, data[start : start + length], now)
            if self.closed:
                return
            pos = start + length
        self._tail = data[pos:]

    def _take_preface(self, data: bytes, now: float) -> bool:
        """Whether the client's preface is complete; what is not HTTP/2 gets one sentence and is closed."""
        size = min(len(data), len(PREFACE))
        if data[:size] != PREFACE[:size] and size >= METHOD_PREFIX:
            self._refuse_preface(data, now)
            return False
        if size < len(PREFACE):
            self._tail = data
            return False
        self._preface_pending = False
        self._tail = b""
        self._introduce()
        return True

    def _refuse_preface(self, data: bytes, now: float) -> None:
        if data[:METHOD_PREFIX] in HTTP1_METHODS:
            head = f"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: {len(NOT_HTTP2)}\r\n"
            self._emit(head.encode() + b"Connection: close\r\n\r\n" + NOT_HTTP2)
        else:
            self._emit(goaway_frame(0, H2_PROTOCOL_ERROR, b"not the HTTP/2 preface"))
        self.lost("not HTTP/2", now)

    def _frame(self, kind: int, flags: int, stream_id: i64, payload: bytes, now: float) -> None:
        """One whole frame."""
        if self._block_stream and (kind != CONTINUATION or stream_id != self._block_stream):
            self.fail(H2_PROTOCOL_ERROR, "a frame inside a header block", now)
        elif not self.settings_received and (kind != SETTINGS or flags & ACK):
            self.fail(H2_PROTOCOL_ERROR, "the first frame is not SETTINGS", now)
        elif kind == DATA:
            self._on_data(flags, stream_id, payload, now)
        elif kind == HEADERS:
            self._on_headers(flags, stream_id, payload, now)
        elif kind == WINDOW_UPDATE:
            self._on_window_update(stream_id, payload, now)
        elif kind == SETTINGS:
            self._on_settings(flags, stream_id, payload, now)
        elif kind == RST_STREAM:
            self._on_rst_stream(stream_id, payload, now)
        elif kind == PING:
            self._on_ping(flags, stream_id, payload, now)
        elif kind == CONTINUATION:
            self._on_continuation(flags, payload, now)
        elif kind == GOAWAY:
            self._on_goaway(stream_id, payload, now)
        elif kind == PRIORITY:
            self._on_priority(stream_id, payload, now)
        elif kind == PUSH_PROMISE:
            self.fail(H2_PROTOCOL_ERROR, "PUSH_PROMISE, which we never allow", now)
        # Unknown types are ignored (section 4.1).

    # --- DATA ---

    def _on_data(self, flags: int, stream_id: i64, payload: bytes, now: float) -> None:
        length: i64 = len(payload)
        if flags & PADDED:
            if length == 0:
                self.fail(H2_FRAME_SIZE_ERROR, "DATA without its padding length", now)
                return
            if payload[0] >= length:
                self.fail(H2_PROTOCOL_ERROR, "DATA is shorter than its padding", now)
                return
            payload = payload[1 : length - payload[0]]
        if self._is_idle(stream_id):
            self.fail(H2_PROTOCOL_ERROR, "DATA on an idle stream", now)
            return
        self.receive_window -= length
        if self.receive_window < 0:
            self.fail(H2_FLOW_CONTROL_ERROR, "DATA beyond the connection's window", now)
            return
        self._credit_connection(length)
        stream = self.streams.get(int(stream_id))
        if stream is None or stream.remote_closed:
            self._on_closed_stream(stream_id, stream, now)
            return
        stream.receive_window -= length
        if stream.receive_window < 0:
            self._violate(stream, H2_FLOW_CONTROL_ERROR, "DATA beyond the stream's window", now)
            return
        size: i64 = len(payload)
        end_stream = flags & END_STREAM != 0
        if not stream.headers_received:
            self._violate(stream, H2_PROTOCOL_ERROR, "DATA before HEADERS", now)
            return
        if stream.content_left != NO_LENGTH:
            stream.content_left -= size
            if stream.content_left < 0 or (end_stream and stream.content_left > 0):
                self._violate(stream, H2_PROTOCOL_ERROR, "content-length is not the length of the content", now)
                return
        if end_stream:
            stream.remote_closed = True
        elif size < length:
            self.credit(stream, length - size)
        stream.handler.on_data(stream, payload, end_stream, now)
        if end_stream:
            self._retire(stream, now)

    def _credit_connection(self, length: i64) -> None:
        self._uncredited += length
        if self._uncredited * 2 >= CONNECTION_WINDOW:
            self._emit(window_update_frame(0, self._uncredited))
            self.receive_window += self._uncredited
            self._uncredited = 0

    def _on_closed_stream(self, stream_id: i64, stream: Stream | None, now: float) -> None:
        """DATA or HEADERS after the peer's side was closed (section 5.1, "closed" and "half-closed (remote)")."""
        if stream is not None:
            self._violate(stream, H2_STREAM_CLOSED, "a frame after END_STREAM", now)
        elif not self._may_have_reset(stream_id):
            self.fail(H2_STREAM_CLOSED, "a frame on a closed stream", now)
        # Else it was on its way when we reset the stream.

    # --- HEADERS and CONTINUATION ---

    def _on_headers(self, flags: int, stream_id: i64, payload: bytes, now: float) -> None:
        start: i64 = 0
        end: i64 = len(payload)
        if flags & PADDED:
            start = 1
        if flags & PRIORITY_FLAG:
            start += 5  # deprecated, read and dropped (section 5.3.2)
        if start > end:
            self.fail(H2_FRAME_SIZE_ERROR, "HEADERS without its padding length or priority", now)
            return
        if flags & PADDED:
            end -= payload[0]
            if start > end:
                self.fail(H2_PROTOCOL_ERROR, "HEADERS is shorter than its padding", now)
                return
        if stream_id & 1 == 0 or (not self.is_server and self._is_idle(stream_id)):
            self.fail(H2_PROTOCOL_ERROR, "HEADERS on a stream that the peer cannot open", now)
            return
        self._block_ends_stream = flags & END_STREAM != 0
        if start > 0 or end < len(payload):
            payload = payload[start:end]
        if flags & END_HEADERS:
            self._on_block(stream_id, payload, now)
        else:
            self._block_stream = stream_id
            self._block = [payload]
            self._block_size = len(payload)

    def _on_continuation(self, flags: int, payload: bytes, now: float) -> None:
        if not self._block_stream:
            self.fail(H2_PROTOCOL_ERROR, "CONTINUATION without a header block", now)
            return
        self._block.append(payload)
        self._block_size += len(payload)
        if flags & END_HEADERS:
            stream_id = self._block_stream
            self._block_stream = 0
            block = b"".join(self._block)
            self._block = []
            self._on_block(stream_id, block, now)
        elif self._block_size > MAX_BLOCK or len(self._block) > MAX_CONTINUATIONS:
            self.fail(H2_ENHANCE_YOUR_CALM, "a header block without end", now)

    def _on_block(self, stream_id: i64, block: bytes, now: float) -> None:
        """A complete header block. It is decoded whatever becomes of its stream: the table must stay in step."""
        try:
            fields = self._decoder.decode(block)
        except HpackError as error:
            self.fail(H2_COMPRESSION_ERROR, str(error), now)
            return
        stream = self.streams.get(int(stream_id))
        if stream is not None:
            if stream.remote_closed:
                self._violate(stream, H2_STREAM_CLOSED, "HEADERS after END_STREAM", now)
            elif stream.headers_received:
                self._on_trailers(stream, fields, now)
            else:
                self._on_response(stream, fields, now)
        elif self.is_server and stream_id > self._last_peer_id:
            self._on_request(stream_id, fields, now)
        else:
            self._on_closed_stream(stream_id, None, now)

    def _on_request(self, stream_id: i64, fields: list[Field], now: float) -> None:
        self._last_peer_id = stream_id
        end_stream = self._block_ends_stream
        head = RequestHead()
        head.oversized = self._decoder.oversized
        problem = parse_request(fields, head)
        if not problem and end_stream and head.content_length > 0:
            problem = "content-length without content"
        if problem and not head.oversized:
            self._refuse(stream_id, H2_PROTOCOL_ERROR)
            return
        if len(self.streams) >= MAX_STREAMS or self.shutdown_acked:
            self._refuse(stream_id, H2_REFUSED_STREAM)
            return
        stream = Stream(stream_id, NO_HANDLER, self.peer_initial_window, self.stream_window)
        stream.headers_received = True
        stream.remote_closed = end_stream
        stream.content_left = head.content_length
        self.streams[int(stream_id)] = stream
        self.handler.on_request(stream, head, end_stream, now)

    def _refuse(self, stream_id: i64, code: int) -> None:
        """Reset a stream that never became one."""
        self._emit(rst_stream_frame(stream_id, code))
        self._remember_reset(stream_id)

    def _on_response(self, stream: Stream, fields: list[Field], now: float) -> None:
        head = ResponseHead()
        end_stream = self._block_ends_stream
        problem = parse_response(fields, head)
        if self._decoder.oversized:
            self._violate(stream, H2_ENHANCE_YOUR_CALM, f"response headers above {MAX_HEADER_LIST} bytes", now)
        elif problem or head.status == 101 or (head.status < 200 and end_stream):
            self._violate(stream, H2_PROTOCOL_ERROR, problem or "an interim response that ends the stream", now)
        elif head.status >= 200:  # interim responses mean nothing to gRPC
            if end_stream and head.content_length > 0:
                self._violate(stream, H2_PROTOCOL_ERROR, "content-length without content", now)
                return
            stream.headers_received = True
            stream.content_left = head.content_length
            stream.remote_closed = end_stream
            stream.handler.on_response(stream, head, end_stream, now)
            if end_stream:
                self._retire(stream, now)

    def _on_trailers(self, stream: Stream, fields: list[Field], now: float) -> None:
        problem = check_trailers(fields)
        if not self._block_ends_stream:
            problem = "a second header block without END_STREAM"
        elif stream.content_left > 0:
            problem = "content-length is not the length of the content"
        if problem:
            self._violate(stream, H2_PROTOCOL_ERROR, problem, now)
        elif self._decoder.oversized:
            self._violate(stream, H2_ENHANCE_YOUR_CALM, f"trailers above {MAX_HEADER_LIST} bytes", now)
        else:
            stream.remote_closed = True
            stream.handler.on_trailers(stream, fields, now)
            self._retire(stream, now)


NO_HANDLER: Final = StreamHandler()
