"""What is tried again, where, with which bytes; and what is not."""

import itertools

import pytest
from helpers import frames
from helpers.mesh import CALL, Mesh, Turns

from gateway.errors import FROM_GATEWAY, FROM_UPSTREAM, INTERNAL, UNAVAILABLE
from gateway.http2.settings import STREAM_WINDOW
from gateway.resilience.retry import MAX_HELD_BYTES


@pytest.mark.parametrize("at_once", [False, True])
def test_a_refused_dial_sends_the_call_elsewhere(at_once):
    mesh = Mesh(endpoints=3)
    mesh.dialer.at_once = at_once
    mesh.dialer.refuse = {"a:1", "b:1"}
    client = mesh.client()
    call = client.call(body=b"bytes")
    mesh.run()
    assert mesh.dialer.dials == ["a:1", "b:1", "c:1"]
    server = mesh.server("c:1")
    assert server.seen[1].data == b"bytes"
    server.answer(1, b"ok")
    mesh.run()
    assert (call.data, call.status) == (b"ok", 0)
    assert mesh.outcome.attempts == 3
    assert mesh.outcome.endpoint is mesh.endpoints[2]
    mesh.assert_idle()
    client.call(body=b"more")
    mesh.run()
    assert mesh.dialer.dials == ["a:1", "b:1", "c:1"], "while their backoff runs nobody calls them"


@pytest.mark.parametrize("at_once", [False, True])
def test_nobody_can_be_reached(at_once):
    mesh = Mesh(endpoints=2)
    mesh.dialer.at_once = at_once
    mesh.dialer.refuse = {"a:1", "b:1"}
    call = mesh.client().call(body=b"x", end=False)
    mesh.run()
    assert call.status == UNAVAILABLE
    assert "a:1: connection refused" in call.message
    assert "b:1: connection refused" in call.message
    assert mesh.outcome.source == FROM_GATEWAY
    mesh.assert_idle()


def test_a_server_that_never_says_settings_is_given_up():
    mesh = Mesh(endpoints=2)
    mesh.dialer.silent.add("a:1")
    call = mesh.client().call(body=b"x")
    mesh.run()
    assert mesh.proxy.counters()["waiting_for_a_link"] == 1
    mesh.advance(5.1)
    server = mesh.server("b:1")
    server.answer(1)
    mesh.run()
    assert call.status == 0
    mesh.assert_idle()


def test_a_dial_that_takes_too_long_is_given_up():
    mesh = Mesh(endpoints=2)
    mesh.dialer.hang.add("a:1")
    call = mesh.client().call(body=b"x")
    mesh.run()
    mesh.advance(5.1)
    assert mesh.dialer.pending == []
    mesh.server("b:1").answer(1)
    mesh.run()
    assert call.status == 0
    assert "no connection within 5 s" in mesh.endpoints[0].last_error
    mesh.assert_idle()


def test_a_refused_stream_is_tried_once_more_elsewhere():
    mesh = Mesh(endpoints=2)
    call = mesh.client().call(body=b"bytes")
    mesh.run()
    mesh.server("a:1").reset(1, frames.REFUSED_STREAM)
    mesh.run()
    server = mesh.server("b:1")
    assert (server.seen[1].data, server.seen[1].ended) == (b"bytes", True)
    server.answer(1, b"ok")
    mesh.run()
    assert (call.data, call.status) == (b"ok", 0)
    mesh.assert_idle()


def test_a_stream_refused_twice_is_reported():
    mesh = Mesh(endpoints=3)
    call = mesh.client().call(body=b"bytes")
    mesh.run()
    mesh.server("a:1").reset(1, frames.REFUSED_STREAM)
    mesh.run()
    mesh.server("b:1").reset(1, frames.REFUSED_STREAM)
    mesh.run()
    assert mesh.by_address["c:1"] == []
    assert call.status == UNAVAILABLE
    assert "b:1 reset the stream: REFUSED_STREAM" in call.message
    assert mesh.outcome.source == FROM_UPSTREAM
    mesh.assert_idle()


def test_the_only_endpoint_is_tried_again_itself():
    mesh = Mesh()
    call = mesh.client().call(body=b"bytes")
    mesh.run()
    mesh.server().reset(1, frames.REFUSED_STREAM)
    mesh.run()
    assert mesh.server().seen[3].data == b"bytes"
    mesh.server().answer(3)
    mesh.run()
    assert call.status == 0
    mesh.assert_idle()


def test_streams_beyond_a_goaway_move_and_the_others_stay():
    mesh = Mesh(endpoints=2)
    client = mesh.client()
    calls = [client.call(body=b"%d" % number) for number in range(4)]
    mesh.run()
    leaving = mesh.server("a:1")
    leaving.inject(frames.goaway(0x7FFFFFFF) + frames.goaway(3))
    mesh.run()
    other = mesh.server("b:1")
    assert sorted(bytes(seen.data) for seen in other.seen.values()) == [b"2", b"3"]
    for stream_id in (1, 3):
        leaving.answer(stream_id, b"from a")
    for stream_id in list(other.seen):
        other.answer(stream_id, b"from b")
    mesh.run()
    assert [bytes(call.data) for call in calls] == [b"from a", b"from a", b"from b", b"from b"]
    assert [call.status for call in calls] == [0] * 4
    assert leaving.closed, "the last stream takes the connection along"
    mesh.assert_idle()


def test_after_a_goaway_new_calls_dial_anew_while_old_ones_finish():
    mesh = Mesh()
    client = mesh.client()
    old = client.call(body=b"", end=False)
    mesh.run()
    first = mesh.server()
    first.inject(frames.goaway(1))
    mesh.run()
    new = client.call(body=b"new")
    mesh.run()
    assert len(mesh.servers) == 2
    mesh.server().answer(1, b"second")
    client.data(1, b"still", end=True)
    mesh.run()
    assert first.seen[1].data == b"still"
    first.answer(1, b"first")
    mesh.run()
    assert (old.data, new.data) == (b"first", b"second")
    mesh.assert_idle()


def test_many_goaways_with_long_streams_never_lock_an_endpoint_out():
    """A server with a maximal connection age, and calls that outlive it: links that leave are not links that serve."""
    mesh = Mesh()
    client = mesh.client()
    calls = []
    for number in range(25):
        calls.append(client.call(body=b"%d" % number, end=False))
        mesh.run()
        assert len(mesh.servers) == number + 1
        mesh.server().inject(frames.goaway(1))
        mesh.run()
    for server in mesh.servers:
        server.answer(1)
    mesh.run()
    assert [call.status for call in calls] == [0] * 25
    mesh.assert_idle()


def test_a_failed_dial_beside_a_leaving_link_does_not_park_calls_for_ever():
    mesh = Mesh(endpoints=1)
    client = mesh.client()
    client.call(body=b"", end=False)
    mesh.run()
    mesh.server().inject(frames.goaway(1))
    mesh.run()
    mesh.dialer.refuse.add("a:1")
    call = client.call(body=b"x")
    mesh.run()
    assert call.status == UNAVAILABLE
    assert "connection refused" in call.message
    mesh.server().answer(1)
    mesh.run()
    mesh.assert_idle()


def test_a_failed_further_dial_is_repeated_with_backoff_only():
    """One connection serves and is full; a second one is refused: that must not become a storm of dials."""
    mesh = Mesh()
    mesh.server_values = {0x3: 1}
    client = mesh.client()
    first = client.call(body=b"x", end=False)
    mesh.run()
    mesh.dialer.refuse.add("a:1")
    calls = [client.call(body=b"y") for _time in range(50)]
    mesh.run()
    assert len(mesh.dialer.dials) == 2
    mesh.advance(0.7)
    for _time in range(10):
        calls.append(client.call(body=b"y"))
        mesh.run()
    assert len(mesh.dialer.dials) == 2
    mesh.advance(1.0)
    assert len(mesh.dialer.dials) == 3, "tried again after the backoff, since calls wait"
    mesh.dialer.refuse.clear()
    mesh.advance(10.0)
    assert len(mesh.dialer.dials) >= 4
    served = 0
    while served < len(calls) + 1:
        for server in mesh.servers:
            for stream_id, seen in list(server.seen.items()):
                if seen.reset is None and stream_id not in server.sent:
                    server.answer(stream_id, b"!")
                    served += 1
        mesh.run()
    assert first.status == 0
    assert {call.status for call in calls} == {0}
    mesh.assert_idle()


@pytest.mark.parametrize("size", [1, 1000, 65_536])
@pytest.mark.parametrize("ended", [True, False])
def test_the_request_is_replayed_exactly_and_credited_once(size, ended):
    mesh = Mesh(endpoints=2)
    client = mesh.client()
    body = bytes(number * 7 % 251 for number in range(size))
    call = client.call(body=body, end=ended)
    mesh.run()
    first = mesh.server("a:1")
    assert first.seen[1].data == body
    first.reset(1, frames.REFUSED_STREAM)
    mesh.run()
    second = mesh.server("b:1")
    assert second.seen[1].data == body
    if not ended:
        rest = bytes(300_000)
        client.data(1, rest)
        mesh.run()
        assert second.seen[1].data == body + rest
        total = size + len(rest)
        assert total - STREAM_WINDOW // 2 < client.credits[1] <= total, "in half windows, each byte once"
        client.end(1)
        mesh.run()
    assert second.seen[1].ended
    second.answer(1)
    mesh.run()
    assert call.status == 0
    mesh.assert_idle()


def test_a_replay_that_waits_for_windows():
    """Half of the request left for the first server, which refuses it; the second one opens its window slowly."""
    mesh = Mesh(endpoints=2)
    mesh.server_values = {0x4: 1000}
    client = mesh.client()
    body = bytes(number % 241 for number in range(60_000))
    mesh.on_server = lambda server: setattr(server, "reading", False)
    client.call(body=body)
    mesh.run()
    first = mesh.server("a:1")
    assert len(first.seen[1].data) == 1000
    first.reset(1, frames.REFUSED_STREAM)
    mesh.run()
    second = mesh.server("b:1")
    assert len(second.seen[1].data) == 1000
    second.read_on()
    mesh.run()
    assert second.seen[1].data == body
    assert client.credits.get(1, 0) <= len(body)
    second.answer(1)
    mesh.run()
    mesh.assert_idle()


def test_request_trailers_are_replayed():
    mesh = Mesh(endpoints=2)
    client = mesh.client()
    client.call(body=b"x", end=False)
    client.headers(1, [(b"checksum", b"1")], end=True)
    mesh.run()
    mesh.server("a:1").reset(1, frames.REFUSED_STREAM)
    mesh.run()
    again = mesh.server("b:1").seen[1]
    assert (again.data, again.trailers, again.ended) == (b"x", [(b"checksum", b"1")], True)
    mesh.server("b:1").answer(1)
    mesh.run()
    mesh.assert_idle()


def test_nothing_is_tried_again_after_response_headers():
    mesh = Mesh(endpoints=2)
    call = mesh.client().call(body=b"x")
    mesh.run()
    server = mesh.server("a:1")
    server.respond(1)
    server.push()
    server.reset(1, frames.REFUSED_STREAM)
    mesh.run()
    assert mesh.by_address["b:1"] == []
    assert call.status == UNAVAILABLE
    assert call.trailers is not None
    mesh.assert_idle()


def test_nothing_is_tried_again_that_is_larger_than_what_is_held():
    mesh = Mesh(endpoints=2)
    client = mesh.client()
    call = client.call(body=bytes(MAX_HELD_BYTES + 1), end=False)
    mesh.run()
    mesh.server("a:1").reset(1, frames.REFUSED_STREAM)
    mesh.run()
    assert mesh.by_address["b:1"] == []
    assert call.status == UNAVAILABLE
    assert call.reset == frames.NO_ERROR
    mesh.assert_idle()


@pytest.mark.parametrize(
    ("code", "status"),
    [(frames.CANCEL, 1), (frames.INTERNAL_ERROR, INTERNAL), (frames.ENHANCE_YOUR_CALM, 8), (frames.NO_ERROR, INTERNAL)],
)
def test_other_resets_are_not_tried_again(code, status):
    mesh = Mesh(endpoints=2)
    call = mesh.client().call(body=b"x")
    mesh.run()
    mesh.server("a:1").reset(1, code)
    mesh.run()
    assert mesh.by_address["b:1"] == []
    assert call.status == status
    assert "a:1 reset the stream" in call.message
    mesh.assert_idle()


def test_a_lost_connection_is_not_tried_again():
    """The server may have seen the call."""
    mesh = Mesh(endpoints=2)
    call = mesh.client().call(body=b"x")
    mesh.run()
    mesh.cut(mesh.server("a:1"))
    assert mesh.by_address["b:1"] == []
    assert call.status == UNAVAILABLE
    mesh.assert_idle()


def test_failed_endpoints_come_back_after_their_backoff():
    mesh = Mesh()
    mesh.dialer.refuse.add("a:1")
    client = mesh.client()
    client.call(body=b"x")
    mesh.run()
    mesh.advance(1000.0)
    assert client.call(body=b"x") is not None
    times = mesh.dialer.times
    gaps = [after - before for before, after in itertools.pairwise(times)]
    for number, gap in enumerate(gaps):
        assert gap == pytest.approx(min(1.6**number, 120.0), rel=0.2)
    assert len(gaps) > 12
    mesh.run()
    assert len(mesh.dialer.times) == len(times), "calls do not shorten a backoff"
    mesh.dialer.refuse.clear()
    mesh.advance(150.0)
    assert len(mesh.servers) == 1
    call = client.call(body=b"x")
    mesh.run()
    mesh.server().answer(1)
    mesh.run()
    assert call.status == 0
    assert [outcome.code for outcome in mesh.ledger.outcomes] == [UNAVAILABLE, UNAVAILABLE, 0]
    mesh.assert_idle()


def test_calls_of_many_clients_wait_for_one_dial():
    mesh = Mesh(endpoints=2, picker=Turns)
    mesh.dialer.hang = {"a:1", "b:1"}
    clients = [mesh.client() for _time in range(4)]
    calls = [client.call(body=b"x", fields=CALL) for client in clients for _time in range(5)]
    mesh.run()
    assert sorted(mesh.dialer.dials) == ["a:1", "b:1"]
    assert mesh.proxy.counters()["waiting_for_a_link"] == 20
    mesh.dialer.hang.clear()
    mesh.run()
    for server in mesh.servers:
        for stream_id in list(server.seen):
            server.answer(stream_id)
    mesh.run()
    assert {call.status for call in calls} == {0}
    mesh.assert_idle()


def test_a_server_that_sends_every_connection_away_is_not_dialled_in_a_circle():
    mesh = Mesh()
    mesh.server_values = {0x3: 0}
    client = mesh.client()
    call = client.call(body=b"x")
    mesh.run()
    mesh.servers[0].inject(frames.goaway(0))
    mesh.run()
    assert len(mesh.servers) == 1
    mesh.server_values = {}
    mesh.advance(1.3)
    mesh.run()
    assert len(mesh.servers) == 2
    mesh.server(number=1).answer(1, b"ok")
    mesh.run()
    assert call.status == 0
    mesh.assert_idle()
