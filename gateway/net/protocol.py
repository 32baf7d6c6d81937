"""Between an asyncio transport and an HTTP/2 connection: bytes in, bytes out, pressure, and the end."""

import asyncio
import time
from typing import Final, cast

from gateway.http2.connection import Connection
from gateway.http2.handler import ConnectionHandler, OutputQueue, Wire

# The transport's buffer: beyond it no more DATA is handed over until the socket took half of it.
WRITE_HIGH_WATER: Final = 65_536
# What a peer that does not read may make us keep: DATA stops at the high water mark, so only answers to its own
# frames (PING, SETTINGS, resets) get this far (CVE-2019-9512, -9514, -9515).
MAX_UNREAD_OUTPUT: Final = 1_048_576
# Seconds that a peer has to read our last words before its connection is cut. Closing at once, with unread bytes of
# the peer in the socket, would make the kernel send a reset that discards the GOAWAY on its way.
LINGER: Final = 1.0


class ConnectionWire(Wire, asyncio.Protocol):
    """One transport with its connection; ``connection`` is set by whoever makes the wire."""

    def __init__(self, output: OutputQueue, is_server: bool, handler: ConnectionHandler) -> None:
        self.connection: Final = Connection(is_server, handler, output, self)
        self._transport: asyncio.Transport | None = None
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is open."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer."""
        self.connection.receive(data, time.monotonic())

    def eof_received(self) -> None:
        """The peer will send nothing more: it cannot open windows or end streams, so the transport closes."""

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self.connection.pause()

    def resume_writing(self) -> None:
        """It has room again."""
        self.connection.resume(time.monotonic())

    def flush(self, now: float) -> None:
        """Everything that the connection has to say, in one write; then close if it is over."""
        connection = self.connection
        data = connection.take_output()
        transport = self._transport
        if transport is None or self._closing:
            return
        if data:
            transport.write(data)
            if transport.get_write_buffer_size() > MAX_UNREAD_OUTPUT:
                transport.abort()
                return
        if connection.has_ready_backlog():
            connection.pump(now)
        if connection.closed:
            self._close(transport)

    def _close(self, transport: asyncio.Transport) -> None:
        """Let the last words arrive: end our side, and cut the connection when the peer ended its own, or soon."""
        self._closing = True
        if transport.is_closing():
            return
        if transport.can_write_eof():
            transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER, transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The transport is gone."""
        self._transport = None
        reason = "the peer closed it" if exc is None else str(exc) or type(exc).__name__
        self.connection.lost(reason, time.monotonic())
