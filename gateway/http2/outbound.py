"""The sending half of a connection: windows, queues, header blocks, and the bytes on their way to the transport.

DATA that a window or the socket does not take waits in its stream's queue; the peer that sent those bytes gets no
credit for them until they left (law: credit passes end to end), so a queue never exceeds one receive window.
"""

from collections import deque
from typing import Final

from mypy_extensions import i64

from gateway.http2.frames import (
    CONTINUATION,
    DATA_END_KIND,
    DATA_KIND,
    DEFAULT_MAX_FRAME_SIZE,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    HEADERS_END_KIND,
    HEADERS_KIND,
    frame,
    length_bytes,
    rst_stream_frame,
    window_update_frame,
)
from gateway.http2.handler import ConnectionHandler, OutputQueue, Wire
from gateway.http2.hpack import Encoder
from gateway.http2.stream import Stream
from gateway.model import Field

# DATA stops being added to a turn's write beyond this: one write stays a few socket buffers long.
OUTPUT_HIGH_WATER: Final = 262_144
# Pieces that wait are joined up to this size: a peer may fill its window with frames of one byte, and an object for
# each of them would take forty times the memory that the window promises.
SMALL_PIECE: Final = 1024
# How many streams that we reset are remembered, so that frames already under way on them are not taken for errors.
REMEMBERED_RESETS: Final = 256


class Outbound:
    """What both roles need to send frames on many streams over one transport."""

    def __init__(self, handler: ConnectionHandler, output: OutputQueue, wire: Wire, stream_window: i64) -> None:
        self.handler = handler
        self.streams: dict[int, Stream] = {}
        self.send_window: i64 = DEFAULT_WINDOW
        self.peer_initial_window: i64 = DEFAULT_WINDOW
        self.peer_max_frame: i64 = DEFAULT_MAX_FRAME_SIZE
        self.stream_window: i64 = stream_window  # what we grant each stream
        self.paused = False  # the transport's buffer is full
        self.closed = False  # nothing will be read any more; what is buffered may still be written
        self.encoder: Final = Encoder()
        self._output_queue: Final = output
        self._wire: Final = wire
        self._dirty = False
        self._out: list[bytes] = []
        self._out_bytes: i64 = 0
        self._backlog: dict[int, Stream] = {}  # streams with queued bytes and an open window of their own
        self._resets: dict[int, bool] = {}  # ids of streams that we reset lately, oldest first
        self._forgotten: i64 = 0  # the highest id that has left that memory

    # --- what the transport asks ---

    def take_output(self) -> bytes:
        """All bytes to write now; the dirty mark is cleared."""
        self._dirty = False
        if not self._out:
            return b""
        data = b"".join(self._out)
        self._out = []
        self._out_bytes = 0
        return data

    def pause(self) -> None:
        """The transport is full: DATA waits in the queues, control frames still go out."""
        self.paused = True

    def resume(self, now: float) -> None:
        """The transport takes bytes again."""
        self.paused = False
        self.pump(now)

    # --- sending ---

    def send_headers(self, stream: Stream, fields: list[Field], end_stream: bool, now: float) -> None:
        """Send a header block: the response's head, or trailers, which follow what is still queued."""
        if stream.local_closed:
            return
        if stream.queued_bytes > 0:
            stream.queued_trailers = fields
            return
        self._emit_headers(stream, fields, end_stream)
        if end_stream:
            stream.local_closed = True
            self._retire(stream, now)

    def send_data(self, stream: Stream, data: bytes, end_stream: bool, now: float) -> i64:
        """Send bytes on a stream; returns how many left at once. ``on_sent`` tells of the others as they leave."""
        size: i64 = len(data)
        if stream.local_closed or stream.queued_end or stream.queued_trailers is not None:
            return 0
        if size == 0 and not end_stream:
            return 0  # says nothing, and only an end may pass without a window (section 6.9)
        taken: i64 = 0
        if stream.queued_bytes == 0:
            allowed = self._allowance(stream)
            if size <= allowed and size <= self.peer_max_frame:
                self._emit_data(stream, data, end_stream)
                if end_stream:
                    stream.local_closed = True
                    self._retire(stream, now)
                return size
            while taken < size and allowed > 0:
                step = min(allowed, self.peer_max_frame, size - taken)
                last = end_stream and taken + step == size
                self._emit_data(stream, data[taken : taken + step], last)
                taken += step
                allowed = self._allowance(stream)
                if last:
                    stream.local_closed = True
                    self._retire(stream, now)
            if taken == size:
                return taken
            data = data[taken:]
        if size > taken:
            queue = stream.queue
            if queue is None:
                queue = deque()
                stream.queue = queue
            if queue and len(queue[-1]) + len(data) <= SMALL_PIECE:
                queue[-1] += data
            else:
                queue.append(data)
            stream.queued_bytes += size - taken
            if stream.send_window > 0:
                self._backlog[int(stream.id)] = stream
        stream.queued_end = end_stream
        return taken

    def _allowance(self, stream: Stream) -> i64:
        """How many bytes of DATA may go out on this stream now. An empty frame needs none."""
        if self.paused or self._out_bytes >= OUTPUT_HIGH_WATER:
            return 0
        return min(self.send_window, stream.send_window) if stream.send_window > 0 else 0

    def reset(self, stream: Stream, code: int, now: float) -> None:
        """End a stream with RST_STREAM, unless it has ended by itself; what is queued on it is dropped."""
        if self.streams.get(int(stream.id)) is not stream:
            return
        if not (stream.local_closed and stream.remote_closed):
            self._emit(rst_stream_frame(stream.id, code))
            self._remember_reset(stream.id)
        stream.local_closed = True
        stream.remote_closed = True
        self._retire(stream, now)

    def _remember_reset(self, stream_id: i64) -> None:
        self._resets[int(stream_id)] = True
        if len(self._resets) > REMEMBERED_RESETS:
            oldest = next(iter(self._resets))
            del self._resets[oldest]
            self._forgotten = max(self._forgotten, oldest)

    def _may_have_reset(self, stream_id: i64) -> bool:
        """Whether we reset this stream that is gone; for one of the older ids the benefit of the doubt is given."""
        return stream_id <= self._forgotten or int(stream_id) in self._resets

    def credit(self, stream: Stream, count: i64) -> None:
        """``count`` received bytes moved on: let the peer send as many again, in half windows."""
        if stream.remote_closed:
            return
        stream.uncredited += count
        if stream.uncredited * 2 >= self.stream_window:
            self._emit(window_update_frame(stream.id, stream.uncredited))
            stream.receive_window += stream.uncredited
            stream.uncredited = 0

    def pump(self, now: float) -> None:
        """Send what waits in the queues, one frame a stream in turn, as far as windows and the transport allow."""
        while self._backlog:
            for stream in list(self._backlog.values()):
                if self.paused or self.send_window <= 0 or self._out_bytes >= OUTPUT_HIGH_WATER:
                    return
                if int(stream.id) in self._backlog:
                    self._send_queued(stream, now)

    def has_ready_backlog(self) -> bool:
        """Whether ``pump`` could send something right after this flush."""
        return bool(self._backlog) and not self.paused and self.send_window > 0

    def has_output(self) -> bool:
        """Whether bytes wait to be written."""
        return bool(self._out)

    def _send_queued(self, stream: Stream, now: float) -> None:
        """One frame from a stream's queue, and what ends the stream if the queue is empty then."""
        queue = stream.queue
        allowed = min(self._allowance(stream), self.peer_max_frame)
        if queue is None or allowed <= 0:
            self._backlog.pop(int(stream.id), None)
            return
        data = queue.popleft()
        if len(data) > allowed:
            queue.appendleft(data[allowed:])
            data = data[:allowed]
        stream.queued_bytes -= len(data)
        drained = stream.queued_bytes == 0
        trailers = stream.queued_trailers
        ended = drained and (stream.queued_end or trailers is not None)
        self._emit_data(stream, data, ended and trailers is None)
        self._backlog.pop(int(stream.id), None)
        if not drained:
            self._backlog[int(stream.id)] = stream  # behind the others: its turn comes again after theirs
        else:
            stream.queued_end = False
            if trailers is not None:
                stream.queued_trailers = None
                self._emit_headers(stream, trailers, True)
        if ended:
            stream.local_closed = True
        stream.handler.on_sent(stream, len(data), now)
        if ended:
            stream.handler.on_local_end(stream, now)
            self._retire(stream, now)

    # --- bytes ---

    def _emit(self, data: bytes) -> None:
        """Add bytes to this turn's write."""
        self._out.append(data)
        self._out_bytes += len(data)
        self._touch()

    def _touch(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._output_queue.add(self._wire)

    def _emit_data(self, stream: Stream, data: bytes, end_stream: bool) -> None:
        size: i64 = len(data)
        out = self._out
        out.append(length_bytes(size))
        out.append(DATA_END_KIND if end_stream else DATA_KIND)
        out.append(stream.wire_id)
        out.append(data)
        self._out_bytes += size + 9
        self.send_window -= size
        stream.send_window -= size
        self._touch()

    def _emit_headers(self, stream: Stream, fields: list[Field], end_stream: bool) -> None:
        block = self.encoder.encode(fields)
        size: i64 = len(block)
        if size > self.peer_max_frame:
            self._emit_long_headers(stream, block, end_stream)
            return
        out = self._out
        out.append(length_bytes(size))
        out.append(HEADERS_END_KIND if end_stream else HEADERS_KIND)
        out.append(stream.wire_id)
        out.append(block)
        self._out_bytes += size + 9
        self._touch()

    def _emit_long_headers(self, stream: Stream, block: bytes, end_stream: bool) -> None:
        """A block larger than a frame: HEADERS, then CONTINUATION frames with nothing in between (section 6.10)."""
        step = self.peer_max_frame
        size: i64 = len(block)
        self._emit(frame(HEADERS, END_STREAM if end_stream else 0, stream.id, block[:step]))
        start = step
        while start < size:
            flags = END_HEADERS if start + step >= size else 0
            self._emit(frame(CONTINUATION, flags, stream.id, block[start : start + step]))
            start += step

    # --- streams ---

    def _retire(self, stream: Stream, now: float) -> None:
        """Take a stream whose halves are both closed off the connection."""
        if not (stream.local_closed and stream.remote_closed):
            return
        stream_id = int(stream.id)
        if self.streams.get(stream_id) is stream:
            del self.streams[stream_id]
            if stream.queue is not None:
                self._backlog.pop(stream_id, None)
                stream.queue = None
                stream.queued_bytes = 0
            self.handler.on_stream_closed(stream, now)
