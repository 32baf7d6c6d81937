"""One try of a call at one endpoint: the upstream half of the forwarding.

Turns what the server does into one of three things for its call: a response to pass on, an end to pass on, or a
failure with its reason and with what is known about whether the server saw the call.
"""

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from gateway.errors import (
    FROM_GATEWAY,
    FROM_UPSTREAM,
    H2_CANCEL,
    H2_NO_ERROR,
    H2_REFUSED_STREAM,
    INTERNAL,
    RETRY_NEVER,
    RETRY_ONCE,
    UNAVAILABLE,
    UNKNOWN,
    GatewayError,
    h2_name,
    status_of_http,
    status_of_reset,
)
from gateway.http2.connection import NO_HANDLER, Connection
from gateway.http2.handler import StreamHandler
from gateway.http2.heads import ResponseHead
from gateway.http2.stream import Stream
from gateway.model import Endpoint, Field
from gateway.proxy.metadata import first_value, is_grpc, parse_status
from gateway.proxy.upstream import Pool, UpstreamLink

if TYPE_CHECKING:
    from gateway.proxy.call import Call


class Attempt(StreamHandler):
    """Waits for a link, sends the request on it, and hears the answer."""

    def __init__(self, call: "Call", endpoint: Endpoint, pool: Pool) -> None:
        self.call: Final = call
        self.endpoint: Final = endpoint
        self.pool: Final = pool
        self.ticket: i64 = -1  # the place in the pool's queue
        self.connection: Connection | None = None
        self.stream: Stream | None = None
        self.resent: i64 = 0  # bytes to send again that an earlier attempt was credited for
        self.ended = False
        endpoint.active += 1
        endpoint.started += 1

    # --- what the pool says ---

    def on_link(self, link: UpstreamLink, now: float) -> None:
        """There is a connection: send the request."""
        connection = link.connection
        assert connection is not None
        self.ticket = -1
        self.connection = connection
        self.call.open_on(self, connection, now)

    def on_no_link(self, error: GatewayError, now: float) -> None:
        """There will be none."""
        self.ticket = -1
        self._fail(error, now)

    # --- the request's way ---

    def send(self, data: bytes, end_stream: bool, now: float) -> None:
        """Pass request bytes on, and credit the client for those that left."""
        connection = self.connection
        stream = self.stream
        if connection is not None and stream is not None:
            self._credit(connection.send_data(stream, data, end_stream, now))

    def send_trailers(self, fields: list[Field], now: float) -> None:
        """Request trailers, which gRPC does not use, pass like everything else."""
        connection = self.connection
        stream = self.stream
        if connection is not None and stream is not None:
            connection.send_headers(stream, fields, True, now)

    def _credit(self, count: i64) -> None:
        again = min(count, self.resent)
        self.resent -= again
        if count > again:
            self.call.credit_request(count - again)

    def on_sent(self, stream: Stream, count: i64, now: float) -> None:
        """Queued request bytes left."""
        self._credit(count)

    # --- the response's way ---

    def on_response(self, stream: Stream, head: ResponseHead, end_stream: bool, now: float) -> None:
        """The response's first header block."""
        content_type = first_value(head.fields, b"content-type")
        if head.status != 200:
            status = first_value(head.fields, b"grpc-status")
            code = parse_status(status) if status else -1
            if code < 0:
                code = status_of_http(head.status)
            self._refuse(code, f"{self.endpoint.address} answered HTTP status {head.status}", now)
        elif end_stream:
            self._end_with(head.fields, True, now)
        elif not is_grpc(content_type):
            said = content_type.decode("latin-1") or "nothing"
            self._refuse(UNKNOWN, f"{self.endpoint.address} answered with content-type {said}, not gRPC", now)
        else:
            self.call.start_response(head.fields, now)

    def on_data(self, stream: Stream, data: bytes, end_stream: bool, now: float) -> None:
        """Response bytes. A gRPC response never ends with them (PROTOCOL-HTTP2.md, "Responses")."""
        self.call.pass_response(data, now)
        if end_stream and not self.ended:
            self._refuse(INTERNAL, f"{self.endpoint.address} ended the stream without sending trailers", now)

    def on_trailers(self, stream: Stream, fields: list[Field], now: float) -> None:
        """The regular end."""
        self._end_with(fields, False, now)

    def _end_with(self, fields: list[Field], only: bool, now: float) -> None:
        """Pass the server's own end on. It outranks everything that may still happen to the stream."""
        status = first_value(fields, b"grpc-status")
        code = parse_status(status) if status else -1
        if code < 0 and only:
            self._refuse(UNKNOWN, f"{self.endpoint.address} ended the call without a grpc-status", now)
            return
        if code < 0:
            fields = [field for field in fields if field.name != b"grpc-status"]
            fields.append(Field(b"grpc-status", b"%d" % UNKNOWN))
            code = UNKNOWN
        self.release(H2_NO_ERROR, now)
        self.call.end_response(fields, only, code, now)

    # --- the ways it can break ---

    def _refuse(self, code: int, reason: str, now: float) -> None:
        """The server answered with something that is not a gRPC answer."""
        self._fail(GatewayError(code, FROM_UPSTREAM, RETRY_NEVER, reason), now)

    def on_reset(self, stream: Stream, code: int, now: float) -> None:
        """The server reset the stream; REFUSED_STREAM says that no application saw it."""
        retry = RETRY_ONCE if code == H2_REFUSED_STREAM else RETRY_NEVER
        reason = f"{self.endpoint.address} reset the stream: {h2_name(code)}"
        self._fail(GatewayError(status_of_reset(code), FROM_UPSTREAM, retry, reason), now)

    def on_violation(self, stream: Stream, code: int, reason: str, now: float) -> None:
        """The server broke HTTP/2's rules on this stream."""
        text = f"{self.endpoint.address} broke HTTP/2 on this stream: {reason}"
        self._fail(GatewayError(status_of_reset(code), FROM_UPSTREAM, RETRY_NEVER, text), now)

    def on_unprocessed(self, stream: Stream, now: float) -> None:
        """The server's GOAWAY left this stream out."""
        text = f"{self.endpoint.address} is going away and did not process the call"
        self._fail(GatewayError(UNAVAILABLE, FROM_UPSTREAM, RETRY_ONCE, text), now)

    def on_lost(self, stream: Stream, reason: str, now: float) -> None:
        """The connection broke: the server may have seen the call."""
        text = f"connection to {self.endpoint.address} lost: {reason}"
        self._fail(GatewayError(UNAVAILABLE, FROM_GATEWAY, RETRY_NEVER, text), now)

    def _fail(self, error: GatewayError, now: float) -> None:
        if not self.ended:
            self.endpoint.failed += 1
            self.release(H2_CANCEL, now)
            self.call.attempt_failed(self, error, now)

    def release(self, code: int, now: float) -> None:
        """Let go of the endpoint: leave the queue, or reset the stream with ``code`` if it is still open."""
        if self.ended:
            return
        self.ended = True
        self.endpoint.active -= 1
        if self.ticket >= 0:
            self.pool.forget(self)
            self.ticket = -1
        connection = self.connection
        stream = self.stream
        if connection is not None and stream is not None:
            connection.reset(stream, code, now)
            stream.handler = NO_HANDLER  # cuts the cycle: no collector is needed
