"""A client of the tests that speaks HTTP/2 itself, with ``h2``: sees every frame, and sends what no library would."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
from mesh import PATIENCE
from wire import message


class RawClient:
    """A connection with ``h2`` as its state machine; ``events`` keeps all that came, by stream (0: the connection)."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        config = h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        self.events: dict[int, list[h2.events.Event]] = {}
        self.ended = False  # the other side closed the connection

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self.h2.initiate_connection()
        await self.flush()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    async def flush(self) -> None:
        """Send what the state machine has to say."""
        self.send(self.h2.data_to_send())
        await self._writer.drain()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)

    async def request(
        self,
        path: str,
        *fields: tuple[str, str],
        body: bytes = message(b"request"),
        end: bool = True,
        method: str = "POST",
        content_type: str | None = "application/grpc",
    ) -> int:
        """Open a stream with a request; its number."""
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "mesh.test"), *fields]
        if content_type is not None:
            head += [("te", "trailers"), ("content-type", content_type)]
        self.h2.send_headers(stream, head, end_stream=end and not body)
        if body:
            self.h2.send_data(stream, body, end_stream=end)
        await self.flush()
        return stream

    async def read(self) -> bool:
        """Take what comes next; False at the end of the connection."""
        try:
            data = await asyncio.wait_for(self._reader.read(65536), PATIENCE)
        except ConnectionError:
            data = b""
        if not data:
            self.ended = True
            return False
        for event in self.h2.receive_data(data):
            self.events.setdefault(getattr(event, "stream_id", None) or 0, []).append(event)
            if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        await self.flush()
        return True

    async def until(self, stream: int, kind: type[h2.events.Event]) -> h2.events.Event:
        """The first event of this kind on a stream (0: the connection)."""
        while True:
            for event in self.events.get(stream, []):
                if isinstance(event, kind):
                    return event
            assert await self.read(), f"no {kind.__name__} on stream {stream} before the end: {self.events}"

    async def finish(self, stream: int) -> list[h2.events.Event]:
        """All events of a stream, once it has ended."""
        ends = (h2.events.StreamEnded, h2.events.StreamReset)
        while not any(isinstance(event, ends) for event in self.events.get(stream, [])):
            assert await self.read(), f"the connection ended before stream {stream}: {self.events}"
        return self.events[stream]

    async def call(self, path: str, *fields: tuple[str, str], **options: object) -> tuple[dict[str, str], bytes]:
        """A whole request: all fields of its answer (trailers win), and its body."""
        events = await self.finish(await self.request(path, *fields, **options))  # type: ignore[arg-type]
        return fields_of(events), body_of(events)


def fields_of(events: list[h2.events.Event]) -> dict[str, str]:
    """Headers and trailers of an answer, as text."""
    found: dict[str, str] = {}
    for event in events:
        if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            found.update({_text(name): _text(value) for name, value in event.headers})
    return found


def body_of(events: list[h2.events.Event]) -> bytes:
    """The body of an answer."""
    return b"".join(event.data for event in events if isinstance(event, h2.events.DataReceived))


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


class RawPeer:
    """One connection of a RawServer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, settings: dict[int, int]) -> None:
        self._reader = reader
        self._writer = writer
        config = h2.config.H2Configuration(client_side=False, validate_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        # What is set any later would only be sent after the first SETTINGS frame.
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=settings)
        self.bodies: dict[int, bytes] = {}
        self.heads: dict[int, dict[str, str]] = {}
        self.reset: asyncio.Queue[int] = asyncio.Queue()  # the codes of resets that came

    def respond(self, stream: int, body: bytes = message(b"raw"), *trailers: tuple[str, str]) -> None:
        """A whole gRPC answer."""
        self.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        self.h2.send_data(stream, body)
        self.h2.send_headers(stream, trailers or (("grpc-status", "0"),), end_stream=True)

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)

    def flush(self) -> None:
        """Send what the state machine has to say."""
        self.write(self.h2.data_to_send())

    def close(self) -> None:
        """Say what is left to be said, and close."""
        self.flush()
        self._writer.close()

    async def serve(self, server: RawServer) -> None:
        """Until the other side closes."""
        self.h2.initiate_connection()
        self.flush()
        while data := await self._reader.read(65536):
            for event in self.h2.receive_data(data):
                self._take(event, server)
            self.flush()

    def _take(self, event: h2.events.Event, server: RawServer) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self.bodies[event.stream_id] = b""
            self.heads[event.stream_id] = {_text(name): _text(value) for name, value in event.headers}
            server.on_head(self, event.stream_id)
        elif isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.reset.put_nowait(int(event.error_code))
        elif isinstance(event, h2.events.StreamEnded):
            server.on_request(self, event.stream_id)


class RawServer:
    """A server of the tests: every request is noted, and met as the subclass pleases."""

    settings: dict[int, int] = {}  # noqa: RUF012 - read only

    def __init__(self) -> None:
        self.peers: list[RawPeer] = []
        self.address = ""

    def on_head(self, peer: RawPeer, stream: int) -> None:
        """The headers of a request are there."""

    def on_request(self, peer: RawPeer, stream: int) -> None:
        """A request is there as a whole."""
        peer.respond(stream)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for peer in self.peers:
            peer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = RawPeer(reader, writer, self.settings)
        self.peers.append(peer)
        try:
            await peer.serve(self)
        except ConnectionError:
            pass
        finally:
            writer.close()
