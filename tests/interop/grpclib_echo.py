"""The echo service and a client for it on grpclib, a second gRPC stack, in Python on top of ``h2``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from grpclib.client import Channel, StreamStreamMethod, StreamUnaryMethod, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.server import Server, Stream


class RawCodec(CodecBase):
    """Messages are the bytes they are, under the subtype that stands for a plain application/grpc."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


class Echo:
    """The four methods of one gRPC service."""

    def __init__(self, service: str, copies: int) -> None:
        self._service = service
        self._copies = copies

    async def _unary_unary(self, stream: Stream[bytes, bytes]) -> None:
        await stream.send_message(await stream.recv_message() or b"")

    async def _unary_stream(self, stream: Stream[bytes, bytes]) -> None:
        message = await stream.recv_message() or b""
        for _ in range(self._copies):
            await stream.send_message(message)

    async def _stream_unary(self, stream: Stream[bytes, bytes]) -> None:
        await stream.send_message(b"".join([message async for message in stream]))

    async def _stream_stream(self, stream: Stream[bytes, bytes]) -> None:
        async for message in stream:
            await stream.send_message(message)

    def __mapping__(self) -> dict[str, Handler]:
        """What grpclib asks a service for."""
        methods = {
            "UnaryUnary": (self._unary_unary, Cardinality.UNARY_UNARY),
            "UnaryStream": (self._unary_stream, Cardinality.UNARY_STREAM),
            "StreamUnary": (self._stream_unary, Cardinality.STREAM_UNARY),
            "StreamStream": (self._stream_stream, Cardinality.STREAM_STREAM),
        }
        return {
            f"/{self._service}/{name}": Handler(function, cardinality, bytes, bytes)
            for name, (function, cardinality) in methods.items()
        }


async def start(services: Sequence[str], copies: int) -> tuple[str, Callable[[], Awaitable[None]]]:
    """Serve on any port; the address, and what stops the server."""
    server = Server([Echo(service, copies) for service in services], codec=RawCodec())
    await server.start("127.0.0.1", 0)
    assert server._server is not None
    port = server._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    async def stop() -> None:
        server.close()
        await server.wait_closed()

    return f"127.0.0.1:{port}", stop


class Client:
    """Calls the four methods of one gRPC service."""

    def __init__(self, address: str, service: str) -> None:
        host, _, port = address.rpartition(":")
        self._channel = Channel(host, int(port), codec=RawCodec())
        self._service = service

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    async def call(self, kind: str, messages: Sequence[bytes], timeout: float = 20.0) -> list[bytes]:
        """Send the messages; what is answered."""
        path = f"/{self._service}/{kind}"
        if kind == "UnaryUnary":
            return [await UnaryUnaryMethod(self._channel, path, bytes, bytes)(messages[0], timeout=timeout)]
        if kind == "UnaryStream":
            return list(await UnaryStreamMethod(self._channel, path, bytes, bytes)(messages[0], timeout=timeout))
        if kind == "StreamUnary":
            return [await StreamUnaryMethod(self._channel, path, bytes, bytes)(list(messages), timeout=timeout)]
        return list(await StreamStreamMethod(self._channel, path, bytes, bytes)(list(messages), timeout=timeout))
