"""Properties of the Connection: any chunking is the same, valid conversations lose nothing, garbage never escapes."""

import functools
import itertools
import random

import h2.events
from helpers import frames
from helpers.frames import REQUEST, RESPONSE, TRAILERS
from helpers.peers import Ours, exchange, h2_peer
from hypothesis import event, given, settings
from hypothesis import strategies as st

STREAMS = 5


def split_randomly(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


@functools.cache
def recorded(seed: int) -> bytes:
    """What a client says in a lively conversation, with some mistakes on single streams."""
    rng = random.Random(seed)
    peer = h2_peer(client=True)
    out = peer.data_to_send()
    open_streams: list[int] = []
    next_id = 1
    for _step in range(rng.randint(3, 30)):
        act = rng.randrange(9)
        if act <= 2 or not open_streams:
            extra = [(b"x-%d" % rng.randrange(4), bytes([97 + rng.randrange(26)]) * rng.choice([1, 50, 300, 20_000]))]
            peer.send_headers(next_id, REQUEST + extra)
            open_streams.append(next_id)
            next_id += 2
        elif act <= 5:
            stream_id = rng.choice(open_streams)
            room = min(peer.local_flow_control_window(stream_id), 16_384 - 256)
            if room > 200:
                peer.send_data(stream_id, bytes(rng.randrange(room - 200)), pad_length=rng.choice([None, 0, 9]))
        elif act == 6:
            stream_id = open_streams.pop(rng.randrange(len(open_streams)))
            peer.send_headers(stream_id, [(b"t", b"1")], end_stream=True)
        elif act == 7:
            stream_id = open_streams.pop(rng.randrange(len(open_streams)))
            peer.reset_stream(stream_id, rng.choice([0, 8, 2]))
        else:
            peer.ping(rng.randbytes(8))
            out += peer.data_to_send() + frames.priority(rng.randrange(1, 50, 2)) + frames.frame(99, 0, 3, b"?")
        out += peer.data_to_send()
    return out + rng.choice(
        [b"", b"", frames.window_update(1, 0), frames.data(0), frames.headers(next_id, [(b"Bad", b"")])]
    )


def heard(data: bytes, pieces: list[bytes]) -> tuple[list[tuple], bytes]:
    ours = Ours(is_server=True)
    for piece in pieces:
        ours.receive(piece)
    return ours.events, ours.take()


conversations = st.integers(0, 30)


@settings(max_examples=60, deadline=None)
@given(conversations, st.lists(st.integers(0, 2**20), max_size=60))
def test_chunking_changes_nothing(seed, cuts):
    data = recorded(seed)
    assert heard(data, split_randomly(data, cuts)) == heard(data, [data])


@settings(max_examples=8, deadline=None)
@given(conversations)
def test_byte_by_byte_changes_nothing(seed):
    data = recorded(seed)[:60_000]
    assert heard(data, [data[i : i + 1] for i in range(len(data))]) == heard(data, [data])


class Plan(random.Random):
    """A random conversation of both sides on every stream, with settings and windows that change on the way."""

    def body(self, window: int) -> list[bytes]:
        sizes = [0, 1, 10, 5000, 16_384, 40_000] if window > 1000 else [0, 1, 10, 200]  # a frame for each small window
        return [self.randbytes(self.choice(sizes)) for _piece in range(self.randrange(6))]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_valid_conversations_lose_nothing(seed, ours_is_server):
    plan = Plan(seed)
    window = plan.choice([0, 1, 100, 65_535, 1_000_000])
    ours = Ours(is_server=ours_is_server)
    peer = h2_peer(client=ours_is_server, values={0x4: window, 0x5: plan.choice([16_384, 20_000, 100_000])})
    exchange(ours, peer)
    theirs: dict[int, list[bytes]] = {}  # what h2 still has to send
    mine: dict[int, list[bytes]] = {}
    said: dict[int, bytes] = {}
    told: dict[int, bytes] = {}
    got: dict[int, bytes] = {}
    for number in range(STREAMS):
        stream_id = 2 * number + 1
        if ours_is_server:
            peer.send_headers(stream_id, REQUEST)
        else:
            ours.open(REQUEST)
        exchange(ours, peer)
        if ours_is_server:
            ours.send_headers(ours.stream(stream_id), RESPONSE)
        else:
            peer.send_headers(stream_id, RESPONSE)
        theirs[stream_id], mine[stream_id] = plan.body(window), plan.body(window)
        said[stream_id], told[stream_id] = b"".join(theirs[stream_id]), b"".join(mine[stream_id])
        got[stream_id] = b""
    ended: set[int] = set()

    def take(events) -> None:
        for seen in events:
            if isinstance(seen, h2.events.DataReceived):
                got[seen.stream_id] += seen.data
            elif isinstance(seen, h2.events.StreamEnded):
                ended.add(seen.stream_id)
            assert not isinstance(seen, h2.events.StreamReset | h2.events.ConnectionTerminated)

    def peer_sends(stream_id: int) -> None:
        queue = theirs[stream_id]
        if not queue:
            del theirs[stream_id]
            if ours_is_server:
                peer.end_stream(stream_id)
            else:
                peer.send_headers(stream_id, TRAILERS, end_stream=True)
            return
        room = min(peer.local_flow_control_window(stream_id), peer.max_outbound_frame_size)
        piece, rest = queue[0][:room], queue[0][room:]
        peer.send_data(stream_id, piece)
        if rest or (not piece and queue[0]):
            queue[0] = rest
        else:
            queue.pop(0)

    def we_send(stream_id: int) -> None:
        queue = mine[stream_id]
        if queue:
            ours.send_data(ours.stream(stream_id), queue.pop(0))
            return
        del mine[stream_id]
        ours.send_headers(ours.stream(stream_id), TRAILERS, end=True)

    while theirs or mine:
        act = plan.randrange(10)
        if act < 4 and theirs:
            peer_sends(plan.choice(list(theirs)))
        elif act < 8 and mine:
            we_send(plan.choice(list(mine)))
        elif act == 8:
            peer.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: plan.choice([0, window, 200_000])})
        else:
            if plan.random() < 0.5:
                ours.connection.pause()
            else:
                ours.connection.resume(0.0)
        if plan.random() < 0.6:
            take(exchange(ours, peer))
    ours.connection.resume(0.0)
    peer.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2_000_000})
    take(exchange(ours, peer))
    assert got == told
    assert {stream_id: ours.log.body(stream_id) for stream_id in said} == said
    assert ended == set(said)
    assert ours.connection.streams == {}
    assert not ours.connection.has_ready_backlog()
    assert ours.connection.failure == ""


def usable_or_ended(ours: Ours) -> None:
    """After any bytes: either the connection still answers, or its last frame was a GOAWAY."""
    written = ours.take()
    if ours.connection.closed:
        assert ours.connection.failure
        assert ours.connection.streams == {}
        assert written.startswith(b"HTTP/1.1 400 ") or frames.parse(written)[-1].kind == frames.GOAWAY
        for stream_id in ours.log.streams:
            ends = [seen for seen in ours.log.of(stream_id) if seen[0] in ("lost", "reset", "violation", "unprocessed")]
            assert len(ends) <= 1
    else:
        frames.parse(written)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.booleans(), st.booleans())
def test_garbage_never_escapes(garbage, is_server, connected):
    ours = Ours(is_server)
    if connected:
        ours.receive((frames.PREFACE if is_server else b"") + frames.settings())
    ours.receive(garbage)
    usable_or_ended(ours)


some_frame = st.builds(
    frames.frame,
    st.one_of(st.integers(0, 10), st.integers(0, 255)),
    st.one_of(st.sampled_from([0, 1, 4, 5, 8, 9, 12, 13, 0x20, 0x24, 0x25, 0x2D]), st.integers(0, 255)),
    st.one_of(st.integers(0, 12), st.integers(0, 2**31 - 1)),
    st.one_of(
        st.binary(max_size=40),
        st.just(frames.block(REQUEST)),
        st.just(frames.block(RESPONSE)),
        st.just(frames.block(TRAILERS)),
        st.integers(0, 2**32 - 1).map(lambda number: number.to_bytes(4, "big")),
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(some_frame, max_size=30), st.booleans(), st.lists(st.integers(0, 2**16), max_size=10))
def test_frames_in_any_order_never_escape(sent, is_server, cuts):
    ours = Ours(is_server)
    ours.receive((frames.PREFACE if is_server else b"") + frames.settings())
    if not is_server:
        for _time in range(3):
            ours.open(REQUEST)
    for piece in split_randomly(b"".join(sent), cuts):
        ours.receive(piece)
    event("closed" if ours.connection.closed else "open")
    usable_or_ended(ours)


@settings(max_examples=150, deadline=None)
@given(conversations, st.lists(st.tuples(st.integers(24, 2**20), st.integers(0, 255)), min_size=1, max_size=8))
def test_mutations_never_escape(seed, changes):
    data = bytearray(recorded(seed))
    for place, value in changes:
        if len(data) > 24:
            data[24 + place % (len(data) - 24)] = value
    ours = Ours(is_server=True)
    ours.receive(bytes(data))
    event("closed" if ours.connection.closed else "open")
    usable_or_ended(ours)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_a_peer_that_acts_in_any_order_leaves_nothing_behind(seed):
    """Opens, sends, resets, windows, settings by the peer and answers, resets, pauses by us; then the peer is gone."""
    rng = random.Random(seed)
    ours = Ours(is_server=True)
    ours.receive(frames.PREFACE + frames.settings())
    next_id = 1
    for _step in range(60):
        act = rng.randrange(12)
        stream_id = rng.randrange(1, max(next_id, 2), 2)
        if act < 3:
            ours.receive(frames.headers(next_id, REQUEST, end=rng.random() < 0.5))
            next_id += 2
        elif ours.connection.closed:
            break
        elif act < 5 and stream_id in ours.connection.streams and not ours.stream(stream_id).remote_closed:
            ours.receive(frames.data(stream_id, rng.randbytes(rng.randrange(9000)), end=rng.random() < 0.3))
        elif act == 5 and stream_id < next_id:
            ours.receive(frames.rst_stream(stream_id))
        elif act == 6 and stream_id < next_id:
            ours.receive(frames.window_update(stream_id, rng.randrange(1, 100_000)))
        elif act == 7:
            ours.receive(frames.settings((4, rng.randrange(200_000))))
        elif act == 8:
            ours.receive(frames.window_update(0, rng.randrange(1, 200_000)))
        elif act == 9 and stream_id in ours.log.streams:
            ours.send_headers(ours.stream(stream_id), RESPONSE)
            ours.send_data(ours.stream(stream_id), bytes(rng.randrange(200_000)))
        elif act == 10 and stream_id in ours.log.streams:
            ours.send_headers(ours.stream(stream_id), TRAILERS, end=True)
        elif act == 11 and stream_id in ours.log.streams:
            if rng.random() < 0.5:
                ours.reset(ours.stream(stream_id), 8)
            elif ours.connection.paused:
                ours.connection.resume(0.0)
            else:
                ours.connection.pause()
        if rng.random() < 0.5:
            ours.take()
    assert ours.connection.failure == ""
    ours.connection.lost("gone", 0.0)
    assert ours.connection.streams == {}
    closed = [seen[1] for seen in ours.events if seen[0] == "closed"]
    assert sorted(closed) == sorted(ours.log.streams), "each stream leaves once"
    for stream in ours.log.streams.values():
        assert int(stream.queued_bytes) == 0
        assert stream.local_closed
        assert stream.remote_closed
