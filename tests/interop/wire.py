"""HTTP/2 by hand: frames and requests as bytes, and a connection read frame by frame."""

from __future__ import annotations

import asyncio
import struct

from mesh import PATIENCE

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EMPTY_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
NO_ERROR, PROTOCOL, INTERNAL, FLOW_CONTROL, TIMEOUT, STREAM_CLOSED, FRAME_SIZE, REFUSED, CANCEL, COMPRESSION = range(10)
CALM = 0xB
ACK = 1
END_STREAM, END_HEADERS, PADDED, WITH_PRIORITY = 1, 4, 8, 32


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """A frame; ``length`` may lie."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def message(data: bytes, compressed: bool = False) -> bytes:
    """A gRPC message as it is on the wire."""
    return struct.pack(">?I", compressed, len(data)) + data


def literal(name: bytes, value: bytes) -> bytes:
    """A field in HPACK that touches no table."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


# A request for the method that answers headers at once, and then each message with itself.
REQUEST = (
    literal(b":method", b"POST")
    + literal(b":scheme", b"http")
    + literal(b":path", b"/interop.Echo/StreamStream")
    + literal(b":authority", b"mesh.test")
    + literal(b"te", b"trailers")
    + literal(b"content-type", b"application/grpc")
)


def frames_of(data: bytes) -> list[tuple[int, int, int]]:
    """Kind, stream and error code (-1: has none) of each frame."""
    frames = []
    while data:
        size, kind, stream = int.from_bytes(data[:3], "big"), data[3], int.from_bytes(data[5:9], "big")
        payload, data = data[9 : 9 + size], data[9 + size :]
        code = {GOAWAY: payload[4:8], RST_STREAM: payload}.get(kind, b"")
        frames.append((kind, stream, int.from_bytes(code, "big") if code else -1))
    return frames


async def exchange_bytes(address: str, data: bytes, *, half_close: bool = False) -> bytes:
    """Send bytes on a fresh connection; all that comes back until the other side closes it."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        if half_close:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), PATIENCE)
    finally:
        writer.close()


class Frames:
    """A connection read frame by frame: ``h2`` takes a first GOAWAY for the end of everything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, address: str, data: bytes) -> Frames:
        """Connect, and send the preface and these frames."""
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(PREFACE + EMPTY_SETTINGS + data)
        return cls(reader, writer)

    async def until(self, kind: int, flags: int | None = None) -> tuple[int, bytes]:
        """The stream and the payload of the next frame of this kind; those before it are dropped."""
        while True:
            head = await asyncio.wait_for(self._reader.readexactly(9), PATIENCE)
            payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == kind and flags in (None, head[4]):
                return int.from_bytes(head[5:9], "big"), payload

    async def end(self) -> None:
        """Read on to the end of the connection."""
        await asyncio.wait_for(self._reader.read(), PATIENCE)
        self.writer.close()
