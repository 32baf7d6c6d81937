"""Both ends of a connection in memory: the gateway's Connection with a log of its events, and the h2 package's."""

import itertools
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import Settings

from gateway.http2.connection import Connection
from gateway.http2.handler import ConnectionHandler, OutputQueue, StreamHandler, Wire
from gateway.http2.heads import RequestHead, ResponseHead
from gateway.http2.stream import Stream
from gateway.model import Field
from helpers.frames import PREFACE, Frame, Pairs, parse

Event = tuple[Any, ...]


def pairs(fields: list[Field]) -> Pairs:
    return [(field.name, field.value) for field in fields]


def fields_of(values: Pairs) -> list[Field]:
    return [Field(name, value) for name, value in values]


class ManualOutput(OutputQueue):
    """A dirty list that is flushed when the test says so."""

    def schedule(self) -> None:
        pass


class MemoryWire(Wire):
    """Collects what a connection writes, and treats it as the real transport's side does."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.written = bytearray()
        self.writes = 0

    def flush(self, now: float) -> None:
        connection = self.connection
        assert connection is not None
        data = connection.take_output()
        if data:
            self.writes += 1
            self.written += data
        if connection.has_ready_backlog():
            connection.pump(now)


class StreamLog(StreamHandler):
    """Writes a stream's events down; credits what it received unless told not to."""

    def __init__(self, log: "Log") -> None:
        self.log = log

    def on_response(self, stream: Stream, head: ResponseHead, end_stream: bool, now: float) -> None:
        self.log.add("response", stream, head.status, pairs(head.fields), end_stream)

    def on_data(self, stream: Stream, data: bytes, end_stream: bool, now: float) -> None:
        self.log.add("data", stream, data, end_stream)
        if self.log.credits:
            assert self.log.connection is not None
            self.log.connection.credit(stream, len(data))

    def on_trailers(self, stream: Stream, fields: list[Field], now: float) -> None:
        self.log.add("trailers", stream, pairs(fields))

    def on_reset(self, stream: Stream, code: int, now: float) -> None:
        self.log.add("reset", stream, code)

    def on_violation(self, stream: Stream, code: int, reason: str, now: float) -> None:
        self.log.add("violation", stream, code)

    def on_unprocessed(self, stream: Stream, now: float) -> None:
        self.log.add("unprocessed", stream)

    def on_lost(self, stream: Stream, reason: str, now: float) -> None:
        self.log.add("lost", stream)

    def on_sent(self, stream: Stream, count: int, now: float) -> None:
        self.log.add("sent", stream, count)

    def on_local_end(self, stream: Stream, now: float) -> None:
        self.log.add("local end", stream)


class Log(ConnectionHandler):
    """Writes a connection's events down, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.streams: dict[int, Stream] = {}
        self.heads: dict[int, RequestHead] = {}
        self.credits = True
        self.connection: Connection | None = None

    def add(self, what: str, stream: Stream, *rest: Any) -> None:
        self.events.append((what, int(stream.id), *rest))

    def of(self, stream_id: int) -> list[Event]:
        """The events of one stream, without its id."""
        return [(event[0], *event[2:]) for event in self.events if len(event) > 1 and event[1] == stream_id]

    def body(self, stream_id: int) -> bytes:
        return b"".join(event[2] for event in self.events if event[0] == "data" and event[1] == stream_id)

    def on_request(self, stream: Stream, head: RequestHead, end_stream: bool, now: float) -> None:
        stream.handler = StreamLog(self)
        self.streams[int(stream.id)] = stream
        self.heads[int(stream.id)] = head
        self.add("request", stream, head.path, pairs(head.fields), end_stream)

    def on_settings(self, now: float) -> None:
        self.events.append(("settings",))

    def on_goaway(self, code: int, reason: str, now: float) -> None:
        self.events.append(("goaway", code, reason))

    def on_stream_closed(self, stream: Stream, now: float) -> None:
        self.add("closed", stream)

    def on_shutdown_acked(self, now: float) -> None:
        self.events.append(("shutdown acked",))

    def on_connection_lost(self, reason: str, now: float) -> None:
        self.events.append(("connection lost",))


class Ours:
    """The gateway's end of one connection."""

    def __init__(self, is_server: bool) -> None:
        self.output = ManualOutput()
        self.wire = MemoryWire()
        self.log = Log()
        self.connection = Connection(is_server, self.log, self.output, self.wire)
        self.wire.connection = self.connection
        self.log.connection = self.connection
        self.now = 0.0
        if not is_server:
            self.connection.start()

    @property
    def events(self) -> list[Event]:
        return self.log.events

    def receive(self, data: bytes) -> None:
        self.connection.receive(data, self.now)

    def take(self) -> bytes:
        """All that is written until now."""
        while self.output.dirty:
            self.output.flush_all(self.now)
        data = bytes(self.wire.written)
        self.wire.written.clear()
        return data

    def frames(self) -> list[Frame]:
        return parse(self.take())

    def stream(self, stream_id: int) -> Stream:
        return self.log.streams[stream_id]

    def open(self, fields: Pairs, end: bool = False) -> Stream:
        """Client side: a stream whose events are written down."""
        stream = self.connection.open(StreamLog(self.log), fields_of(fields), end, self.now)
        self.log.streams[int(stream.id)] = stream
        return stream

    def send_headers(self, stream: Stream, fields: Pairs, end: bool = False) -> None:
        self.connection.send_headers(stream, fields_of(fields), end, self.now)

    def send_data(self, stream: Stream, data: bytes, end: bool = False) -> int:
        return int(self.connection.send_data(stream, data, end, self.now))

    def reset(self, stream: Stream, code: int) -> None:
        self.connection.reset(stream, code, self.now)


def h2_peer(client: bool, values: dict[int, int] | None = None) -> H2Connection:
    """An h2 connection that has said its preface, with these settings from its start."""
    peer = H2Connection(H2Configuration(client_side=client, header_encoding=None))
    defaults: dict[Any, int] = dict(peer.local_settings.items())
    if values:
        defaults.update(values)
        peer.local_settings = Settings(client=client, initial_values=defaults)
        peer.max_inbound_frame_size = peer.local_settings.max_frame_size
    peer.initiate_connection()
    return peer


FEEDS = ["whole", "bytes", "trailing"]


def pieces(data: bytes, how: str) -> list[bytes]:
    """The same bytes whole, one by one, or cut so that each piece brings the beginning of what follows."""
    if how == "bytes":
        return [data[i : i + 1] for i in range(len(data))]
    if how == "trailing":
        cuts = {0, len(data)}
        end = len(PREFACE) if data.startswith(PREFACE) else 0
        while len(data) - end >= 9:
            end += 9 + int.from_bytes(data[end : end + 3], "big")
            cuts.add(min(end + 5, len(data)))
        edges = sorted(cuts)
        return [data[start:stop] for start, stop in itertools.pairwise(edges)]
    return [data] if data else []


def exchange(ours: Ours, peer: H2Connection, how: str = "whole", credit: bool = True) -> list[Any]:
    """Carry bytes both ways until both are silent; returns the peer's events. ``credit``: the peer reads on."""
    events: list[Any] = []
    while True:
        data = ours.take()
        if data:
            fresh = peer.receive_data(data)
            events += fresh
            if credit:
                for event in fresh:
                    length = getattr(event, "flow_controlled_length", None)
                    if length:
                        peer.acknowledge_received_data(length, event.stream_id)
        answer = peer.data_to_send()
        for piece in pieces(answer, how):
            ours.receive(piece)
        if not data and not answer:
            return events
