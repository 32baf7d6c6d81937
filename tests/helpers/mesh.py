"""A whole mesh in memory: h2 clients, the gateway's Proxy, h2 servers; fake time, no sockets, nothing left to chance.

GOAWAY frames never reach the h2 package, which would take them for the end of its connection; they are written down.
"""

import random
from collections.abc import Callable
from typing import Any

import h2.events
import h2.exceptions
from h2.connection import H2Connection

from gateway.balancing.picker import Picker
from gateway.http2.connection import Connection
from gateway.http2.handler import Wire
from gateway.model import CallTrace, Endpoint, Outcome, Recorder, Request
from gateway.proxy.downstream import Downstream
from gateway.proxy.proxy import Proxy
from gateway.proxy.snapshot import Snapshot, Target
from gateway.proxy.upstream import Dialer, UpstreamLink
from gateway.routing.table import RouteTable
from gateway.timers import TimerQueue
from helpers import frames
from helpers.frames import Frame, Pairs
from helpers.peers import ManualOutput, h2_peer

CALL: Pairs = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/test.Echo/Call"),
    (b":authority", b"mesh.test"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]


class Seen:
    """What a side saw of one stream."""

    def __init__(self, headers: Pairs | None = None) -> None:
        self.headers: Pairs | None = headers
        self.data = bytearray()
        self.trailers: Pairs | None = None
        self.ended = False
        self.reset: int | None = None

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers or []).get(name)

    def trailer(self, name: bytes) -> bytes | None:
        """From the trailers, or from a Trailers-Only response."""
        return dict(self.trailers or self.headers or []).get(name)

    @property
    def status(self) -> int | None:
        value = self.trailer(b"grpc-status") if self.ended else None
        return None if value is None else int(value)

    @property
    def message(self) -> str:
        return (self.trailer(b"grpc-message") or b"").decode()


class Side:
    """An h2 connection with the queues and the memory that a test wants."""

    def __init__(self, client: bool, values: dict[int, int] | None = None) -> None:
        self.h2: H2Connection = h2_peer(client, values)
        self.seen: dict[int, Seen] = {}
        self.frames: list[Frame] = []  # all that came
        self.goaways: list[Frame] = []
        self.credits: dict[int, int] = {}  # window increments that came, a stream
        self.sent: dict[int, int] = {}  # DATA bytes that left, a stream
        self.reading = True
        self.closed = False
        self._unread: list[tuple[int, int]] = []
        self._queues: dict[int, list[tuple[str, Any]]] = {}
        self._preface = not client
        self._rest = b""
        self._out = bytearray()

    # --- what comes ---

    def receive(self, data: bytes) -> None:
        data = self._rest + data
        if self._preface:
            self._rest = data
            if len(data) < len(frames.PREFACE):
                return
            self._preface = False
            self.h2.receive_data(frames.PREFACE)
            data = data.removeprefix(frames.PREFACE)
        found, self._rest = frames.split(data)
        for frame in found:
            self.frames.append(frame)
            if frame.kind == frames.GOAWAY:
                self.goaways.append(frame)
                continue
            if frame.kind == frames.WINDOW_UPDATE:
                self.credits[frame.stream_id] = self.credits.get(frame.stream_id, 0) + frame.number
            for event in self.h2.receive_data(frames.frame(*frame)):
                self._take(event)

    def _take(self, event: Any) -> None:
        stream_id = getattr(event, "stream_id", None)
        if isinstance(event, h2.events.RequestReceived):
            self.seen[stream_id] = Seen(list(map(tuple, event.headers)))
        elif isinstance(event, h2.events.ResponseReceived):
            self.seen[stream_id].headers = list(map(tuple, event.headers))
        elif isinstance(event, h2.events.DataReceived):
            self.seen[stream_id].data += event.data
            if self.reading:
                self.h2.acknowledge_received_data(event.flow_controlled_length, stream_id)
            else:
                self._unread.append((event.flow_controlled_length, stream_id))
        elif isinstance(event, h2.events.TrailersReceived):
            self.seen[stream_id].trailers = list(map(tuple, event.headers))
        elif isinstance(event, h2.events.StreamEnded):
            self.seen[stream_id].ended = True
        elif isinstance(event, h2.events.StreamReset):
            self._queues.pop(stream_id, None)
            if stream_id in self.seen:
                self.seen[stream_id].reset = event.error_code

    def read_on(self) -> None:
        """Take what waits, and all that follows."""
        self.reading = True
        for length, stream_id in self._unread:
            if length:
                self.h2.acknowledge_received_data(length, stream_id)
        self._unread.clear()

    # --- what goes ---

    def headers(self, stream_id: int, fields: Pairs, end: bool = False) -> None:
        self._queues.setdefault(stream_id, []).append(("headers", (fields, end)))
        self.push()

    def data(self, stream_id: int, data: bytes, end: bool = False) -> None:
        """Send as the windows allow; in order with everything else on the stream."""
        self._queues.setdefault(stream_id, []).append(("data", (data, end)))
        self.push()

    def end(self, stream_id: int) -> None:
        self.data(stream_id, b"", end=True)

    def reset(self, stream_id: int, code: int = frames.CANCEL) -> None:
        self._queues.pop(stream_id, None)
        self.h2.reset_stream(stream_id, code)

    def forget(self, stream_id: int) -> None:
        """Say nothing more on a stream; what comes on it is dropped."""
        self._queues.pop(stream_id, None)

    def inject(self, data: bytes) -> None:
        """Raw bytes, in order with what h2 has said."""
        self._out += self.h2.data_to_send()
        self._out += data

    def push(self) -> None:
        """Send from the queues what can go."""
        for stream_id, queue in list(self._queues.items()):
            while queue:
                kind, (what, end) = queue[0]
                if kind == "headers":
                    self.h2.send_headers(stream_id, what, end_stream=end)
                    queue.pop(0)
                    continue
                window = min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
                if what and window <= 0:
                    break
                step, rest = what[:window] if what else b"", what[window:] if what else b""
                self.h2.send_data(stream_id, step, end_stream=end and not rest)
                self.sent[stream_id] = self.sent.get(stream_id, 0) + len(step)
                if rest:
                    queue[0] = ("data", (rest, end))
                else:
                    queue.pop(0)
            if not queue:
                del self._queues[stream_id]

    def take(self) -> bytes:
        self.push()
        self._out += self.h2.data_to_send()
        data = bytes(self._out)
        self._out.clear()
        return data

    def queued(self, stream_id: int) -> int:
        """DATA bytes that no window has taken yet."""
        return sum(len(what) for kind, (what, _end) in self._queues.get(stream_id, []) if kind == "data")


class Client(Side):
    """A client of the gateway."""

    def __init__(self, values: dict[int, int] | None = None) -> None:
        super().__init__(True, values)
        self._next = 1

    def call(
        self, *extra: tuple[bytes, bytes], body: bytes | None = None, fields: Pairs = CALL, end: bool = True
    ) -> Seen:
        """Begin a call; with a body it is sent (and ended if ``end``). Returns what is seen of it."""
        stream_id = self._next
        self._next += 2
        seen = self.seen[stream_id] = Seen()
        self.headers(stream_id, [*fields, *extra], end=end and body is None)
        if body is not None:
            self.data(stream_id, body, end)
        return seen

    @property
    def last(self) -> int:
        """The id of the call begun last."""
        return self._next - 2


class Server(Side):
    """One connection of a server behind the gateway."""

    def __init__(self, values: dict[int, int] | None = None) -> None:
        super().__init__(False, values)
        self.goaway_sent = False

    @property
    def only(self) -> int:
        """The id of the one call that this connection has seen."""
        (stream_id,) = self.seen
        return stream_id

    def respond(self, stream_id: int, *extra: tuple[bytes, bytes]) -> None:
        self.headers(stream_id, [(b":status", b"200"), (b"content-type", b"application/grpc"), *extra])

    def finish(self, stream_id: int, status: int = 0, *extra: tuple[bytes, bytes]) -> None:
        self.headers(stream_id, [(b"grpc-status", b"%d" % status), *extra], end=True)

    def only_trailers(self, stream_id: int, status: int, *extra: tuple[bytes, bytes]) -> None:
        fields = [(b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-status", b"%d" % status)]
        self.headers(stream_id, [*fields, *extra], end=True)

    def answer(self, stream_id: int, data: bytes = b"", status: int = 0) -> None:
        self.respond(stream_id)
        self.data(stream_id, data)
        self.finish(stream_id, status)


class Raw:
    """A side without any protocol: says the bytes that it is given, and keeps those that come."""

    def __init__(self) -> None:
        self.to_say = bytearray()
        self.heard = bytearray()
        self.closed = False

    def receive(self, data: bytes) -> None:
        self.heard += data

    def take(self) -> bytes:
        data = bytes(self.to_say)
        self.to_say.clear()
        return data


class FakeWire(Wire):
    """A transport: carries bytes between a connection of the gateway and a Side, whole unless told otherwise."""

    def __init__(self, mesh: "Mesh", side: Side | Raw) -> None:
        self.mesh = mesh
        self.side = side
        self.connection: Connection | None = None
        self.to_side = bytearray()
        self.to_gateway = bytearray()
        self.stuck = False  # the socket takes no more bytes
        self.gone = False
        self.last_words = False

    def flush(self, now: float) -> None:
        connection = self.connection
        assert connection is not None
        data = connection.take_output()
        if not self.gone:
            self.to_side += data
        if connection.has_ready_backlog():
            connection.pump(now)
        if connection.closed:
            self.last_words = True

    def carry(self, limit: int | None = None) -> bool:
        """Bring up to ``limit`` bytes each way; whether anything moved."""
        if self.gone:
            return False
        assert self.connection is not None
        self.to_gateway += self.side.take()
        moved = False
        if self.to_side and not self.stuck:
            data = bytes(self.to_side[:limit])
            del self.to_side[: len(data)]
            self.side.receive(data)
            moved = True
        if self.to_gateway and not self.last_words:
            data = bytes(self.to_gateway[:limit])
            del self.to_gateway[: len(data)]
            self.connection.receive(data, self.mesh.now)
            moved = True
        if self.last_words and not self.to_side:
            self.cut("closed")
            moved = True
        return moved

    def cut(self, reason: str) -> None:
        """The transport ends: both sides hear it."""
        if not self.gone:
            self.gone = True
            self.side.closed = True
            assert self.connection is not None
            self.connection.lost(reason, self.mesh.now)

    def block(self) -> None:
        """The socket's buffer is full."""
        assert self.connection is not None
        self.stuck = True
        self.connection.pause()

    def unblock(self) -> None:
        assert self.connection is not None
        self.stuck = False
        self.connection.resume(self.mesh.now)


class FakeDialer(Dialer):
    """Connects when the mesh is carried on; ``refuse`` and ``hang`` say which addresses do not answer."""

    def __init__(self) -> None:
        self.pending: list[UpstreamLink] = []
        self.refuse: set[str] = set()
        self.hang: set[str] = set()
        self.silent: set[str] = set()  # accept, and never say SETTINGS
        self.dials: list[str] = []
        self.times: list[float] = []  # of the dials
        self.at_once = False  # refuse within dial()
        self.mesh: Mesh | None = None

    def dial(self, link: UpstreamLink) -> None:
        self.dials.append(link.endpoint.address)
        assert self.mesh is not None
        self.times.append(self.mesh.now)
        if self.at_once and link.endpoint.address in self.refuse:
            link.failed("connection refused", self.mesh.now)
        else:
            self.pending.append(link)

    def abandon(self, link: UpstreamLink) -> None:
        self.pending.remove(link)


class First(Picker):
    """The first available endpoint, others than ``avoid`` before it."""

    def __init__(self, endpoints: list[Endpoint]) -> None:
        self.endpoints = endpoints

    def pick(self, request: Request, avoid: Endpoint | None) -> Endpoint | None:
        available = [endpoint for endpoint in self.endpoints if endpoint.available()]
        for endpoint in available:
            if endpoint is not avoid:
                return endpoint
        return available[0] if available else None


class Turns(Picker):
    """Each available endpoint in its turn."""

    def __init__(self, endpoints: list[Endpoint]) -> None:
        self.endpoints = endpoints
        self.turn = 0

    def pick(self, request: Request, avoid: Endpoint | None) -> Endpoint | None:
        self.turn += 1
        count = len(self.endpoints)
        ordered = [self.endpoints[(self.turn + i) % count] for i in range(count)]
        for endpoint in [*(one for one in ordered if one is not avoid), *ordered]:
            if endpoint.available():
                return endpoint
        return None


class Ledger(Recorder):
    """Every call that began, and how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self.outcomes: list[Outcome] = []  # keeps them all, so that no id comes twice
        self._ended: set[int] = set()
        self.continues: CallTrace | None = None

    def begin(self, request: Request) -> CallTrace | None:
        self.begun += 1
        return self.continues

    def end(self, trace: CallTrace | None, outcome: Outcome) -> None:
        assert id(outcome) not in self._ended, "a call ends once"
        self._ended.add(id(outcome))
        assert trace is self.continues
        self.outcomes.append(outcome)


class Mesh:
    """One gateway with endpoints ``a``, ``b``, ... of one service, ``echo``, that declares ``test.Echo``."""

    def __init__(self, endpoints: int = 1, picker: type[First] | type[Turns] = First, seed: int = 1) -> None:
        self.now = 1000.0
        self.timers = TimerQueue()
        self.output = ManualOutput()
        self.ledger = Ledger()
        self.dialer = FakeDialer()
        self.dialer.mesh = self
        self.endpoints = [Endpoint("echo", name, f"{name}:1", {}) for name in "abcdefgh"[:endpoints]]
        self.server_values: dict[int, int] | None = None  # settings of servers to come
        self.servers: list[Server] = []
        self.raw: set[str] = set()  # addresses where no server speaks but the test itself
        self.raws: list[Raw] = []
        self.by_address: dict[str, list[Server]] = {endpoint.address: [] for endpoint in self.endpoints}
        self.wires: list[FakeWire] = []
        self.on_server: Callable[[Server], None] = lambda server: None
        self.proxy = Proxy(
            self.snapshot(self.endpoints, picker(self.endpoints)),
            self.timers,
            self.ledger,
            self.dialer,
            self.output,
            random.Random(seed),
        )

    def snapshot(self, endpoints: list[Endpoint], picker: Picker) -> Snapshot:
        target = Target("echo", "echo", picker, endpoints)
        methods = {b"test.Echo": "echo", b"test.Gone": "gone"}
        return Snapshot(1, RouteTable([]), {"echo": target}, methods, {b"test.Both": ["one", "two"]}, True)

    def client(self, values: dict[int, int] | None = None) -> Client:
        client = Client(values)
        self.attach(client)
        return client

    def attach(self, side: Side | Raw) -> None:
        """A client connects."""
        downstream = Downstream(self.proxy)
        downstream.peer_host, downstream.peer_port = "192.0.2.7", 4711
        wire = FakeWire(self, side)
        wire.connection = Connection(True, downstream, self.output, wire)
        self.wires.append(wire)
        downstream.connected(wire.connection)

    def wire_of(self, side: Side | Raw) -> FakeWire:
        (wire,) = [wire for wire in self.wires if wire.side is side]
        return wire

    def cut(self, side: Side | Raw, reason: str = "connection reset by peer") -> None:
        self.wire_of(side).cut(reason)
        self.run()

    # --- time and bytes ---

    def connect(self) -> bool:
        """Let pending dials come to their end; whether any did."""
        moved = False
        for link in list(self.dialer.pending):
            address = link.endpoint.address
            if address in self.dialer.hang:
                continue
            moved = True
            self.dialer.pending.remove(link)
            if address in self.dialer.refuse:
                link.failed("connection refused", self.now)
                continue
            wire = FakeWire(self, self._answer(address))
            wire.connection = Connection(False, link, self.output, wire)
            self.wires.append(wire)
            link.connected(wire.connection)
        return moved

    def _answer(self, address: str) -> Side | Raw:
        """The server's side of a new connection."""
        if address in self.dialer.silent:
            return Raw()
        if address in self.raw:
            self.raws.append(Raw())
            return self.raws[-1]
        server = Server(self.server_values)
        self.servers.append(server)
        self.by_address[address].append(server)
        self.on_server(server)
        return server

    def flush(self) -> bool:
        dirty = bool(self.output.dirty)
        while self.output.dirty:
            self.output.flush_all(self.now)
        return dirty

    def run(self) -> None:
        """Carry everything until all is silent."""
        for _turn in range(10_000):
            moved = self.connect()
            moved |= self.flush()
            for wire in list(self.wires):
                moved |= wire.carry()
            if not moved:
                return
        raise AssertionError("the mesh does not come to rest")

    def advance(self, seconds: float) -> None:
        """Time passes: every timer fires when it is due."""
        end = self.now + seconds
        while (due := self.timers.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.timers.expire(self.now)
            self.run()
        self.now = end

    # --- what must hold ---

    def server(self, address: str = "a:1", number: int = -1) -> Server:
        return self.by_address[address][number]

    @property
    def outcome(self) -> Outcome:
        """Of the call that ended last."""
        return self.ledger.outcomes[-1]

    def assert_idle(self) -> None:
        """Nothing is left of any call: no stream, timer, waiting attempt, or count."""
        counters = self.proxy.counters()
        leftovers = {
            name: counters[name]
            for name in ("calls", "downstream_streams", "upstream_streams", "waiting_for_a_link", "timers")
            if counters[name]
        }
        assert leftovers == {}
        assert [int(endpoint.active) for endpoint in self.endpoints] == [0] * len(self.endpoints)
        assert len(self.ledger.outcomes) == self.ledger.begun == counters["calls_ended"]
        assert counters["calls_failed"] == sum(outcome.code != 0 for outcome in self.ledger.outcomes)
