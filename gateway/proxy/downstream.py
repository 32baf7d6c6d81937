"""A client's connection: turns its requests into calls, and leaves when it is told to drain."""

from typing import TYPE_CHECKING, Final

from gateway.http2.connection import Connection
from gateway.http2.handler import ConnectionHandler
from gateway.http2.heads import RequestHead
from gateway.http2.stream import Stream
from gateway.model import Outcome
from gateway.proxy.call import Call
from gateway.proxy.metadata import first_value, is_grpc
from gateway.proxy.replies import reply_http

if TYPE_CHECKING:
    from gateway.proxy.proxy import Proxy


class Downstream(ConnectionHandler):
    """One client's connection."""

    def __init__(self, proxy: "Proxy") -> None:
        self.proxy: Final = proxy
        self.peer_host = ""  # the client's IP address; empty on a unix socket
        self.peer_port = 0
        self.number = -1  # the place among the proxy's connections
        self.connection: Connection | None = None

    def connected(self, connection: Connection) -> None:
        """The transport is there."""
        self.connection = connection
        self.proxy.downstream_opened(self)
        if self.proxy.draining:  # accepted just before the listener closed
            connection.announce_shutdown()

    def on_request(self, stream: Stream, head: RequestHead, end_stream: bool, now: float) -> None:
        """A new request: gRPC becomes a call, anything else gets its HTTP answer."""
        connection = self.connection
        assert connection is not None
        if head.oversized or (head.method == b"POST" and is_grpc(first_value(head.fields, b"content-type"))):
            outcome = Outcome(head.path, head.authority, self.peer_host, self.peer_port, now)
            call = Call(self.proxy, connection, stream, head, outcome)
            stream.handler = call
            self.proxy.calls += 1
            call.begin(end_stream, now)
        elif head.method != b"POST":
            reply_http(connection, stream, 405, b"POST", "gRPC calls are POST requests.", now)
        else:
            reply_http(connection, stream, 415, b"", "gRPC calls have a content-type of application/grpc.", now)

    def drain(self, now: float) -> None:
        """Ask the client to take its next calls elsewhere; those under way finish."""
        connection = self.connection
        if connection is None:
            return
        if connection.settings_received:
            connection.announce_shutdown()
        else:
            # It has not spoken HTTP/2 yet, and would not understand a GOAWAY.
            connection.lost("drained", now)

    def on_shutdown_acked(self, now: float) -> None:
        """The client knows; an idle connection can go."""
        self.close_if_drained(now)

    def on_stream_closed(self, stream: Stream, now: float) -> None:
        """The last stream of a draining connection takes it along."""
        self.close_if_drained(now)

    def close_if_drained(self, now: float) -> None:
        """End a draining connection without streams, once its client knows or has had the time to."""
        connection = self.connection
        if connection is None or connection.streams:
            return
        if connection.shutdown_acked or self.proxy.drain_patience_over:
            connection.close("drained", now)

    def on_connection_lost(self, reason: str, now: float) -> None:
        """The connection is over; its calls hear it from their streams."""
        self.proxy.downstream_closed(self)
