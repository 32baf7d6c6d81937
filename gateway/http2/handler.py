"""What an HTTP/2 connection asks of the parts above it: base classes that they implement.

A Connection turns bytes into calls of these methods, and never waits for one.
"""

from typing import TYPE_CHECKING

from mypy_extensions import i64, mypyc_attr

from gateway.http2.heads import RequestHead, ResponseHead
from gateway.model import Field

if TYPE_CHECKING:
    from gateway.http2.stream import Stream


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamHandler:
    """Hears the events of one stream. After on_reset, on_violation, on_unprocessed or on_lost the stream is gone."""

    def on_response(self, stream: "Stream", head: ResponseHead, end_stream: bool, now: float) -> None:
        """Client side: the final response headers (interim 1xx responses are left out)."""

    def on_data(self, stream: "Stream", data: bytes, end_stream: bool, now: float) -> None:
        """A DATA frame without its padding. Its bytes are the receiver's to ``credit`` when they have moved on."""

    def on_trailers(self, stream: "Stream", fields: list[Field], now: float) -> None:
        """A header block after the first: trailers, which end the peer's side."""

    def on_reset(self, stream: "Stream", code: int, now: float) -> None:
        """The peer sent RST_STREAM."""

    def on_violation(self, stream: "Stream", code: int, reason: str, now: float) -> None:
        """The peer broke a rule on this stream, which was reset with ``code``."""

    def on_unprocessed(self, stream: "Stream", now: float) -> None:
        """Client side: a GOAWAY says that the server never looked at this stream (RFC 9113 section 6.8)."""

    def on_lost(self, stream: "Stream", reason: str, now: float) -> None:
        """The connection ended under the stream."""

    def on_sent(self, stream: "Stream", count: i64, now: float) -> None:
        """``count`` bytes that had to wait in the stream's queue went out."""

    def on_local_end(self, stream: "Stream", now: float) -> None:
        """END_STREAM, which had to wait behind queued bytes, went out."""


@mypyc_attr(allow_interpreted_subclasses=True)
class ConnectionHandler:
    """Hears the events of a connection as a whole."""

    def on_request(self, stream: "Stream", head: RequestHead, end_stream: bool, now: float) -> None:
        """Server side: a new request. The handler must set ``stream.handler`` before it returns."""

    def on_settings(self, now: float) -> None:
        """The peer's SETTINGS were applied."""

    def on_goaway(self, code: int, reason: str, now: float) -> None:
        """The peer will take no new streams."""

    def on_stream_closed(self, stream: "Stream", now: float) -> None:
        """A stream left the connection, whatever way it ended."""

    def on_shutdown_acked(self, now: float) -> None:
        """Server side: the client knows that it should open no more streams here."""

    def on_connection_lost(self, reason: str, now: float) -> None:
        """The connection is over; its streams hear it right after this."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Wire:
    """The transport under a connection."""

    def flush(self, now: float) -> None:
        """Write what the connection has to say, in one write; close when it says so."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class OutputQueue:
    """The dirty list: the wires to flush at the end of this turn of the loop (one write a connection and turn)."""

    def __init__(self) -> None:
        self.dirty: list[Wire] = []

    def add(self, wire: Wire) -> None:
        """Flush this wire soon. A connection adds its own once, until it is flushed."""
        self.dirty.append(wire)
        if len(self.dirty) == 1:
            self.schedule()

    def schedule(self) -> None:
        """The list has its first entry: arrange for a ``flush_all``."""
        raise NotImplementedError

    def flush_all(self, now: float) -> None:
        """Flush every dirty wire; those that become dirty meanwhile are scheduled anew."""
        wires = self.dirty
        self.dirty = []
        for wire in wires:
            wire.flush(now)
