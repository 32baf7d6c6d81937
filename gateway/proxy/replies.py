"""Answers that the gateway gives itself: gRPC statuses, and short HTTP bodies for what is not gRPC."""

from typing import Final

from gateway.http2.connection import Connection
from gateway.http2.handler import StreamHandler
from gateway.http2.stream import Stream
from gateway.model import Field
from gateway.proxy.metadata import STATUS_200, percent_encode

CONTENT_TYPE_GRPC: Final = Field(b"content-type", b"application/grpc")
CONTENT_TYPE_TEXT: Final = Field(b"content-type", b"text/plain; charset=utf-8")
# grpc-message is for people; peers refuse header lists of more than a few KiB.
MAX_MESSAGE: Final = 1024


def status_fields(code: int, reason: str) -> list[Field]:
    """grpc-status and grpc-message: the trailers of a call that the gateway ends."""
    fields = [Field(b"grpc-status", b"%d" % code)]
    if reason:
        fields.append(Field(b"grpc-message", percent_encode(reason[:MAX_MESSAGE])))
    return fields


def trailers_only(code: int, reason: str) -> list[Field]:
    """A whole response in one header block (PROTOCOL-HTTP2.md, "Trailers-Only")."""
    return [STATUS_200, CONTENT_TYPE_GRPC, *status_fields(code, reason)]


class Discard(StreamHandler):
    """Reads the rest of a request that was answered already, and lets its sender go on."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def on_data(self, stream: Stream, data: bytes, end_stream: bool, now: float) -> None:
        """Drop the bytes; their room in the window is free again."""
        self.connection.credit(stream, len(data))


def reply_http(connection: Connection, stream: Stream, status: int, allow: bytes, text: str, now: float) -> None:
    """A plain HTTP answer with one sentence. The stream stays under HTTP/2's rules until the client ends it."""
    stream.handler = Discard(connection)
    body = text.encode() + b"\n"
    fields = [
        Field(b":status", b"%d" % status),
        CONTENT_TYPE_TEXT,
        Field(b"content-length", b"%d" % len(body)),
    ]
    if allow:
        fields.append(Field(b"allow", allow))
    connection.send_headers(stream, fields, False, now)
    connection.send_data(stream, body, True, now)
