"""Calls through the gateway under random orders of everything: bytes, chunks, faults, time.

Whatever the order: every call ends exactly once, no byte is lost, doubled or reordered, and nothing is left behind.
A failing run prints its seed; ``run_story(seed)`` repeats it.
"""

import random
from typing import Any

import pytest
from helpers import frames
from helpers.mesh import CALL, Client, Mesh, Raw, Seen, Turns
from hypothesis import given, note, settings
from hypothesis import strategies as st

ENDPOINTS = 3


class Story:
    """One random story; ``calm`` ones have no faults, so every call must succeed with every byte."""

    def __init__(self, seed: int, calm: bool) -> None:
        self.rng = random.Random(seed)
        self.calm = calm
        self.mesh = Mesh(ENDPOINTS, Turns, seed)
        self.clients: list[Client] = []
        self.bodies: dict[int, tuple[bytes, bytes]] = {}  # by call number: what it asks, what it is answered
        self.calls: dict[int, tuple[Client, int, Seen]] = {}
        self.unsent: dict[int, bytes] = {}
        self.answers: dict[tuple[int, int], bytes | None] = {}  # by server and stream: what is still to say
        if self.rng.random() < 0.3:
            self.mesh.server_values = {0x3: self.rng.choice([1, 2, 5]), 0x4: self.rng.choice([100, 65_535])}
        for _number in range(self.rng.randint(1, 3)):
            self.clients.append(self.mesh.client({0x4: self.rng.choice([100, 10_000, 65_535, 1_000_000])}))

    def body(self) -> bytes:
        return self.rng.randbytes(self.rng.choice([0, 1, 100, 5000, 5000, 70_000, 200_000]))

    # --- what may happen ---

    def begin(self) -> None:
        number = len(self.calls)
        client = self.rng.choice(self.clients)
        if client.closed:
            return
        asked, answered = self.body(), self.body()
        extra = [(b"number", b"%d" % number)]
        if not self.calm and self.rng.random() < 0.2:
            extra.append((b"grpc-timeout", b"%dm" % self.rng.randrange(1, 3000)))
        seen = client.call(*extra, body=b"", end=False)
        self.calls[number] = (client, client.last, seen)
        self.bodies[number] = (asked, answered)
        self.unsent[number] = asked

    def send(self) -> None:
        if not self.unsent:
            return
        number = self.rng.choice(list(self.unsent))
        client, stream_id, seen = self.calls[number]
        rest = self.unsent[number]
        size = self.rng.choice([1, 50, 3000, 100_000])
        if client.closed or seen.ended or seen.reset is not None:
            del self.unsent[number]
            return
        client.data(stream_id, rest[:size], end=len(rest) <= size)
        self.unsent[number] = rest[size:]
        if len(rest) <= size:
            del self.unsent[number]

    def serve(self) -> None:
        """A server reads, and answers bit by bit; at its very end only after the request's."""
        server = self.some(self.mesh.servers)
        if server is None or not server.seen:
            return
        index = self.mesh.servers.index(server)
        stream_id = self.rng.choice(list(server.seen))
        seen = server.seen[stream_id]
        if seen.reset is not None:
            return
        key = (index, stream_id)
        number = int(seen.header(b"number") or 0)
        if key not in self.answers:
            self.answers[key] = self.bodies[number][1]
            server.respond(stream_id, (b"number", b"%d" % number))
            return
        rest = self.answers[key]
        if rest is None:
            return
        size = self.rng.choice([10, 1000, 60_000])
        if rest:
            server.data(stream_id, rest[:size])
            self.answers[key] = rest[size:]
        elif seen.ended:
            server.finish(stream_id, 0, (b"number", b"%d" % number))
            self.answers[key] = None

    def pause_reading(self) -> None:
        side = self.some([*self.clients, *self.mesh.servers])
        if side is not None:
            if side.reading:
                side.reading = False
            else:
                side.read_on()

    def block(self) -> None:
        wire = self.some(self.mesh.wires)
        if wire is not None and not wire.gone:
            if wire.stuck:
                wire.unblock()
            else:
                wire.block()

    def carry(self) -> None:
        for wire in self.rng.sample(self.mesh.wires, len(self.mesh.wires)):
            if self.rng.random() < 0.7:
                wire.carry(self.rng.choice([1, 9, 100, 5000, None, None]))

    def flush(self) -> None:
        self.mesh.flush()

    def connect(self) -> None:
        self.mesh.connect()

    def pass_time(self) -> None:
        mesh = self.mesh
        mesh.now += self.rng.random() * (0.05 if self.calm else 0.5)
        mesh.timers.expire(mesh.now)

    # --- what may go wrong ---

    def cancel(self) -> None:
        if self.calls:
            client, stream_id, seen = self.rng.choice(list(self.calls.values()))
            if not client.closed and not seen.ended and seen.reset is None:
                client.reset(stream_id)
                seen.reset = frames.CANCEL

    def refuse(self) -> None:
        """A server resets a call: one that it never looked at, or one that it did."""
        server = self.some(self.mesh.servers)
        if server is None or not server.seen:
            return
        stream_id = self.rng.choice(list(server.seen))
        seen = server.seen[stream_id]
        done = self.answers.get((self.mesh.servers.index(server), stream_id), b"") is None
        if seen.reset is None and not done:
            server.reset(stream_id, self.rng.choice([frames.REFUSED_STREAM, frames.INTERNAL_ERROR, frames.CANCEL]))
            seen.reset = 0

    def goaway(self) -> None:
        """A server leaves; the calls beyond the last id it names, it forgets."""
        server = self.some(self.mesh.servers)
        if server is None or server.goaway_sent:
            return
        last = self.rng.choice([0, 0x7FFFFFFF, *server.seen])
        server.goaway_sent = True
        server.push()
        server.inject(frames.goaway(last))
        for stream_id, seen in server.seen.items():
            if stream_id > last and seen.reset is None:
                seen.reset = 0
                server.forget(stream_id)

    def cut(self) -> None:
        wire = self.some(self.mesh.wires)
        if wire is not None and self.rng.random() < 0.3:
            wire.cut("cut")

    def change_dialing(self) -> None:
        dialer = self.mesh.dialer
        address = self.rng.choice(self.mesh.endpoints).address
        for names in (dialer.refuse, dialer.hang, dialer.silent):
            names.discard(address)
        self.rng.choice([set(), set(), dialer.refuse, dialer.hang, dialer.silent]).add(address)

    def some(self, things: list) -> Any:
        alive = [thing for thing in things if not getattr(thing, "closed", False)]
        return self.rng.choice(alive) if alive else None

    # --- the story and its end ---

    def tell(self) -> None:
        usual = [self.begin, self.send, self.send, self.serve, self.serve, self.serve, self.flush, self.carry]
        usual += [self.connect, self.pass_time, self.carry, self.flush]
        rare = [self.pause_reading, self.block]
        if not self.calm:
            rare += [self.cancel, self.refuse, self.goaway, self.cut, self.change_dialing]
        for _step in range(self.rng.randint(20, 250)):
            self.rng.choice(rare if self.rng.random() < 0.1 else usual)()

    def finish(self) -> None:
        """Peace: everybody reads and answers until all is done."""
        mesh = self.mesh
        mesh.dialer.refuse.clear()
        mesh.dialer.hang.clear()
        mesh.dialer.silent.clear()
        for wire in mesh.wires:
            if wire.stuck and not wire.gone:
                wire.unblock()
        for _turn in range(3000):
            for side in [*self.clients, *mesh.servers]:
                if not side.reading and not side.closed:
                    side.read_on()
            while self.unsent:
                self.send()
            mesh.run()
            if self.all_over():
                break
            for _time in range(20):
                self.serve()
            if self.rng.random() < 0.05:
                mesh.advance(1.0)
        mesh.advance(20.0)
        mesh.run()

    def all_over(self) -> bool:
        return all(seen.ended or seen.reset is not None or client.closed for client, _id, seen in self.calls.values())

    def judge(self) -> None:
        for number, (client, _stream_id, seen) in self.calls.items():
            asked, answered = self.bodies[number]
            assert answered.startswith(bytes(seen.data)), "the answer is the server's, in order"
            if seen.headers is not None and seen.header(b"number") is not None:
                assert seen.header(b"number") == b"%d" % number, "and nobody else's"
            if seen.status == 0:
                assert seen.data == answered, "an answer that ends well is whole"
            if self.calm:
                assert seen.status == 0
            elif not client.closed:
                assert seen.ended or seen.reset is not None, "every call ends"
        for server in self.mesh.servers:
            for seen in server.seen.values():
                asked, _answered = self.bodies[int(seen.header(b"number") or 0)]
                assert asked.startswith(bytes(seen.data)), "each attempt gets the request from its beginning, in order"
                if seen.ended:
                    assert seen.data == asked
        for side in [*self.clients, *self.mesh.servers]:
            for stream_id, credit in side.credits.items():
                if stream_id:
                    assert credit <= side.sent.get(stream_id, 0), "no byte is credited twice"
        self.mesh.assert_idle()


def run_story(seed: int, calm: bool) -> Story:
    story = Story(seed, calm)
    story.tell()
    story.finish()
    story.judge()
    return story


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_without_faults_every_byte_arrives(seed):
    note(f"run_story({seed}, calm=True)")
    run_story(seed, calm=True)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_with_faults_every_call_ends_once_and_nothing_is_left(seed):
    note(f"run_story({seed}, calm=False)")
    run_story(seed, calm=False)


@pytest.mark.parametrize("seed", range(20))
def test_stories_that_are_always_told(seed):
    run_story(seed, calm=seed % 4 == 0)


strange_frame = st.builds(
    frames.frame,
    st.one_of(st.integers(0, 9), st.sampled_from([frames.DATA, frames.HEADERS, frames.RST_STREAM, 77])),
    st.sampled_from([0, 1, 4, 5, 8, 9, 0x24, 0x25, 0x2D]),
    st.one_of(st.sampled_from([0, 1, 1, 3, 3, 5, 7]), st.integers(0, 2**31 - 1)),
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from(
            [frames.block(part) for part in (CALL, frames.RESPONSE, frames.TRAILERS, [(b"grpc-status", b"x")])]
        ),
        st.just(frames.block([*frames.RESPONSE, *frames.TRAILERS])),
        st.sampled_from([number.to_bytes(4, "big") for number in (0, 1, 8, 100_000, 2**31 - 1)]),
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(strange_frame, max_size=20), st.booleans())
def test_a_hostile_client_ends_nobody_but_itself(sent, speaks_http2):
    mesh = Mesh(endpoints=2, picker=Turns)
    honest = mesh.client()
    call = honest.call(body=b"honest", end=False)
    hostile = Raw()
    mesh.attach(hostile)
    mesh.run()
    if speaks_http2:
        hostile.to_say += frames.PREFACE + frames.settings()
    for piece in sent:
        hostile.to_say += piece
        mesh.run()
    ours = mesh.wire_of(hostile).connection
    assert ours is not None
    assert ours.closed or not sent or speaks_http2
    (server,) = [server for server in mesh.servers if any(seen.data == b"honest" for seen in server.seen.values())]
    for stream_id, seen in list(server.seen.items()):
        if seen.data == b"honest":
            server.answer(stream_id, b"answer")
    mesh.run()
    assert (call.data, call.status) == (b"answer", 0)
    mesh.cut(hostile)
    mesh.assert_idle()


@settings(max_examples=150, deadline=None)
@given(st.lists(strange_frame, max_size=20), st.booleans())
def test_a_hostile_server_leaves_every_call_with_a_status(sent, speaks_http2):
    mesh = Mesh()
    mesh.raw.add("a:1")
    client = mesh.client()
    calls = [client.call(body=b"x" * number, end=number % 2 == 0) for number in range(4)]
    mesh.run()
    (hostile,) = mesh.raws
    if speaks_http2:
        hostile.to_say += frames.settings()
    for piece in sent:
        mesh.raws[-1].to_say += piece
        mesh.run()
    mesh.dialer.refuse.add("a:1")
    for raw in mesh.raws:
        mesh.cut(raw)
    mesh.advance(10.0)
    assert all(call.ended and call.status is not None for call in calls)
    assert {call.reset for call in calls} <= {None, frames.NO_ERROR}
    mesh.assert_idle()


def test_the_stories_are_not_idle():
    """Or the properties above would hold of nothing."""
    stories = [run_story(seed, calm=False) for seed in range(100, 120)]
    outcomes = [outcome for story in stories for outcome in story.mesh.ledger.outcomes]
    assert len(outcomes) > 100
    assert {0, 1, 14} <= {outcome.code for outcome in outcomes}
    assert any(outcome.attempts > 1 for outcome in outcomes)
