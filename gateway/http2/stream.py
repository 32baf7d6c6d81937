"""One HTTP/2 stream: its windows, its two halves, and what waits to be sent on it (RFC 9113 section 5.1).

The states of the RFC are the two flags: open (neither closed), half-closed (local or remote), closed (both, and the
stream leaves its connection). Idle and long-closed streams have no object; the connection knows them by their ids.
"""

from collections import deque

from mypy_extensions import i64

from gateway.http2.frames import u32
from gateway.http2.handler import StreamHandler
from gateway.http2.heads import NO_LENGTH
from gateway.model import Field


class Stream:
    """The state of one stream; only its connection writes to it, save ``handler``."""

    def __init__(self, stream_id: i64, handler: StreamHandler, send_window: i64, receive_window: i64) -> None:
        self.id: i64 = stream_id
        self.wire_id = u32(stream_id)
        self.handler = handler
        self.send_window: i64 = send_window  # may be negative after a SETTINGS change (section 6.9.2)
        self.receive_window: i64 = receive_window
        self.uncredited: i64 = 0  # bytes that moved on, not yet returned in a WINDOW_UPDATE
        self.headers_received = False
        self.remote_closed = False  # END_STREAM received
        self.local_closed = False  # END_STREAM sent
        self.content_left: i64 = NO_LENGTH  # what content-length promised and has not come
        self.queue: deque[bytes] | None = None  # bytes that windows or the socket did not take yet
        self.queued_bytes: i64 = 0
        self.queued_trailers: list[Field] | None = None  # follow the queue, and end the stream
        self.queued_end = False  # END_STREAM follows the queue

    def has_backlog(self) -> bool:
        """Whether something waits to be sent."""
        return self.queued_bytes > 0 or self.queued_end or self.queued_trailers is not None
