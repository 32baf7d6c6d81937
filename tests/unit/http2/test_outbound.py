"""The sending half: queues, what ends a stream, credit, and the dirty list."""

import pytest
from helpers import frames
from helpers.frames import REQUEST, RESPONSE, TRAILERS
from helpers.peers import MemoryWire, Ours

from gateway.http2.handler import OutputQueue, Wire
from gateway.http2.outbound import OUTPUT_HIGH_WATER, REMEMBERED_RESETS
from gateway.http2.settings import STREAM_WINDOW


def client(window: int = 100, connection_window: int = 1_000_000, streams: int = 1) -> Ours:
    """A client with open streams whose server grants each this window."""
    ours = Ours(is_server=False)
    ours.receive(frames.settings((4, window)))
    if connection_window > 65_535:
        ours.receive(frames.window_update(0, connection_window - 65_535))
    for _time in range(streams):
        ours.open(REQUEST)
    ours.take()
    ours.events.clear()
    return ours


def sent(ours: Ours) -> list[tuple[int, bytes, bool]]:
    return [(f.stream_id, f.payload, f.ends_stream) for f in ours.frames() if f.kind == frames.DATA]


def test_what_fits_leaves_at_once():
    ours = client()
    assert ours.send_data(ours.stream(1), b"x" * 100, end=True) == 100
    assert sent(ours) == [(1, b"x" * 100, True)]
    assert ours.events == [], "no event tells what the return value told"
    assert ours.stream(1).local_closed


def test_what_does_not_fit_waits_and_is_told():
    ours = client()
    stream = ours.stream(1)
    assert ours.send_data(stream, b"a" * 150) == 100
    assert ours.send_data(stream, b"b" * 10, end=True) == 0
    assert stream.has_backlog()
    assert int(stream.queued_bytes) == 60
    assert sent(ours) == [(1, b"a" * 100, False)]
    ours.receive(frames.window_update(1, 55))
    assert sent(ours) == [(1, b"a" * 50 + b"b" * 5, False)], "small pieces are joined while they wait"
    ours.receive(frames.window_update(1, 1000))
    assert sent(ours) == [(1, b"b" * 5, True)]
    assert ours.log.of(1) == [("sent", 55), ("sent", 5), ("local end",)]
    assert not stream.has_backlog()
    assert stream.local_closed


def test_an_end_alone_waits_behind_what_is_queued():
    ours = client()
    stream = ours.stream(1)
    ours.send_data(stream, b"a" * 101)
    ours.send_data(stream, b"", end=True)
    ours.take()
    assert not stream.local_closed
    ours.receive(frames.window_update(1, 1))
    assert sent(ours) == [(1, b"a", True)]


def test_trailers_wait_behind_what_is_queued_and_need_no_window():
    ours = client()
    stream = ours.stream(1)
    ours.send_data(stream, b"a" * 101)
    ours.send_headers(stream, TRAILERS, end=True)
    ours.send_data(stream, b"after the end")
    ours.take()
    ours.receive(frames.window_update(1, 1))
    data, trailers = ours.frames()
    assert (data.kind, data.ends_stream) == (frames.DATA, False)
    assert (trailers.kind, trailers.ends_stream) == (frames.HEADERS, True)
    assert ours.log.of(1) == [("sent", 1), ("local end",)]


def test_an_empty_frame_that_ends_needs_no_window():
    ours = client(window=0)
    ours.connection.pause()
    ours.send_data(ours.stream(1), b"", end=True)
    assert sent(ours) == [(1, b"", True)]


def test_an_empty_frame_that_ends_nothing_is_not_sent():
    """Empty frames of one side are no reason to send any to the other (CVE-2019-9518)."""
    ours = client()
    assert ours.send_data(ours.stream(1), b"") == 0
    assert ours.take() == b""


@pytest.mark.parametrize("end", ["data", "trailers"])
def test_nothing_follows_the_end(end):
    ours = client()
    stream = ours.stream(1)
    if end == "data":
        ours.send_data(stream, b"x", end=True)
    else:
        ours.send_headers(stream, TRAILERS, end=True)
    ours.take()
    assert ours.send_data(stream, b"more") == 0
    ours.send_headers(stream, TRAILERS, end=True)
    assert ours.take() == b""


def test_the_connections_window_is_shared():
    ours = client(window=1000, connection_window=65_535, streams=70)
    total = sum(ours.send_data(ours.stream(2 * number + 1), bytes(1000)) for number in range(70))
    assert total == 65_535
    ours.take()
    ours.receive(frames.window_update(0, 5000))
    assert sum(len(payload) for _id, payload, _end in sent(ours)) == 70_000 - 65_535


def test_no_data_beyond_the_high_water_of_one_write():
    ours = client(window=10_000_000, connection_window=20_000_000, streams=2)
    first = ours.send_data(ours.stream(1), bytes(1_000_000))
    assert OUTPUT_HIGH_WATER <= first < OUTPUT_HIGH_WATER + 20_000
    assert ours.send_data(ours.stream(3), b"x") == 0
    ours.receive(frames.ping())
    assert ours.connection.has_output()
    total = sum(len(payload) for _id, payload, _end in sent(ours))
    assert total == 1_000_001
    assert not ours.connection.has_output()


def test_many_small_pieces_wait_as_few_large_ones():
    """A window in frames of one byte must not cost an object for each (security row 7)."""
    ours = client(window=0)
    stream = ours.stream(1)
    body = bytes(number % 251 for number in range(100_000))
    for number in range(len(body)):
        ours.send_data(stream, body[number : number + 1])
    assert stream.queue is not None
    assert len(stream.queue) < 200
    assert int(stream.queued_bytes) == len(body)
    ours.receive(frames.window_update(1, len(body)))
    assert b"".join(payload for _id, payload, _end in sent(ours)) == body


def test_reset_drops_what_is_queued():
    ours = client()
    stream = ours.stream(1)
    ours.send_data(stream, bytes(500))
    ours.take()
    ours.reset(stream, frames.CANCEL)
    (reset,) = ours.frames()
    assert (reset.kind, reset.code) == (frames.RST_STREAM, frames.CANCEL)
    assert int(stream.queued_bytes) == 0
    ours.receive(frames.window_update(1, 1000) + frames.window_update(0, 1000))
    assert ours.take() == b""


def test_a_stream_that_is_gone_has_no_backlog():
    ours = client(window=1_000_000)
    ours.send_data(ours.stream(1), bytes(900_000))
    assert ours.connection.has_ready_backlog()
    ours.receive(frames.rst_stream(1))
    assert not ours.connection.has_ready_backlog()


def test_no_reset_for_a_stream_that_has_ended():
    ours = client()
    ours.send_data(ours.stream(1), b"", end=True)
    ours.receive(frames.headers(1, [*RESPONSE, *TRAILERS], end=True))
    ours.take()
    ours.reset(ours.stream(1), frames.CANCEL)
    assert ours.take() == b""


def test_the_memory_of_resets_is_bounded():
    ours = client(streams=REMEMBERED_RESETS * 3)
    for number in range(REMEMBERED_RESETS * 3):
        ours.reset(ours.stream(2 * number + 1), frames.CANCEL)
    assert len(ours.connection._resets) == REMEMBERED_RESETS


def test_streams_that_ended_are_still_told_from_forgotten_resets():
    """A stream beyond those that were forgotten, and not among those remembered, was never reset."""
    ours = client(streams=REMEMBERED_RESETS * 2)
    last = ours.open(REQUEST, end=True)
    for number in range(REMEMBERED_RESETS * 2):
        ours.reset(ours.stream(2 * number + 1), frames.CANCEL)
    ours.receive(frames.headers(int(last.id), [*RESPONSE, *TRAILERS], end=True))
    ours.receive(frames.data(1, b"late") + frames.data(REMEMBERED_RESETS * 4 - 1, b"late"))
    assert ours.connection.failure == ""
    ours.receive(frames.data(int(last.id), b"wrong"))
    assert "STREAM_CLOSED" in ours.connection.failure


@pytest.mark.parametrize("total", [STREAM_WINDOW // 2, STREAM_WINDOW])
def test_credit_comes_in_half_windows(total):
    ours = client()
    stream = ours.stream(1)
    window = int(stream.receive_window)
    for _time in range(total // 1024):
        ours.connection.credit(stream, 1024)
    updates = [(f.stream_id, f.number) for f in ours.frames()]
    assert updates == [(1, STREAM_WINDOW // 2)] * (total // (STREAM_WINDOW // 2))
    assert int(stream.receive_window) == window + total


class CountingQueue(OutputQueue):
    def __init__(self) -> None:
        super().__init__()
        self.scheduled = 0

    def schedule(self) -> None:
        self.scheduled += 1


class NoisyWire(Wire):
    """Becomes dirty again while it is flushed, a few times."""

    def __init__(self, queue: OutputQueue, again: int) -> None:
        self.queue = queue
        self.again = again
        self.flushed: list[float] = []

    def flush(self, now: float) -> None:
        self.flushed.append(now)
        if self.again:
            self.again -= 1
            self.queue.add(self)


def test_the_dirty_list_schedules_once_a_turn():
    queue = CountingQueue()
    wires = [NoisyWire(queue, 0), NoisyWire(queue, 1), NoisyWire(queue, 0)]
    for wire in wires:
        queue.add(wire)
    assert queue.scheduled == 1
    queue.flush_all(1.0)
    assert queue.scheduled == 2, "what became dirty meanwhile has a turn of its own"
    queue.flush_all(2.0)
    assert queue.scheduled == 2
    assert [wire.flushed for wire in wires] == [[1.0], [1.0, 2.0], [1.0]]


def test_one_write_for_everything_of_a_turn():
    ours = client(streams=3)
    ours.wire.writes = 0
    for stream_id in (1, 3, 5):
        ours.send_data(ours.stream(stream_id), b"x", end=True)
    ours.receive(frames.ping())
    assert ours.output.dirty == [ours.wire]
    ours.take()
    assert ours.wire.writes == 1
    assert isinstance(ours.wire, MemoryWire)


def test_base_classes_ask_to_be_implemented():
    with pytest.raises(NotImplementedError):
        Wire().flush(0.0)
    with pytest.raises(NotImplementedError):
        OutputQueue().schedule()
